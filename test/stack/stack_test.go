package stack_test

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"sluice/test/stack"
)

// Protects long runs, in which bridges and functions come and go: they leave nothing
// behind in this process.
func TestNothingIsLeftBehind(t *testing.T) {
	s, err := stack.Start(t.Context(), stack.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	cycle := func() {
		t.Helper()
		if err := s.StopBridge(t.Context(), s.Bridges()[0]); err != nil {
			t.Fatal(err)
		}
		if err := s.StopFunctions(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.StartFunctions(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.StartBridge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	const cycles = 10
	before := runtime.NumGoroutine()
	for range cycles {
		cycle()
	}
	// A Pub/Sub client that is left behind is 40 goroutines. Those at work vary by a hundred,
	// with the connections that they have opened so far.
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+15*cycles; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			all := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before %d restarts:\n%s", runtime.NumGoroutine(), before, cycles, all[:runtime.Stack(all, true)])
		}
	}
}

package local_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

// Protects long runs, in which bridges and functions come and go: they leave nothing
// behind in this process.
func TestNothingIsLeftBehind(t *testing.T) {
	s, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{Log: slog.New(slog.DiscardHandler)}})
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
	// Those at work vary with the connections that happen to be open: the most of a second.
	before := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		before = max(before, runtime.NumGoroutine())
	}
	for range cycles {
		cycle()
	}
	// Not one is left behind by each.
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() >= before+cycles; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			all := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before %d restarts:\n%s", runtime.NumGoroutine(), before, cycles,
				all[:runtime.Stack(all, true)])
		}
	}
}

// Protects the lag that a run shows from being 0 while nobody takes the records.
func TestLagWithoutABridge(t *testing.T) {
	s, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{Bridges: -1,
		Log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 100 {
		if err := p.Produce(t.Context(), nil, []byte("{}"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lag := s.Now().Lag; lag != 100 {
		t.Errorf("lag %d, want 100", lag)
	}
	if _, err := s.StartBridge(t.Context()); err != nil {
		t.Fatal(err)
	}
	for s.Now().Lag > 0 { // the test's own limit is the alarm
		time.Sleep(20 * time.Millisecond)
	}
	if account, err := s.AwaitAll(t.Context(), nil, s.Kafka.EndOffsets(s.Topic()), time.Minute); err != nil || account.DeadLettered != 100 {
		t.Errorf("%+v %v", account, err)
	}
}

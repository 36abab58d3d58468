package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/test/thirdparty/process"
)

func run(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Config{Command: []string{"sh", "-c", script}, Log: filepath.Join(t.TempDir(),
		"log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return p
}

// Protects servers' own end: SIGTERM comes first, and Stop waits for it.
func TestStopTerminates(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "ended")
	ready := marker + ".ready"
	p := run(t, "trap 'echo bye >"+marker+"; exit 0' TERM; echo >"+ready+"; while :; do sleep 0.05; done")
	for {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(marker); err != nil {
		t.Error("the program did not end by itself:", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error("again:", err)
	}
}

// Protects against servers that ignore SIGTERM.
func TestStopKillsInTheEnd(t *testing.T) {
	p := run(t, "trap '' TERM; while :; do sleep 0.05; done")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("still there")
	}
}

// Protects the reader of a failed start: the error shows what the server said.
func TestWaitListeningShowsTheLog(t *testing.T) {
	p := run(t, "echo no room here; exit 3")
	if err := p.WaitListening(t.Context(), "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(),
		"no room here") {
		t.Errorf("error %v", err)
	}
	if err := p.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "3") {
		t.Errorf("wait: %v, want exit status 3", err)
	}
}

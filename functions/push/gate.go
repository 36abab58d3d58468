package push

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// Gate counts the requests of one process, whatever function they are for, and
// closes when the process is to end. The server of functions-framework-go cannot
// be stopped: with the gate drained, main simply returns.
type Gate struct {
	log *slog.Logger

	mu       sync.Mutex
	running  int
	draining bool
	empty    chan struct{} // closed when draining and running is 0
}

// NewGate returns an open gate.
func NewGate(log *slog.Logger) *Gate {
	return &Gate{log: log, empty: make(chan struct{})}
}

// Drain closes the gate, so that every new request is answered 503, and waits for
// the running ones until ctx ends. It may be called more than once.
func (g *Gate) Drain(ctx context.Context) error {
	g.mu.Lock()
	if !g.draining {
		g.draining = true
		if g.running == 0 {
			close(g.empty)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running == 0 {
			return nil
		}
		return fmt.Errorf("drain: %d requests are still running, Pub/Sub will deliver their messages again: %w",
			g.running, context.Cause(ctx))
	}
}

// enter reports whether a request may run; if so, leave must follow.
func (g *Gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return false
	}
	g.running++
	return true
}

func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.draining && g.running == 0 {
		close(g.empty)
	}
}

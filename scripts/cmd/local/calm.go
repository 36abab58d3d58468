package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// calm passes on one warning of a kind in a while, and with it how many it has kept
// back: an outage makes dozens a second, which would leave nothing else on a terminal.
// Errors always pass.
type calm struct {
	slog.Handler
	kinds *kinds
}

// kinds are the warnings so far, by what they are about.
type kinds struct {
	mu   sync.Mutex
	seen map[string]*kind
}

type kind struct {
	told time.Time
	kept int // since then
}

const (
	warnEvery = 5 * time.Second
	mostKinds = 1000 // messages of librdkafka hold numbers
)

func newCalm(next slog.Handler) calm { return calm{next, &kinds{seen: make(map[string]*kind)}} }

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level != slog.LevelWarn {
		return c.Handler.Handle(ctx, r)
	}
	about := r.Message[:min(len(r.Message), 30)]
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "function", "outcome", "code":
			about += " " + a.Value.String()
		}
		return true
	})
	kept, tell := c.kinds.tell(about, time.Now())
	if !tell {
		return nil
	}
	if kept > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("similar_before", kept))
	}
	return c.Handler.Handle(ctx, r)
}

// tell reports whether a warning is due, and how many like it have been kept back.
func (k *kinds) tell(about string, now time.Time) (kept int, tell bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.seen[about]
	if one == nil {
		if len(k.seen) >= mostKinds {
			clear(k.seen)
		}
		one = &kind{}
		k.seen[about] = one
	}
	if now.Sub(one.told) < warnEvery {
		one.kept++
		return 0, false
	}
	kept, one.kept, one.told = one.kept, 0, now
	return kept, true
}

func (c calm) WithAttrs(a []slog.Attr) slog.Handler { return calm{c.Handler.WithAttrs(a), c.kinds} }
func (c calm) WithGroup(name string) slog.Handler   { return calm{c.Handler.WithGroup(name), c.kinds} }

package main

import (
	"context"
	"log/slog"
	"time"

	"sluice/internal/telemetry"
)

// calm passes on one warning of a kind in a while, and with it how many it has kept
// back: an outage makes dozens a second, which would leave nothing else on a terminal.
// Errors always pass.
type calm struct {
	slog.Handler
	repeats *telemetry.Repeats
}

func newCalm(next slog.Handler) calm {
	return calm{next, &telemetry.Repeats{Every: 5 * time.Second}}
}

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level != slog.LevelWarn {
		return c.Handler.Handle(ctx, r)
	}
	kind := r.Message[:min(len(r.Message), 30)]
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "function", "outcome", "code":
			kind += " " + a.Value.String()
		}
		return true
	})
	kept, due := c.repeats.Due(kind, time.Now())
	if !due {
		return nil
	}
	if kept > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("similar_before", kept))
	}
	return c.Handler.Handle(ctx, r)
}

func (c calm) WithAttrs(a []slog.Attr) slog.Handler { return calm{c.Handler.WithAttrs(a), c.repeats} }
func (c calm) WithGroup(name string) slog.Handler   { return calm{c.Handler.WithGroup(name), c.repeats} }

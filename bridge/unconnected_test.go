package bridge

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// refusing is a Publisher that takes nothing.
type refusing struct{ objects bool }

func (refusing) Publish(ctx context.Context, _ Destination, _ []byte) (taken, reusable bool) {
	<-ctx.Done()
	return false, false
}
func (r refusing) Objects() bool                             { return r.objects }
func (refusing) Observe(func(string, time.Duration, string)) {}
func (refusing) Stats() PublishStats                         { return PublishStats{} }

// unconnected is a bridge without a Kafka, whose batches nobody takes.
func unconnected(t *testing.T, change func(*Config)) *Bridge {
	t.Helper()
	c := DefaultConfig()
	c.Brokers, c.Project = "127.0.0.1:1", "p"
	change(&c)
	b, err := New(c, nil, refusing{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.publishCtx = t.Context()
	return b
}

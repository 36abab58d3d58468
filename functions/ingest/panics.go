package ingest

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"sluice/functions/push"
)

// panics tells of decoders that panic, the first time at once, then every minute at most.
type panics struct {
	log   *slog.Logger // nil: nobody is told
	mu    sync.Mutex
	since int       // how many there were since the last line
	quiet time.Time // until then there is none
}

func (p *panics) tell(contract string, value any, stack []byte) {
	if p.log == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since++
	now := time.Now()
	if now.Before(p.quiet) {
		return
	}
	p.log.LogAttrs(context.Background(), slog.LevelError, "panic", slog.String("function", "Ingest"),
		slog.String("contract", contract), slog.Int("panics", p.since), slog.String("error", push.PanicError(value).Error()),
		slog.String("stack_trace", string(stack)))
	p.since, p.quiet = 0, now.Add(time.Minute)
}

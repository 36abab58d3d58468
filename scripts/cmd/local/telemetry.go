package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sluice/bridge"
	"sluice/functions/service"
	"sluice/internal/telemetry/export"
	"sluice/scripts/pipeline"
)

// exports send a run's traces and metrics where OTEL_* say. The bridges and the
// functions tell the same traces; of metrics every bridge has its own exporter, as it
// has where it is deployed, because a reader of metrics belongs to one of them.
type exports struct {
	log *slog.Logger

	mu  sync.Mutex
	all []*export.Exporter
}

// openExports puts the exporters that the environment asks for into the stack's
// configuration.
func openExports(ctx context.Context, c *pipeline.Config) (*exports, error) {
	e := &exports{log: c.Log}
	shared, err := e.start(ctx)
	if err != nil {
		return nil, err
	}
	c.Tracer = shared.Tracer("sluice")
	meter := shared.Meter("sluice/functions")
	if meter == nil {
		return e, nil
	}
	c.TuneFunctions = func(f *service.Config) { f.Meter = meter }
	c.TuneBridge = func(b *bridge.Config) {
		own, err := e.start(context.WithoutCancel(ctx)) // the page may start a bridge at the end, too
		if err != nil {
			e.log.Warn("the metrics of a bridge are not exported", "bridge", b.Consumer, "error", err.Error())
			return
		}
		b.MeterOptions = own.MeterOptions()
	}
	return e, nil
}

func (e *exports) start(ctx context.Context) (*export.Exporter, error) {
	one, err := export.Start(ctx, "sluice-local", "", e.log)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, one)
	return one, nil
}

// close sends the rest. A receiver that is not there is no reason to call the run a failure.
func (e *exports) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	for _, one := range e.all {
		errs = append(errs, one.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		e.log.Warn("telemetry was left unsent", "error", err.Error())
	}
}

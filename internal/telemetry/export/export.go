// Package export sends traces and metrics where OpenTelemetry's standard environment
// variables say:
//
//	e, err := export.Start(ctx, "sluice-bridge", version, log)
//	defer e.Close(ctx)          // sends the rest, within ctx
//	e.Tracer("sluice/bridge")   // nil: nobody wants traces
//	e.Meter("sluice/functions") // nil: nobody wants metrics
//	e.MeterOptions()            // the same, for who makes a meter provider that has other readers too
//	e.Flush(200*time.Millisecond)
//
// Without any of them nothing is made, started or recorded:
//
//	OTEL_EXPORTER_OTLP_ENDPOINT   exports traces and metrics by OTLP, such as http://localhost:4318
//	OTEL_TRACES_EXPORTER          otlp, console or none; and OTEL_METRICS_EXPORTER likewise, or prometheus
//	OTEL_TRACES_SAMPLER           default parentbased_always_on; …_ARG
//	OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_*, OTEL_BSP_*, OTEL_METRIC_EXPORT_*
//	OTEL_SDK_DISABLED=true        nothing, whatever else is set
//
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
//
// Exporting happens beside the work and never in its way: spans wait in a bounded
// queue, which drops them when the receiver is slow or gone. An instance of Cloud Run
// with CPU only during requests gets no time for this between them: it calls Flush at
// the end of a request, when the answer is written.
package export

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/telemetry"
)

// Exporter sends what it is given. A nil Exporter sends nothing.
type Exporter struct {
	resource *resource.Resource
	traces   *sdktrace.TracerProvider
	readers  []sdkmetric.Reader
	metrics  *sdkmetric.MeterProvider

	mu      sync.Mutex
	flushed time.Time // when the last flush ended
}

// Start makes the exporters that the environment asks for; nil if it asks for none.
// Their receivers need not be there: failures to export are logged, once a minute.
func Start(ctx context.Context, service, version string, log *slog.Logger) (*Exporter, error) {
	wantTraces, wantMetrics := wanted("TRACES"), wanted("METRICS")
	if !wantTraces && !wantMetrics {
		return nil, nil
	}
	if err := endpoints(); err != nil {
		return nil, err
	}
	// OpenTelemetry has one handler and one logger for a process; its own write lines that are no JSON.
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	otel.SetErrorHandler(&failures{log: log, repeats: telemetry.Repeats{Every: time.Minute}})
	e := &Exporter{}
	var err error
	e.resource, err = resource.New(ctx,
		// Without an id of its own each instance would write the others' series.
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version),
			attribute.String("service.instance.id", rand.Text())),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if wantTraces {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_*: %w", err)
		}
		// The sampler is the environment's.
		e.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(e.resource))
	}
	if wantMetrics {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_*: %w", err), e.Close(ctx))
		}
		e.readers = []sdkmetric.Reader{reader}
	}
	return e, nil
}

// endpoints says which addresses are none. OpenTelemetry would export to no host, or to its default, localhost.
func endpoints() error {
	var errs []error
	for _, signal := range []string{"", "TRACES_", "METRICS_"} {
		name := "OTEL_EXPORTER_OTLP_" + signal + "ENDPOINT"
		u, err := url.Parse(os.Getenv(name))
		switch {
		case os.Getenv(name) == "" || err == nil && u.Scheme == "unix":
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
			errs = append(errs, fmt.Errorf("%s is no address: write it as http://collector.example.com:4318", name))
		}
	}
	return errors.Join(errs...)
}

// failures logs what goes wrong with exporting: a receiver that is gone fails every export.
type failures struct {
	log     *slog.Logger
	repeats telemetry.Repeats
}

func (f *failures) Handle(err error) {
	// All failures are of one kind: their texts name the moment's connection.
	if repeated, due := f.repeats.Due("export", time.Now()); due {
		f.log.Warn("telemetry was not exported", "error", err.Error(), "failures_before", repeated)
	}
}

// wanted reports whether the environment asks for a signal, TRACES or METRICS. An
// endpoint alone is enough; unlike the specification's default, nothing at all is not.
func wanted(signal string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch exporter := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporter {
	case "":
		return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"),
			os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT")) != ""
	case "none":
		return false
	}
	return true
}

// Tracer returns a tracer, nil if nobody wants traces.
func (e *Exporter) Tracer(name string) trace.Tracer {
	if e == nil || e.traces == nil {
		return nil
	}
	return e.traces.Tracer(name)
}

// MeterOptions are the readers and the resource, for a meter provider that has other
// readers as well; none if nobody wants metrics. Use these or Meter, not both.
func (e *Exporter) MeterOptions() []sdkmetric.Option {
	if e == nil || len(e.readers) == 0 {
		return nil
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(e.resource)}
	for _, r := range e.readers {
		options = append(options, sdkmetric.WithReader(r))
	}
	return options
}

// Meter returns a meter, nil if nobody wants metrics. With the first one Go's runtime
// is metered as well.
func (e *Exporter) Meter(name string) metric.Meter {
	if e == nil || len(e.readers) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.metrics == nil {
		e.metrics = sdkmetric.NewMeterProvider(e.MeterOptions()...)
		if err := runtime.Start(runtime.WithMeterProvider(e.metrics)); err != nil {
			otel.Handle(err)
		}
	}
	return e.metrics.Meter(name)
}

// flushEvery is the least time between two flushes: exporting once per request would
// cost more than the request.
const flushEvery = time.Second

// Flush sends what has ended, for at most limit. Of several callers at a time one
// flushes, and the others return at once, as they do soon after a flush.
func (e *Exporter) Flush(limit time.Duration) {
	if e == nil || !e.mu.TryLock() {
		return
	}
	defer e.mu.Unlock()
	if time.Since(e.flushed) < flushEvery {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// What cannot be sent now is sent or dropped later: nobody waits for telemetry.
	if e.traces != nil {
		_ = e.traces.ForceFlush(ctx)
	}
	if e.metrics != nil {
		_ = e.metrics.ForceFlush(ctx)
	}
	e.flushed = time.Now()
}

// Close sends the rest, within ctx, and ends the exporters.
func (e *Exporter) Close(ctx context.Context) error {
	if e == nil {
		return nil
	}
	var errs []error
	if e.traces != nil {
		errs = append(errs, e.traces.Shutdown(ctx))
	}
	if e.metrics != nil {
		errs = append(errs, e.metrics.Shutdown(ctx))
	} else {
		for _, r := range e.readers {
			if err := r.Shutdown(ctx); !errors.Is(err, sdkmetric.ErrReaderShutdown) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

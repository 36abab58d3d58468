package export

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"

	"sluice/internal/telemetry"
	"sluice/internal/telemetry/collector"
)

// environment sets OTEL_* variables, and no others of them.
func environment(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER",
		"OTEL_EXPORTER_OTLP_ENDPOINT",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME"} {
		t.Setenv(name, set[name])
	}
}

// Only what is asked for is made: an Exporter that is nil costs nothing.
func TestWhatIsWanted(t *testing.T) {
	const endpoint = "http://127.0.0.1:1"
	for _, c := range []struct {
		name            string
		set             map[string]string
		traces, metrics bool
	}{
		{"nothing", nil, false, false},
		{"an endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true, true},
		{"an endpoint of traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}, true, false},
		{"traces only", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRICS_EXPORTER": "none"}, true, false},
		{"the console", map[string]string{"OTEL_TRACES_EXPORTER": "console"}, true, false},
		{"none of both", map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false, false},
		{"disabled", map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			environment(t, c.set)
			e, err := Start(t.Context(), "sluice", "test", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if traces, metrics := e.Tracer("x") != nil, len(e.MeterOptions()) > 0; traces != c.traces ||
				metrics != c.metrics {
				t.Errorf("traces %v, metrics %v; want %v, %v", traces, metrics, c.traces, c.metrics)
			}
			if !c.traces && !c.metrics && e != nil {
				t.Error("something was made that nobody asked for")
			}
			// Nobody listens at the endpoint: the end does not wait for it.
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_ = e.Close(ctx)
		})
	}
	environment(t, map[string]string{"OTEL_TRACES_EXPORTER": "jaegre"})
	if _, err := Start(t.Context(), "sluice", "test", slog.New(slog.DiscardHandler)); err == nil ||
		!strings.Contains(err.Error(), "OTEL_TRACES_EXPORTER") {
		t.Errorf("an exporter that does not exist: %v", err)
	}
	// OpenTelemetry would export to no host, or to localhost.
	for _, endpoint := range []string{"collector:4317", "collector", "//collector:4317", "::", "grpc://collector:4317", "http://"} {
		for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"} {
			environment(t, map[string]string{name: endpoint})
			if _, err := Start(t.Context(), "sluice", "test", slog.New(slog.DiscardHandler)); err == nil ||
				!strings.Contains(err.Error(), name+" is no address") {
				t.Errorf("%s=%s: %v", name, endpoint, err)
			}
		}
	}
}

// Two instances of a service count into two series: what one of them counts does not
// overwrite the other's. Who names them otherwise is obeyed.
func TestInstancesAreToldApart(t *testing.T) {
	instance := func() string {
		e, err := Start(t.Context(), "sluice-test", "v1", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(t.Context())
		id, _ := e.resource.Set().Value("service.instance.id")
		return id.AsString()
	}
	environment(t, map[string]string{"OTEL_TRACES_EXPORTER": "console"})
	if a, b := instance(), instance(); a == "" || a == b {
		t.Errorf("both are called %q", a)
	}
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")
	if id := instance(); id != "mine" {
		t.Errorf("it is called %q", id)
	}
}

// A flush brings spans and metrics to the receiver without waiting for the exporters'
// own timers, which get no CPU on Cloud Run; the end brings the rest.
func TestFlushAndClose(t *testing.T) {
	c := collector.Start()
	defer c.Close()
	environment(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL(),
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
	e, err := Start(t.Context(), "sluice-test", "v1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	count, err := e.Meter("sluice").Int64Counter("sluice.test.requests", metric.WithUnit("{request}"))
	if err != nil {
		t.Fatal(err)
	}
	count.Add(t.Context(), 1)
	_, span := e.Tracer("sluice").Start(t.Context(), "first")
	span.End()
	e.Flush(time.Minute)
	if spans, metrics := c.Spans(), c.Metrics(); !slices.Equal(spans, []string{"sluice-test: first"}) ||
		!slices.Contains(metrics, "sluice-test: sluice.test.requests") || !slices.Contains(metrics,
		"sluice-test: go.goroutine.count") {
		t.Errorf("after a flush: spans %q, metrics %q", spans, metrics)
	}
	flushed := time.Now()
	_, span = e.Tracer("sluice").Start(t.Context(), "second")
	span.End()
	e.Flush(time.Minute) // too soon: once per request would cost more than the request
	if spans := c.Spans(); len(spans) > 1 && time.Since(flushed) < flushEvery/2 {
		t.Errorf("flushed again at once: %q", spans)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if spans := c.Spans(); !slices.Equal(spans, []string{"sluice-test: first", "sluice-test: second"}) {
		t.Errorf("at the end: %q", spans)
	}
}

// A receiver that hangs holds nobody up beyond the limit.
func TestFlushIsBounded(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	environment(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": hanging.URL,
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_METRICS_EXPORTER": "none"})
	e, err := Start(t.Context(), "sluice-test", "v1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := e.Tracer("sluice").Start(t.Context(), "stuck")
	span.End()
	returned := make(chan struct{})
	go func() { e.Flush(20 * time.Millisecond); close(returned) }()
	<-returned // the test's own limit is the alarm
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_ = e.Close(ctx) // ends as well; what could not be sent is lost, which is the bargain
}

// A receiver that is gone does not fill the log, and is told of.
func TestFailuresAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		f := &failures{log: slog.New(slog.NewTextHandler(&out, nil)), repeats: telemetry.Repeats{Every: time.Minute}}
		for range 100 {
			f.Handle(errors.New("connection refused"))
		}
		if n := strings.Count(out.String(), "connection refused"); n != 1 {
			t.Errorf("%d lines of 100 failures, want 1", n)
		}
		time.Sleep(time.Hour)
		f.Handle(errors.New("connection refused"))
		if !strings.Contains(out.String(), "failures_before=99") {
			t.Errorf("the next line does not count what was not logged: %s", &out)
		}
	})
}

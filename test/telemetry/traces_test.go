// Package telemetry holds the tests of traces and metrics through the whole pipeline.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"sluice/bridge"
	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

// start starts a pipeline of one partition whose batches wait for each other's records.
func start(t *testing.T, c pipeline.Config) (*local.Stack, *local.Producer) {
	t.Helper()
	c.Partitions = 1
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	tune := c.TuneBridge
	c.TuneBridge = func(b *bridge.Config) {
		b.Linger = 2 * time.Second
		if tune != nil {
			tune(b)
		}
	}
	s, err := pipeline.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, p
}

// send produces an event with a traceparent, empty: none.
func send(t *testing.T, p *local.Producer, id, kind, traceparent string) {
	t.Helper()
	var headers []kafka.Header
	if traceparent != "" {
		headers = []kafka.Header{{Key: "traceparent", Value: []byte(traceparent)}}
	}
	event := fmt.Sprintf(`{"event_id":%q,"event_timestamp":%q,"event_type":%q,"user_id":"u"}`, id,
		time.Now().UTC().Format(time.RFC3339), kind)
	if err := p.Produce(t.Context(), nil, []byte(event), headers); err != nil {
		t.Fatal(err)
	}
}

// arrive waits until everything is in the tables.
func arrive(t *testing.T, s *local.Stack, p *local.Producer) {
	t.Helper()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	account, err := s.AwaitAll(t.Context(), nil, s.Kafka.EndOffsets(s.Topic()), 2*time.Minute)
	if err != nil || account.Missing > 0 {
		t.Fatalf("%+v %v", account, err)
	}
	if err := s.PubSub.WaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The bridge may learn that its messages were published after they have landed.
	for s.Bridges()[0].Stats().InflightBatches > 0 {
		time.Sleep(5 * time.Millisecond) // the test's own limit is the alarm
	}
}

const (
	traceA, spanA = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	traceB, spanB = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
)

// A record's trace goes on through the bridge, Ingest and DeadLetter; the batch is
// linked to the traces of its other records; a dead letter keeps its own record's
// trace, by which its producer finds it.
func TestTraceThroughThePipeline(t *testing.T) {
	told := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(told))
	s, p := start(t, pipeline.Config{Config: local.Config{Tracer: provider.Tracer("test")}})
	send(t, p, "a", "search", "00-"+traceA+"-"+spanA+"-01")
	send(t, p, "b", "none of ours", "00-"+traceB+"-"+spanB+"-01")
	send(t, p, "c", "search", "")
	send(t, p, "d", "search", "00-broken")
	arrive(t, s, p)

	spans := map[string]tracetest.SpanStub{}
	for _, span := range told.GetSpans() {
		if span.SpanContext.TraceID().String() != traceA {
			t.Errorf("span %q belongs to trace %s, want %s", span.Name, span.SpanContext.TraceID(), traceA)
		}
		spans[span.Name+" < "+parentName(told.GetSpans(), span)] = span
	}
	sent, ok := spans["send clickstream < "+spanA]
	if !ok {
		t.Fatalf("the bridge's span is missing: %v", spans)
	}
	for _, want := range []string{
		"process Ingest < send clickstream", "decode < process Ingest", "append < process Ingest", "publish dead letters < process Ingest",
		"process DeadLetter < send clickstream", "decode < process DeadLetter", "append < process DeadLetter",
	} {
		if _, ok := spans[want]; !ok {
			t.Errorf("there is no span %s", want)
		}
	}
	for _, span := range []tracetest.SpanStub{sent, spans["process Ingest < send clickstream"]} {
		if len(span.Links) != 1 || span.Links[0].SpanContext.TraceID().String() != traceB {
			t.Errorf("%s is linked to %v, want the trace of the other record", span.Name, span.Links)
		}
		if span.EndTime.Before(span.StartTime) {
			t.Errorf("%s ends before it begins", span.Name)
		}
	}
	if got := deadTrace(t, s); got != traceB {
		t.Errorf("the dead letter's trace_id is %q, want its record's, %s", got, traceB)
	}
}

// Records without a trace get one with their batch, and their dead letters its id.
func TestBatchBeginsATrace(t *testing.T) {
	told := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(told))
	s, p := start(t, pipeline.Config{Config: local.Config{Tracer: provider.Tracer("test")}})
	send(t, p, "a", "none of ours", "")
	arrive(t, s, p)
	traces := map[trace.TraceID]bool{}
	for _, span := range told.GetSpans() {
		traces[span.SpanContext.TraceID()] = true
	}
	if len(traces) != 1 || !traces[told.GetSpans()[0].SpanContext.TraceID()] {
		t.Fatalf("%d traces, want 1", len(traces))
	}
	if got := deadTrace(t, s); got != told.GetSpans()[0].SpanContext.TraceID().String() {
		t.Errorf("the dead letter's trace_id is %q, want the batch's", got)
	}
}

// What a sampler does not want is not told, but its trace id is kept.
func TestUnsampledTracesAreNotTold(t *testing.T) {
	told := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(told))
	s, p := start(t, pipeline.Config{Config: local.Config{Tracer: provider.Tracer("test")}})
	send(t, p, "a", "none of ours", "00-"+traceA+"-"+spanA+"-00")
	arrive(t, s, p)
	if spans := told.GetSpans(); len(spans) > 0 {
		t.Errorf("%d spans of a trace that is not sampled", len(spans))
	}
	if got := deadTrace(t, s); got != traceA {
		t.Errorf("the dead letter's trace_id is %q", got)
	}
}

// Without a tracer traces go through all the same: who has one elsewhere finds the
// dead letter.
func TestTracesPassWithoutATracer(t *testing.T) {
	s, p := start(t, pipeline.Config{})
	send(t, p, "a", "none of ours", "00-"+traceA+"-"+spanA+"-01")
	arrive(t, s, p)
	if got := deadTrace(t, s); got != traceA {
		t.Errorf("the dead letter's trace_id is %q", got)
	}
}

// parentName is the name of a span's parent, or its id if it is not ours.
func parentName(spans tracetest.SpanStubs, of tracetest.SpanStub) string {
	i := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.SpanContext.SpanID() == of.Parent.SpanID() })
	if i < 0 {
		return of.Parent.SpanID().String()
	}
	return spans[i].Name
}

// deadTrace is the trace_id of the only dead letter.
func deadTrace(t *testing.T, s *local.Stack) (id string) {
	t.Helper()
	if err := s.Warehouse.DB().QueryRowContext(t.Context(),
		"SELECT COALESCE(trace_id, '') FROM events_dlq").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/batch"
)

// Work is something done for a batch, to be told as a span once it is over: its times
// are taken anyway, for the log line, and telling it afterwards keeps tracing out of
// the way of the work.
type Work struct {
	Name       string // by the conventions "{operation} {destination}", such as "process clickstream"
	Kind       trace.SpanKind
	Parent     trace.SpanContext // the zero value: a trace of its own
	Links      []trace.Link
	Begin, End time.Time
	Attributes []attribute.KeyValue
	Err        error
	Steps      []Step
}

// Step is a part of a Work. Steps follow each other from its begin.
type Step struct {
	Name string
	Took time.Duration // a step that took no time was not made
}

// Tell records w. t must not be nil.
func (w *Work) Tell(t trace.Tracer) {
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), w.Parent)
	ctx, span := t.Start(ctx, w.Name, trace.WithTimestamp(w.Begin), trace.WithSpanKind(w.Kind),
		trace.WithLinks(w.Links...))
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(w.Attributes...)
	at := w.Begin
	for _, s := range w.Steps {
		if s.Took <= 0 {
			continue
		}
		_, step := t.Start(ctx, s.Name, trace.WithTimestamp(at))
		at = at.Add(s.Took)
		step.End(trace.WithTimestamp(at))
	}
	if w.Err != nil {
		// Errors hold no event values: they are logged as well.
		span.SetStatus(codes.Error, w.Err.Error())
	}
	span.End(trace.WithTimestamp(w.End))
}

// RangeAttributes say where the records of a batch came from: the coordinates if it is one
// partition, and how many partitions it is.
func RangeAttributes(ranges []batch.Range) []attribute.KeyValue {
	switch len(ranges) {
	case 0:
		return nil
	case 1:
		r := &ranges[0]
		return []attribute.KeyValue{
			attribute.String("sluice.kafka.topic", r.Topic),
			attribute.Int("sluice.kafka.partition", int(r.Partition)),
			attribute.Int64("sluice.kafka.first_offset", r.First),
			attribute.Int64("sluice.kafka.last_offset", r.Last),
		}
	}
	return []attribute.KeyValue{
		attribute.String("sluice.kafka.topic", ranges[0].Topic),
		attribute.Int("sluice.kafka.partitions", len(ranges)),
	}
}

// Links are links to the sampled traces of records, at most MaxLinks, without that of
// parent, of which the batch is a part.
func Links(records []batch.Record, parent trace.SpanContext) []trace.Link {
	var links []trace.Link
	for i := range records {
		if len(links) == MaxLinks {
			break
		}
		if c, ok := linked(&records[i], parent); ok {
			links = append(links, trace.Link{SpanContext: c})
		}
	}
	return links
}

// Link returns the context that a batch with that parent links to because of r.
func Link(r *batch.Record, parent trace.SpanContext) (trace.Link, bool) {
	c, ok := linked(r, parent)
	return trace.Link{SpanContext: c}, ok
}

func linked(r *batch.Record, parent trace.SpanContext) (trace.SpanContext, bool) {
	if len(r.Headers) == 0 {
		return trace.SpanContext{}, false
	}
	c := ParseTraceparent(RecordTraceparent(r))
	return c, c.IsSampled() && c.TraceID() != parent.TraceID()
}

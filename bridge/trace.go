package bridge

import (
	"context"
	"path"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/batch"
	"sluice/internal/telemetry"
)

// Trace makes the bridge tell t of every batch: a span from its first record to
// Pub/Sub's acknowledgement. Call it before Run; without it nothing is told.
//
// A batch belongs to the trace of its first record, if that record's header
// traceparent names one, and otherwise begins a trace, sampled as t is configured to.
// It is linked to the sampled traces of its other records. With or without t its
// traceparent goes along in the batch.
func (b *Bridge) Trace(t trace.Tracer) { b.tracer = t }

// beginTrace begins the span of a batch with its first record, and returns the
// traceparent for the batch's header, or "".
func (b *Bridge) beginTrace(k *packer, r *batch.Record, now time.Time) string {
	traceparent := recordTrace(r)
	if b.tracer == nil {
		return traceparent
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), telemetry.ParseTraceparent(traceparent))
	_, span := b.tracer.Start(ctx, "send "+path.Base(b.cfg.Topic), trace.WithTimestamp(now),
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "gcp_pubsub"),
			attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", path.Base(b.cfg.Topic)),
			attribute.String("sluice.kafka.topic", r.Topic),
			attribute.Int("sluice.kafka.partition", int(r.Partition)),
			attribute.Int64("sluice.kafka.first_offset", r.Offset)))
	if span.IsRecording() {
		k.span = span
	}
	return telemetry.Traceparent(span.SpanContext())
}

// recordTrace returns the record's traceparent if it is a valid one, or "".
func recordTrace(r *batch.Record) string {
	if len(r.Headers) == 0 {
		return ""
	}
	return telemetry.Traceparent(telemetry.ParseTraceparent(telemetry.RecordTraceparent(r)))
}

// linkTrace links the batch to the trace of one more of its records.
func (k *packer) linkTrace(r *batch.Record) {
	if k.links == telemetry.MaxLinks {
		return
	}
	if link, ok := telemetry.Link(r, k.span.SpanContext()); ok {
		k.span.AddLink(link)
		k.links++
	}
}

// takeTrace returns the span of the batch that k sends or drops, or nil.
func (k *packer) takeTrace() trace.Span {
	span := k.span
	k.span, k.links = nil, 0
	return span
}

// endTrace ends the span of a batch; span may be nil.
func endTrace(span trace.Span, records, bytes int, acked bool) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.Int("messaging.batch.message_count", records), attribute.Int("sluice.batch.size",
		bytes))
	if !acked {
		span.SetStatus(codes.Error, "given up before Pub/Sub acknowledged: its records are read again")
	}
	span.End()
}

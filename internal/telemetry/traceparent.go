package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/batch"
)

// TraceparentHeader is the Kafka record header that carries W3C's trace context:
// https://www.w3.org/TR/trace-context/#traceparent-header.
const TraceparentHeader = "traceparent"

// Traceparent writes a span's context as W3C does; "" if it is not valid.
func Traceparent(c trace.SpanContext) string {
	if !c.IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), c), carrier)
	return carrier[TraceparentHeader]
}

// ParseTraceparent reads what Traceparent has written, here or elsewhere. What is no
// traceparent gives the zero context, whose IsValid is false: a producer's broken
// header is no reason to lose its record.
func ParseTraceparent(s string) trace.SpanContext {
	if len(s) < 55 { // the shortest there is
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{TraceparentHeader: s}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// RecordTraceparent returns the traceparent among the record's headers as it stands,
// or "". It may be malformed: ParseTraceparent tells.
func RecordTraceparent(r *batch.Record) string {
	for i := range r.Headers {
		if string(r.Headers[i].Key) == TraceparentHeader {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// MaxLinks bounds the links of a batch's span to the traces of its records.
const MaxLinks = 32

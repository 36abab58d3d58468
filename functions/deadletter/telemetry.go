package deadletter

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"sluice/functions/push"
	"sluice/internal/batch"
	"sluice/internal/telemetry"
)

// span records a message that is done with, or failed.
func (f *Function) span(m *push.Message, b *batch.Batch, begin time.Time, decode, write time.Duration, err error) {
	if f.tracer == nil {
		return
	}
	parent := telemetry.ParseTraceparent(b.Traceparent)
	w := telemetry.Work{
		Name: "process DeadLetter", Kind: trace.SpanKindConsumer, Parent: parent, Links: telemetry.Links(b.Records,
			parent),
		Begin: begin, End: time.Now(), Err: err,
		Attributes: append(telemetry.RangeAttributes(b.Ranges()),
			attribute.String("messaging.system", "gcp_pubsub"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.message.id", m.ID),
			attribute.String("messaging.destination.subscription.name", m.Subscription),
			attribute.Int("messaging.batch.message_count", len(b.Records)),
		),
		Steps: []telemetry.Step{{Name: "decode", Took: decode}, {Name: "append", Took: write}},
	}
	w.Tell(f.tracer)
}

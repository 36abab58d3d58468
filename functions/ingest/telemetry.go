package ingest

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"sluice/functions/push"
	"sluice/internal/batch"
	"sluice/internal/telemetry"
)

// metrics are OpenTelemetry's instruments of what Ingest does; nil: nobody receives them.
type metrics struct {
	records, leftOut metric.Int64Counter
	append, age      metric.Float64Histogram
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	if meter == nil {
		return nil, nil
	}
	seconds := metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
	m := &metrics{}
	var err error
	if m.records, err = meter.Int64Counter("sluice.ingest.records", metric.WithUnit("{record}"),
		metric.WithDescription("Records of acknowledged messages; those with error.type are rejected for that code, the others landed.")); err != nil {
		return nil, err
	}
	if m.leftOut, err = meter.Int64Counter("sluice.ingest.left_out", metric.WithUnit("{record}"),
		metric.WithDescription("Records of acknowledged messages that their contract leaves out, by its rule: drop or sample.")); err != nil {
		return nil, err
	}
	if m.append, err = meter.Float64Histogram("sluice.ingest.append.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a push request to BigQuery's acknowledgement of its rows."), seconds); err != nil {
		return nil, err
	}
	m.age, err = meter.Float64Histogram("sluice.ingest.age", metric.WithUnit("s"),
		metric.WithDescription("Time from Kafka's timestamp to BigQuery's acknowledgement, of the oldest record of a message."), seconds)
	return m, err
}

// record takes down an acknowledged message. Others come again, and count then.
func (s *metrics) record(l *line) {
	ctx := context.Background()
	of := metric.WithAttributes(attribute.String("sluice.contract", l.contract))
	if l.landed > 0 {
		s.records.Add(ctx, int64(l.landed), of)
	}
	for code, n := range l.rejected {
		s.records.Add(ctx, int64(n), of, metric.WithAttributes(attribute.String("error.type", code)))
	}
	if l.dropped > 0 {
		s.leftOut.Add(ctx, int64(l.dropped), of, metric.WithAttributes(attribute.String("sluice.rule", "drop")))
	}
	if l.sampled > 0 {
		s.leftOut.Add(ctx, int64(l.sampled), of, metric.WithAttributes(attribute.String("sluice.rule", "sample")))
	}
	if l.known && l.contract != "" {
		s.append.Record(ctx, (l.decode + l.append).Seconds(), of)
	}
	if l.oldest > 0 {
		s.age.Record(ctx, l.oldest.Seconds(), of)
	}
}

// belong takes down which trace the batch belongs to and which it is linked to, while
// its records are there.
func (l *line) belong(b *batch.Batch) {
	l.parent = telemetry.ParseTraceparent(b.Traceparent)
	l.links = telemetry.Links(b.Records, l.parent)
}

// tell records a message that is done with, or failed, as metrics and as a span.
func (f *Function) tell(m *push.Message, l *line, begin time.Time, err error) {
	if f.metrics != nil && err == nil {
		f.metrics.record(l)
	}
	if f.config.Tracer == nil {
		return
	}
	rejected := 0
	for _, n := range l.rejected {
		rejected += n
	}
	w := telemetry.Work{
		Name: "process Ingest", Kind: trace.SpanKindConsumer, Parent: l.parent, Links: l.links,
		Begin: begin, End: time.Now(), Err: err,
		Attributes: []attribute.KeyValue{
			attribute.String("messaging.system", "gcp_pubsub"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.message.id", m.ID),
			attribute.String("messaging.destination.subscription.name", m.Subscription),
			attribute.Int("messaging.batch.message_count", l.records),
			attribute.String("sluice.contract", l.contract),
			attribute.String("sluice.kafka.topic", l.topic),
			attribute.Int("sluice.kafka.partition", int(l.partition)),
			attribute.Int64("sluice.kafka.first_offset", l.first),
			attribute.Int64("sluice.kafka.last_offset", l.last),
			attribute.Int("sluice.landed", l.landed),
			attribute.Int("sluice.rejected", rejected),
		},
		Steps: []telemetry.Step{{Name: "decode", Took: l.decode}, {Name: "append", Took: l.append}, {Name: "publish dead letters", Took: l.publish}},
	}
	w.Tell(f.config.Tracer)
}

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
	seconds := metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
		900, 3600)
	m := &metrics{}
	var err error
	if m.records, err = meter.Int64Counter("sluice.ingest.records", metric.WithUnit("{record}"),
		metric.WithDescription("Records of acknowledged messages; those with error.type are rejected for that code, the "+
			"others landed.")); err != nil {
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

// count takes down an acknowledged message. Others come again, and count then.
func (f *Function) count(parts []part) {
	if f.metrics == nil {
		return
	}
	for i := range parts {
		f.metrics.record(&parts[i])
	}
}

// record takes down what became of a part.
func (s *metrics) record(p *part) {
	ctx := context.Background()
	of := metric.WithAttributes(attribute.String("sluice.contract", p.contract()))
	if p.landed > 0 {
		s.records.Add(ctx, int64(p.landed), of)
	}
	for code, n := range p.rejected {
		s.records.Add(ctx, int64(n), of, metric.WithAttributes(attribute.String("error.type", code)))
	}
	if p.dropped > 0 {
		s.leftOut.Add(ctx, int64(p.dropped), of, metric.WithAttributes(attribute.String("sluice.rule", "drop")))
	}
	if p.sampled > 0 {
		s.leftOut.Add(ctx, int64(p.sampled), of, metric.WithAttributes(attribute.String("sluice.rule", "sample")))
	}
	if p.to != nil {
		s.append.Record(ctx, (p.decode + p.append).Seconds(), of)
	}
	if p.oldest > 0 {
		s.age.Record(ctx, p.oldest.Seconds(), of)
	}
}

// trace takes down which trace the batch belongs to and which it is linked to, while
// its records are there.
func (l *line) trace(b *batch.Batch) {
	l.parent = telemetry.ParseTraceparent(b.Traceparent)
	l.links = telemetry.Links(b.Records, l.parent)
}

// span records a message that is done with, or failed, as a span.
func (f *Function) span(m *push.Message, l *line, begin time.Time, err error) {
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
		Attributes: append(telemetry.RangeAttributes(l.ranges),
			attribute.String("messaging.system", "gcp_pubsub"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.message.id", m.ID),
			attribute.String("messaging.destination.subscription.name", m.Subscription),
			attribute.Int("messaging.batch.message_count", l.records),
			attribute.String("sluice.contract", l.contracts),
			attribute.Int("sluice.landed", l.landed),
			attribute.Int("sluice.rejected", rejected),
		),
		Steps: []telemetry.Step{{Name: "decode", Took: l.decode}, {Name: "append", Took: l.append},
			{Name: "publish dead " +
				"letters", Took: l.publish}},
	}
	w.Tell(f.config.Tracer)
}

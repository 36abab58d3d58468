package push

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metrics are OpenTelemetry's instruments of the requests, by its conventions for
// messaging, for where somebody receives them; the log lines tell the same. A nil
// *Metrics records nothing.
type Metrics struct {
	duration metric.Float64Histogram
	consumed metric.Int64Counter
	delivery metric.Float64Histogram
}

// NewMetrics makes the instruments; nil if meter is.
func NewMetrics(meter metric.Meter) (*Metrics, error) {
	if meter == nil {
		return nil, nil
	}
	m := &Metrics{}
	var err error
	if m.duration, err = meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one push request, from its headers to its answer."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5,
			10)); err != nil {
		return nil, err
	}
	if m.consumed, err = meter.Int64Counter("messaging.client.consumed.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Push requests.")); err != nil {
		return nil, err
	}
	m.delivery, err = meter.Float64Histogram("sluice.functions.delivery.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from the publishing of a message to its push request; long for one that is delivered again."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900,
			3600))
	return m, err
}

// record takes down a request that is answered.
func (m *Metrics) record(function string, message *Message, a answer, start time.Time, total time.Duration) {
	if m == nil {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 5)
	attributes = append(attributes,
		attribute.String("messaging.system", "gcp_pubsub"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("sluice.function", function))
	if message.Subscription != "" {
		attributes = append(attributes, attribute.String("messaging.destination.subscription.name",
			message.Subscription))
	}
	if a.outcome != "ack" {
		attributes = append(attributes, attribute.String("error.type", a.outcome))
	}
	set := metric.WithAttributeSet(attribute.NewSet(attributes...))
	ctx := context.Background()
	m.duration.Record(ctx, total.Seconds(), set)
	m.consumed.Add(ctx, 1, set)
	if !message.PublishTime.IsZero() {
		m.delivery.Record(ctx, max(0, start.Sub(message.PublishTime).Seconds()),
			metric.WithAttributes(attribute.String("sluice.function", function)))
	}
}

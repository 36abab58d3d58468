package bridge

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// metrics are the instruments of one bridge. What can be counted is counted in
// counters and read when somebody asks; only distributions are recorded as they
// happen, and requests with their failures, once a batch or a request.
//
// Where OpenTelemetry's conventions for messaging have an instrument, it is theirs:
// https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/. To Kafka the
// bridge is a consumer, whose messages are records, and to Pub/Sub a producer.
type metrics struct {
	handler          http.Handler
	sentMessages     metric.Int64Counter
	operationSeconds metric.Float64Histogram
	batchRecords     metric.Int64Histogram
	batchBytes       metric.Int64Histogram
	fetchSeconds     metric.Float64Histogram
	batchSeconds     metric.Float64Histogram
}

// newMetrics makes the instruments, which read stats, and the handler of /metrics.
// cfg.MeterOptions are further readers.
func newMetrics(stats func() Stats, cfg Config) (*metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo(),
		promexporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("bridge: metrics: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(append([]sdkmetric.Option{sdkmetric.WithReader(exporter)},
		cfg.MeterOptions...)...)
	if err := runtime.Start(runtime.WithMeterProvider(provider)); err != nil {
		return nil, fmt.Errorf("bridge: metrics: %w", err)
	}
	meter := provider.Meter("sluice/bridge")
	m := &metrics{handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{})}

	// Instruments fail to be made only when their names or units are malformed,
	// which a test would see: the first such mistake is kept and returned.
	var firstErr error
	keep := func(err error) {
		if firstErr == nil {
			firstErr = err
		}
	}
	var observed []metric.Observable
	var observers []func(metric.Observer, *Stats)
	counter := func(name, unit, description string, value func(*Stats) int64, opts ...metric.ObserveOption) {
		c, err := meter.Int64ObservableCounter("sluice.bridge."+name, metric.WithUnit(unit),
			metric.WithDescription(description))
		keep(err)
		observed = append(observed, c)
		observers = append(observers, func(o metric.Observer, s *Stats) { o.ObserveInt64(c, value(s), opts...) })
	}
	level := func(name, unit, description string, value func(*Stats) int64) {
		l, err := meter.Int64ObservableUpDownCounter("sluice.bridge."+name, metric.WithUnit(unit),
			metric.WithDescription(description))
		keep(err)
		observed = append(observed, l)
		observers = append(observers, func(o metric.Observer, s *Stats) { o.ObserveInt64(l, value(s)) })
	}
	// A gauge can be without a value: unknown is not zero.
	type set func(value float64, attributes ...attribute.KeyValue)
	gauge := func(name, unit, description string, observe func(*Stats, set)) {
		g, err := meter.Float64ObservableGauge("sluice.bridge."+name, metric.WithUnit(unit),
			metric.WithDescription(description))
		keep(err)
		observed = append(observed, g)
		observers = append(observers, func(o metric.Observer, s *Stats) {
			observe(s, func(v float64, a ...attribute.KeyValue) { o.ObserveFloat64(g, v, metric.WithAttributes(a...)) })
		})
	}

	counter("records.out", "{record}", "Records in batches that were sent.",
		func(s *Stats) int64 { return s.RecordsOut })
	counter("in", "By", "Keys, values and headers of records taken from Kafka.",
		func(s *Stats) int64 { return s.BytesIn })
	counter("batches", "{batch}", "Batches that were sent.", func(s *Stats) int64 { return s.Batches })
	counter("packed", "By", "Batches that were sent, before compression.",
		func(s *Stats) int64 { return s.PackedBytes })
	counter("out", "By", "Batches that were sent, after compression.", func(s *Stats) int64 { return s.PayloadBytes })
	counter("references", "{batch}", "Batches that were written to the bucket, and whose messages refer to it.",
		func(s *Stats) int64 { return s.References })
	counter("store_errors", "{batch}", "Batches that could not be written to the bucket and went as messages.",
		func(s *Stats) int64 { return s.StoreErrors })
	counter("dead_lettered", "{record}", "Records that the dead-letter topic has acknowledged.",
		func(s *Stats) int64 { return s.DeadLettered },
		metric.WithAttributes(attribute.String("error.type", "too_large")))
	counter("rebalances", "{rebalance}", "Assignments and revocations of partitions.",
		func(s *Stats) int64 { return s.Rebalances })
	counter("partitions.lost", "{partition}", "Partitions that the group took away without asking.",
		func(s *Stats) int64 { return s.Lost })
	counter("partitions.revived", "{partition}", "Partitions that stood still and were assigned anew.",
		func(s *Stats) int64 { return s.Revived })
	counter("kafka_errors", "{error}", "Errors that the Kafka client has reported.",
		func(s *Stats) int64 { return s.KafkaErrors })
	counter("commit_errors", "{error}", "Offsets that could not be stored or committed at the first try.",
		func(s *Stats) int64 { return s.CommitErrors })
	counter("late_results", "{batch}", "Batches whose result came when their partition was no longer ours.",
		func(s *Stats) int64 { return s.LateResults })

	level("inflight", "By", "Bytes packed and unacknowledged, before compression.",
		func(s *Stats) int64 { return s.InflightBytes })
	level("inflight.limit", "By", "Bytes in flight at which fetching pauses.",
		func(*Stats) int64 { return cfg.MaxInflightBytes })
	level("inflight.batches", "{batch}", "Batches on their way.", func(s *Stats) int64 { return s.InflightBatches })
	level("partitions.assigned", "{partition}", "Partitions assigned to this instance.",
		func(s *Stats) int64 { return s.Assigned })
	level("partitions.paused", "{partition}", "Partitions that are not fetched from because of the bytes in flight.",
		func(s *Stats) int64 { return s.Paused })

	gauge("unacknowledged.age", "s", "Age of the oldest record that is taken and not acknowledged; 0 if there is none.",
		func(s *Stats, set set) { set(s.OldestUnacknowledged.Seconds()) })
	gauge("publish.failing", "", "1 while a batch is refused and tried again, else 0.",
		func(s *Stats, set set) { set(float64(one(s.Failing))) })
	gauge("compression", "1", "Bytes before compression for each byte after it, since the start; absent before the first batch.",
		func(s *Stats, set set) {
			if s.PayloadBytes > 0 {
				set(float64(s.PackedBytes) / float64(s.PayloadBytes))
			}
		})
	gauge("lag", "{record}", "Records in a partition that are not acknowledged by Pub/Sub; absent while it is not known.",
		func(s *Stats, set set) {
			for p, n := range s.Lag {
				set(float64(n), attribute.String("messaging.destination.name", p.Topic),
					attribute.String("messaging.destination.partition.id", strconv.Itoa(int(p.Partition))))
			}
		})

	consumed, err := meter.Int64ObservableCounter("messaging.client.consumed.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Records taken from Kafka."))
	keep(err)
	observed = append(observed, consumed)
	observers = append(observers, func(o metric.Observer, s *Stats) {
		for topic, n := range s.TopicRecords {
			o.ObserveInt64(consumed, n, metric.WithAttributes(
				attribute.String("messaging.system", "kafka"),
				attribute.String("messaging.operation.name", "poll"),
				attribute.String("messaging.destination.name", topic),
				attribute.String("messaging.consumer.group.name", cfg.Group)))
		}
	})
	m.sentMessages, err = meter.Int64Counter("messaging.client.sent.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Publish requests, of one message each; those with error.type have failed and are tried again."))
	keep(err)
	m.operationSeconds, err = meter.Float64Histogram("messaging.client.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one publish request."),
		// the conventions'
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	keep(err)
	m.batchRecords, err = meter.Int64Histogram("sluice.bridge.batch.records", metric.WithUnit("{record}"),
		metric.WithDescription("Records in a batch."), metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 20, 50, 100,
			200,
			500, 1000, 2000, 5000, 10000))
	keep(err)
	m.batchBytes, err = meter.Int64Histogram("sluice.bridge.batch.size", metric.WithUnit("By"),
		metric.WithDescription("Bytes in a batch, before compression."),
		metric.WithExplicitBucketBoundaries(1<<10, 4<<10, 16<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20, 2<<20,
			5<<20, 10<<20))
	keep(err)
	// Latency by station: Kafka's timestamp, fetched, published. Ingest tells the rest.
	stations := metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
		300, 900, 3600)
	m.fetchSeconds, err = meter.Float64Histogram("sluice.bridge.fetch.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from Kafka's timestamp to the bridge, of the first record of each batch."), stations)
	keep(err)
	m.batchSeconds, err = meter.Float64Histogram("sluice.bridge.batch.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a batch's first record to Pub/Sub's acknowledgement, tries included."), stations)
	keep(err)
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := stats()
		for _, observe := range observers {
			observe(o, &s)
		}
		return nil
	}, observed...)
	keep(err)
	if firstErr != nil {
		return nil, fmt.Errorf("bridge: metrics: %w", firstErr)
	}
	return m, nil
}

// packed notes a batch that is sent.
func (m *metrics) packed(records, bytes int) {
	m.batchRecords.Record(context.Background(), int64(records))
	m.batchBytes.Record(context.Background(), int64(bytes))
}

// began notes the first record of a batch by its Kafka timestamp, milliseconds.
func (m *metrics) began(timestamp int64, now time.Time) {
	if timestamp > 0 {
		m.fetchSeconds.Record(context.Background(), max(0, now.Sub(time.UnixMilli(timestamp)).Seconds()))
	}
}

// acked notes a batch that Pub/Sub has acknowledged.
func (m *metrics) acked(since time.Time) {
	m.batchSeconds.Record(context.Background(), time.Since(since).Seconds())
}

// published notes one publish request to a topic, and the name of its error if it failed.
func (m *metrics) published(topic string, d time.Duration, failure string) {
	attributes := append(make([]attribute.KeyValue, 0, 5),
		attribute.String("messaging.system", "gcp_pubsub"),
		attribute.String("messaging.operation.name", "send"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", path.Base(topic)))
	if failure != "" {
		attributes = append(attributes, attribute.String("error.type", failure))
	}
	set := metric.WithAttributeSet(attribute.NewSet(attributes...))
	m.sentMessages.Add(context.Background(), 1, set)
	m.operationSeconds.Record(context.Background(), d.Seconds(), set)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

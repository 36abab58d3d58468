package bridge

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// metrics are the instruments of one bridge. What can be counted is counted in
// counters and read when somebody asks; only distributions are recorded as they
// happen, once a batch or a request.
type metrics struct {
	handler        http.Handler
	batchRecords   metric.Int64Histogram
	batchBytes     metric.Int64Histogram
	publishSeconds metric.Float64Histogram
	fetchSeconds   metric.Float64Histogram
	batchSeconds   metric.Float64Histogram
}

// Attributes of publish requests, made once.
var (
	outcomeOK    = metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", "ok")))
	outcomeError = metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", "error")))
	codeTooLarge = metric.WithAttributeSet(attribute.NewSet(attribute.String("code", "too_large")))
)

// newMetrics makes the instruments, which read stats, and the handler of /metrics;
// options are further readers.
func newMetrics(stats func() Stats, limit int64, options []sdkmetric.Option) (*metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo(), promexporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("bridge: metrics: %w", err)
	}
	meter := sdkmetric.NewMeterProvider(append([]sdkmetric.Option{sdkmetric.WithReader(exporter)}, options...)...).Meter("sluice/bridge")
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
		c, err := meter.Int64ObservableCounter("sluice.bridge."+name, metric.WithUnit(unit), metric.WithDescription(description))
		keep(err)
		observed = append(observed, c)
		observers = append(observers, func(o metric.Observer, s *Stats) { o.ObserveInt64(c, value(s), opts...) })
	}
	gauge := func(name, unit, description string, value func(*Stats) float64) {
		g, err := meter.Float64ObservableGauge("sluice.bridge."+name, metric.WithUnit(unit), metric.WithDescription(description))
		keep(err)
		observed = append(observed, g)
		observers = append(observers, func(o metric.Observer, s *Stats) { o.ObserveFloat64(g, value(s)) })
	}

	counter("records.in", "{record}", "Records taken from Kafka.", func(s *Stats) int64 { return s.RecordsIn })
	counter("in", "By", "Keys, values and headers of records taken from Kafka.", func(s *Stats) int64 { return s.BytesIn })
	counter("records.out", "{record}", "Records in batches that were sent.", func(s *Stats) int64 { return s.RecordsOut })
	counter("batches", "{batch}", "Batches that were sent.", func(s *Stats) int64 { return s.Batches })
	counter("packed", "By", "Batches that were sent, before compression.", func(s *Stats) int64 { return s.PackedBytes })
	counter("out", "By", "Batches that were sent, after compression.", func(s *Stats) int64 { return s.PayloadBytes })
	counter("acknowledged", "{request}", "Publish requests that Pub/Sub has acknowledged.", func(s *Stats) int64 { return s.Acknowledged })
	counter("retries", "{request}", "Publish requests that failed and are tried again.", func(s *Stats) int64 { return s.Retries })
	counter("dead_lettered", "{record}", "Records that the dead-letter topic has acknowledged.", func(s *Stats) int64 { return s.DeadLettered }, codeTooLarge)
	counter("rebalances", "{rebalance}", "Assignments and revocations of partitions.", func(s *Stats) int64 { return s.Rebalances })
	counter("partitions.lost", "{partition}", "Partitions that the group took away without asking.", func(s *Stats) int64 { return s.Lost })
	counter("partitions.revived", "{partition}", "Partitions that stood still and were assigned anew.", func(s *Stats) int64 { return s.Revived })
	counter("kafka_errors", "{error}", "Errors that the Kafka client has reported.", func(s *Stats) int64 { return s.KafkaErrors })
	counter("commit_errors", "{error}", "Offsets that could not be stored or committed at the first try.", func(s *Stats) int64 { return s.CommitErrors })
	counter("late_results", "{batch}", "Batches whose result came when their partition was no longer ours.", func(s *Stats) int64 { return s.LateResults })

	gauge("inflight", "By", "Bytes packed and unacknowledged, before compression.", func(s *Stats) float64 { return float64(s.InflightBytes) })
	gauge("inflight.limit", "By", "Bytes in flight at which fetching pauses.", func(*Stats) float64 { return float64(limit) })
	gauge("inflight.batches", "{batch}", "Batches on their way.", func(s *Stats) float64 { return float64(s.InflightBatches) })
	gauge("partitions.assigned", "{partition}", "Partitions assigned to this instance.", func(s *Stats) float64 { return float64(s.Assigned) })
	gauge("partitions.paused", "{partition}", "Partitions that are not fetched from because of the bytes in flight.", func(s *Stats) float64 { return float64(s.Paused) })
	gauge("unacknowledged.age", "s", "Age of the oldest record that is taken and not acknowledged; 0 if there is none.", func(s *Stats) float64 { return s.OldestUnacknowledged.Seconds() })
	gauge("publish.failing", "", "1 while a batch is refused and tried again, else 0.", func(s *Stats) float64 { return float64(one(s.Failing)) })
	gauge("compression", "1", "Bytes before compression for each byte after it, since the start; absent before the first batch.", nil)
	// The last two have no value at times, and unknown is not zero.
	compression := observed[len(observed)-1].(metric.Float64Observable)
	observers[len(observers)-1] = func(o metric.Observer, s *Stats) {
		if s.PayloadBytes > 0 {
			o.ObserveFloat64(compression, float64(s.PackedBytes)/float64(s.PayloadBytes))
		}
	}
	lag, err := meter.Int64ObservableGauge("sluice.bridge.lag", metric.WithUnit("{record}"),
		metric.WithDescription("Records in a partition that are not acknowledged by Pub/Sub; absent while it is not known."))
	keep(err)
	observed = append(observed, lag)
	observers = append(observers, func(o metric.Observer, s *Stats) {
		for p, n := range s.Lag {
			o.ObserveInt64(lag, n, metric.WithAttributes(attribute.String("topic", p.Topic), attribute.Int("partition", int(p.Partition))))
		}
	})

	m.batchRecords, err = meter.Int64Histogram("sluice.bridge.batch.records", metric.WithUnit("{record}"),
		metric.WithDescription("Records in a batch."), metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000))
	keep(err)
	m.batchBytes, err = meter.Int64Histogram("sluice.bridge.batch.size", metric.WithUnit("By"),
		metric.WithDescription("Bytes in a batch, before compression."),
		metric.WithExplicitBucketBoundaries(1<<10, 4<<10, 16<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20, 2<<20, 5<<20, 10<<20))
	keep(err)
	m.publishSeconds, err = meter.Float64Histogram("sluice.bridge.publish.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one publish request."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30))
	keep(err)
	// Latency by station: Kafka's timestamp, fetched, published. Ingest tells the rest.
	stations := metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
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

// published notes one publish request.
func (m *metrics) published(d time.Duration, err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = outcomeError
	}
	m.publishSeconds.Record(context.Background(), d.Seconds(), outcome)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

package infra_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// past is how many minutes of history the alerts see: more than their longest window.
const past = 7 * 60

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// series is a metric with one sample a minute.
type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// gauge is a metric with the value that f gives for the minutes before now.
func gauge(f func(ago int) float64, name string, pairs ...string) series {
	s := series{labels: labels.FromStrings(append([]string{"__name__", name}, pairs...)...)}
	for ago := past; ago >= 0; ago-- {
		s.samples = append(s.samples, sample{now.Add(-time.Duration(ago) * time.Minute).UnixMilli(), f(ago)})
	}
	return s
}

// counter grows in each minute by what f gives for it.
func counter(f func(ago int) float64, name string, pairs ...string) series {
	sum := 0.0
	return gauge(func(ago int) float64 { sum += f(ago); return sum }, name, pairs...)
}

func always(v float64) func(int) float64 { return func(int) float64 { return v } }

// since is v in the last minutes and 0 before.
func since(minutes int, v float64) func(int) float64 {
	return func(ago int) float64 {
		if ago < minutes {
			return v
		}
		return 0
	}
}

// history serves series to PromQL.
type history []series

func (h history) Querier(int64, int64) (storage.Querier, error) { return h, nil }
func (h history) Close() error                                  { return nil }
func (h history) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string,
	annotations.Annotations, error) {
	return nil, nil, nil
}
func (h history) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string,
	annotations.Annotations, error) {
	return nil, nil, nil
}
func (h history) Select(_ context.Context, _ bool, _ *storage.SelectHints,
	matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, s := range h {
		all := true
		for _, m := range matchers {
			all = all && m.Matches(s.labels.Get(m.Name))
		}
		if all {
			found = append(found, storage.NewListSeries(s.labels, s.samples))
		}
	}
	return &seriesSet{series: found}
}

type seriesSet struct {
	series []storage.Series
	at     int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at <= len(s.series) }
func (s *seriesSet) At() storage.Series                { return s.series[s.at-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// The metrics of the alerts, with the labels that Cloud Monitoring gives them.
func functionMetric(f func(int) float64, name string, pairs ...string) series {
	return counter(f, "logging_googleapis_com:user_sluice_"+name,
		append([]string{"monitored_resource", "cloud_run_revision"}, pairs...)...)
}

func bridgeLines(instance string, lag func(ago int) float64) []series {
	metric := func(f func(int) float64, name string) series {
		return counter(f, "logging_googleapis_com:user_sluice_"+name, "monitored_resource", "cloud_run_worker_pool",
			"instance", instance)
	}
	// Two lines a minute.
	return []series{
		metric(func(ago int) float64 { return 2 * lag(ago) }, "bridge_lag_sum"), metric(always(2), "bridge_lag_count"),
		metric(always(2), "bridge_records_count"),
	}
}

// reading is a bridge that reads so many partitions.
func reading(instance string, partitions float64) series {
	return counter(always(2*partitions), "logging_googleapis_com:user_sluice_bridge_assigned_sum", "monitored_resource",
		"cloud_run_worker_pool", "instance", instance)
}

// waiting is a bridge whose two lines a minute tell of a batch in flight for a second, or, so
// many of them, for three minutes.
func waiting(instance string, late float64) history {
	bucket := func(le string, count float64) series {
		return counter(always(count), "logging_googleapis_com:user_sluice_bridge_oldest_bucket", "monitored_resource",
			"cloud_run_worker_pool", "instance", instance, "le", le)
	}
	return history{bucket("1000", 2-late), bucket("120000", 2-late), bucket("300000", 2), bucket("+Inf", 2)}
}

func subscription(f func(int) float64, metric, id string) series {
	return gauge(f, "pubsub_googleapis_com:subscription_"+metric, "monitored_resource", "pubsub_subscription",
		"subscription_id", id)
}

func published(f func(int) float64) series {
	return counter(f, "pubsub_googleapis_com:topic_send_message_operation_count", "monitored_resource", "pubsub_topic",
		"topic_id", "clickstream")
}

func answers(class string, f func(int) float64) series {
	return counter(f, "run_googleapis_com:request_count", "monitored_resource", "cloud_run_revision", "service_name",
		"ingest", "response_code_class", class)
}

// latencies are a hundred batches a minute, of which late ones need 6 seconds and
// the others half a second.
func latencies(late float64) history {
	bucket := func(le string, count float64) series {
		return functionMetric(always(count), "latency_bucket", "le", le)
	}
	return history{bucket("500", 100-late), bucket("5000", 100-late), bucket("7500", 100), bucket("+Inf", 100)}
}

// Protects nights and mornings: each alert fires when what it is for happens, and
// not when something like it does.
func TestAlertsFire(t *testing.T) {
	tested := map[string]map[bool]bool{}
	rising := func(ago int) float64 { return max(0, 60_000-1_000*float64(ago)) }
	for _, c := range []struct {
		alert, name string
		history     history
		fires       bool
	}{
		{"oldest_unacked", "messages wait for ten minutes", history{subscription(always(600), "oldest_unacked_message_age", "clickstream-ingest")}, true},
		{"oldest_unacked", "messages wait for a minute", history{subscription(always(60), "oldest_unacked_message_age", "clickstream-ingest")}, false},
		{"oldest_unacked", "dead letters wait", history{subscription(always(600), "oldest_unacked_message_age", "clickstream-dead-letter")}, false},

		{"lag_growing", "it grows", bridgeLines("a", rising), true},
		{"lag_growing", "it grows, half at each of two bridges",
			append(bridgeLines("a", func(ago int) float64 { return rising(ago) / 2 }),
				bridgeLines("b", func(ago int) float64 { return rising(ago) / 2 })...), true},
		{"lag_growing", "it is high and stays so", bridgeLines("a", always(60_000)), false},
		{"lag_growing", "it is high and falls", bridgeLines("a", func(ago int) float64 { return 20_000 + 1_000*float64(ago) }), false},
		{"lag_growing", "it grows and is small", bridgeLines("a", func(ago int) float64 { return rising(ago) / 1_000 }), false},

		{"offset_reset", "one partition", history{counter(since(5, 1), "logging_googleapis_com:user_sluice_offset_reset", "monitored_resource", "cloud_run_worker_pool")}, true},
		{"offset_reset", "none", history{counter(always(0), "logging_googleapis_com:user_sluice_offset_reset", "monitored_resource", "cloud_run_worker_pool")}, false},

		{"partition_held", "one error", history{counter(since(5, 1), "logging_googleapis_com:user_sluice_partition_errors", "monitored_resource", "cloud_run_worker_pool")}, true},
		{"partition_held", "none", history{counter(always(0), "logging_googleapis_com:user_sluice_partition_errors", "monitored_resource", "cloud_run_worker_pool")}, false},

		{"stalled", "published, and no row ever", history{published(always(100))}, true},
		{"stalled", "published, and no row any more", history{published(always(100)), functionMetric(func(ago int) float64 { return 100 - since(20, 100)(ago) }, "landed_sum")}, true},
		{"stalled", "published and landed", history{published(always(100)), functionMetric(always(5), "landed_sum")}, false},
		{"stalled", "nothing published", history{published(always(0))}, false},

		{"contract_stalled", "one fails, the other lands", history{
			functionMetric(always(10), "contract_failures", "contract", "a"), functionMetric(always(50), "landed_sum",
				"contract", "b"),
		}, true},
		{"contract_stalled", "it fails at times, and lands", history{
			functionMetric(always(10), "contract_failures", "contract", "a"), functionMetric(always(50), "landed_sum",
				"contract", "a"),
		}, false},

		{"reject_ratio", "half are left out", history{
			functionMetric(always(1000), "records_sum"), functionMetric(always(500),
				"landed_sum"), functionMetric(always(500), "left_out_sum"),
		}, false},
		{"reject_ratio", "five of a hundred", history{functionMetric(always(1000), "records_sum"), functionMetric(always(950), "landed_sum")}, true},
		{"reject_ratio", "half of a hundred", history{functionMetric(always(1000), "records_sum"), functionMetric(always(995), "landed_sum")}, false},
		{"reject_ratio", "all of a handful", history{functionMetric(always(5), "records_sum"), functionMetric(always(0), "landed_sum")}, false},

		{"attempts_exhausted", "one", history{counter(since(5, 1), "pubsub_googleapis_com:subscription_dead_letter_message_count", "monitored_resource", "pubsub_subscription", "subscription_id", "clickstream-ingest")}, true},
		{"attempts_exhausted", "one, an hour ago", history{counter(func(ago int) float64 { return since(61, 1)(ago) - since(60, 1)(ago) }, "pubsub_googleapis_com:subscription_dead_letter_message_count", "monitored_resource", "pubsub_subscription", "subscription_id", "clickstream-ingest")}, false},

		{"dead_letter_backlog", "for half an hour", history{subscription(always(1800), "oldest_unacked_message_age", "clickstream-dead-letter")}, true},
		{"dead_letter_backlog", "for a minute", history{subscription(always(60), "oldest_unacked_message_age", "clickstream-dead-letter")}, false},

		{"errors_fast", "a fifth for two hours", history{answers("2xx", always(80)), answers("5xx", since(120, 20))}, true},
		{"errors_fast", "a fifth, over since ten minutes", history{answers("2xx", always(80)), answers("5xx", func(ago int) float64 { return since(120, 20)(ago) - since(10, 20)(ago) })}, false},
		{"errors_fast", "none ever", history{answers("2xx", always(80))}, false},
		{"errors_slow", "eight of a hundred all day", history{answers("2xx", always(92)), answers("5xx", always(8))}, true},
		{"errors_slow", "two of a hundred all day", history{answers("2xx", always(98)), answers("5xx", always(2))}, false},

		{"slow", "two of a hundred batches late", latencies(2), true},
		{"slow", "one of a thousand late", latencies(0.1), false},

		{"bridge_absent", "no line ever", history{}, true},
		{"bridge_absent", "no line for ten minutes", history{stale(bridgeLines("a", always(0))[2], 10)}, true},
		{"bridge_absent", "lines", bridgeLines("a", always(0)), false},

		{"bridge_idle", "no partition", history{reading("a", 0), reading("b", 0)}, true},
		{"bridge_idle", "one reads, another stands by", history{reading("a", 6), reading("b", 0)}, false},
		{"bridge_idle", "no bridge, which is another alert", history{}, false},

		{"publish_failing", "one of two bridges", append(waiting("a", 2), waiting("b", 0)...), true},
		{"publish_failing", "none", append(waiting("a", 0), waiting("b", 0)...), false},

		{"near_retention", "22 days", history{subscription(always(22*86400), "oldest_unacked_message_age", "clickstream-dead-letter")}, true},
		{"near_retention", "a day", history{subscription(always(86400), "oldest_unacked_message_age", "clickstream-ingest")}, false},

		{"bigquery_quota", "used up", history{functionMetric(since(5, 3), "quota")}, true},
		{"bigquery_quota", "not used up", history{functionMetric(always(0), "quota")}, false},
	} {
		if tested[c.alert] == nil {
			tested[c.alert] = map[bool]bool{}
		}
		tested[c.alert][c.fires] = true
		t.Run(c.alert+"/"+c.name, func(t *testing.T) {
			if fires := len(evaluate(t, c.history, alerts(t)[c.alert].Query)) > 0; fires != c.fires {
				t.Errorf("fires: %v, want %v", fires, c.fires)
			}
		})
	}
	for name := range alerts(t) {
		if !tested[name][true] || !tested[name][false] {
			t.Errorf("%s: want a case in which it fires and one in which it does not", name)
		}
	}
}

// stale leaves out the last minutes of a series.
func stale(s series, minutes int) series {
	s.samples = s.samples[:len(s.samples)-minutes]
	return s
}

// evaluate is what a query answers now.
func evaluate(t *testing.T, h history, query string) promql.Vector {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute})
	defer engine.Close()
	q, err := engine.NewInstantQuery(t.Context(), h, nil, query, now)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	result := q.Exec(t.Context())
	v, err := result.Vector()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
	return append(promql.Vector(nil), v...)
}

// Protects the chart that is looked at first: throughput, quality and cost are the
// numbers that they say.
func TestChartsAnswer(t *testing.T) {
	h := history{
		functionMetric(always(6000), "records_sum"), functionMetric(always(12), "records_count"),
		functionMetric(always(5940), "landed_sum"),
		counter(always(1<<20), "pubsub_googleapis_com:topic_byte_cost", "monitored_resource", "pubsub_topic",
			"topic_id", "clickstream"),
		counter(always(1<<20), "pubsub_googleapis_com:subscription_byte_cost", "monitored_resource",
			"pubsub_subscription", "subscription_id", "clickstream-ingest"),
		answers("2xx", always(12)),
		counter(always(60), "run_googleapis_com:container_billable_instance_time", "monitored_resource",
			"cloud_run_revision", "service_name", "ingest"),
	}
	wants := map[string]float64{
		"landed":          99,
		"quality":         99,
		"records a batch": 500,
		// In ten minutes: 2 × 10 MiB, 120 requests, 600 instance seconds, for 59,400 events.
		"estimate": 1e6*(2*10.0/(1<<20)*40+120*0.4/1e6+600*0.0000265)/59_400 + 1e6*400*0.025/(1<<30),
	}
	for _, c := range charts(t) {
		for legend, query := range c.Series {
			want, ok := wants[legend]
			if !ok {
				continue
			}
			delete(wants, legend)
			v := evaluate(t, h, query)
			if len(v) != 1 || v[0].F < want*0.99 || v[0].F > want*1.01 {
				t.Errorf("%s, %s: %v, want %v", c.Title, legend, v, want)
			}
		}
	}
	for legend := range wants {
		t.Errorf("no chart has %q", legend)
	}
}

package bridge

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// librdkafka's lines keep their severity: what is fatal stands out, and broken
// connections, which it mends, do not look like failures.
func TestLibrdkafkaLogLevels(t *testing.T) {
	var log bytes.Buffer
	b := &Bridge{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	lines := make(chan kafka.LogEvent, 8)
	for level := range 8 {
		lines <- kafka.LogEvent{Level: level, Tag: "TAG", Message: "m"}
	}
	close(lines)
	b.forwardLogs(lines)
	var got []string
	for line := range strings.Lines(log.String()) {
		_, level, _ := strings.Cut(line, "level=")
		level, _, _ = strings.Cut(level, " ")
		got = append(got, level)
		if !strings.Contains(line, `msg="librdkafka: m" facility=TAG`) {
			t.Errorf("a line is %s", line)
		}
	}
	// Of syslog's emergency, alert, critical, error, warning, notice, informational, debug.
	if want := "ERROR ERROR ERROR WARN WARN INFO INFO DEBUG"; strings.Join(got, " ") != want {
		t.Errorf("levels are %s, want %s", got, want)
	}
}

// Protects the metrics that are made of the line: counts are since the line before,
// and a lag that is partly unknown is not reported as if it were all.
func TestStatsFields(t *testing.T) {
	before := Stats{RecordsIn: 100, BytesIn: 1000, Retries: 1, Rebalances: 2}
	now := Stats{RecordsIn: 130, BytesIn: 1600, Retries: 1, Rebalances: 3, Assigned: 2, InflightBytes: 7,
		OldestUnacknowledged: 1500 * time.Microsecond, Lag: map[TopicPartition]int64{{"t", 0}: 4}}
	for _, c := range []struct {
		name string
		lag  map[TopicPartition]int64
		want any
	}{
		{"one of two partitions known", map[TopicPartition]int64{{"t", 0}: 4}, nil},
		{"both known", map[TopicPartition]int64{{"t", 0}: 4, {"t", 1}: 5}, int64(9)},
	} {
		t.Run(c.name, func(t *testing.T) {
			now.Lag = c.lag
			got := map[string]any{}
			for _, f := range statsFields(&now, &before) {
				got[f.Key] = f.Value.Any()
			}
			want := map[string]any{"records": int64(30), "bytes": int64(600), "retries": int64(0), "rebalances": int64(1),
				"assigned": int64(2), "inflight_bytes": int64(7), "oldest_ms": 1.5, "failing": false, "lag": c.want}
			for name, value := range want {
				if got[name] != value {
					t.Errorf("%s is %v, want %v", name, slog.AnyValue(got[name]), value)
				}
			}
		})
	}
}

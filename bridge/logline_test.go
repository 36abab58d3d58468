package bridge

import (
	"log/slog"
	"testing"
	"time"
)

// Protects the metrics that are made of the line: counts are since the line before,
// and a lag that is partly unknown is not reported as if it were all.
func TestStatsFields(t *testing.T) {
	before := Stats{RecordsIn: 100, BytesIn: 1000, PublishStats: PublishStats{Retries: 1}, Rebalances: 2}
	now := Stats{RecordsIn: 130, BytesIn: 1600, PublishStats: PublishStats{Retries: 1}, Rebalances: 3, Assigned: 2,
		InflightBytes:        7,
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
			want := map[string]any{"records": int64(30), "bytes": int64(600), "retries": int64(0),
				"rebalances": int64(1),
				"assigned":   int64(2), "inflight_bytes": int64(7), "oldest_ms": 1.5, "failing": false, "lag": c.want}
			for name, value := range want {
				if got[name] != value {
					t.Errorf("%s is %v, want %v", name, slog.AnyValue(got[name]), value)
				}
			}
		})
	}
}

package stack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Account says where the records of one topic are.
type Account struct {
	Landed        int64 `json:"landed"`         // distinct records with a row in fact_events
	DeadLettered  int64 `json:"dead_lettered"`  // distinct records with a row in events_dlq only
	DuplicateRows int64 `json:"duplicate_rows"` // rows that repeat the coordinates of another row of their table
	Missing       int64 `json:"missing"`        // records between the offsets with no row at all
}

// Offsets holds an offset per partition, by its number.
type Offsets []int64

// Account counts the records of the stack's topic from the offsets from
// (inclusive) up to the offsets to (exclusive) by their coordinates.
func (s *Stack) Account(ctx context.Context, from, to Offsets) (Account, error) {
	var a Account
	var spans []string
	for partition, end := range to {
		begin := int64(0)
		if partition < len(from) {
			begin = from[partition]
		}
		if end > begin {
			spans = append(spans, fmt.Sprintf("(%d, %d, %d)", partition, begin, end))
			a.Missing += end - begin
		}
	}
	if len(spans) == 0 {
		return a, nil
	}
	query := fmt.Sprintf(`
WITH span (p, lo, hi) AS (VALUES %s),
landed AS (
  SELECT kafka_partition AS p, kafka_offset AS o, COUNT(*) AS n
  FROM fact_events JOIN span ON kafka_partition = p AND kafka_offset >= lo AND kafka_offset < hi
  WHERE kafka_topic = '%[2]s' GROUP BY 1, 2),
dead AS (
  SELECT kafka_partition AS p, kafka_offset AS o, COUNT(*) AS n
  FROM events_dlq JOIN span ON kafka_partition = p AND kafka_offset >= lo AND kafka_offset < hi
  WHERE kafka_topic = '%[2]s' GROUP BY 1, 2)
SELECT
  (SELECT COUNT(*) FROM landed),
  (SELECT COUNT(*) FROM dead d WHERE NOT EXISTS (SELECT 1 FROM landed l WHERE l.p = d.p AND l.o = d.o)),
  (SELECT COALESCE(SUM(n - 1), 0) FROM landed) + (SELECT COALESCE(SUM(n - 1), 0) FROM dead)`,
		strings.Join(spans, ", "), s.config.Topic)
	var duplicates float64 // DuckDB's sums are HUGEINT
	if err := s.Warehouse.DB().QueryRowContext(ctx, query).Scan(&a.Landed, &a.DeadLettered, &duplicates); err != nil {
		return a, fmt.Errorf("counting the records in the warehouse: %w", err)
	}
	a.DuplicateRows = int64(duplicates)
	a.Missing -= a.Landed + a.DeadLettered
	return a, nil
}

// Latency gathers how long rows took from Kafka's timestamp to the acknowledged append.
type Latency struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram // milliseconds
	interval  *hdrhistogram.Histogram // the same, since the last call of Interval
}

// Percentiles are in milliseconds.
type Percentiles struct {
	P50 int64 `json:"p50"`
	P95 int64 `json:"p95"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

func newLatency() *Latency {
	return &Latency{
		histogram: hdrhistogram.New(1, time.Hour.Milliseconds(), 3),
		interval:  hdrhistogram.New(1, time.Hour.Milliseconds(), 2),
	}
}

// record takes the Kafka timestamps, in microseconds, of rows acknowledged now.
func (l *Latency) record(now time.Time, timestamps []int64) {
	ms := now.UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range timestamps {
		// Out of the histogram's range is an hour or more: count it as an hour.
		took := min(max(ms-t/1000, 0), time.Hour.Milliseconds())
		_ = l.histogram.RecordValue(took)
		_ = l.interval.RecordValue(took)
	}
}

// Percentiles returns those of everything recorded so far.
func (l *Latency) Percentiles() Percentiles {
	l.mu.Lock()
	defer l.mu.Unlock()
	return percentiles(l.histogram)
}

// Interval returns the percentiles of what was recorded since its last call, and
// how many rows that is. It has one caller at a time.
func (l *Latency) Interval() (Percentiles, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, n := percentiles(l.interval), l.interval.TotalCount()
	l.interval.Reset()
	return p, n
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	return Percentiles{h.ValueAtPercentile(50), h.ValueAtPercentile(95), h.ValueAtPercentile(99), h.Max()}
}

package local

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/audit"
	"sluice/internal/contract"
)

// Account says where the records of one topic are.
type Account struct {
	Landed        int64 `json:"landed"`         // records with a row in fact_events
	DeadLettered  int64 `json:"dead_lettered"`  // records with a row in events_dlq only
	LeftOut       int64 `json:"left_out"`       // records that their contract leaves out
	DuplicateRows int64 `json:"duplicate_rows"` // rows that repeat the coordinates of another row of their table
	Missing       int64 `json:"missing"`        // records between the offsets with no row at all
}

// Offsets holds an offset per partition, by its number.
type Offsets []int64

// Account counts the records of the stack's topic from the offsets from
// (inclusive) up to the offsets to (exclusive) by their coordinates.
func (s *Stack) Account(ctx context.Context, from, to Offsets) (Account, error) {
	c, err := audit.Count(ctx, s.places.engine, s.Query(), s.spans(from, to))
	if err != nil {
		return Account{}, fmt.Errorf("counting the records in the warehouse: %w", err)
	}
	return Account{Landed: c.Landed + c.Both, DeadLettered: c.DeadLettered, LeftOut: c.LeftOut,
		DuplicateRows: c.DuplicateRows, Missing: c.Missing}, nil
}

// Audit is what ./scripts/audit does on the embedded servers: everything that the bridges' group has committed
// must have arrived. It gives the bridges a while to commit all that Kafka has.
func (s *Stack) Audit(ctx context.Context) (*audit.Report, error) {
	for end := time.Now().Add(20 * time.Second); s.Kafka.Lag(s.Group(), s.config.Topic) > 0 && time.Now().Before(end); {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k, err := audit.OpenKafka(ctx, kafka.ConfigMap{"bootstrap.servers": s.places.brokers}, s.Group(), nil)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	report, err := audit.Run(ctx, s.places.engine, k, audit.Config{Dataset: Dataset,
		Contracts: s.config.Contracts})
	if err != nil {
		return nil, fmt.Errorf("auditing the warehouse: %w", err)
	}
	return report, nil
}

// Query is what the texts of queries on the stack's tables depend on.
func (s *Stack) Query() contract.Query {
	return contract.Query{Dataset: Dataset, Contracts: s.config.Contracts}
}

func (s *Stack) spans(from, to Offsets) []audit.Span {
	spans := []audit.Span{}
	for partition, end := range to {
		begin := int64(0)
		if partition < len(from) {
			begin = from[partition]
		}
		spans = append(spans, audit.Span{Topic: s.config.Topic, Partition: int32(partition), First: begin, End: end})
	}
	return spans
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

package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/audit"
	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/internal/query"
	"sluice/internal/telemetry"
	"sluice/scripts/pipeline"
)

// patience is how long nothing may arrive before records count as lost. Machines are
// busy; it is not waited for when all is well.
const patience = 90 * time.Second

// world is a pipeline under load.
type world struct {
	*local.Stack
	t        *testing.T
	producer *local.Producer
	produced atomic.Int64
	skewed   atomic.Bool // records' Kafka timestamps are a day before or behind
	stop     chan struct{}
	stopped  chan error
	evicted  atomic.Int64 // dead members that kfake would have kept

	// how an event is written, and the code of its dead letter; nil: as JSON
	encode atomic.Pointer[func(generate.Event) ([]byte, string)]

	mu        sync.Mutex
	bad       func(value []byte) bool // good events that the fault makes bad
	expected  map[string]int64        // dead letters by code
	processes []*process              // bridges that were started as processes
}

// start starts a pipeline that must end cleanly with the test.
func start(t *testing.T, c pipeline.Config) *world {
	t.Helper()
	// What is logged on the way is the fault's echo: errors are enough.
	c.Log = telemetry.NewLogger(quiet{t}, slog.LevelError)
	s, err := pipeline.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Stack: s, t: t, expected: map[string]int64{}}
	if w.producer, err = s.NewProducer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.producer.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

// quiet keeps log lines for a test that fails.
type quiet struct{ t *testing.T }

func (q quiet) Write(b []byte) (int, error) {
	if testing.Verbose() {
		q.t.Log(strings.TrimRight(string(b), "\n"))
	}
	return len(b), nil
}

// load produces events, 1 % of them bad, at about rate per second until endLoad.
func (w *world) load(seed uint64, rate int) {
	w.stop, w.stopped = make(chan struct{}), make(chan error, 1)
	g := generate.New(generate.Config{Seed: seed, Bad: 1})
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			for range max(1, rate/100) {
				e := g.Next()
				if encode := w.encode.Load(); encode != nil {
					e.Value, e.Code = (*encode)(e)
				}
				w.expect(e)
				m := &kafka.Message{TopicPartition: kafka.TopicPartition{Partition: kafka.PartitionAny}, Key: e.Key,
					Value: e.Value}
				if w.skewed.Load() {
					m.Timestamp = time.Now().Add(time.Duration(w.produced.Load()%3-1) * 24 * time.Hour)
				}
				if err := w.producer.ProduceMessage(context.Background(), m); err != nil {
					w.stopped <- err
					return
				}
				w.produced.Add(1)
			}
			select {
			case <-w.stop:
				w.stopped <- nil
				return
			case <-tick.C:
			}
		}
	}()
}

// expect notes where the event must end.
func (w *world) expect(e generate.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case e.Code != "":
		w.expected[e.Code]++
	case w.bad != nil && w.bad(e.Value):
		w.expected["row_rejected"]++
	}
}

// flow waits until n more records have been produced and n more rows have landed
// than when it was called, so that a fault meets a pipeline that works.
func (w *world) flow(n int64) {
	w.t.Helper()
	in, rows := w.produced.Load()+n, w.Now().Rows+n
	w.until("records flow", func() bool { return w.produced.Load() >= in && w.Now().Rows >= rows })
}

// produce waits until n more records have been produced, whatever lands.
func (w *world) produce(n int64) {
	w.t.Helper()
	in := w.produced.Load() + n
	w.until("records are produced", func() bool { return w.produced.Load() >= in })
}

// until waits for a condition.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not for %v", what, patience)
		}
		if w.t.Context().Err() != nil {
			w.t.Fatal(w.t.Context().Err())
		}
	}
}

func (w *world) endLoad() {
	w.t.Helper()
	close(w.stop)
	if err := <-w.stopped; err != nil {
		w.t.Fatal(err)
	}
}

// figures are what a fault cost.
type figures struct {
	records, landed, deadLettered, lost, duplicateRows int64
	// from the end of the fault to the last record's arrival
	delay time.Duration
}

func (f figures) String() string {
	return fmt.Sprintf("records %d, landed %d, dead-lettered %d, lost %d, duplicate rows %d (hidden by the view), all there %.1f s after the fault",
		f.records, f.landed, f.deadLettered, f.lost, f.duplicateRows, f.delay.Seconds())
}

// settle waits until everything has arrived, audits, and checks that every record
// is where it must be. It takes the time since the fault has ended.
func (w *world) settle(ended time.Time) figures {
	w.t.Helper()
	if err := w.producer.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	account, err := w.AwaitAll(w.t.Context(), nil, w.Kafka.EndOffsets(w.Topic()), patience)
	delay := time.Since(ended)
	if err != nil {
		w.t.Fatal(err)
	}
	idle, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.PubSub.WaitIdle(idle); err != nil {
		w.t.Errorf("at the end: %v", err)
	}
	report, own := w.auditQuiet()
	w.check(report, own)
	t := report.Totals
	return figures{records: w.produced.Load(), landed: t.Landed + t.Both, deadLettered: t.DeadLettered,
		lost:          max(t.Missing, account.Missing),
		duplicateRows: t.DuplicateRows, delay: delay}
}

// recount counts again what the audit counts, without its SQL: each offset that Kafka has is looked for among the raw
// rows of both tables.
func (w *world) recount() audit.Counts {
	w.t.Helper()
	type place struct{ partition, offset int64 }
	rows := func(table string) map[place]int64 {
		found := map[place]int64{}
		for row, err := range (query.Database{DB: w.Warehouse.DB()}).Query(w.t.Context(),
			"SELECT kafka_partition, kafka_offset FROM "+table+" WHERE kafka_topic = '"+local.Topic+"'") {
			if err != nil {
				w.t.Fatal(err)
			}
			found[place{row[0].(int64), row[1].(int64)}]++
		}
		return found
	}
	landed, dead := rows("fact_events"), rows("events_dlq")
	var t audit.Counts
	for partition, end := range w.Kafka.EndOffsets(w.Topic()) {
		for offset := range end {
			at := place{int64(partition), offset}
			t.Consumed++
			switch fact, letter := landed[at], dead[at]; {
			case fact > 0 && letter > 0:
				t.Both++
			case fact > 0:
				t.Landed++
			case letter > 0:
				t.DeadLettered++
			default:
				t.Missing++
			}
			t.DuplicateRows += max(0, landed[at]-1) + max(0, dead[at]-1)
		}
	}
	return t
}

// auditQuiet audits tables that nothing is written to meanwhile, and counts again: when all is there, copies may still
// be on their way, those that a bridge has read again after a rebalance for instance.
func (w *world) auditQuiet() (*audit.Report, audit.Counts) {
	w.t.Helper()
	for before, deadline := w.recount(), time.Now().Add(patience); ; {
		report, err := w.Audit(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		after := w.recount()
		if after == before {
			return report, after
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("rows are still being written: %+v, then %+v", before, after)
		}
		before = after
	}
}

// check compares the audit and the tables with what was produced.
func (w *world) check(r *audit.Report, own audit.Counts) {
	w.t.Helper()
	t := r.Totals
	if own.Consumed != t.Consumed || own.Landed != t.Landed || own.DeadLettered != t.DeadLettered ||
		own.Both != t.Both ||
		own.Missing != t.Missing || own.DuplicateRows != t.DuplicateRows {
		w.t.Errorf("the audit counts %+v, the rows themselves say %+v", t, own)
	}
	if t.Missing != 0 || t.InFlight != 0 || t.NotInKafka != 0 {
		w.t.Errorf("the audit is not clean: %+v, gaps %+v", t, r.Gaps)
	}
	if t.Consumed != w.produced.Load() {
		w.t.Errorf("the audit knows of %d records, %d were produced", t.Consumed, w.produced.Load())
		w.t.Logf("ends %d, committed %d", w.Kafka.EndOffsets(w.Topic()), w.Kafka.Committed("clickstream-to-bigquery", local.Topic))
		w.t.Logf("the group is %+v", w.Kafka.Cluster().GroupInfo("clickstream-to-bigquery"))
		if n := len(w.processes); n > 0 {
			w.t.Logf("the last bridge said\n%s", &w.processes[n-1].log)
		}
		for i, b := range w.Bridges() {
			w.t.Logf("bridge %d: %+v", i, b.Stats())
		}
	}
	got := map[string]int64{}
	for row, err := range (query.Database{DB: w.Warehouse.DB()}).Query(w.t.Context(),
		"SELECT error_code, COUNT(DISTINCT kafka_partition * 1000000000 + kafka_offset) FROM events_dlq WHERE kafka_offset IS NOT NULL GROUP BY 1") {
		if err != nil {
			w.t.Fatal(err)
		}
		got[row[0].(string)] = row[1].(int64)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, code := range slices.Sorted(maps.Keys(merged(got, w.expected))) {
		if got[code] != w.expected[code] {
			w.t.Errorf("%d records are dead-lettered with %s, want %d", got[code], code, w.expected[code])
		}
	}
	if shown := w.one("SELECT COUNT(*) FROM events"); shown != t.Landed+t.Both {
		w.t.Errorf("the view shows %d events, %d records have landed", shown, t.Landed+t.Both)
	}
}

func merged(a, b map[string]int64) map[string]int64 {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// one is a statement's only number.
func (w *world) one(statement string, args ...any) (n int64) {
	w.t.Helper()
	for row, err := range (query.Database{DB: w.Warehouse.DB()}).Query(w.t.Context(), statement, args...) {
		if err != nil {
			w.t.Fatal(err)
		}
		n = row[0].(int64)
	}
	return n
}

// holds returns a predicate of texts.
func holds(s string) func([]byte) bool {
	return func(b []byte) bool { return bytes.Contains(b, []byte(s)) }
}

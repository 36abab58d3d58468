// Package bridge moves records from Kafka to Pub/Sub: it packs the records of many
// partitions into batches, publishes each batch as one Pub/Sub message, and commits
// a partition's offset when everything before it is acknowledged. Records are opaque
// bytes to it.
//
// In the order of use:
//
//	cfg, err := bridge.ParseConfig(flags, args)   // or DefaultConfig, and set fields
//	b, err := bridge.New(cfg, consumer, publisher, log)   // or connect.New(cfg, client, bucket, log)
//	go http.Serve(listener, b.Handler())          // /livez, /readyz, /metrics
//	err = b.Run(ctx)                              // until ctx ends: nil; or a fatal error
//	b.Stats()                                     // at any time, from any goroutine
//
// # Guarantees
//
// At least once: no record is skipped. An offset is stored only when all records
// before it are acknowledged by Pub/Sub, or by the dead-letter topic for a record
// that no message can carry; only stored offsets are committed. What was
// acknowledged and not yet committed when a bridge dies is published again.
//
// Bounded memory: at Config.MaxInflightBytes of packed and unacknowledged bytes no
// more records are taken; librdkafka's prefetch has its own bound, half of that.
//
// Errors: a publish that fails is tried again for ever, with backoff; readiness and
// metrics tell. Run returns an error only for what a restart or an operator must
// mend: a configuration that librdkafka refuses, or a fatal client error.
//
// Shutdown: when ctx ends, no more records are taken, batches are drained for
// Config.DrainTimeout, offsets committed, the group left, each step under a timer.
// What did not finish is published again by the partition's next owner.
//
// # One owner
//
// The goroutine in Run owns the consumer, the partitions and their trackers;
// rebalance callbacks run in it. A packer collects the records of topics that may share a
// message. A full batch becomes a flight, with a claim on the offsets of each partition
// it has records of: it is compressed and published by a goroutine of its own, and comes
// back through an inbox. The claim of an assignment that has ended by then changes nothing.
package bridge

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"sluice/internal/batch"
	"sluice/internal/telemetry"
	"sluice/internal/zstd"
)

// Bridge is one member of the consumer group. Create it with New, start it with
// Run, once.
type Bridge struct {
	cfg       Config
	log       *slog.Logger
	publisher Publisher
	encoders  freelist[batch.Encoder]
	payloads  freelist[[]byte]
	inbox     inbox
	// compressors has one for each batch that may be compressed at a time; nil ones
	// stand for the Go implementation.
	compressors chan *zstd.Compressor
	repeats     telemetry.Repeats // of the consumer's errors
	counters    counters
	metrics     *metrics
	tracer      trace.Tracer              // nil: batches are not traced
	ended       atomic.Pointer[time.Time] // when ctx ended, or Run failed; nil: neither has

	// Owned by the goroutine in Run.
	consumer     Consumer
	ledger       ledger
	groups       groups
	packers      map[string]*packer    // by group
	sources      map[Source]*partition // of the current assignment
	latest       *partition            // the one of the record before, whose source is latestSource
	latestSource Source
	inflight     int64           // bytes packed and unacknowledged
	behind       bool            // more records wait than were taken at a time: processors are what is short
	publishCtx   context.Context // ends when shutdown stops waiting for batches
	record       batch.Record    // reused
	fatal        error           // ends Run
}

// FetchRecords is how many records a Consumer gives at a time.
const FetchRecords = 1000

// idle is the longest that the loop waits for records before it looks after
// rebalances, results and timers.
const idle = 20 * time.Millisecond

// New returns a Bridge that takes records from consumer and gives batches to publisher. It connects to nothing.
func New(cfg Config, consumer Consumer, publisher Publisher, log *slog.Logger) (*Bridge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bridge{
		cfg:         cfg,
		consumer:    consumer,
		publisher:   publisher,
		log:         log,
		ledger:      newLedger(),
		groups:      cfg.groups(),
		packers:     map[string]*packer{},
		sources:     map[Source]*partition{},
		compressors: make(chan *zstd.Compressor, runtime.GOMAXPROCS(0)),
		repeats:     telemetry.Repeats{Every: time.Minute},
	}
	for range cap(b.compressors) {
		b.compressors <- zstd.New()
	}
	b.inbox.wake = make(chan struct{}, 1)
	var err error
	if b.metrics, err = newMetrics(b.Stats, cfg); err != nil {
		return nil, err
	}
	publisher.Observe(b.metrics.published)
	return b, nil
}

// ErrConfig is what Run's error wraps if the configuration cannot work. Nothing has
// been connected to by then.
var ErrConfig = errors.New("bridge: configuration")

// Run consumes and publishes until ctx ends, then shuts down gracefully and
// returns nil. A fatal error is returned after the same shutdown, also one of the
// shutdown itself.
func (b *Bridge) Run(ctx context.Context) error {
	if !b.counters.started.CompareAndSwap(false, true) {
		return errors.New("bridge: Run was called before: create a new Bridge")
	}
	// Batches outlive ctx until shutdown stops waiting for them.
	publishCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	b.publishCtx = publishCtx
	// The time to drain begins now, whatever the owner is in the middle of.
	defer context.AfterFunc(ctx, b.end)()

	err := b.consumer.Join(member{b})
	if errors.Is(err, ErrConfig) {
		return err
	}
	if err == nil {
		b.log.Info("bridge started", "topics", b.cfg.Topics, "group", b.cfg.Group, "properties",
			b.cfg.Properties.String())
		err = b.loop(ctx)
	}
	b.shutdown(cancel)
	if err == nil {
		err = b.fatal // of the shutdown
	}
	return err
}

// loop is the life of the bridge between start and shutdown.
func (b *Bridge) loop(ctx context.Context) error {
	var nextLag time.Time
	for ctx.Err() == nil && b.fatal == nil {
		now := time.Now()
		b.counters.turn.Store(&now)
		b.collect()
		due := b.flushDue(now)
		if now.After(nextLag) {
			b.observe()
			nextLag = now.Add(lagInterval)
		}
		b.poll() // also while no records are taken, so that this stays a member of the group
		full := b.inflight >= b.cfg.MaxInflightBytes
		b.counters.setFull(full)
		if full {
			// Records wait in librdkafka, whose prefetch is bounded.
			if b.counters.inflightBatches.Load() == 0 {
				b.flushAll() // they hold all the bytes: no record would come to fill them
			}
			b.inbox.wait(idle)
			continue
		}
		n := b.consumer.Fetch(min(due, idle))
		b.behind = n == FetchRecords
		if n > 0 {
			now = time.Now()
			for i := range n {
				b.take(i, now)
			}
			b.counters.inflightBytes.Store(b.inflight)
		}
		b.consumer.Release()
	}
	return b.fatal
}

// poll lets the consumer tell what has happened; see member.
func (b *Bridge) poll() {
	if err := b.consumer.Poll(); err != nil {
		b.fatal = err
	}
}

// take packs fetched record i.
func (b *Bridge) take(i int, now time.Time) {
	source := b.consumer.Source(i)
	if source.Topic == 0 {
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("Kafka error", "code", b.consumer.Fault(i))
		return
	}
	p := b.latest
	if p == nil || source != b.latestSource { // records come in runs of one partition
		p = b.sources[source]
	}
	if p == nil {
		if p = b.ledger.partitions[TopicPartition{b.consumer.Topic(i), source.Partition}]; p == nil {
			return // a record of a partition that was just given up
		}
		b.sources[source] = p
	}
	b.latest, b.latestSource = p, source
	if fault := b.consumer.Fault(i); fault != "" {
		offset := b.consumer.Offset(i)
		p.doubt = max(p.doubt, offset)
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("Kafka partition error", "topic", p.key.Topic, "partition", p.key.Partition, "offset", offset,
			"code", fault)
		return
	}
	r := &b.record
	r.Topic, r.Partition = p.key.Topic, p.key.Partition
	if fault := b.consumer.Read(i, r); fault != "" {
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("a record's headers cannot be read: it goes on without them", "topic", p.key.Topic, "partition",
			p.key.Partition, "offset", r.Offset, "code", fault)
	}
	b.add(p, r, now)
	p.led(r.Offset, b.consumer.LeaderEpoch(i))
}

// collect applies the results of batches, and stores the offsets that are safe
// because of them.
func (b *Bridge) collect() {
	flights := b.inbox.take()
	if len(flights) == 0 {
		return
	}
	for _, f := range flights {
		b.inflight -= f.bytes
		b.counters.inflightBatches.Add(-1)
		if !b.ledger.land(f) {
			b.counters.lateResults.Add(1)
		}
		if f.err != nil {
			b.fatal = f.err
		}
	}
	b.counters.inflightBytes.Store(b.inflight)
	b.inbox.recycle(flights)
	b.store()
}

// store hands the offsets that have advanced to the consumer, which commits them.
func (b *Bridge) store() {
	var offsets []Offset
	b.ledger.advanced(func(p *partition, next int64) {
		offsets = append(offsets, Offset{p.key, next, p.leaderBefore(next)})
	})
	if len(offsets) == 0 {
		return
	}
	if err := b.consumer.Store(offsets); err != nil {
		b.counters.commitErrors.Add(1)
		b.log.Warn("offsets were not stored; they are stored with the next ones", "error", err.Error())
	}
}

// Package bridge moves records from Kafka to Pub/Sub: it packs the records of many
// partitions into batches, publishes each batch as one Pub/Sub message, and commits
// a partition's offset when everything before it is acknowledged. Records are opaque
// bytes to it.
//
// In the order of use:
//
//	cfg, err := bridge.ParseConfig(flags, args)   // or DefaultConfig, and set fields
//	b, err := bridge.New(cfg, client, log)        // client is a Pub/Sub client
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
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"go.opentelemetry.io/otel/trace"

	"sluice/bridge/fetch"
	"sluice/internal/batch"
	"sluice/internal/kafkaclient"
	"sluice/internal/zstd"
)

// Bridge is one member of the consumer group. Create it with New, start it with
// Run, once.
type Bridge struct {
	cfg       Config
	log       *slog.Logger
	publisher *publisher
	objects   objects
	encoders  freelist[batch.Encoder]
	payloads  freelist[[]byte]
	inbox     inbox
	// compressors has one for each batch that may be compressed at a time; nil ones
	// stand for the Go implementation.
	compressors chan *zstd.Compressor
	counters    counters
	metrics     *metrics
	tracer      trace.Tracer              // nil: nobody is told of batches
	ended       atomic.Pointer[time.Time] // when ctx ended, or Run failed; nil: neither has

	tokens       kafkaclient.TokenSource // nil: librdkafka gets its own, or needs none
	tokenAnswers chan tokenAnswer

	// Owned by the goroutine in Run.
	consumer     *kafka.Consumer
	fetcher      *fetch.Fetcher
	ledger       ledger
	groups       groups
	packers      map[string]*packer          // by group
	sources      map[fetch.Source]*partition // of the current assignment
	latest       *partition                  // the one of the record before, whose source is latestSource
	latestSource fetch.Source
	inflight     int64           // bytes packed and unacknowledged
	behind       bool            // more records wait than were taken at a time: processors are what is short
	publishCtx   context.Context // ends when shutdown stops waiting for batches
	record       batch.Record    // reused
	fatal        error           // ends Run
	closing      atomic.Bool     // the consumer is being closed, perhaps by another goroutine
}

// fetchRecords is how many records are taken from librdkafka at a time.
const fetchRecords = 1000

// idle is the longest that the loop waits for records before it looks after
// rebalances, results and timers.
const idle = 20 * time.Millisecond

// New returns a Bridge that publishes with client. It connects to nothing.
func New(cfg Config, client *pubsub.Client, log *slog.Logger) (*Bridge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bridge{
		cfg:         cfg,
		log:         log,
		ledger:      newLedger(),
		groups:      cfg.groups(),
		packers:     map[string]*packer{},
		sources:     map[fetch.Source]*partition{},
		compressors: make(chan *zstd.Compressor, runtime.GOMAXPROCS(0)),
	}
	for range cap(b.compressors) {
		b.compressors <- zstd.New()
	}
	b.inbox.wake = make(chan struct{}, 1)
	b.tokens = cfg.Connection().Tokens()
	b.tokenAnswers = make(chan tokenAnswer, 1)
	var err error
	if b.metrics, err = newMetrics(b.Stats, cfg); err != nil {
		return nil, err
	}
	b.objects = newObjects(cfg.ReferenceAbove, log, &b.counters)
	b.publisher = newPublisher(cfg, client, log, &b.counters, b.metrics)
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

	consumer, err := kafka.NewConsumer(b.cfg.ConsumerConfig())
	if err != nil {
		return fmt.Errorf("%w: librdkafka refuses a property, check --kafka-config and KAFKA_CONFIG_*: %w", ErrConfig, err)
	}
	b.consumer = consumer
	go b.forwardLogs(consumer.Logs())
	if b.fetcher, err = fetch.New(consumer, fetchRecords); err == nil {
		err = consumer.SubscribeTopics(b.cfg.topics(), b.rebalance)
	}
	if err == nil {
		b.log.Info("bridge started", "topics", b.cfg.Topics, "group", b.cfg.Group, "properties", b.cfg.Properties.String())
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
		b.counters.turn.Store(now.UnixNano())
		b.collect()
		b.passToken()
		due := b.flushDue(now)
		if now.After(nextLag) {
			b.observe()
			nextLag = now.Add(lagInterval)
		}
		full := b.inflight >= b.cfg.MaxInflightBytes
		b.counters.setFull(full)
		if full {
			// Records wait in librdkafka, whose prefetch is bounded; the consumer is
			// polled all the same and stays in its group.
			if b.counters.inflightBatches.Load() == 0 {
				b.flushAll() // they hold all the bytes: no record would come to fill them
			}
			b.event(b.consumer.Poll(0))
			b.inbox.wait(idle)
			continue
		}
		b.event(b.consumer.Poll(0))
		n := b.fetcher.Fetch(min(due, idle))
		b.behind = n == fetchRecords
		if n > 0 {
			now = time.Now()
			for i := range n {
				b.take(i, now)
			}
			b.counters.inflightBytes.Store(b.inflight)
		}
		b.fetcher.Release()
	}
	return b.fatal
}

// forwardLogs writes librdkafka's log lines to ours until the consumer is closed.
func (b *Bridge) forwardLogs(lines <-chan kafka.LogEvent) {
	for l := range lines {
		level := slog.LevelDebug
		switch { // syslog's levels; librdkafka's errors are mostly broken connections, which it mends
		case l.Level <= 2:
			level = slog.LevelError
		case l.Level <= 4:
			level = slog.LevelWarn
		case l.Level <= 6:
			level = slog.LevelInfo
		}
		b.log.Log(context.Background(), level, "librdkafka: "+l.Message, "facility", l.Tag)
	}
}

// event handles what Poll returns; rebalances are handled in their callback.
func (b *Bridge) event(e kafka.Event) {
	switch e := e.(type) {
	case nil:
	case kafka.Error:
		if e.IsFatal() {
			b.fatal = fmt.Errorf("bridge: fatal Kafka client error: %w", e)
			return
		}
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("Kafka client error", "code", e.Code().String(), "error", e.Error())
	case kafka.OffsetsCommitted:
		b.committed(e)
	case *kafka.Stats:
		b.statistics(e.String())
	case kafka.OAuthBearerTokenRefresh:
		b.refreshToken()
	case *kafka.Message:
		// Every partition is forwarded to the fetcher before it is assigned. A record
		// that comes here would be skipped: after a restart it comes again.
		b.fatal = errors.New("bridge: a record came past the fetcher: its partition was not forwarded")
	}
}

// committed notes the result of a commit of the background, which has failed if it has
// for one partition.
func (b *Bridge) committed(e kafka.OffsetsCommitted) {
	if e.Error == nil {
		return
	}
	if err, ok := e.Error.(kafka.Error); ok && err.Code() == kafka.ErrNoOffset {
		return // nothing new was stored
	}
	b.counters.commitErrors.Add(1)
	b.log.Warn("offsets were not committed; they are committed with the next ones", "error", e.Error.Error())
}

// take packs fetched record i.
func (b *Bridge) take(i int, now time.Time) {
	source := b.fetcher.Source(i)
	if source.Topic == 0 {
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("Kafka error", "code", b.fetcher.Err(i).String())
		return
	}
	p := b.latest
	if p == nil || source != b.latestSource { // records come in runs of one partition
		p = b.sources[source]
	}
	if p == nil {
		if p = b.ledger.partitions[partitionKey{b.fetcher.TopicName(i), source.Partition}]; p == nil {
			return // a record of a partition that was just given up
		}
		b.sources[source] = p
	}
	b.latest, b.latestSource = p, source
	if code := b.fetcher.Err(i); code != 0 {
		offset := b.fetcher.Offset(i)
		p.doubt = max(p.doubt, offset)
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("Kafka partition error", "topic", p.key.topic, "partition", p.key.id, "offset",
			kafka.Offset(offset).String(), "code", code.String())
		return
	}
	r := &b.record
	r.Topic, r.Partition = p.key.topic, p.key.id
	if code := b.fetcher.Record(i, r); code != 0 {
		b.counters.kafkaErrors.Add(1)
		b.log.Warn("a record's headers cannot be read: it goes on without them", "topic", p.key.topic, "partition",
			p.key.id, "offset", r.Offset, "code", code.String())
	}
	b.add(p, r, now)
	p.led(r.Offset, b.fetcher.LeaderEpoch(i))
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

// store hands the offsets that have advanced to librdkafka, which commits them
// within auto.commit.interval.ms and when a partition is given up.
func (b *Bridge) store() {
	var offsets []kafka.TopicPartition
	b.ledger.advanced(func(p *partition, next int64) {
		offsets = append(offsets, kafka.TopicPartition{Topic: &p.key.topic, Partition: p.key.id,
			Offset: kafka.Offset(next), LeaderEpoch: p.leaderBefore(next)})
	})
	if len(offsets) == 0 {
		return
	}
	stored, err := b.consumer.StoreOffsets(offsets)
	for _, o := range stored {
		if o.Error == nil {
			continue
		}
		// State is librdkafka's word for "no longer assigned to this member".
		if e, ok := o.Error.(kafka.Error); ok && e.Code() == kafka.ErrState {
			continue
		}
		err = o.Error
	}
	if e, ok := err.(kafka.Error); err != nil && !(ok && e.Code() == kafka.ErrState) {
		b.counters.commitErrors.Add(1)
		b.log.Warn("offsets were not stored; they are stored with the next ones", "error", err.Error())
	}
}

// Package local is the whole pipeline in one process: the bridge and the functions as
// they are deployed, between servers in the places of Kafka, Pub/Sub and BigQuery. Each
// server is embedded, or one that is reached by address (Servers). Only endpoints differ
// from production.
//
//	s, err := local.Start(ctx, local.Config{Log: log})
//	defer s.Stop(ctx)
//	producer, err := s.NewProducer()
//	from, err := s.Ends(ctx)
//	producer.Produce(ctx, key, value, nil)   // and so on
//	producer.Flush(ctx)
//	to, err := s.Ends(ctx)
//	account, err := s.AwaitAll(ctx, from, to, time.Minute)
//	account.Missing                          // 0
//	s.Warehouse.DB().Query("SELECT … FROM events")
//
// The embedded servers are the place to make something fail: s.Kafka, s.PubSub and
// s.Warehouse have the means. StopFunctions, StartFunctions, StopBridge, KillBridge
// and StartBridge take our own parts down and up.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/sr/srfake"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/contract"
	"sluice/internal/local/kafka"
	"sluice/internal/local/objects"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/registry"
	"sluice/internal/local/warehouse"
	"sluice/internal/reference"
)

// Names of what the stack creates: those that the product is deployed with.
const (
	Project         = "sluice-local"
	Dataset         = "clickstream"
	Topic           = "clickstream"
	DeadLetterTopic = "clickstream-dead-letter"
	Bucket          = "clickstream-payloads"
	Ingest          = "ingest"      // the push subscription of Topic
	DeadLetter      = "dead-letter" // the push subscription of DeadLetterTopic
)

// Config says what to start. The zero value is usable but for Log.
type Config struct {
	Dir string // keeps Kafka and the warehouse; empty: in memory
	// Contracts of the streams; nil: the built-in one, for the topic Topic.
	Contracts  []*contract.Contract
	Topic      string // of Kafka, that NewProducer sends to; default: the first contract's, or Topic
	Partitions int    // of the Kafka topic, default 4
	Brokers    int    // of Kafka, default 1
	Bridges    int    // default 1; negative: none yet
	Wrapped    bool   // push in the JSON envelope instead of unwrapped; Google's emulator of Pub/Sub is always pushed so

	Servers Servers // those that are not embedded

	// Push is the subscriptions' retry behaviour; the zero value is the deployed
	// one on a clock that runs fast, so that a run recovers in seconds.
	Push PushConfig

	// Parts are the bridge and the functions; package scripts/pipeline gives the deployed ones.
	Parts Parts
	// Tracer takes the spans of the bridges and the functions; nil: there are none.
	Tracer trace.Tracer
	// Around goes around the functions' handler, if not nil: an observer's place.
	Around func(http.Handler) http.Handler

	// The clocks of Pub/Sub and of the warehouse; default time.Now.
	PubSubNow, WarehouseNow func() time.Time

	Log *slog.Logger
}

// PushConfig is how Pub/Sub delivers.
type PushConfig struct {
	AckDeadline            time.Duration // default 60 s
	MinBackoff, MaxBackoff time.Duration // default 10 s and 600 s
	BackoffScale           float64       // of the two; default 0.01
	MaxDeliveryAttempts    int           // default 100
	MaxOutstanding         int           // pushes of one subscription at a time; default 100
}

// Stack is a running pipeline. Of its servers those that are reached by address are nil.
type Stack struct {
	Kafka     *kafka.Cluster
	PubSub    *pubsub.Server
	Objects   *objects.Server
	Registry  *srfake.Registry // of schemas; nil: no contract needs one
	Warehouse *warehouse.Server
	Latency   *Latency // of rows in the embedded warehouse

	config Config
	places places
	bucket *reference.Bucket
	log    *slog.Logger
	rows   atomic.Int64 // of fact_events
	dead   atomic.Int64 // of events_dlq

	started atomic.Int64 // bridges, ever
	life    context.Context
	end     context.CancelFunc // of life
	running sync.WaitGroup     // what ends with life

	mu        sync.Mutex
	functions *functions
	bridges   []*Bridge
	address   string // of the functions, once they have been started
	release   func() // gives the address up
}

// Start starts everything and returns when records can flow.
func Start(ctx context.Context, c Config) (_ *Stack, err error) {
	if len(c.Contracts) > 0 {
		c.Topic = cmp.Or(c.Topic, c.Contracts[0].SampleTopic())
	}
	c.Topic = cmp.Or(c.Topic, Topic)
	c.Partitions = cmp.Or(c.Partitions, 4)
	c.Bridges = cmp.Or(c.Bridges, 1)
	c.Push.AckDeadline = cmp.Or(c.Push.AckDeadline, time.Minute)
	c.Push.MinBackoff = cmp.Or(c.Push.MinBackoff, 10*time.Second)
	c.Push.MaxBackoff = cmp.Or(c.Push.MaxBackoff, 600*time.Second)
	c.Push.BackoffScale = cmp.Or(c.Push.BackoffScale, 0.01)
	c.Push.MaxDeliveryAttempts = cmp.Or(c.Push.MaxDeliveryAttempts, 100)

	s := &Stack{config: c, log: c.Log, Latency: newLatency()}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, s.Stop(stopping))
		}
	}()

	if err = c.Servers.check(ctx); err != nil {
		return nil, err
	}
	// Events of somebody's Kafka were written with the schemas of their own registry.
	if c.Servers.Kafka == "" && slices.ContainsFunc(c.Contracts, registry.Needed) {
		s.Registry = registry.Start(c.Contracts)
	}
	for _, step := range []struct {
		what string
		do   func(ctx context.Context) error
	}{
		{"BigQuery", s.startWarehouse}, {"Pub/Sub", s.startPubSub}, {"Cloud Storage", s.startObjects}, {"Kafka", s.startKafka},
		{"functions", s.StartFunctions}, {"subscriptions", s.subscribe},
	} {
		if err = step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	for range max(c.Bridges, 0) {
		if _, err = s.StartBridge(ctx); err != nil {
			return nil, fmt.Errorf("bridge: %w", err)
		}
	}
	return s, nil
}

// Topics are Kafka's, with their partitions.
func (s *Stack) Topics() map[string]int32 {
	topics := map[string]int32{s.config.Topic: int32(s.config.Partitions)}
	for _, c := range s.config.Contracts {
		for _, topic := range c.Topics {
			topics[topic] = int32(s.config.Partitions)
		}
	}
	return topics
}

// Stop takes everything down in the order of the flow: the bridges drain, what
// they published is delivered, the functions drain, the servers end.
func (s *Stack) Stop(ctx context.Context) error {
	var errs []error
	s.end()
	s.running.Wait()
	s.mu.Lock()
	bridges := s.bridges
	s.bridges = nil
	s.mu.Unlock()
	for _, b := range bridges {
		errs = append(errs, b.stop(ctx))
	}
	if s.PubSub != nil && s.Serving() {
		if err := s.PubSub.WaitIdle(ctx); err != nil {
			errs = append(errs, fmt.Errorf("at the end %w", err))
		}
	}
	errs = append(errs, s.StopFunctions(ctx))
	if s.release != nil {
		s.release()
	}
	if s.PubSub != nil {
		errs = append(errs, s.PubSub.Close())
	}
	if s.bucket != nil {
		errs = append(errs, s.bucket.Close())
	}
	if s.Registry != nil {
		s.Registry.Close()
	}
	if s.Objects != nil {
		errs = append(errs, s.Objects.Close())
	}
	if s.Kafka != nil {
		errs = append(errs, s.Kafka.Close())
	}
	if s.Warehouse != nil {
		errs = append(errs, s.Warehouse.Close())
	}
	return errors.Join(append(errs, s.places.close()...)...)
}

// NewProducer returns a producer for the stack's Kafka topic.
func (s *Stack) NewProducer() (*Producer, error) {
	return NewProducer(s.places.brokers, s.config.Topic)
}

// Now tells where records are at the moment.
type Now struct {
	Rows        int64 // appended to fact_events since the start
	DeadLetters int64 // appended to events_dlq since the start
	Lag         int64 // records that the bridges have not got acknowledged, or committed
	Backlog     int   // messages in Pub/Sub
}

// Now tells where records are at the moment; of servers that are reached by address it knows nothing.
func (s *Stack) Now() Now {
	n := Now{Rows: s.rows.Load(), DeadLetters: s.dead.Load()}
	if s.PubSub != nil {
		n.Backlog = s.PubSub.Stats(Ingest).Backlog + s.PubSub.Stats(DeadLetter).Backlog
	}
	known := 0 // partitions
	for _, b := range s.Bridges() {
		stats := b.Stats()
		n.Lag += stats.Lag
		known += stats.LagPartitions
	}
	if s.Kafka != nil && known < s.config.Partitions*len(s.Topics()) {
		// Nobody has them all at the moment: what the group has not committed.
		n.Lag = s.Kafka.Lag(s.Group(), s.config.Topic)
	}
	return n
}

// AwaitAll waits until every record of the stack's topic from the offsets from up
// to the offsets to has landed or been dead-lettered, until nothing has arrived
// for patience, or until ctx ends; it returns the account at that moment, and
// with ctx's end its error.
func (s *Stack) AwaitAll(ctx context.Context, from, to Offsets, patience time.Duration) (Account, error) {
	arrived, since := int64(-1), time.Now()
	for {
		account, err := s.Account(context.WithoutCancel(ctx), from, to)
		// Rows that repeat are news, too: somebody is at work.
		if now := account.Landed + account.DeadLettered + account.LeftOut + account.DuplicateRows; now != arrived {
			arrived, since = now, time.Now()
		}
		if err != nil || account.Missing == 0 || time.Since(since) > patience {
			return account, err
		}
		// Counting costs more the more there is to count.
		pause := min(100*time.Millisecond+time.Duration(account.Landed/10_000)*time.Millisecond, time.Second)
		select {
		case <-ctx.Done():
			return account, ctx.Err()
		case <-time.After(pause):
		}
	}
}

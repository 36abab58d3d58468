package bridge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/bridge"
	"sluice/internal/batch"
)

// stack is a Kafka broker and a Pub/Sub server in this process.
type stack struct {
	t       *testing.T
	broker  *kfake.Cluster
	brokers string
	pubsub  *pstest.Server
}

const (
	kafkaTopic = "clickstream"
	project    = "test"
	topic      = "projects/test/topics/clickstream"
	deadLetter = "projects/test/topics/clickstream-dead-letter"
)

func newStack(t *testing.T, partitions int32, opts ...pstest.ServerReactorOption) *stack {
	t.Helper()
	// A quick first join and short sessions, so that rebalances are a matter of
	// fractions of a second here.
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, kafkaTopic),
		kfake.GroupMinSessionTimeout(500*time.Millisecond),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "50"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	s := &stack{t: t, broker: broker, brokers: broker.ListenAddrs()[0]}
	s.pubsub = pstest.NewServer(opts...)
	t.Cleanup(func() { s.pubsub.Close() })
	for _, name := range []string{topic, deadLetter} {
		if _, err := s.pubsub.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// client is a Pub/Sub client of the server at addr.
func client(t *testing.T, addr string) *pubsub.Client {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := pubsub.NewClient(t.Context(), project, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// config is a configuration for tests: defaults, with short times.
func (s *stack) config(change func(*bridge.Config)) bridge.Config {
	c := bridge.DefaultConfig()
	c.Brokers = s.brokers
	c.Project = project
	c.Linger = 20 * time.Millisecond
	c.RetryMin, c.RetryMax = 10*time.Millisecond, 100*time.Millisecond
	c.HTTPAddr = ""
	if change != nil {
		change(&c)
	}
	return c
}

// running is a bridge in this process.
type running struct {
	*bridge.Bridge
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// start runs a bridge until the test ends or its stop is called.
func (s *stack) start(change func(*bridge.Config)) *running {
	s.t.Helper()
	b, err := bridge.New(s.config(change), client(s.t, s.pubsub.Addr), logger(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	r := &running{Bridge: b, t: s.t, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = b.Run(ctx)
	}()
	s.t.Cleanup(func() { r.shutdown() })
	return r
}

// shutdown stops the bridge and waits for it.
func (r *running) shutdown() {
	r.t.Helper()
	r.stop()
	<-r.done
	if r.err != nil {
		r.t.Errorf("Run: %v", r.err)
	}
}

// logger writes to the test's log.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(&logWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type logWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t.Context().Err() == nil { // a line after the test's end would panic
		w.t.Log(string(b[:len(b)-1]))
	}
	return len(b), nil
}

var _ io.Writer = (*logWriter)(nil)

// wait waits until f is true. The limit is for what would otherwise hang.
func wait(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// produce writes records and returns when the broker has them.
func (s *stack) produce(messages ...*kafka.Message) {
	s.t.Helper()
	p, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": s.brokers, "enable.metrics.push": false, "message.max.bytes": 20_000_000, "linger.ms": 1,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Close()
	name := kafkaTopic
	reports := make(chan kafka.Event, len(messages))
	for _, m := range messages {
		m.TopicPartition.Topic = &name
		for {
			err := p.Produce(m, reports)
			if e, ok := err.(kafka.Error); ok && e.Code() == kafka.ErrQueueFull {
				p.Flush(10)
				continue
			}
			if err != nil {
				s.t.Fatal(err)
			}
			break
		}
	}
	for range messages {
		if m := (<-reports).(*kafka.Message); m.TopicPartition.Error != nil {
			s.t.Fatal(m.TopicPartition.Error)
		}
	}
}

// numbered are n records in turn over the partitions, whose values are unique.
func numbered(from, n int, partitions int32) []*kafka.Message {
	messages := make([]*kafka.Message, n)
	for i := range messages {
		messages[i] = &kafka.Message{
			TopicPartition: kafka.TopicPartition{Partition: int32(i) % partitions},
			Value:          fmt.Appendf(nil, `{"n": %d, "padding": "%040d"}`, from+i, i),
		}
	}
	return messages
}

// coordinate is where a record came from.
type coordinate struct {
	partition int32
	offset    int64
}

// published are the records that a topic has, with how often each came.
func (s *stack) published(name string) (copies map[coordinate]int, records []batch.Record, batches []*batch.Batch) {
	s.t.Helper()
	copies = map[coordinate]int{}
	for _, m := range s.pubsub.Messages() {
		if m.Topic != name {
			continue
		}
		var dec batch.Decoder
		b, err := dec.Decode(m.Data, batch.DefaultLimits)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, r := range b.Records {
			copies[coordinate{b.Partition, r.Offset}]++
		}
		records = append(records, b.Records...)
		batches = append(batches, b)
	}
	return copies, records, batches
}

// committed is the group's offset for a partition, or a negative number.
func (s *stack) committed(partition int32) int64 {
	s.t.Helper()
	return s.committedIn(partition, bridge.DefaultConfig().Group)
}

func (s *stack) committedIn(partition int32, group string) int64 {
	s.t.Helper()
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": s.brokers, "group.id": group, "enable.metrics.push": false})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	name := kafkaTopic
	parts, err := c.Committed([]kafka.TopicPartition{{Topic: &name, Partition: partition}}, 10_000)
	if err != nil {
		s.t.Fatal(err)
	}
	return int64(parts[0].Offset)
}

// checkAll fails unless offsets 0 to n-1 of each partition came at least once, and
// returns how many copies too many there are.
func (s *stack) checkAll(n int, partitions int32) (duplicates int) {
	s.t.Helper()
	copies, _, _ := s.published(topic)
	missing := 0
	for i := range n {
		c := copies[coordinate{int32(i) % partitions, int64(i) / int64(partitions)}]
		if c == 0 {
			missing++
		} else {
			duplicates += c - 1
		}
	}
	if missing > 0 {
		s.t.Fatalf("%d of %d records never came", missing, n)
	}
	return duplicates
}

// Every record arrives once, as it was, and a graceful end commits all of it: the
// next bridge begins where the first one ended.
func TestEverythingOnceAndCommitted(t *testing.T) {
	const partitions, n = 4, 10_000
	s := newStack(t, partitions)
	s.produce(numbered(0, n, partitions)...)
	b := s.start(nil)
	wait(t, "all records", func() bool { return b.Stats().RecordsIn == n })
	b.shutdown()
	for p := range int32(partitions) {
		if got := s.committed(p); got != n/partitions {
			t.Errorf("partition %d: committed %d, want %d", p, got, n/partitions)
		}
	}
	s.produce(numbered(n, n, partitions)...)
	b = s.start(nil)
	wait(t, "all further records", func() bool { return b.Stats().RecordsIn == n })
	b.shutdown()
	if d := s.checkAll(2*n, partitions); d != 0 {
		t.Errorf("%d duplicates after a graceful restart", d)
	}
	st := b.Stats()
	if st.InflightBytes != 0 || st.InflightBatches != 0 {
		t.Errorf("after the end %d bytes and %d batches are in flight", st.InflightBytes, st.InflightBatches)
	}
}

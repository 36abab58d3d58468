// Package servers is what the bridge's tests run against: a Kafka broker (kfake) and
// a Pub/Sub server (pstest) in the test's process, and questions about what they
// hold.
//
//	s := servers.New(t, 4)                  // partitions of topic "clickstream"
//	s.Produce(s.Numbered(0, 1000)...)       // record i goes to partition i mod 4
//	b := s.Start(nil)                       // a bridge between them
//	duplicates := s.CheckAll(1000)          // fails the test if a record is missing
package servers

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/internal/batch"
)

// The names of everything.
const (
	KafkaTopic = "clickstream"
	Project    = "test"
	Topic      = "projects/test/topics/clickstream"
	DeadLetter = "projects/test/topics/clickstream-dead-letter"
)

// Servers is a broker and a Pub/Sub server that end with the test.
type Servers struct {
	t          testing.TB
	Broker     *kfake.Cluster
	Brokers    string // bootstrap servers
	Partitions int32  // of KafkaTopic
	PubSub     *pstest.Server
	// Client is what a Kafka client needs beyond Brokers, such as credentials. The
	// clients of this package use it.
	Client kafka.ConfigMap
	// Log is where bridges log to; nil: the test's log.
	Log *slog.Logger
}

// New starts them.
func New(t testing.TB, partitions int32, opts ...pstest.ServerReactorOption) *Servers {
	t.Helper()
	return NewCluster(t, 1, partitions, opts...)
}

// NewCluster starts them with several brokers.
func NewCluster(t testing.TB, brokers int, partitions int32, opts ...pstest.ServerReactorOption) *Servers {
	t.Helper()
	return NewKafka(t, partitions, []kfake.Opt{kfake.NumBrokers(brokers)}, opts...)
}

// NewKafka starts them with a broker of further options.
func NewKafka(t testing.TB, partitions int32, kafkaOpts []kfake.Opt, opts ...pstest.ServerReactorOption) *Servers {
	t.Helper()
	// A quick first join and short sessions: rebalances are a matter of fractions
	// of a second here.
	broker, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.SeedTopics(partitions, KafkaTopic),
		kfake.GroupMinSessionTimeout(500 * time.Millisecond),
		kfake.BrokerConfigs(map[string]string{
			"group.initial.rebalance.delay.ms": "50",
			"message.max.bytes":                "20000000",
		}),
	}, kafkaOpts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	s := &Servers{t: t, Broker: broker, Brokers: broker.ListenAddrs()[0], Partitions: partitions}
	s.PubSub = pstest.NewServer(opts...)
	t.Cleanup(func() { s.PubSub.Close() })
	for _, name := range []string{Topic, DeadLetter} {
		if _, err := s.PubSub.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Client is a Pub/Sub client of the server at addr.
func Client(t testing.TB, addr string) *pubsub.Client {
	t.Helper()
	c, err := pubsub.NewClient(t.Context(), Project, option.WithEndpoint(addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Config is a configuration for tests: defaults, with short times where something is
// repeated and long ones where something is given up.
func (s *Servers) Config(change func(*bridge.Config)) bridge.Config {
	c := bridge.DefaultConfig()
	c.Brokers = s.Brokers
	c.Project = Project
	c.Linger, c.MaxLinger = 20*time.Millisecond, 20*time.Millisecond
	c.RetryMin, c.RetryMax = 10*time.Millisecond, 100*time.Millisecond
	// A starved machine must not cut an orderly end short: tests count on its commits.
	c.RevokeTimeout, c.DrainTimeout, c.CommitTimeout, c.CloseTimeout = 30*time.Second, 30*time.Second, 15*time.Second, 15*time.Second
	c.HTTPAddr = ""
	if change != nil {
		change(&c)
	}
	return c
}

// Running is a bridge in this process.
type Running struct {
	*bridge.Bridge
	t    testing.TB
	stop context.CancelFunc
	done chan struct{}
	err  error

	expected bool // the error
}

// Start runs a bridge until the test ends or its stop is called.
func (s *Servers) Start(change func(*bridge.Config)) *Running {
	s.t.Helper()
	log := s.Log
	if log == nil {
		log = Logger(s.t)
	}
	b, err := connect.New(s.Config(change), Client(s.t, s.PubSub.Addr), nil, log)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	r := &Running{Bridge: b, t: s.t, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = b.Run(ctx)
	}()
	s.t.Cleanup(func() { r.Shutdown() })
	return r
}

// Stop begins the bridge's end and does not wait for it.
func (r *Running) Stop() { r.stop() }

// Shutdown stops the bridge and waits for it.
func (r *Running) Shutdown() {
	r.t.Helper()
	r.stop()
	<-r.done
	if r.err != nil && !r.expected {
		r.t.Errorf("Run: %v", r.err)
	}
}

// Done is closed when Run has returned.
func (r *Running) Done() <-chan struct{} { return r.done }

// Err is what Run has returned, once Done is closed.
func (r *Running) Err() error { return r.err }

// Expect says that an error of Run is what the test is about.
func (r *Running) Expect() { r.expected = true }

// Logger writes to the test's log.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&logWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type logWriter struct {
	mu sync.Mutex
	t  testing.TB
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

// Wait waits until f is true. The limit is for what would otherwise hang.
func Wait(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// with adds what every Kafka client needs.
func (s *Servers) with(c kafka.ConfigMap) *kafka.ConfigMap {
	c["bootstrap.servers"], c["enable.metrics.push"] = s.Brokers, false
	for name, value := range s.Client {
		c[name] = value
	}
	return &c
}

// Produce writes records and returns when the broker has them.
func (s *Servers) Produce(messages ...*kafka.Message) {
	s.t.Helper()
	s.ProduceTo(KafkaTopic, messages...)
}

// ProduceTo writes records to another topic.
func (s *Servers) ProduceTo(topic string, messages ...*kafka.Message) {
	s.t.Helper()
	p, err := kafka.NewProducer(s.with(kafka.ConfigMap{"message.max.bytes": 20_000_000, "linger.ms": 1}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Close()
	reports := make(chan kafka.Event, len(messages))
	for _, m := range messages {
		m.TopicPartition.Topic = &topic
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

// ProduceRaw appends a record batch to a partition of KafkaTopic as it is.
func (s *Servers) ProduceRaw(partition int32, batch []byte) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Broker.ListenAddrs()...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 10_000
	topic, part := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, batch
	topic.TopicID, topic.Partitions = s.Broker.TopicInfo(KafkaTopic).TopicID, append(topic.Partitions, part)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(s.t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Numbered are the records numbered from to from+n-1; record i goes to partition i
// modulo Partitions.
func (s *Servers) Numbered(from, n int) []*kafka.Message {
	messages := make([]*kafka.Message, n)
	for i := range messages {
		messages[i] = &kafka.Message{
			TopicPartition: kafka.TopicPartition{Partition: int32(from+i) % s.Partitions},
			Value:          fmt.Appendf(nil, `{"n": %d, "padding": "%040d"}`, from+i, i),
		}
	}
	return messages
}

// Coordinate is where a record came from.
type Coordinate struct {
	Partition int32
	Offset    int64
}

// Published are the records that a topic has, with how often each came.
func (s *Servers) Published(name string) (copies map[Coordinate]int, records []batch.Record, batches []*batch.Batch) {
	s.t.Helper()
	copies = map[Coordinate]int{}
	for _, m := range s.PubSub.Messages() {
		if m.Topic != name {
			continue
		}
		var dec batch.Decoder
		b, err := dec.Decode(m.Data, batch.DefaultLimits)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, r := range b.Records {
			copies[Coordinate{r.Partition, r.Offset}]++
		}
		records = append(records, b.Records...)
		batches = append(batches, b)
	}
	return copies, records, batches
}

// Committed is the group's offset for a partition, or a negative number.
func (s *Servers) Committed(partition int32) int64 {
	s.t.Helper()
	offset, _ := s.CommittedWithEpoch(partition)
	return offset
}

// CommittedWithEpoch is Committed with the leader epoch that was committed; -1: none.
func (s *Servers) CommittedWithEpoch(partition int32) (offset int64, epoch int32) {
	s.t.Helper()
	c, err := kafka.NewConsumer(s.with(kafka.ConfigMap{"group.id": bridge.DefaultConfig().Group}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	name := KafkaTopic
	parts, err := c.Committed([]kafka.TopicPartition{{Topic: &name, Partition: partition}}, 60_000)
	if e, ok := err.(kafka.Error); ok && e.Code() == kafka.ErrGroupIDNotFound {
		return -1, -1 // no member has joined yet
	}
	if err != nil {
		s.t.Fatal(err)
	}
	epoch = -1
	if parts[0].LeaderEpoch != nil {
		epoch = *parts[0].LeaderEpoch
	}
	return int64(parts[0].Offset), epoch
}

// AddPartition adds a partition to the topic, as an operator does.
func (s *Servers) AddPartition() {
	s.t.Helper()
	admin, err := kafka.NewAdminClient(s.with(kafka.ConfigMap{}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer admin.Close()
	s.Partitions++
	results, err := admin.CreatePartitions(s.t.Context(), []kafka.PartitionsSpecification{{Topic: KafkaTopic,
		IncreaseTo: int(s.Partitions)}})
	if err == nil && results[0].Error.Code() != kafka.ErrNoError {
		err = results[0].Error
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Evict removes the member of that Config.Consumer from the group, as brokers do when its
// session has timed out.
func (s *Servers) Evict(consumer string) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Broker.ListenAddrs()...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = bridge.DefaultConfig().Group
	for _, m := range s.Broker.GroupInfo(request.Group).Members {
		if strings.HasPrefix(m.MemberID, consumer+"-") {
			request.Members = append(request.Members, kmsg.LeaveGroupRequestMember{MemberID: m.MemberID})
		}
	}
	if _, err := request.RequestWith(s.t.Context(), client); err != nil {
		s.t.Fatal(err)
	}
}

// CheckAll fails unless offsets 0 to n-1 of each partition came at least once, and
// returns how many copies too many there are.
func (s *Servers) CheckAll(n int) (duplicates int) {
	s.t.Helper()
	copies, _, _ := s.Published(Topic)
	missing := 0
	for i := range n {
		c := copies[Coordinate{int32(i) % s.Partitions, int64(i) / int64(s.Partitions)}]
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

// PublishFault is a pstest reactor that may refuse publish requests. It sees the
// batch that a request carries. Its function may be changed at any time; without
// one, requests succeed.
type PublishFault struct {
	mu sync.Mutex
	f  func(topic string, b *batch.Batch) error
}

// Set changes the function. It is called by several goroutines at a time.
func (p *PublishFault) Set(f func(topic string, b *batch.Batch) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.f = f
}

// Option installs the fault in a server.
func (p *PublishFault) Option() pstest.ServerReactorOption {
	return pstest.ServerReactorOption{FuncName: "Publish", Reactor: p}
}

// React implements pstest.Reactor.
func (p *PublishFault) React(req any) (handled bool, ret any, err error) {
	p.mu.Lock()
	f := p.f
	p.mu.Unlock()
	r := req.(*pubsubpb.PublishRequest)
	if f == nil {
		return false, nil, nil
	}
	for _, m := range r.Messages {
		var dec batch.Decoder
		b, err := dec.Decode(m.Data, batch.DefaultLimits)
		if err == nil {
			err = f(r.Topic, b)
		}
		if err != nil {
			return true, &pubsubpb.PublishResponse{}, err
		}
	}
	return false, nil, nil
}

package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/functions/service"
	"sluice/internal/telemetry"
)

// patience bounds each wait of the suite; the machine may be busy.
const patience = 2 * time.Minute

// pipeline is the product between the servers, for one case.
type pipeline struct {
	*Servers
	t     *testing.T
	topic string // of Kafka; also the stem of the names in Pub/Sub
	log   *slog.Logger
	admin *kafka.AdminClient
}

// newPipeline creates the case's topics and subscriptions and starts the
// functions. The Kafka topic is the case's to create.
func newPipeline(t *testing.T, s *Servers, name string) *pipeline {
	t.Helper()
	p := &pipeline{Servers: s, t: t, topic: fmt.Sprintf("%s-%d", name, time.Now().UnixNano()),
		log: telemetry.NewLogger(t.Output(), slog.LevelWarn)}
	var err error
	if p.admin, err = kafka.NewAdminClient(p.client(nil)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.admin.Close)
	p.subscribe(p.functions())
	return p
}

// client is a configuration of the suite's own Kafka clients.
func (p *pipeline) client(more map[string]kafka.ConfigValue) *kafka.ConfigMap {
	m := kafka.ConfigMap{}
	for name, value := range *p.Client {
		m[name] = value
	}
	for name, value := range more {
		m[name] = value
	}
	return &m
}

func (p *pipeline) dead() string { return p.topic + "-dead-letter" }

// functions starts the functions and returns their address.
func (p *pipeline) functions() string {
	p.t.Helper()
	c := service.DefaultConfig()
	c.Project, c.Dataset, c.DeadLetterTopic = p.Project, Dataset, p.dead()
	c.BigQueryEmulator, c.PubSubEmulator = p.BigQuery, p.PubSub
	c.Revision = "conformance"
	made, err := service.New(p.t.Context(), c, p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, target := range []string{service.Ingest, service.DeadLetter} {
		mux.Handle("/"+target, made.Handler(target))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(made.Close(ctx), server.Close()); err != nil {
			p.t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			p.t.Error(err)
		}
	})
	return l.Addr().String()
}

// subscribe creates the topics and the push subscriptions.
func (p *pipeline) subscribe(functions string) {
	p.t.Helper()
	client, err := pubsub.NewClient(p.t.Context(), p.Project, p.PubSubOptions...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { client.Close() })
	for _, sub := range []struct{ topic, path string }{{p.dead(), "/DeadLetter"}, {p.topic, "/Ingest"}} {
		if _, err := client.TopicAdminClient.CreateTopic(p.t.Context(),
			&pubsubpb.Topic{Name: p.full("topics", sub.topic)}); err != nil {
			p.t.Fatal(err)
		}
		push := &pubsubpb.PushConfig{PushEndpoint: "http://" + functions + sub.path}
		if !p.Wrapped {
			push.Wrapper = &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}
		}
		s := &pubsubpb.Subscription{
			Name: p.full("subscriptions", sub.topic), Topic: p.full("topics",
				sub.topic), PushConfig: push, AckDeadlineSeconds: 60,
			RetryPolicy: &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(100 * time.Millisecond), MaximumBackoff: durationpb.New(time.Second)},
		}
		if sub.topic == p.topic {
			s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: p.full("topics", p.dead()),
				MaxDeliveryAttempts: 100}
		}
		if _, err := client.SubscriptionAdminClient.CreateSubscription(p.t.Context(), s); err != nil {
			p.t.Fatal(err)
		}
		// A subscription that stays goes on pushing to nobody.
		p.t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := client.SubscriptionAdminClient.DeleteSubscription(ctx,
				&pubsubpb.DeleteSubscriptionRequest{Subscription: s.Name}); err != nil {
				p.t.Error(err)
			}
		})
	}
}

func (p *pipeline) full(collection, name string) string {
	return "projects/" + p.Project + "/" + collection + "/" + name
}

// bridge starts a bridge of the case's group; stop ends it as SIGTERM does, once.
func (p *pipeline) bridge() (stop func()) {
	p.t.Helper()
	c := bridge.DefaultConfig()
	c.Brokers, c.Topics, c.Group = p.Brokers, p.topic, p.topic
	c.Project, c.Topic, c.DeadLetterTopic = p.Project, p.topic, p.dead()
	c.HTTPAddr = ""
	if err := c.Properties.FromEnvironment(append([]string{
		"KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS=1000",
		"KAFKA_CONFIG_SESSION_TIMEOUT_MS=6000",
		"KAFKA_CONFIG_AUTO_COMMIT_INTERVAL_MS=500",
	}, p.Environment...), os.ReadFile); err != nil {
		p.t.Fatal(err)
	}
	client, err := pubsub.NewClient(p.t.Context(), p.Project, p.PubSubOptions...)
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := connect.New(c, client, nil, p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("the bridge: %v", err)
		}
		client.Close()
	}
	p.t.Cleanup(stop)
	return stop
}

// create creates the case's Kafka topic.
func (p *pipeline) create(partitions int, settings map[string]string) {
	p.t.Helper()
	all := map[string]string{"max.message.bytes": "20971520"}
	for name, value := range settings {
		all[name] = value
	}
	result, err := p.admin.CreateTopics(p.t.Context(), []kafka.TopicSpecification{{Topic: p.topic,
		NumPartitions: partitions, ReplicationFactor: p.Replicas, Config: all}}, kafka.SetAdminOperationTimeout(20*time.Second))
	if err != nil {
		p.t.Fatal(err)
	}
	if e := result[0].Error; e.Code() != kafka.ErrNoError {
		p.t.Fatal(e)
	}
}

// produce sends records with a producer of its own and returns their offsets.
func (p *pipeline) produce(settings map[string]kafka.ConfigValue, records ...kafka.Message) []int64 {
	p.t.Helper()
	all := map[string]kafka.ConfigValue{"message.max.bytes": 20 << 20, "acks": "all"}
	for name, value := range settings {
		all[name] = value
	}
	producer, err := kafka.NewProducer(p.client(all))
	if err != nil {
		p.t.Fatal(err)
	}
	defer producer.Close()
	return p.send(producer, records...)
}

// send sends records to the case's topic and waits for their offsets.
func (p *pipeline) send(producer *kafka.Producer, records ...kafka.Message) []int64 {
	p.t.Helper()
	reports := make(chan kafka.Event, len(records))
	for i := range records {
		m := records[i]
		m.TopicPartition.Topic, m.Opaque = &p.topic, i
		if err := producer.Produce(&m, reports); err != nil {
			p.t.Fatal(err)
		}
	}
	offsets := make([]int64, len(records))
	timeout := time.After(patience)
	for range records {
		select {
		case e := <-reports:
			m := e.(*kafka.Message)
			if m.TopicPartition.Error != nil {
				p.t.Fatal(m.TopicPartition.Error)
			}
			offsets[m.Opaque.(int)] = int64(m.TopicPartition.Offset)
		case <-timeout:
			p.t.Fatal("the records were not acknowledged by Kafka")
		}
	}
	return offsets
}

// event is a good event of that id, in partition 0.
func event(id string) kafka.Message {
	return kafka.Message{Value: fmt.Appendf(nil, `{"event_id":%q,"event_timestamp":%q,"event_type":"page_view","user_id":"u"}`, id, time.Now().UTC().Format(time.RFC3339Nano))}
}

func several(prefix string, n int) []kafka.Message {
	records := make([]kafka.Message, n)
	for i := range records {
		records[i] = event(fmt.Sprint(prefix, i))
	}
	return records
}

// rows runs a query and returns its rows as text.
func (p *pipeline) rows(query string, arguments ...any) []string {
	p.t.Helper()
	lines, err := Rows(p.t.Context(), p.Engine, fmt.Sprintf(query, arguments...))
	if err != nil {
		p.t.Fatal(err)
	}
	return lines
}

// await waits until a query has so many rows, and returns them. More rows than
// that are an error of the caller's to find.
func (p *pipeline) await(n int, query string, arguments ...any) []string {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		lines := p.rows(query, arguments...)
		if len(lines) >= n {
			return lines
		}
		if time.Now().After(end) {
			p.t.Fatalf("%d rows, want %d: %s\n%s", len(lines), n, fmt.Sprintf(query, arguments...),
				strings.Join(lines, "\n"))
		}
	}
}

// landed waits for n distinct coordinates in fact_events and returns the offsets,
// as "partition | offset", in order.
func (p *pipeline) landed(n int) []string {
	p.t.Helper()
	return p.await(n, "SELECT kafka_partition, kafka_offset FROM clickstream.fact_events WHERE kafka_topic = '%s' "+
		"GROUP BY kafka_partition, kafka_offset ORDER BY kafka_partition, kafka_offset", p.topic)
}

// deadLettered waits for n dead letters and returns the columns, in order of the offsets.
func (p *pipeline) deadLettered(n int, columns string) []string {
	p.t.Helper()
	return p.await(n, "SELECT %s FROM clickstream.events_dlq WHERE kafka_topic = '%s' ORDER BY kafka_partition, "+
		"kafka_offset", columns, p.topic)
}

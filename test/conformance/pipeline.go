package conformance

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/internal/telemetry"
	pipelines "sluice/scripts/pipeline"
)

// patience bounds each wait of the suite; the machine may be busy.
const patience = 2 * time.Minute

// pipeline is the product between the servers, for one case.
type pipeline struct {
	*Servers
	t     *testing.T
	topic string // of Kafka; also the bridges' group
	admin *kafka.AdminClient
	stack *local.Stack // nil: not started yet
	// contract of the topic; nil: the built-in one.
	contract *contract.Contract
}

// newPipeline is the pipeline of a case of that name. The Kafka topic is the case's to
// create, before it starts the first bridge.
func newPipeline(t *testing.T, s *Servers, name string) *pipeline {
	t.Helper()
	p := &pipeline{Servers: s, t: t, topic: fmt.Sprintf("%s-%d", name, time.Now().UnixNano())}
	var err error
	if p.admin, err = kafka.NewAdminClient(p.client(nil)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.admin.Close)
	return p
}

// client is a configuration of the suite's own Kafka clients.
func (p *pipeline) client(more map[string]kafka.ConfigValue) *kafka.ConfigMap {
	m := kafka.ConfigMap{"bootstrap.servers": p.By.Kafka, "enable.metrics.push": false}
	for name, value := range p.By.KafkaClient {
		m[name] = value
	}
	for name, value := range more {
		m[name] = value
	}
	return &m
}

// start starts what there is but for the bridges: the functions, and the servers that are
// embedded.
func (p *pipeline) start() {
	p.t.Helper()
	c := pipelines.Config{
		Config: local.Config{Servers: p.By, Topic: p.topic, Bridges: -1, Wrapped: p.Wrapped,
			Log: telemetry.NewLogger(p.t.Output(), slog.LevelWarn)},
		TuneBridge: func(c *bridge.Config) {
			c.Group = p.topic
			if err := c.Properties.FromEnvironment(append([]string{
				"KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS=1000",
				"KAFKA_CONFIG_SESSION_TIMEOUT_MS=6000",
				"KAFKA_CONFIG_AUTO_COMMIT_INTERVAL_MS=500",
			}, p.Environment...), os.ReadFile); err != nil {
				p.t.Error(err)
			}
		},
	}
	if p.contract != nil {
		c.Contracts = []*contract.Contract{p.contract}
	}
	var err error
	if p.stack, err = pipelines.Start(p.t.Context(), c); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.stack.Stop(ctx); err != nil {
			p.t.Error(err)
		}
	})
}

// bridge starts a bridge of the case's group; stop ends it as SIGTERM does, once.
func (p *pipeline) bridge() (stop func()) {
	p.t.Helper()
	if p.stack == nil {
		p.start()
	}
	b, err := p.stack.StartBridge(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.stack.StopBridge(ctx, b); err != nil {
			p.t.Errorf("the bridge: %v", err)
		}
	})
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
	lines, err := Rows(p.t.Context(), p.stack.Engine(), fmt.Sprintf(query, arguments...))
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

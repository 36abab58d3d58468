package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Producer writes records to one Kafka topic, idempotently and in order per
// partition, and knows when all of them have been acknowledged.
type Producer struct {
	topic  string
	client *kafka.Producer
	done   chan struct{}

	mu        sync.Mutex
	queued    int64 // records whose report goes to reports
	reported  int64 // of them
	delivered int64
	err       error // the first failed delivery
}

// NewProducer returns a producer for topic at the brokers.
func NewProducer(brokers, topic string) (*Producer, error) {
	client, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers":            brokers,
		"enable.idempotence":           true,
		"linger.ms":                    5,
		"compression.type":             "lz4",
		"queue.buffering.max.messages": 100_000,
		"message.max.bytes":            20_000_000,
		"go.delivery.report.fields":    "none",
		"enable.metrics.push":          false,
		"log_level":                    3, // its warnings of a broker that is just coming up are no news
	})
	if err != nil {
		return nil, fmt.Errorf("making the Kafka producer: %w", err)
	}
	p := &Producer{topic: topic, client: client, done: make(chan struct{})}
	go p.reports()
	return p, nil
}

// reports counts the delivery reports until the client is closed.
func (p *Producer) reports() {
	defer close(p.done)
	for e := range p.client.Events() {
		m, ok := e.(*kafka.Message)
		if !ok {
			continue
		}
		p.mu.Lock()
		p.reported++
		if m.TopicPartition.Error == nil {
			p.delivered++
		} else if p.err == nil {
			p.err = m.TopicPartition.Error
		}
		p.mu.Unlock()
	}
}

// Produce queues a record, copying it; headers may be nil. It blocks while the client's queue
// is full.
func (p *Producer) Produce(ctx context.Context, key, value []byte, headers []kafka.Header) error {
	m := &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &p.topic, Partition: kafka.PartitionAny},
		Key:            key, Value: value, Headers: headers,
	}
	return p.ProduceMessage(ctx, m)
}

// ProduceMessage queues a message as it is, its partition and timestamp included;
// an empty topic is the producer's own.
func (p *Producer) ProduceMessage(ctx context.Context, m *kafka.Message) error {
	if m.TopicPartition.Topic == nil {
		m.TopicPartition.Topic = &p.topic
	}
	for {
		p.count(1)
		err := p.client.Produce(m, nil)
		if err == nil {
			return nil
		}
		p.count(-1) // there will be no report
		var kerr kafka.Error
		if !errors.As(err, &kerr) || kerr.Code() != kafka.ErrQueueFull {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ProduceAcked writes a record and returns where the broker has put it.
func (p *Producer) ProduceAcked(ctx context.Context, key, value []byte, headers []kafka.Header) (kafka.TopicPartition,
	error) {
	report := make(chan kafka.Event, 1)
	err := p.client.Produce(&kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &p.topic, Partition: kafka.PartitionAny},
		Key:            key, Value: value, Headers: headers,
	}, report)
	if err != nil {
		return kafka.TopicPartition{}, fmt.Errorf("producing to Kafka: %w", err)
	}
	select {
	case e := <-report:
		m, ok := e.(*kafka.Message)
		if !ok {
			return kafka.TopicPartition{}, fmt.Errorf("producing to Kafka: %v", e)
		}
		if m.TopicPartition.Error != nil {
			return kafka.TopicPartition{}, fmt.Errorf("producing to Kafka: %w", m.TopicPartition.Error)
		}
		p.mu.Lock()
		p.delivered++
		p.mu.Unlock()
		return m.TopicPartition, nil
	case <-ctx.Done():
		return kafka.TopicPartition{}, fmt.Errorf("no acknowledgement from Kafka, the record may arrive all the same: %w", ctx.Err())
	}
}

// Delivered returns how many records the broker has acknowledged.
func (p *Producer) Delivered() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delivered
}

// count takes down that so many more records wait for their report.
func (p *Producer) count(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued += n
}

// Flush waits until the report of every record has been read: the client's own Flush
// returns when the reports are on their way. Its error is the first failed delivery, or
// ctx's.
func (p *Producer) Flush(ctx context.Context) error {
	for {
		p.client.Flush(50)
		p.mu.Lock()
		done, err := p.reported == p.queued, p.err
		p.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// Close ends the client; what was not flushed is given up.
func (p *Producer) Close() {
	p.client.Close()
	<-p.done
}

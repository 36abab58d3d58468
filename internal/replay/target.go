package replay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/batch"
	"sluice/internal/deadletter"
)

// The most that goes into one message: far below what Pub/Sub and the functions take.
const (
	batchRecords = 500
	batchBytes   = 1 << 20
)

// PubSub publishes letters to the topic that the bridge publishes to, as batches of
// the records that they were.
type PubSub struct {
	Publisher *pubsub.Publisher
}

// Send implements Target.
func (p PubSub) Send(ctx context.Context, letters []*Letter) error {
	var results []*pubsub.PublishResult
	publish := func(payload []byte) {
		results = append(results, p.Publisher.Publish(ctx, &pubsub.Message{Data: payload}))
	}
	encoders := map[string]*batch.Encoder{} // by topic: a batch is of one contract
	flush := func(topic string) error {
		e := encoders[topic]
		delete(encoders, topic)
		payload, err := e.Payload(nil)
		if err == nil {
			publish(payload)
		}
		return err
	}
	for _, l := range letters {
		// What could not be read as a batch goes out as it came.
		if l.undecodable() {
			publish(l.Value)
			continue
		}
		e := encoders[l.Topic]
		// An event that is large by itself goes by itself: Pub/Sub has taken it so before.
		if e != nil && (e.Len() >= batchRecords || e.Size()+len(l.Key)+len(l.Value)+deadletter.HeadersSize(l.Headers) > batchBytes) {
			if err := flush(l.Topic); err != nil {
				return err
			}
			e = nil
		}
		if e == nil {
			e = batch.NewEncoder(batch.Header{ReplayID: l.Replay})
			encoders[l.Topic] = e
		}
		e.Append(&batch.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Timestamp: l.Timestamp, Key: l.Key, Value: l.Value, Headers: l.Headers})
	}
	for topic := range encoders {
		if err := flush(topic); err != nil {
			return err
		}
	}
	for _, result := range results {
		if _, err := result.Get(ctx); err != nil {
			return fmt.Errorf("publish to %s: %w", p.Publisher, err)
		}
	}
	return nil
}

// originalHeader is the Kafka record header that holds the coordinates of the
// record that was dead-lettered, as topic/partition/offset.
const originalHeader = "sluice-replay-of"

// Kafka produces letters to a topic that the bridge consumes.
type Kafka struct {
	topic    string
	producer *kafka.Producer
}

// OpenKafka makes the producer. properties are librdkafka's; topic empty: each
// record's own. token, if not nil, is what to present where the mechanism is
// OAUTHBEARER; a replay that outlasts it ends, and can be resumed.
func OpenKafka(properties kafka.ConfigMap, topic string, token *kafka.OAuthBearerToken) (*Kafka, error) {
	p := maps.Clone(properties)
	p["enable.idempotence"] = true
	p["message.max.bytes"] = 20_000_000
	p["enable.metrics.push"] = false
	producer, err := kafka.NewProducer(&p)
	if err != nil {
		return nil, fmt.Errorf("make the Kafka producer: %w", err)
	}
	if token != nil {
		if err := producer.SetOAuthBearerToken(*token); err != nil {
			producer.Close()
			return nil, fmt.Errorf("present the token to Kafka: %w", err)
		}
	}
	return &Kafka{topic: topic, producer: producer}, nil
}

// Send implements Target.
func (k *Kafka) Send(ctx context.Context, letters []*Letter) error {
	delivered := make(chan kafka.Event, len(letters))
	for _, l := range letters {
		topic := cmp.Or(k.topic, l.Topic)
		m := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny},
			Key:            l.Key, Value: l.Value, Headers: []kafka.Header{{Key: batch.ReplayIDHeader, Value: []byte(l.Replay)}},
		}
		for _, h := range l.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: string(h.Key), Value: h.Value})
		}
		if l.Timestamp > 0 {
			m.Timestamp = time.UnixMilli(l.Timestamp)
		}
		if l.Offset >= 0 {
			m.Headers = append(m.Headers, kafka.Header{Key: originalHeader, Value: fmt.Appendf(nil, "%s/%d/%d", l.Topic, l.Partition, l.Offset)})
		}
		// A step is smaller than the producer's queue.
		if err := k.producer.Produce(m, delivered); err != nil {
			return fmt.Errorf("produce to Kafka: %w", err)
		}
	}
	for range letters {
		select {
		case e := <-delivered:
			if m, ok := e.(*kafka.Message); ok && m.TopicPartition.Error != nil {
				return fmt.Errorf("produce to %s: %w", *m.TopicPartition.Topic, m.TopicPartition.Error)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close ends the producer.
func (k *Kafka) Close() { k.producer.Close() }

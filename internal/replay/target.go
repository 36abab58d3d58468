package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/batch"
	"sluice/internal/deadletter"
	"sluice/internal/kafkaclient"
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
		if e != nil && (e.Len() >= batchRecords ||
			e.Size()+len(l.Key)+len(l.Value)+deadletter.HeadersSize(l.Headers) > batchBytes) {
			if err := flush(l.Topic); err != nil {
				return err
			}
			e = nil
		}
		if e == nil {
			e = batch.NewEncoder(batch.Header{ReplayID: l.Replay})
			encoders[l.Topic] = e
		}
		e.Append(&batch.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Timestamp: l.Timestamp,
			Key: l.Key, Value: l.Value, Headers: l.Headers})
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
	config   KafkaConfig
	producer *kafka.Producer
	known    map[string]bool // topics that the group has read
}

// KafkaConfig says where letters go.
type KafkaConfig struct {
	Properties kafka.ConfigMap // librdkafka's
	// Topic is where all go; empty: each to its own, if Group, the bridge's, has read it. What a dead letter
	// names itself is only what somebody has written.
	Topic, Group string
	// Token, if not nil, is what to present where the mechanism is OAUTHBEARER; a replay that
	// outlasts it ends, and can be resumed.
	Token *kafka.OAuthBearerToken
}

// OpenKafka makes the producer, and returns when Kafka has answered.
func OpenKafka(ctx context.Context, c KafkaConfig) (_ *Kafka, err error) {
	p := maps.Clone(c.Properties)
	p["enable.idempotence"] = true
	p["message.max.bytes"] = 20_000_000
	p["enable.metrics.push"] = false
	producer, err := kafka.NewProducer(&p)
	if err != nil {
		return nil, fmt.Errorf("make the Kafka producer: %w", err)
	}
	defer func() {
		if err != nil {
			producer.Close()
		}
	}()
	if c.Token != nil {
		if err := producer.SetOAuthBearerToken(*c.Token); err != nil {
			return nil, fmt.Errorf("present the token to Kafka: %w", err)
		}
	}
	if err := kafkaclient.ReachProducer(ctx, producer); err != nil {
		return nil, err
	}
	k := &Kafka{config: c, producer: producer, known: map[string]bool{}}
	if c.Topic == "" {
		if err := k.learn(ctx); err != nil {
			return nil, err
		}
	}
	// Of what happens to the connection later, deliveries tell; nobody reads it. It ends with Close.
	go func() {
		for e := range producer.Events() {
			_ = e
		}
	}()
	return k, nil
}

// learn asks which topics the bridge's group has read.
func (k *Kafka) learn(ctx context.Context) error {
	admin, err := kafka.NewAdminClientFromProducer(k.producer)
	if err != nil {
		return fmt.Errorf("make the Kafka client: %w", err)
	}
	defer admin.Close()
	result, err := admin.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: k.config.Group}},
		kafka.SetAdminRequestTimeout(30*time.Second))
	if code, ok := errors.AsType[kafka.Error](err); err != nil && !(ok && code.Code() == kafka.ErrGroupIDNotFound) {
		return fmt.Errorf("ask Kafka which topics group %s has read: %w", k.config.Group, err)
	}
	for _, g := range result.ConsumerGroupsTopicPartitions {
		for _, p := range g.Partitions {
			if p.Topic != nil && p.Offset >= 0 {
				k.known[*p.Topic] = true
			}
		}
	}
	return nil
}

// to is the topic that a letter goes to.
func (k *Kafka) to(l *Letter) (string, error) {
	switch {
	case k.config.Topic != "":
		return k.config.Topic, nil
	case !k.known[l.Topic]:
		return "", fmt.Errorf("a dead letter names the topic %q, which group %s has never read: name the topic to send to "+
			"with --topic, or the letters with --kafka-topic", l.Topic, k.config.Group)
	}
	return l.Topic, nil
}

// Send implements Target.
func (k *Kafka) Send(ctx context.Context, letters []*Letter) error {
	delivered := make(chan kafka.Event, len(letters))
	topics := make([]string, len(letters))
	for i, l := range letters { // before the first is sent
		var err error
		if topics[i], err = k.to(l); err != nil {
			return err
		}
	}
	for i, l := range letters {
		topic := topics[i]
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
			m.Headers = append(m.Headers, kafka.Header{Key: originalHeader, Value: fmt.Appendf(nil, "%s/%d/%d", l.Topic,
				l.Partition, l.Offset)})
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

package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/kafkaclient"
)

// kafkaTimeout bounds one question to Kafka.
const kafkaTimeout = 30 * time.Second

// Kafka answers what a consumer group has consumed. It reads without joining the
// group, and commits nothing.
type Kafka struct {
	group    string
	consumer *kafka.Consumer
	admin    *kafka.AdminClient
}

// OpenKafka makes the clients, and returns when Kafka has answered. properties are librdkafka's, of the same cluster
// and rights as the bridge's; group is the bridge's consumer group. token, if not nil, is
// what to present where the mechanism is OAUTHBEARER: an audit takes less time than a
// token lasts.
func OpenKafka(ctx context.Context, properties kafka.ConfigMap, group string, token *kafka.OAuthBearerToken) (*Kafka,
	error) {
	p := maps.Clone(properties)
	p["group.id"] = group
	p["enable.auto.commit"] = false
	p["enable.auto.offset.store"] = false
	p["enable.partition.eof"] = true
	p["auto.offset.reset"] = "error"
	p["isolation.level"] = "read_committed"
	p["fetch.queue.backoff.ms"] = 10
	p["enable.metrics.push"] = false
	delete(p, "statistics.interval.ms")
	consumer, err := kafka.NewConsumer(&p)
	if err != nil {
		return nil, fmt.Errorf("make the Kafka client: %w", err)
	}
	if token != nil {
		if err := consumer.SetOAuthBearerToken(*token); err != nil {
			return nil, errors.Join(fmt.Errorf("present the token to Kafka: %w", err), consumer.Close())
		}
	}
	if err := kafkaclient.Reach(ctx, consumer); err != nil {
		return nil, errors.Join(err, consumer.Close())
	}
	admin, err := kafka.NewAdminClientFromConsumer(consumer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the Kafka client: %w", err), consumer.Close())
	}
	return &Kafka{group: group, consumer: consumer, admin: admin}, nil
}

// Close ends the clients.
func (k *Kafka) Close() error {
	k.admin.Close()
	return k.consumer.Close()
}

// consumed asks where the group stands in every partition that it has committed to,
// and which offsets the window covers.
func (k *Kafka) consumed(ctx context.Context, c Config) (map[place]consumed, error) {
	result, err := k.admin.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: k.group}},
		kafka.SetAdminRequestTimeout(kafkaTimeout))
	var code kafka.Error
	if err != nil && !(errors.As(err, &code) && code.Code() == kafka.ErrGroupIDNotFound) {
		return nil, fmt.Errorf("ask Kafka for the offsets of group %s: %w", k.group, err)
	}
	marks := map[place]consumed{}
	for _, g := range result.ConsumerGroupsTopicPartitions {
		for _, p := range g.Partitions {
			if p.Error != nil {
				return nil, fmt.Errorf("the offset of group %s in %s/%d: %w", k.group, *p.Topic, p.Partition, p.Error)
			}
			if p.Offset < 0 || len(c.Topics) > 0 && !slices.Contains(c.Topics, *p.Topic) {
				continue
			}
			m := consumed{committed: int64(p.Offset)}
			low, high, err := k.consumer.QueryWatermarkOffsets(*p.Topic, p.Partition, int(kafkaTimeout.Milliseconds()))
			if err != nil {
				return nil, fmt.Errorf("the watermarks of %s/%d: %w", *p.Topic, p.Partition, err)
			}
			m.low, m.lag = low, max(high-m.committed, 0)
			m.first, m.end = low, m.committed
			if !c.Since.IsZero() {
				if m.first, err = k.at(p, c.Since, high); err != nil {
					return nil, err
				}
			}
			if !c.Until.IsZero() {
				end, err := k.at(p, c.Until, high)
				if err != nil {
					return nil, err
				}
				m.end = min(end, m.committed)
			}
			marks[place{*p.Topic, p.Partition}] = m
		}
	}
	if len(marks) == 0 {
		return nil, fmt.Errorf("group %s has committed no offset of these topics: check its name, or audit without Kafka "+
			"if it has yet to commit", k.group)
	}
	return marks, nil
}

// at is the offset of the first record with that time or a later one, high if there
// is none.
func (k *Kafka) at(p kafka.TopicPartition, t time.Time, high int64) (int64, error) {
	p.Offset = kafka.Offset(t.UnixMilli())
	found, err := k.consumer.OffsetsForTimes([]kafka.TopicPartition{p}, int(kafkaTimeout.Milliseconds()))
	if err == nil {
		err = found[0].Error
	}
	if err != nil {
		return 0, fmt.Errorf("the offset of %s/%d at %s: %w", *p.Topic, p.Partition, t.UTC().Format(time.RFC3339), err)
	}
	if found[0].Offset < 0 {
		return high, nil
	}
	return int64(found[0].Offset), nil
}

// records counts the records that a reader of committed transactions finds between
// two offsets, both inclusive, and stops at the record that makes it most of them. It
// tells how many offsets it has looked at.
func (k *Kafka) records(ctx context.Context, at place, first, last, most int64) (found, looked int64, err error) {
	from := kafka.TopicPartition{Topic: &at.topic, Partition: at.partition, Offset: kafka.Offset(first)}
	if err := k.consumer.Assign([]kafka.TopicPartition{from}); err != nil {
		return 0, 0, fmt.Errorf("read %s/%d at offset %d: %w", at.topic, at.partition, first, err)
	}
	defer func() { _ = k.consumer.Unassign() }()
	since := time.Now()
	for ctx.Err() == nil {
		switch e := k.consumer.Poll(100).(type) {
		case *kafka.Message:
			since = time.Now()
			if e.TopicPartition.Error != nil {
				return 0, 0, fmt.Errorf("read %s/%d at offset %d: %w", at.topic, at.partition, first,
					e.TopicPartition.Error)
			}
			offset := int64(e.TopicPartition.Offset)
			if offset <= last {
				found++
			}
			if offset >= last || found == most {
				return found, min(offset, last) - first + 1, nil
			}
		case kafka.PartitionEOF:
			return found, last - first + 1, nil
		case kafka.Error:
			if e.IsFatal() {
				return 0, 0, fmt.Errorf("read %s/%d at offset %d: %w", at.topic, at.partition, first, e)
			}
		}
		if time.Since(since) > kafkaTimeout {
			return 0, 0, fmt.Errorf("read %s/%d at offset %d: nothing came for %v", at.topic, at.partition, first,
				kafkaTimeout)
		}
	}
	return 0, 0, ctx.Err()
}

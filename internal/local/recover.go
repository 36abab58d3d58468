package local

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// rewind sets the group back to the first record of each partition that has not
// arrived. The embedded Pub/Sub keeps its messages in memory only, so that an end
// without Stop loses what the bridge had committed but no function had got;
// the service itself keeps them. What had arrived arrives again, as it may.
func (s *Stack) rewind(ctx context.Context, topic string) error {
	group := s.Group()
	committed := s.Kafka.Committed(group, topic)
	leftOut := ""
	if s.Query().LeftOut() {
		leftOut = "UNION SELECT kafka_partition, kafka_offset FROM events_left_out WHERE kafka_topic = $1"
	}
	rows, err := s.Warehouse.DB().QueryContext(ctx, strings.ReplaceAll(fmt.Sprintf(`
WITH arrived AS (
  SELECT kafka_partition AS p, kafka_offset AS o FROM %s WHERE kafka_topic = $1
  UNION
  SELECT kafka_partition, kafka_offset FROM events_dlq WHERE kafka_topic = $1 %s),
numbered AS (SELECT p, o, ROW_NUMBER() OVER (PARTITION BY p ORDER BY o) - 1 AS n FROM arrived)
SELECT p, COUNT(*) FILTER (WHERE o = n) FROM numbered GROUP BY p`, s.Query().Rows(), leftOut), "`", `"`), topic)
	if err != nil {
		return fmt.Errorf("looking for records that have not arrived: %w", err)
	}
	defer rows.Close()
	complete := make(map[int]int64) // the offset before which everything has arrived
	for rows.Next() {
		var partition int
		var offset int64
		if err := rows.Scan(&partition, &offset); err != nil {
			return err
		}
		complete[partition] = offset
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var back []kafka.TopicPartition
	for partition, offset := range committed {
		if offset > complete[partition] {
			back = append(back, kafka.TopicPartition{Topic: &topic, Partition: int32(partition), Offset: kafka.Offset(complete[partition])})
		}
	}
	if len(back) == 0 {
		return nil
	}
	s.log.Warn("the last run ended before everything had arrived: its rest is read again", "topic", topic, "partitions", len(back))
	admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": s.places.brokers, "enable.metrics.push": false})
	if err != nil {
		return err
	}
	defer admin.Close()
	result, err := admin.AlterConsumerGroupOffsets(ctx,
		[]kafka.ConsumerGroupTopicPartitions{{Group: group, Partitions: back}}, kafka.SetAdminRequestTimeout(10*time.Second))
	if err != nil {
		return fmt.Errorf("setting group %s back: %w", group, err)
	}
	for _, g := range result.ConsumerGroupsTopicPartitions {
		for _, p := range g.Partitions {
			if p.Error != nil {
				return fmt.Errorf("setting group %s back in partition %d: %w", group, p.Partition, p.Error)
			}
		}
	}
	return nil
}

// Group is the bridges' consumer group.
func (s *Stack) Group() string { return s.config.Parts.Group }

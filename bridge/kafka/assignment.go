package kafka

import (
	"fmt"
	"slices"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
)

// rebalance is the client's callback. It runs within Poll, that is in the owner's
// goroutine, except while the client is closed.
func (c *Consumer) rebalance(_ *kafka.Consumer, e kafka.Event) error {
	switch e := e.(type) {
	case kafka.AssignedPartitions:
		c.assign(e.Partitions)
	case kafka.RevokedPartitions:
		c.revoke(e.Partitions)
	}
	return nil
}

func (c *Consumer) assign(parts []kafka.TopicPartition) {
	if c.leaving.Load() {
		// The assignment must be confirmed even so, or closing would wait for it.
		if err := c.client.IncrementalAssign(parts); err != nil {
			c.log.Debug("an assignment during shutdown was refused", "error", err)
		}
		return
	}
	for _, tp := range parts {
		if err := c.fetcher.Forward(*tp.Topic, tp.Partition); err != nil {
			c.fatal = err
		}
	}
	assigned := c.pin(parts)
	if err := c.client.IncrementalAssign(parts); err != nil {
		c.fatal = fmt.Errorf("bridge: partitions cannot be assigned: %w", err)
	}
	c.member.Assigned(assigned)
}

// pinTimeout bounds the questions that pin asks Kafka. The group waits meanwhile.
const pinTimeout = 5 * time.Second

// pin decides where partitions begin that the group has committed nothing of, if that is at
// the end of their logs (latest), which is to be committed. Without a commit a partition that
// brings no record has no place: after a restart, or a move to another member, the end would
// be looked for again, and what came meanwhile be skipped without a word. A partition of which
// nothing is committed, of a topic of which something is, was added since: it begins at its
// beginning, because records came to it before anybody knew of it.
func (c *Consumer) pin(parts []kafka.TopicPartition) []bridge.Offset {
	assigned := make([]bridge.Offset, len(parts))
	for i, tp := range parts {
		assigned[i] = bridge.Offset{TopicPartition: ours(tp), Next: bridge.NoOffset, LeaderEpoch: -1}
	}
	if c.config.OffsetReset != "latest" {
		return assigned
	}
	end := time.Now().Add(pinTimeout)
	left := func() int { return max(1, int(time.Until(end).Milliseconds())) }
	committed, err := c.client.Committed(parts, left())
	if err != nil {
		c.log.Warn("it is not known where partitions begin: records that come before the first commit may be skipped by a restart",
			"error", err.Error())
		return assigned
	}
	none := map[bridge.TopicPartition]bool{}
	for _, tp := range committed {
		none[ours(tp)] = tp.Error == nil && tp.Offset < 0
	}
	known := map[string]bool{} // topics of which the group has committed something
	for i := range parts {
		tp := &parts[i]
		at := ours(*tp)
		if !none[at] {
			continue
		}
		if _, asked := known[at.Topic]; !asked {
			known[at.Topic] = c.hasCommitted(at.Topic, left)
		}
		if known[at.Topic] {
			tp.Offset = kafka.OffsetBeginning
			c.log.Info("a partition was added to a topic: it is read from its beginning", "topic", at.Topic,
				"partition", at.Partition)
			continue
		}
		_, high, err := c.client.QueryWatermarkOffsets(at.Topic, at.Partition, left())
		if err != nil {
			c.log.Warn("the end of a partition is not known: records that come before its first commit may be skipped by a restart",
				"topic", at.Topic, "partition", at.Partition, "error", err.Error())
			continue
		}
		tp.Offset = kafka.Offset(high)
		assigned[i].Next = high
	}
	return assigned
}

// hasCommitted reports whether the group has committed an offset of any partition of the topic.
func (c *Consumer) hasCommitted(topic string, left func() int) bool {
	md, err := c.client.GetMetadata(&topic, false, left())
	if err != nil {
		c.log.Warn("a topic's partitions are not known: if one was added, what came to it so far is skipped", "topic",
			topic, "error", err.Error())
		return false
	}
	var all []kafka.TopicPartition
	for _, p := range md.Topics[topic].Partitions {
		all = append(all, kafka.TopicPartition{Topic: &topic, Partition: p.ID})
	}
	committed, err := c.client.Committed(all, left())
	if err != nil {
		c.log.Warn("a topic's committed offsets are not known: if a partition was added, what came to it so far is skipped",
			"topic", topic, "error", err.Error())
		return false
	}
	return slices.ContainsFunc(committed, func(tp kafka.TopicPartition) bool {
		return tp.Error == nil &&
			tp.Offset >= 0
	})
}

func (c *Consumer) revoke(parts []kafka.TopicPartition) {
	if !c.leaving.Load() {
		going := make([]bridge.TopicPartition, len(parts))
		for i, tp := range parts {
			going[i] = ours(tp)
		}
		c.member.Revoked(going, c.client.AssignmentLost())
	}
	if err := c.client.IncrementalUnassign(parts); err != nil {
		// A group that has gone on without this member leaves nothing to unassign.
		c.log.Warn("partitions cannot be unassigned", "error", err.Error())
	}
}

// Reassign is bridge.Consumer's.
func (c *Consumer) Reassign(p bridge.TopicPartition) (bool, error) {
	part := []kafka.TopicPartition{{Topic: &p.Topic, Partition: p.Partition, Offset: kafka.OffsetInvalid}}
	if err := c.client.IncrementalUnassign(part); err != nil {
		c.log.Debug("a partition that stands still cannot be assigned anew yet", "topic", p.Topic, "partition",
			p.Partition, "error", err.Error())
		return false, nil
	}
	// If librdkafka has begun to fetch the partition (with auto.offset.reset=error), it
	// stops doing so by itself and then ends the forwarding. Its answers come in the
	// order of the questions, so that this one waits until that is done.
	if _, err := c.client.Assignment(); err != nil {
		return false, fmt.Errorf("bridge: the assignment cannot be read: %w", err)
	}
	c.assign(part)
	return true, nil
}

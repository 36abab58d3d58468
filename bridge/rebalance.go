package bridge

import (
	"fmt"
	"slices"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// rebalance is the consumer's callback. It runs within Poll, that is in the
// owner's goroutine, except while the consumer is closed.
func (b *Bridge) rebalance(c *kafka.Consumer, e kafka.Event) error {
	switch e := e.(type) {
	case kafka.AssignedPartitions:
		b.assign(c, e.Partitions)
	case kafka.RevokedPartitions:
		b.revoke(c, e.Partitions)
	}
	return nil
}

func (b *Bridge) assign(c *kafka.Consumer, parts []kafka.TopicPartition) {
	if b.closing.Load() {
		// The assignment must be confirmed even so, or closing would wait for it.
		if err := c.IncrementalAssign(parts); err != nil {
			b.log.Debug("an assignment during shutdown was refused", "error", err)
		}
		return
	}
	for _, tp := range parts {
		key := partitionKey{*tp.Topic, tp.Partition}
		if p := b.ledger.partitions[key]; p != nil { // librdkafka revokes first; if it ever does not, the old assignment ends here
			b.close(p)
		}
		p := b.open(key)
		if err := b.fetcher.Forward(p.key.topic, p.key.id); err != nil {
			b.fatal = err
		}
	}
	b.pin(c, parts)
	if err := c.IncrementalAssign(parts); err != nil {
		b.fatal = fmt.Errorf("bridge: partitions cannot be assigned: %w", err)
	}
	b.store() // what pin has found
	b.counters.joined.Store(true)
	b.rebalanced("partitions assigned", parts)
}

// open begins an assignment of a partition.
func (b *Bridge) open(key partitionKey) *partition {
	p := b.ledger.open(key)
	p.taken, p.packer = b.counters.recordsIn(key.topic), b.packer(key.topic)
	return p
}

// pinTimeout bounds the questions that pin asks Kafka. The group waits meanwhile.
const pinTimeout = 5 * time.Second

// pin decides where partitions begin that the group has committed nothing of, if that is at
// the end of their logs (latest), and has it committed. Without a commit a partition that
// brings no record has no place: after a restart, or a move to another member, the end would
// be looked for again, and what came meanwhile be skipped without a word. A partition of which
// nothing is committed, of a topic of which something is, was added since: it begins at its
// beginning, because records came to it before anybody knew of it.
func (b *Bridge) pin(c *kafka.Consumer, parts []kafka.TopicPartition) {
	if b.cfg.OffsetReset != "latest" {
		return
	}
	end := time.Now().Add(pinTimeout)
	left := func() int { return max(1, int(time.Until(end).Milliseconds())) }
	committed, err := c.Committed(parts, left())
	if err != nil {
		b.log.Warn("it is not known where partitions begin: records that come before the first commit may be skipped by a restart",
			"error", err.Error())
		return
	}
	none := map[partitionKey]bool{}
	for _, tp := range committed {
		none[partitionKey{*tp.Topic, tp.Partition}] = tp.Error == nil && tp.Offset < 0
	}
	known := map[string]bool{} // topics of which the group has committed something
	for i := range parts {
		tp := &parts[i]
		key := partitionKey{*tp.Topic, tp.Partition}
		p := b.ledger.partitions[key]
		if p == nil || !none[key] {
			continue
		}
		if _, asked := known[key.topic]; !asked {
			known[key.topic] = b.hasCommitted(c, key.topic, left)
		}
		if known[key.topic] {
			tp.Offset = kafka.OffsetBeginning
			b.log.Info("a partition was added to a topic: it is read from its beginning", "topic", key.topic, "partition", key.id)
			continue
		}
		_, high, err := c.QueryWatermarkOffsets(key.topic, key.id, left())
		if err != nil {
			b.log.Warn("the end of a partition is not known: records that come before its first commit may be skipped by a restart",
				"topic", key.topic, "partition", key.id, "error", err.Error())
			continue
		}
		tp.Offset = kafka.Offset(high)
		p.clear.reached(high)
		if p.track.pass(high) {
			p.dirty = true
		}
	}
}

// hasCommitted reports whether the group has committed an offset of any partition of the topic.
func (b *Bridge) hasCommitted(c *kafka.Consumer, topic string, left func() int) bool {
	md, err := c.GetMetadata(&topic, false, left())
	if err != nil {
		b.log.Warn("a topic's partitions are not known: if one was added, what came to it so far is skipped", "topic",
			topic, "error", err.Error())
		return false
	}
	var all []kafka.TopicPartition
	for _, p := range md.Topics[topic].Partitions {
		all = append(all, kafka.TopicPartition{Topic: &topic, Partition: p.ID})
	}
	committed, err := c.Committed(all, left())
	if err != nil {
		b.log.Warn("a topic's committed offsets are not known: if a partition was added, what came to it so far is skipped", "topic", topic, "error", err.Error())
		return false
	}
	return slices.ContainsFunc(committed, func(tp kafka.TopicPartition) bool { return tp.Error == nil && tp.Offset >= 0 })
}

// revoke sends what it has of the partitions, waits a while for it, stores what is
// safe, and lets go: librdkafka commits what is stored before others get them. If
// the partitions are lost, others have them already: nothing is sent for them or stored.
func (b *Bridge) revoke(c *kafka.Consumer, parts []kafka.TopicPartition) {
	if !b.closing.Load() {
		var going []*partition
		for _, tp := range parts {
			if p := b.ledger.partitions[partitionKey{*tp.Topic, tp.Partition}]; p != nil {
				going = append(going, p)
			}
		}
		lost := c.AssignmentLost()
		if !lost {
			for _, p := range going {
				if p.packed {
					b.flush(p.packer)
				}
			}
			b.await(time.Now().Add(b.cfg.RevokeTimeout), func() bool {
				for _, p := range going {
					if p.inflight > 0 {
						return false
					}
				}
				return true
			})
		}
		unfinished := 0
		for _, p := range going {
			unfinished += p.inflight
			b.close(p)
		}
		message := "partitions revoked"
		if lost {
			b.counters.lost.Add(int64(len(parts)))
			message = "partitions lost"
		}
		b.counters.joined.Store(!lost) // who has lost its partitions is out of the group
		b.rebalanced(message, parts, "unfinished_batches", unfinished)
	}
	if err := c.IncrementalUnassign(parts); err != nil {
		// A group that has gone on without this member leaves nothing to unassign.
		b.log.Warn("partitions cannot be unassigned", "error", err.Error())
	}
}

// close ends an assignment of a partition, and forgets handles that librdkafka may
// use again for others.
func (b *Bridge) close(p *partition) {
	b.leave(p)
	b.ledger.close(p)
	clear(b.sources)
	b.latest = nil
}

// rebalanced tells of a rebalance.
func (b *Bridge) rebalanced(message string, parts []kafka.TopicPartition, more ...any) {
	b.counters.rebalances.Add(1)
	b.counters.assigned.Store(int64(len(b.ledger.partitions)))
	b.counters.inflightBytes.Store(b.inflight)
	names := make([]string, len(parts))
	for i, tp := range parts {
		names[i] = fmt.Sprintf("%s[%d]", *tp.Topic, tp.Partition)
	}
	b.log.Info(message, append([]any{"partitions", names, "assigned", len(b.ledger.partitions), "epoch", b.ledger.epoch}, more...)...)
}

// await collects results until done or the deadline, which is not after the time to
// drain.
func (b *Bridge) await(deadline time.Time, done func() bool) bool {
	for {
		b.counters.turn.Store(time.Now().UnixNano())
		b.collect()
		if done() {
			return true
		}
		if by := b.drainBy(); !by.IsZero() && by.Before(deadline) {
			deadline = by
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		b.inbox.wait(min(left, idle))
	}
}

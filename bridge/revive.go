package bridge

import (
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// reviveAfter is how long an assigned partition may go without being fetched from
// before it is assigned anew.
const reviveAfter = 10 * time.Second

// revive takes a partition that is assigned and not fetched from out of the
// assignment and into it again. librdkafka (2.11 at least) forgets a partition when
// the coordinator moves between the assignment and the answer to the request for its
// committed offset: the error is reported once, nothing is tried again, and the
// partition would stand still until the next rebalance. State is librdkafka's
// fetch_state.
func (b *Bridge) revive(p *partition, state string, now time.Time) {
	// What is on its way is not given up for it: a partition that was forgotten has
	// nothing on its way.
	if state != "none" && state != "stopped" || p.packed || p.inflight > 0 {
		p.still = time.Time{}
		return
	}
	if p.still.IsZero() {
		p.still = now
	}
	if now.Sub(p.still) < reviveAfter || b.ended.Load() != nil {
		return
	}
	p.still = now // not again before as much time has passed
	key := p.key
	part := []kafka.TopicPartition{{Topic: &key.topic, Partition: key.id, Offset: kafka.OffsetInvalid}}
	if err := b.consumer.IncrementalUnassign(part); err != nil {
		b.log.Debug("a partition that stands still cannot be assigned anew yet", "topic", key.topic, "partition", key.id, "error", err.Error())
		return // a rebalance goes on, which assigns it anew as well
	}
	// If librdkafka has begun to fetch the partition (with auto.offset.reset=error), it
	// stops doing so by itself and then ends the forwarding. Its answers come in the
	// order of the questions, so that this one waits until that is done.
	if _, err := b.consumer.Assignment(); err != nil {
		b.fatal = fmt.Errorf("bridge: the assignment cannot be read: %w", err)
		return
	}
	b.close(p)
	b.counters.revived.Add(1)
	b.log.Warn("a partition stood still and is assigned anew", "topic", key.topic, "partition", key.id, "fetch_state", state)
	b.assign(b.consumer, part)
}

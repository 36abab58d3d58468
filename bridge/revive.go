package bridge

import "time"

// revive takes a partition that is assigned and not fetched from out of the
// assignment and into it again. librdkafka (2.11 at least) forgets a partition when
// the coordinator moves between the assignment and the answer to the request for its
// committed offset: the error is reported once, nothing is tried again, and the
// partition would stand still until the next rebalance.
func (b *Bridge) revive(p *partition, s *Standing, now time.Time) {
	// What is on its way is not given up for it: a partition that was forgotten has
	// nothing on its way.
	if !s.Idle || p.packed || p.inflight > 0 {
		p.still = time.Time{}
		return
	}
	if p.still.IsZero() {
		p.still = now
	}
	if now.Sub(p.still) < b.cfg.ReviveAfter || b.ended.Load() != nil {
		return
	}
	p.still = now // not again before as much time has passed
	anew, err := b.consumer.Reassign(p.key)
	if err != nil {
		b.fatal = err
	}
	if anew {
		b.counters.revived.Add(1)
		b.log.Warn("a partition stood still and is assigned anew", "topic", p.key.Topic, "partition", p.key.Partition,
			"fetch_state", s.State)
	}
}

package bridge

import (
	"fmt"
	"time"
)

// member is the Bridge as its Consumer sees it: the methods run within Poll, that is in the owner's goroutine.
type member struct{ *Bridge }

// Assigned is Member's.
func (b member) Assigned(parts []Offset) {
	names := make([]TopicPartition, len(parts))
	for i, at := range parts {
		names[i] = at.TopicPartition
		if p := b.ledger.partitions[at.TopicPartition]; p != nil { // an assignment that was not revoked ends here
			b.close(p)
		}
		p := b.open(at.TopicPartition)
		if at.Next != NoOffset {
			p.clear.reached(at.Next)
			if p.track.pass(at.Next) {
				p.dirty = true
			}
		}
	}
	b.store() // where partitions begin
	b.counters.joined.Store(true)
	b.rebalanced("partitions assigned", names)
}

// open begins an assignment of a partition.
func (b *Bridge) open(key TopicPartition) *partition {
	p := b.ledger.open(key)
	p.taken, p.packer = b.counters.recordsIn(key.Topic), b.packer(key.Topic)
	return p
}

// Revoked is Member's: it sends what it has of the partitions, waits a while for it, stores what is
// safe, and lets go. If the partitions are lost, others have them already: nothing is sent for them or stored.
func (b member) Revoked(parts []TopicPartition, lost bool) {
	var going []*partition
	for _, key := range parts {
		if p := b.ledger.partitions[key]; p != nil {
			going = append(going, p)
		}
	}
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

// CommitFailed is Member's.
func (b member) CommitFailed(err error) {
	b.counters.commitErrors.Add(1)
	if repeated, due := b.repeats.Due("commit: "+err.Error(), time.Now()); due {
		b.log.Warn("offsets were not committed; they are committed with the next ones", "error", err.Error(),
			"repeated", repeated)
	}
}

// Troubled is Member's.
func (b member) Troubled(code string, err error) {
	b.counters.kafkaErrors.Add(1)
	if repeated, due := b.repeats.Due(code+": "+err.Error(), time.Now()); due {
		b.log.Warn("Kafka client error", "code", code, "error", err.Error(), "repeated", repeated)
	}
}

// close ends an assignment of a partition, and forgets handles that may be
// used again for others.
func (b *Bridge) close(p *partition) {
	b.leave(p)
	b.ledger.close(p)
	clear(b.sources)
	b.latest = nil
}

// rebalanced tells of a rebalance.
func (b *Bridge) rebalanced(message string, parts []TopicPartition, more ...any) {
	b.counters.rebalances.Add(1)
	b.counters.assigned.Store(int64(len(b.ledger.partitions)))
	b.counters.inflightBytes.Store(b.inflight)
	names := make([]string, len(parts))
	for i, tp := range parts {
		names[i] = fmt.Sprintf("%s[%d]", tp.Topic, tp.Partition)
	}
	b.log.Info(message, append([]any{"partitions", names, "assigned", len(b.ledger.partitions), "epoch",
		b.ledger.epoch}, more...)...)
}

// await collects results until done or the deadline, which is not after the time to
// drain.
func (b *Bridge) await(deadline time.Time, done func() bool) bool {
	for {
		now := time.Now()
		b.counters.turn.Store(&now)
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

package bridge

import (
	"context"
	"time"
)

// ledger knows the partitions that are assigned, what of them is on its way, and
// which offsets are safe to store. It does no I/O and belongs to the owner.
type ledger struct {
	partitions map[TopicPartition]*partition
	flights    map[*flight]struct{} // that have not come back
	epoch      int64                // how many assignments of partitions there have been
}

func newLedger() ledger {
	return ledger{partitions: map[TopicPartition]*partition{}, flights: map[*flight]struct{}{}}
}

// open enters a partition that has just been assigned.
func (l *ledger) open(key TopicPartition) *partition {
	l.epoch++
	p := &partition{key: key}
	l.partitions[key] = p
	return p
}

// close ends an assignment: what comes back for it from now on changes nothing. A flight that
// nobody else has a claim in is given up.
func (l *ledger) close(p *partition) {
	delete(l.partitions, p.key)
	if p.inflight == 0 {
		return
	}
	for f := range l.flights {
		for _, c := range f.claims {
			if c.partition == p {
				if f.valid--; f.valid == 0 {
					f.cancel()
				}
				break // a flight has one claim of a partition
			}
		}
	}
}

// begin notes that what was taken of the partitions so far is on its way. Its context is
// derived from ctx. The flight that begin returns is to be landed when its result is known.
func (l *ledger) begin(ctx context.Context, partitions []*partition, since time.Time) *flight {
	f := &flight{claims: make([]claim, len(partitions)), valid: len(partitions), since: since}
	f.ctx, f.cancel = context.WithCancel(ctx)
	for i, p := range partitions {
		f.claims[i] = claim{p, p.track.add(p.next, p.since)}
		p.inflight++
	}
	l.flights[f] = struct{}{}
	return f
}

// land enters the result of a flight, also in assignments that have ended, of which nobody asks any more.
// It is false if none of its claims counts.
func (l *ledger) land(f *flight) bool {
	delete(l.flights, f)
	f.cancel()
	for _, c := range f.claims {
		p := c.partition
		p.inflight--
		if f.acked && p.track.ack(c.span) {
			p.dirty = true
		}
	}
	return f.valid > 0
}

// advanced calls f with each partition and offset that is safe to store and was
// not so at the last call.
func (l *ledger) advanced(f func(p *partition, next int64)) {
	for _, p := range l.partitions {
		if p.dirty {
			p.dirty = false
			next, _ := p.track.offset()
			f(p, next)
		}
	}
}

// inflight is the number of flights that are waited for.
func (l *ledger) inflight() int {
	n := 0
	for f := range l.flights {
		if f.valid > 0 {
			n++
		}
	}
	return n
}

// oldest is when the oldest record that is not acknowledged was taken; the zero
// time if there is none.
func (l *ledger) oldest() time.Time {
	var oldest time.Time
	earlier := func(t time.Time) {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	for _, p := range l.partitions {
		if t, ok := p.track.oldest(); ok {
			earlier(t)
		} else if p.packed {
			earlier(p.since)
		}
	}
	return oldest
}

package bridge

import (
	"context"
	"time"
)

// ledger knows the partitions that are assigned, what of them is on its way, and
// which offsets are safe to store. It does no I/O and belongs to the owner.
type ledger struct {
	partitions map[partitionKey]*partition
	epoch      int64 // of the latest assignment
}

// partitionKey names a partition.
type partitionKey struct {
	topic string
	id    int32
}

// open enters a partition that has just been assigned. Its context is derived from
// ctx and ends when the partition is closed.
func (l *ledger) open(ctx context.Context, key partitionKey) *partition {
	l.epoch++
	p := &partition{key: key, epoch: l.epoch}
	p.ctx, p.cancel = context.WithCancel(ctx)
	l.partitions[key] = p
	return p
}

// close ends an assignment: what comes back for it from now on changes nothing.
func (l *ledger) close(p *partition) {
	p.cancel()
	delete(l.partitions, p.key)
}

// begin notes that the records of p up to offset next, without it, are on their
// way. Ranges must begin in the order of their offsets. The result that begin
// returns is to be completed and applied when it is known.
func (l *ledger) begin(p *partition, next, bytes int64, now time.Time) result {
	p.inflight++
	return result{key: p.key, epoch: p.epoch, span: p.track.add(next, now), bytes: bytes}
}

// apply enters a result. It is false if the assignment that the result belongs to
// has ended.
func (l *ledger) apply(r result) bool {
	p := l.partitions[r.key]
	if p == nil || p.epoch != r.epoch {
		return false
	}
	p.inflight--
	if r.acked && p.track.ack(r.span) {
		p.dirty = true
	}
	return true
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

// inflight is the number of batches whose results have not come.
func (l *ledger) inflight() int {
	n := 0
	for _, p := range l.partitions {
		n += p.inflight
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
		} else if p.enc != nil {
			earlier(p.since)
		}
	}
	return oldest
}

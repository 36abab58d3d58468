package bridge

import (
	"context"
	"time"
)

// shutdown drains, commits and leaves the group, each under a timer, so that it
// ends whatever has gone away: the sum of three timeouts is its bound.
func (b *Bridge) shutdown(stopPublishing context.CancelFunc) {
	b.end()
	b.log.Info("bridge is stopping")
	b.flushAll()
	drained := b.await(b.drainBy(), func() bool {
		// Rebalances go on: a partition that another member gets meanwhile is let go.
		b.poll()
		return b.ledger.inflight() == 0
	})
	unfinished := b.ledger.inflight()
	stopPublishing()
	committing, closing := b.consumer.Leave()
	committed := within(b.cfg.CommitTimeout, committing)
	closed := within(b.cfg.CloseTimeout, closing)
	b.counters.joined.Store(false)
	b.counters.assigned.Store(0)
	b.log.Info("bridge stopped", "drained", drained, "unfinished_batches", unfinished,
		"committed", committed, "left_group", closed, "took", time.Since(*b.ended.Load()).Round(time.Millisecond).String())
}

// end notes that the bridge ends from now on.
func (b *Bridge) end() {
	now := time.Now()
	b.ended.CompareAndSwap(nil, &now)
}

// drainBy is when nothing is waited for any more, before the last commit; the zero
// time as long as the bridge does not end.
func (b *Bridge) drainBy() time.Time {
	if t := b.ended.Load(); t != nil {
		return t.Add(b.cfg.DrainTimeout)
	}
	return time.Time{}
}

// within reports what done tells, or false if it tells nothing in time.
func within(d time.Duration, done <-chan bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case ok := <-done:
		return ok
	case <-t.C:
		return false
	}
}

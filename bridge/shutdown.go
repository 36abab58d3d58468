package bridge

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// shutdown drains, commits and leaves the group, each under a timer, so that it
// ends whatever has gone away: the sum of three timeouts is its bound.
func (b *Bridge) shutdown(stopPublishing context.CancelFunc) {
	b.end()
	b.log.Info("bridge is stopping")
	b.flushAll()
	drained := b.await(b.drainBy(), func() bool {
		// Rebalances go on: a partition that another member gets meanwhile is let go.
		b.event(b.consumer.Poll(0))
		b.passToken()
		return b.ledger.inflight() == 0
	})
	unfinished := b.ledger.inflight()
	stopPublishing()
	b.closing.Store(true)
	committing, closing := make(chan bool, 1), make(chan bool, 1)
	go func() {
		_, err := b.consumer.Commit()
		if e, ok := err.(kafka.Error); ok && e.Code() == kafka.ErrNoOffset {
			err = nil // nothing is left to commit
		}
		if err != nil {
			b.log.Warn("the last commit failed", "error", err.Error())
		}
		committing <- err == nil
		// Close must not run beside a call that has not returned. If that takes longer
		// than Run waits for, the member is gone when the process is, or, in a process
		// that goes on, when the call returns.
		if b.fetcher != nil {
			b.fetcher.Close()
		}
		err = b.consumer.Close()
		if err != nil {
			b.log.Warn("the Kafka consumer was not closed", "error", err.Error())
		}
		closing <- err == nil
	}()
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

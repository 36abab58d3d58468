package bridge

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// shutdown drains, commits and leaves the group, each under a timer, so that it
// ends whatever has gone away: the sum of three timeouts is its bound.
func (b *Bridge) shutdown(stopPublishing context.CancelFunc) {
	start := time.Now()
	b.log.Info("bridge is stopping")
	for _, p := range b.ledger.partitions {
		b.flush(p)
	}
	drained := b.await(start.Add(b.cfg.DrainTimeout), func() bool {
		// Rebalances go on: a partition that another member gets meanwhile is let go.
		b.event(b.consumer.Poll(0))
		return b.ledger.inflight() == 0
	})
	unfinished := b.ledger.inflight()
	stopPublishing()
	b.closing.Store(true)
	committed := b.within(b.cfg.CommitTimeout, func() {
		if _, err := b.consumer.Commit(); err != nil {
			if e, ok := err.(kafka.Error); !ok || e.Code() != kafka.ErrNoOffset {
				b.log.Warn("the last commit failed", "error", err.Error())
			}
		}
	})
	// Close must not run beside a call that has not returned, and a group whose
	// coordinator does not answer cannot be left politely: the session timeout does it.
	closed := committed && b.within(b.cfg.CloseTimeout, func() {
		if b.fetcher != nil {
			b.fetcher.Close()
		}
		if err := b.consumer.Close(); err != nil {
			b.log.Warn("the Kafka consumer was not closed", "error", err.Error())
		}
	})
	b.counters.joined.Store(false)
	b.counters.assigned.Store(0)
	b.log.Info("bridge stopped", "drained", drained, "unfinished_batches", unfinished,
		"committed", committed, "left_group", closed, "took", time.Since(start).Round(time.Millisecond).String())
}

// within runs f and reports whether it returned in time. If not, f keeps its
// goroutine: the process is about to end.
func (b *Bridge) within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

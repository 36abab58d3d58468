package kafka

import (
	"context"
	"time"

	"sluice/internal/local/listener"
)

// Unstick ends rebalances of a group that kfake does not end, until ctx ends: when
// one has lasted for longer than after, all members are evicted and all connections
// broken. The clients join anew, as when the group's coordinator has crashed.
//
// kfake counts wrongly who has joined when a member leaves, or its session times out,
// while it waits for the answer to a sync. The next rebalance then waits for one member
// more than there is; each repeated join, which clients send when they have waited for
// max.poll.interval.ms, makes it wait for as long again. A broker counts its members.
func (k *Cluster) Unstick(ctx context.Context, group string, after time.Duration) {
	tick := time.NewTicker(min(after/10, time.Second))
	defer tick.Stop()
	var epoch int32
	var since time.Time // of the rebalance after that epoch; zero: there is none
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		info := k.fake.GroupInfo(group)
		switch {
		case info == nil || info.State != "PreparingRebalance" && info.State != "CompletingRebalance":
			since = time.Time{}
		case since.IsZero() || info.Epoch != epoch:
			epoch, since = info.Epoch, time.Now()
		case time.Since(since) > after:
			evicted := true
			for _, m := range info.Members {
				leaving, cancel := context.WithTimeout(ctx, 5*time.Second)
				evicted = k.leave(leaving, group, m.MemberID) == nil && evicted
				cancel()
			}
			if evicted { // otherwise, as with Kafka down, it is tried again
				k.unstuck.Add(1)
				since = time.Time{}
				_ = k.each(func(l *listener.Listener) error { l.Drop(); return nil })
			}
		}
	}
}

// Unstuck is how many rebalances Unstick has ended.
func (k *Cluster) Unstuck() int64 { return k.unstuck.Load() }

package bridge_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/bridge"
	"sluice/bridge/internal/servers"
	"sluice/internal/batch"
)

// quick makes a group notice changes within fractions of a second.
func quick(c *bridge.Config) {
	for _, p := range []string{"session.timeout.ms=10000", "heartbeat.interval.ms=100", "statistics.interval.ms=100"} {
		if err := c.Properties.Set(p); err != nil {
			panic(err)
		}
	}
}

// Members join and leave under load, Pub/Sub is slow and fails at times: every
// record comes, and because each member lets go of a partition only with
// everything acknowledged and committed, none comes twice.
func TestMembersJoinAndLeave(t *testing.T) {
	t.Parallel()
	const partitions, rounds, perRound = 6, 25, 1200
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error {
		time.Sleep(rand.N(20 * time.Millisecond))
		if rand.IntN(10) == 0 {
			return status.Error(codes.Unavailable, "refused by the test")
		}
		return nil
	})
	s := servers.New(t, partitions, fault.Option())
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for r := range rounds {
			s.Produce(s.Numbered(r*perRound, perRound)...)
			time.Sleep(50 * time.Millisecond)
		}
	}()

	assigned := func(want int64, bridges ...*servers.Running) {
		t.Helper()
		servers.Wait(t, "the rebalance", func() bool {
			sum := int64(0)
			for _, b := range bridges {
				n := b.Stats().Assigned
				if sum += n; n < want {
					return false
				}
			}
			return sum == partitions
		})
	}
	a := s.Start(quick)
	assigned(6, a)
	b := s.Start(quick)
	assigned(3, a, b)
	c := s.Start(quick)
	assigned(2, a, b, c)
	b.Shutdown()
	assigned(3, a, c)
	a.Shutdown()
	assigned(6, c)
	d := s.Start(quick)
	assigned(3, c, d)
	<-produced
	servers.Wait(t, "all commits", func() bool {
		for p := range int32(partitions) {
			if s.Committed(p) != rounds*perRound/partitions {
				return false
			}
		}
		return true
	})
	c.Shutdown()
	d.Shutdown()
	if n := s.CheckAll(rounds * perRound); n != 0 {
		t.Errorf("%d duplicates, although all members left gracefully", n)
	}
}

// A partition is let go when what is in flight of it is acknowledged and committed, so
// that its next owner does not publish it again.
func TestRevokeWaitsForBatchesInFlight(t *testing.T) {
	t.Parallel()
	const partitions, n = 2, 200
	var fault servers.PublishFault
	answer := make(chan struct{})
	fault.Set(func(string, *batch.Batch) error { <-answer; return nil })
	s := servers.New(t, partitions, fault.Option())
	s.Produce(s.Numbered(0, n)...)
	patient := func(c *bridge.Config) { quick(c); c.RevokeTimeout = time.Minute }
	a := s.Start(patient)
	servers.Wait(t, "batches in flight", func() bool {
		return a.Stats().RecordsIn == n &&
			a.Stats().InflightBatches >= 1
	})
	b := s.Start(patient)
	// The second member gets nothing at first, and the first one is told what to let go.
	servers.Wait(t, "the first round of the rebalance", func() bool { return b.Stats().Joined })
	time.Sleep(300 * time.Millisecond) // in which nothing must happen
	if assigned := b.Stats().Assigned; assigned != 0 {
		t.Errorf("%d partitions were let go with batches in flight", assigned)
	}
	close(answer)
	servers.Wait(t, "the second round", func() bool { return a.Stats().Assigned == 1 && b.Stats().Assigned == 1 })
	servers.Wait(t, "all commits", func() bool { return s.Committed(0) == n/2 && s.Committed(1) == n/2 })
	if d := s.CheckAll(n); d != 0 {
		t.Errorf("%d duplicates, although all was acknowledged before the partition was let go", d)
	}
}

// A partition is let go after a bounded wait even if its batches are stuck. They
// are not committed, so that the next owner publishes them; what the old owner
// learns of them later changes nothing.
func TestRevokeDoesNotWaitForStuckBatches(t *testing.T) {
	t.Parallel()
	const partitions, n = 2, 200
	var fault servers.PublishFault
	fault.Set(func(_ string, b *batch.Batch) error {
		if slices.ContainsFunc(b.Records, func(r batch.Record) bool { return r.Partition == 1 }) {
			return status.Error(codes.Unavailable, "refused by the test")
		}
		return nil
	})
	s := servers.New(t, partitions, fault.Option())
	s.Produce(s.Numbered(0, n)...)
	stubborn := func(c *bridge.Config) { quick(c); c.RevokeTimeout = 200 * time.Millisecond }
	a := s.Start(stubborn)
	servers.Wait(t, "refusals", func() bool { return a.Stats().RecordsIn == n && a.Stats().Retries > 3 })
	b := s.Start(stubborn)
	servers.Wait(t, "the rebalance", func() bool { return a.Stats().Assigned == 1 && b.Stats().Assigned == 1 })
	if got := s.Committed(1); got >= 0 {
		t.Errorf("partition 1: %d is committed, and nothing acknowledged", got)
	}
	fault.Set(nil)
	servers.Wait(t, "all records", func() bool {
		return a.Stats().InflightBatches == 0 && b.Stats().InflightBatches == 0 && s.Committed(0) == n/2 &&
			s.Committed(1) == n/2
	})
	if a.Stats().Failing || b.Stats().Failing {
		t.Error("a batch that was given up still counts as failing")
	}
	if got := a.Stats().InflightBytes + b.Stats().InflightBytes; got != 0 {
		t.Errorf("%d bytes are still charged as in flight", got)
	}
	// Batches with records of both partitions fly on for the one that stayed, and carry copies
	// of the other's.
	if d := s.CheckAll(n); d > n/2 {
		t.Errorf("%d duplicates, the partition that moved has %d records", d, n/2)
	}
}

// The time to drain runs from the signal on, also when it comes in the middle of a
// rebalance that waits for batches: platforms count from the signal.
func TestTheEndDoesNotWaitForARebalance(t *testing.T) {
	t.Parallel()
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, 2, fault.Option())
	s.Produce(s.Numbered(0, 200)...)
	patient := func(c *bridge.Config) { quick(c); c.RevokeTimeout, c.DrainTimeout = time.Hour, time.Second }
	a := s.Start(patient)
	servers.Wait(t, "refusals", func() bool { return a.Stats().RecordsIn == 200 && a.Stats().Retries > 3 })
	b := s.Start(patient)
	servers.Wait(t, "the first round of the rebalance", func() bool { return b.Stats().Joined })
	time.Sleep(300 * time.Millisecond) // in which the first member learns what to let go
	if a.Stats().Assigned != 2 {
		t.Error("partitions were let go with batches in flight")
	}
	a.Stop()
	servers.Wait(t, "the end", func() bool {
		select {
		case <-a.Done():
			return true
		default:
			return false
		}
	})
}

// Leaders and coordinators move and answers fail under load: every record comes.
// Commits that fail at a rebalance may cost duplicates, never a record.
func TestBrokersInTrouble(t *testing.T) {
	t.Parallel()
	const partitions, rounds, perRound = 6, 30, 600
	s := servers.NewCluster(t, 3, partitions)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range rounds {
			s.Produce(s.Numbered(r*perRound, perRound)...)
			switch r % 5 {
			case 1:
				s.Broker.ShufflePartitionLeaders()
			case 2:
				s.Broker.RehashCoordinators()
			case 3:
				s.Broker.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
					return nil, errors.New("the test closes the connection"), true
				})
			case 4:
				s.Broker.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
					return nil, errors.New("the test closes the connection"), true
				})
			}
		}
	}()
	a, b := s.Start(quick), s.Start(quick)
	<-done
	servers.Wait(t, "all commits", func() bool {
		for p := range int32(partitions) {
			if s.Committed(p) != rounds*perRound/partitions {
				return false
			}
		}
		return true
	})
	a.Shutdown()
	b.Shutdown()
	t.Logf("%d duplicates", s.CheckAll(rounds*perRound))
}

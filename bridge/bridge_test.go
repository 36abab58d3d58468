package bridge_test

import (
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge/internal/servers"
)

// Every record arrives once, as it was, and a graceful end commits all of it: the
// next bridge begins where the first one ended.
func TestEverythingOnceAndCommitted(t *testing.T) {
	const partitions, n = 4, 10_000
	s := servers.New(t, partitions)
	s.Produce(s.Numbered(0, n)...)
	b := s.Start(nil)
	servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == n })
	b.Shutdown()
	for p := range int32(partitions) {
		if got := s.Committed(p); got != n/partitions {
			t.Errorf("partition %d: committed %d, want %d", p, got, n/partitions)
		}
	}
	s.Produce(s.Numbered(n, n)...)
	b = s.Start(nil)
	servers.Wait(t, "all further records", func() bool { return b.Stats().RecordsIn == n })
	b.Shutdown()
	if d := s.CheckAll(2 * n); d != 0 {
		t.Errorf("%d duplicates after a graceful restart", d)
	}
	st := b.Stats()
	if st.CommitErrors != 0 {
		t.Errorf("%d errors of commits are counted", st.CommitErrors)
	}
	if st.InflightBytes != 0 || st.InflightBatches != 0 {
		t.Errorf("after the end %d bytes and %d batches are in flight", st.InflightBytes, st.InflightBatches)
	}
}

// Protects the same at a real broker's protocol: what is committed has a leader epoch.
func TestLeaderEpochIsCommitted(t *testing.T) {
	s := servers.New(t, 1)
	s.Produce(&kafka.Message{Value: []byte("a")}, &kafka.Message{Value: []byte("b")})
	b := s.Start(nil)
	servers.Wait(t, "the records", func() bool { return b.Stats().Acknowledged > 0 && b.Stats().RecordsIn == 2 })
	b.Shutdown()
	if offset, epoch := s.CommittedWithEpoch(0); offset != 2 || epoch < 0 {
		t.Errorf("committed %d in the leader epoch %d, want 2 in one from 0 on", offset, epoch)
	}
}

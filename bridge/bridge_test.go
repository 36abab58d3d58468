package bridge_test

import (
	"testing"

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

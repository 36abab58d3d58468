package bridge

import (
	"testing"
	"time"

	"sluice/internal/batch"
)

// Packing a record allocates nothing: what a batch costs is paid once a batch.
func TestPackingAllocatesNothing(t *testing.T) {
	b := unconnected(t, func(c *Config) { c.BatchRecords, c.BatchBytes = 60_000, 8<<20 })
	p := b.open(TopicPartition{"clickstream", 0})
	r := batch.Record{Topic: "clickstream", Timestamp: 1_700_000_000_000, Key: []byte("user"), Value: make([]byte, 400),
		Headers: []batch.RecordHeader{{Key: []byte("h"), Value: []byte("v")}}}
	now := time.Now()
	add := func() { r.Offset++; b.add(p, &r, now) }
	for range 10_000 { // grows the encoder that the next batch gets again
		add()
	}
	b.leave(p)
	if n := testing.AllocsPerRun(5000, add); n != 0 {
		t.Errorf("%.2f allocations a record", n)
	}
	if b.leave(p); b.inflight != 0 {
		t.Errorf("%d bytes are charged for batches that were discarded", b.inflight)
	}
}

// Offsets that go back, as after Kafka has lost the end of a log or a topic was created
// again, begin a batch of their own, and the lag counts from there.
func TestOffsetsThatGoBack(t *testing.T) {
	b := unconnected(t, func(*Config) {})
	p := b.open(TopicPartition{"clickstream", 0})
	for _, offset := range []int64{5, 6, 2} {
		b.add(p, &batch.Record{Offset: offset, Value: []byte("v")}, time.Now())
	}
	if n := b.counters.batches.Load(); n != 1 || p.packer.enc == nil || p.packer.enc.Len() != 1 {
		t.Errorf("%d batches were sent, want the one of the records before", n)
	}
	if at, ok := p.position(); !ok || at != 2 {
		t.Errorf("the lag counts from %d, known %t; want 2", at, ok)
	}
	if p.next > p.doubt {
		t.Error("librdkafka's position, which does not go back, is still relied on")
	}
}

// Protects records from being passed over after an unclean election: the offset is committed
// with the leader epoch of the last record before it.
func TestLeaderEpochs(t *testing.T) {
	var p partition
	if p.leaderBefore(5) != -1 {
		t.Error("an epoch is known before any record")
	}
	for _, r := range []leader{{5, 3}, {6, 3}, {9, 4}, {10, 4}, {20, 7}} {
		p.led(r.from, r.epoch)
	}
	for _, test := range []struct {
		next int64
		want int32
	}{{5, -1}, {6, 3}, {9, 3}, {10, 4}, {20, 4}, {21, 7}, {30, 7}} {
		if got := p.leaderBefore(test.next); got != test.want {
			t.Errorf("the epoch before %d is %d, want %d", test.next, got, test.want)
		}
	}
	if len(p.leaders) != 1 {
		t.Errorf("%d epochs are held although all is stored", len(p.leaders))
	}
}

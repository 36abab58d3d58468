package bridge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The tracker by hand: acknowledgements in any order move the offset only over
// what is complete.
func TestTracker(t *testing.T) {
	for _, test := range []struct {
		name string
		acks []int
		want int64 // -1: nothing may be stored
	}{
		{"nothing acknowledged", nil, -1},
		{"the first", []int{0}, 10},
		{"all in order", []int{0, 1, 2}, 30},
		{"all in reverse", []int{2, 1, 0}, 30},
		{"the middle, then the first", []int{1, 0}, 20},
		{"all but the first", []int{1, 2}, -1},
		{"all but the second", []int{0, 2}, 10},
		{"twice the same", []int{0, 0, 0}, 10},
		{"twice one behind others", []int{1, 1, 2}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tr tracker
			var spans []*span
			for _, next := range []int64{10, 20, 30} {
				spans = append(spans, tr.add(next, time.Time{}))
			}
			for _, i := range test.acks {
				tr.ack(spans[i])
			}
			got, ok := tr.offset()
			if !ok {
				got = -1
			}
			if got != test.want {
				t.Errorf("offset %d, want %d", got, test.want)
			}
		})
	}
}

// A batch that is refused for ever holds up its partition's offset, and memory does not
// grow with what is acknowledged behind it: it could be days.
func TestTrackerHoldsOnlyWhatIsNotAcknowledged(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var tr tracker
	stuck := tr.add(1, time.Time{})
	var inflight []*span
	next := int64(1)
	for range 10_000 {
		next++
		inflight = append(inflight, tr.add(next, time.Time{}))
		if len(inflight) == 20 {
			i := rnd.IntN(len(inflight))
			s := inflight[i]
			if tr.ack(s); s.before != nil || s.after != nil {
				t.Fatal("an acknowledged range holds others")
			}
			inflight = slices.Delete(inflight, i, i+1)
		}
	}
	held := 0
	for s := tr.first; s != nil; s = s.after {
		held++
	}
	if held != len(inflight)+1 {
		t.Errorf("%d ranges are held with %d not acknowledged", held, len(inflight)+1)
	}
	for _, s := range inflight {
		tr.ack(s)
	}
	if next, ok := tr.offset(); ok {
		t.Errorf("offset %d may be stored, although the first range is not acknowledged", next)
	}
	if tr.pass(next + 1) {
		t.Error("an offset behind a range that is not acknowledged may be stored")
	}
	tr.ack(stuck)
	if got, _ := tr.offset(); got != next || tr.first != nil || tr.last != nil {
		t.Errorf("in the end offset %d may be stored, want %d", got, next)
	}
}

// A batch that ends without an acknowledgement in its own assignment, as when it cannot
// be encoded and the bridge ends for it, is not committed.
func TestWhatIsGivenUpIsNotCommitted(t *testing.T) {
	l := newLedger()
	p := l.open(TopicPartition{"t", 0})
	p.next = 10
	first := l.begin(t.Context(), []*partition{p}, time.Time{})
	p.next = 20
	second := l.begin(t.Context(), []*partition{p}, time.Time{})
	second.acked = true
	if !l.land(first) || !l.land(second) || l.inflight() != 0 {
		t.Error("the results were not applied")
	}
	l.advanced(func(_ *partition, next int64) { t.Errorf("offset %d may be committed", next) })
}

// A flight flies on for the partitions that stay when one of its own is given up, is
// cancelled when there is none left, and moves the offsets of the former only.
func TestClaims(t *testing.T) {
	l := newLedger()
	a, b := l.open(TopicPartition{"t", 0}), l.open(TopicPartition{"t", 1})
	a.next, b.next = 10, 20
	f, g := l.begin(t.Context(), []*partition{a, b}, time.Time{}), l.begin(t.Context(), []*partition{b}, time.Time{})
	l.close(b)
	if f.ctx.Err() != nil || g.ctx.Err() == nil || l.inflight() != 1 {
		t.Errorf("after a revocation the flight for another partition ended with %v, that for none with %v, %d are waited for", f.ctx.Err(), g.ctx.Err(), l.inflight())
	}
	again := l.open(TopicPartition{"t", 1}) // the same partition, another assignment
	f.acked = true
	if !l.land(f) || l.land(g) {
		t.Error("a flight counts if one of its claims does")
	}
	l.advanced(func(p *partition, next int64) {
		if p != a || next != 10 {
			t.Errorf("offset %d of %v may be committed", next, p.key)
		}
	})
	if a.inflight != 0 || again.inflight != 0 || len(l.flights) != 0 {
		t.Errorf("%d, %d and %d are still on their way", a.inflight, again.inflight, len(l.flights))
	}
}

// world is the simple reference of the model test: logs with gaps, who has been
// acknowledged, and what the group has committed. It remembers each record on its
// own and so cannot share the ledger's mistakes with ranges.
type world struct {
	logs      [][]int64 // offsets of the records of each partition, ascending, with gaps
	acked     []offsets // that Pub/Sub has acknowledged, whoever sent them
	committed []int64   // the group's offsets
	owner     []int     // which owner has the partition
}

type offsets map[int64]bool

// owner is one bridge: a ledger, what it has fetched, and what is on its way.
type owner struct {
	ledger   ledger
	parts    map[int]*assigned
	inflight []journey
}

// assigned is a partition of an owner.
type assigned struct {
	p      *partition
	at     int     // index in the log of the next record to fetch
	pack   []int64 // fetched, not sent
	stored int64   // what it has handed to the group; -1: nothing in this assignment
}

// journey is a flight and what it really carries.
type journey struct {
	f       *flight
	offsets map[int][]int64 // by partition
}

// Random interleavings of fetches, sends, acknowledgements, failures, rebalances
// and crashes of three members with four partitions, whose records share flights: an
// offset is never stored while a record before it is unacknowledged, claims of assignments
// that have ended change nothing, and when all is well in the end everything is committed.
func TestLedgerAgainstReference(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			model(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

// FuzzLedger is the same for interleavings that a fuzzer chooses by their seed.
func FuzzLedger(f *testing.F) {
	f.Add(uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, a, b uint64) { model(t, rand.New(rand.NewPCG(a, b))) })
}

func model(t *testing.T, rnd *rand.Rand) {
	const partitions = 4
	w := world{committed: make([]int64, partitions), owner: make([]int, partitions)}
	for range partitions {
		var log []int64
		offset := int64(rnd.IntN(3))
		for range 60 {
			log = append(log, offset)
			offset += 1 + int64(rnd.IntN(4)/3*rnd.IntN(5)) // compaction and transaction markers
		}
		w.logs, w.acked = append(w.logs, log), append(w.acked, offsets{})
	}
	fresh := func() *owner { return &owner{ledger: newLedger(), parts: map[int]*assigned{}} }
	members := []*owner{fresh(), fresh(), fresh()}
	key := func(id int) TopicPartition { return TopicPartition{"t", int32(id)} }

	store := func(m *owner) {
		m.ledger.advanced(func(p *partition, next int64) {
			id := int(p.key.Partition)
			a := m.parts[id]
			if a == nil || a.p != p {
				t.Fatalf("offset %d was stored for partition %d, which is not assigned", next, id)
			}
			for _, o := range w.logs[id] {
				if o < next && !w.acked[id][o] {
					t.Fatalf("offset %d of partition %d was stored, record %d is not acknowledged", next, id, o)
				}
			}
			if next < a.stored {
				t.Fatalf("the stored offset of partition %d went back from %d to %d", id, a.stored, next)
			}
			a.stored = next
			w.committed[id] = next
		})
	}
	assign := func(id, to int) {
		m := members[to]
		a := &assigned{p: m.ledger.open(key(id)), stored: -1}
		for ; a.at < len(w.logs[id]) && w.logs[id][a.at] < w.committed[id]; a.at++ {
		}
		m.parts[id], w.owner[id] = a, to
	}
	send := func(m *owner) {
		var claims []*partition
		carried := map[int][]int64{}
		for id, a := range m.parts {
			if len(a.pack) > 0 {
				a.p.next = a.pack[len(a.pack)-1] + 1
				claims, carried[id] = append(claims, a.p), a.pack
				a.pack = nil
			}
		}
		if len(claims) > 0 {
			m.inflight = append(m.inflight, journey{m.ledger.begin(t.Context(), claims, time.Time{}), carried})
		}
	}
	finish := func(m *owner, i int, acked, known bool) {
		j := m.inflight[i]
		m.inflight = slices.Delete(m.inflight, i, i+1)
		for id, list := range j.offsets {
			for _, o := range list {
				w.acked[id][o] = w.acked[id][o] || acked
			}
		}
		j.f.acked = acked && known // an answer can be lost on its way back
		counts := false
		for _, c := range j.f.claims {
			a := m.parts[int(c.partition.key.Partition)]
			counts = counts || a != nil && a.p == c.partition
		}
		if !counts && j.f.ctx.Err() == nil {
			t.Fatal("a flight that nobody needs is not cancelled")
		}
		if counts && j.f.ctx.Err() != nil {
			t.Fatal("a flight that somebody needs is cancelled")
		}
		if landed := m.ledger.land(j.f); landed != counts {
			t.Fatalf("a flight whose claims count %t was landed %t", counts, landed)
		}
		store(m)
	}
	revoke := func(id int) {
		m := members[w.owner[id]]
		m.ledger.close(m.parts[id].p)
		delete(m.parts, id) // its unsent records are sent or not: the next owner reads them anyway
	}

	for id := range partitions {
		assign(id, rnd.IntN(len(members)))
	}
	for range 2000 {
		to := rnd.IntN(len(members))
		m := members[to]
		id := rnd.IntN(partitions)
		a := m.parts[id]
		switch op := rnd.IntN(100); {
		case op < 45:
			if a != nil && a.at < len(w.logs[id]) {
				a.pack = append(a.pack, w.logs[id][a.at])
				a.at++
			}
		case op < 60:
			send(m)
		case op < 90:
			if len(m.inflight) > 0 {
				finish(m, rnd.IntN(len(m.inflight)), true, true)
			}
		case op < 93:
			// Given up, before or after Pub/Sub had taken it. What somebody needs is not.
			if len(m.inflight) > 0 {
				if i := rnd.IntN(len(m.inflight)); m.inflight[i].f.ctx.Err() != nil {
					finish(m, i, rnd.IntN(2) == 0, false)
				}
			}
		case op < 95: // all is done, and what follows up to the next record are markers
			if a != nil && len(a.pack) == 0 && a.p.inflight == 0 && a.at < len(w.logs[id]) {
				a.p.dirty = a.p.track.pass(w.logs[id][a.at]) || a.p.dirty
				store(m)
			}
		case op < 99: // a rebalance
			revoke(id)
			assign(id, rnd.IntN(len(members))) // often the same owner again
		default: // a crash and a restart
			for lost := range m.parts {
				next := rnd.IntN(len(members))
				if next == to {
					next = (to + 1) % len(members)
				}
				delete(m.parts, lost)
				assign(lost, next)
			}
			members[to] = fresh()
		}
	}
	// In peace everything comes to an end.
	for _, m := range members {
		for id, a := range m.parts {
			for ; a.at < len(w.logs[id]); a.at++ {
				a.pack = append(a.pack, w.logs[id][a.at])
			}
		}
		send(m)
		for len(m.inflight) > 0 {
			finish(m, rnd.IntN(len(m.inflight)), true, true)
		}
		if n := m.ledger.inflight(); n != 0 || len(m.ledger.flights) != 0 {
			t.Errorf("%d flights are still waited for", n)
		}
	}
	for id, log := range w.logs {
		if want := log[len(log)-1] + 1; w.committed[id] != want {
			t.Errorf("committed %d of partition %d in the end, want %d", w.committed[id], id, want)
		}
	}
}

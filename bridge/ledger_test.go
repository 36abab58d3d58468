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
	l := ledger{partitions: map[partitionKey]*partition{}}
	p := l.open(t.Context(), partitionKey{"t", 0})
	first, second := l.begin(p, 10, 1, time.Time{}), l.begin(p, 20, 1, time.Time{})
	second.acked = true
	if !l.apply(first) || !l.apply(second) || l.inflight() != 0 {
		t.Error("the results were not applied")
	}
	l.advanced(func(_ *partition, next int64) { t.Errorf("offset %d may be committed", next) })
}

// world is the simple reference of the model test: a log with gaps, who has been
// acknowledged, and what the group has committed. It remembers each record on its
// own and so cannot share the ledger's mistakes with ranges.
type world struct {
	log       []int64        // offsets of the records of one partition, ascending, with gaps
	acked     map[int64]bool // offsets that Pub/Sub has acknowledged, whoever sent them
	committed int64          // the group's offset
}

// member is one bridge: a ledger, what it has fetched, and what is on its way.
type member struct {
	ledger   ledger
	p        *partition // nil: not assigned
	at       int        // index in the log of the next record to fetch
	pack     []int64    // fetched, not sent
	inflight []flight
	stored   int64 // what it has handed to the group; -1: nothing in this assignment
}

type flight struct {
	r       result
	offsets []int64
}

// Random interleavings of fetches, sends, acknowledgements, failures, rebalances
// and crashes of three members: an offset is never stored while a record before it
// is unacknowledged, late results change nothing, and when all is well in the end
// everything is committed.
func TestLedgerAgainstReference(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			model(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func model(t *testing.T, rnd *rand.Rand) {
	w := world{acked: map[int64]bool{}}
	offset := int64(rnd.IntN(3))
	for range 200 {
		w.log = append(w.log, offset)
		offset += 1 + int64(rnd.IntN(4)/3*rnd.IntN(5)) // compaction and transaction markers
	}
	key := partitionKey{"t", 0}
	members := make([]*member, 3)
	for i := range members {
		members[i] = &member{ledger: ledger{partitions: map[partitionKey]*partition{}}}
	}
	owner := -1

	store := func(m *member) {
		m.ledger.advanced(func(p *partition, next int64) {
			if m.p == nil {
				t.Fatalf("offset %d was stored for a partition that is not assigned", next)
			}
			for _, o := range w.log {
				if o < next && !w.acked[o] {
					t.Fatalf("offset %d was stored, record %d is not acknowledged", next, o)
				}
			}
			if next < m.stored {
				t.Fatalf("the stored offset went back from %d to %d", m.stored, next)
			}
			m.stored = next
			w.committed = next
		})
	}
	assign := func(i int) {
		m := members[i]
		m.p = m.ledger.open(t.Context(), key)
		m.pack, m.stored = nil, -1
		for m.at = 0; m.at < len(w.log) && w.log[m.at] < w.committed; m.at++ {
		}
		owner = i
	}
	send := func(m *member) {
		if len(m.pack) == 0 {
			return
		}
		r := m.ledger.begin(m.p, m.pack[len(m.pack)-1]+1, 1, time.Time{})
		m.inflight = append(m.inflight, flight{r, m.pack})
		m.pack = nil
	}
	finish := func(m *member, i int, acked, known bool) {
		f := m.inflight[i]
		m.inflight = append(m.inflight[:i], m.inflight[i+1:]...)
		for _, o := range f.offsets {
			w.acked[o] = w.acked[o] || acked
		}
		f.r.acked = acked && known // an answer can be lost on its way back
		current := m.p != nil && f.r.epoch == m.p.epoch
		if applied := m.ledger.apply(f.r); applied != current {
			t.Fatalf("a result of epoch %d was applied: %t", f.r.epoch, applied)
		}
		store(m)
	}

	assign(0)
	for range 2000 {
		m := members[rnd.IntN(len(members))]
		switch op := rnd.IntN(100); {
		case op < 45:
			if m.p != nil && m.at < len(w.log) {
				m.pack = append(m.pack, w.log[m.at])
				m.at++
			}
		case op < 65:
			if m.p != nil {
				send(m)
			}
		case op < 92:
			if len(m.inflight) > 0 {
				finish(m, rnd.IntN(len(m.inflight)), true, true)
			}
		case op < 94:
			// Given up, before or after Pub/Sub had taken it. A partition that stays
			// does not give up; its batches end so only when the context ends.
			if len(m.inflight) > 0 && m.p == nil {
				finish(m, rnd.IntN(len(m.inflight)), rnd.IntN(2) == 0, false)
			}
		case op < 96: // all is done, and what follows up to the next record are markers
			if m.p != nil && len(m.pack) == 0 && m.p.inflight == 0 && m.at < len(w.log) {
				m.p.dirty = m.p.track.pass(w.log[m.at]) || m.p.dirty
				store(m)
			}
		case op < 99: // a rebalance
			o := members[owner]
			o.ledger.close(o.p)
			o.p, o.pack = nil, nil
			assign(rnd.IntN(len(members))) // often the same member again
		default: // a crash and a restart
			if m == members[owner] {
				*m = member{ledger: ledger{partitions: map[partitionKey]*partition{}}}
				assign(rnd.IntN(len(members)))
			}
		}
	}
	// In peace everything comes to an end.
	m := members[owner]
	for ; m.at < len(w.log); m.at++ {
		m.pack = append(m.pack, w.log[m.at])
	}
	send(m)
	for len(m.inflight) > 0 {
		finish(m, rnd.IntN(len(m.inflight)), true, true)
	}
	if want := w.log[len(w.log)-1] + 1; w.committed != want {
		t.Errorf("committed %d in the end, want %d", w.committed, want)
	}
	if n := m.ledger.inflight(); n != 0 {
		t.Errorf("%d batches are still counted as in flight", n)
	}
}

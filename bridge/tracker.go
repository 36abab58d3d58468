package bridge

import "time"

// tracker knows, for one assignment of one partition, which offset may be
// committed: the one after the last record before which everything is
// acknowledged. Ranges are added in the order of their offsets and acknowledged
// in any order. It has no notion of holes inside of a range: compaction and
// transaction markers leave gaps between offsets, so it is ranges that are
// counted, never offsets.
//
// The zero tracker is ready to use.
type tracker struct {
	ranges []span // ring: the unacknowledged range with the lowest offsets is at head
	head   int
	n      int
	first  uint64 // sequence number of the range at head
	next   int64  // what may be stored; valid when stored is true
	stored bool
}

// span is one published range of records.
type span struct {
	next  int64 // offset of its last record, plus one
	since time.Time
	acked bool
}

// add enters the range that ends before offset next and began to wait at since,
// and returns its sequence number.
func (t *tracker) add(next int64, since time.Time) uint64 {
	if t.n == len(t.ranges) {
		grown := make([]span, max(8, 2*len(t.ranges)))
		for i := range t.n {
			grown[i] = *t.at(i)
		}
		t.ranges, t.head = grown, 0
	}
	*t.at(t.n) = span{next: next, since: since}
	t.n++
	return t.first + uint64(t.n) - 1
}

func (t *tracker) at(i int) *span { return &t.ranges[(t.head+i)%len(t.ranges)] }

// ack marks range seq as acknowledged. It reports whether the offset that may be
// stored has advanced.
func (t *tracker) ack(seq uint64) bool {
	if seq < t.first || seq >= t.first+uint64(t.n) {
		return false // acknowledged before
	}
	t.at(int(seq - t.first)).acked = true
	advanced := false
	for t.n > 0 && t.at(0).acked {
		t.next, t.stored, advanced = t.at(0).next, true, true
		t.head = (t.head + 1) % len(t.ranges)
		t.first++
		t.n--
	}
	return advanced
}

// oldest is when the first unacknowledged range began to wait.
func (t *tracker) oldest() (time.Time, bool) {
	if t.n == 0 {
		return time.Time{}, false
	}
	return t.at(0).since, true
}

// offset is the offset that may be stored: everything before it is
// acknowledged. It is false as long as nothing is.
func (t *tracker) offset() (int64, bool) { return t.next, t.stored }

package bridge

import "time"

// tracker knows, for one assignment of one partition, which offset may be
// committed: the one after the last record before which everything is
// acknowledged. Ranges are added in the order of their offsets and acknowledged
// in any order. It has no notion of holes inside of a range: compaction and
// transaction markers leave gaps between offsets, so it is ranges that are
// counted, never offsets.
//
// It holds what is not acknowledged and nothing else, however long the first range
// waits and however much is acknowledged behind it: what is in flight bounds it.
//
// The zero tracker is ready to use.
type tracker struct {
	first, last *span // of those not acknowledged, in the order of their offsets
	next        int64 // what may be stored; valid when stored is true
	stored      bool
}

// span is a published range of records that is not acknowledged.
type span struct {
	next          int64 // offset of its last record, plus one; later, of the last one acknowledged right behind it
	since         time.Time
	before, after *span
	acked         bool
}

// add enters the range that ends before offset next and began to wait at since.
func (t *tracker) add(next int64, since time.Time) *span {
	s := &span{next: next, since: since, before: t.last}
	if t.last == nil {
		t.first = s
	} else {
		t.last.after = s
	}
	t.last = s
	return s
}

// ack marks a range as acknowledged. It reports whether the offset that may be
// stored has advanced.
func (t *tracker) ack(s *span) bool {
	if s.acked {
		return false
	}
	s.acked = true
	before, after := s.before, s.after
	s.before, s.after = nil, nil // whoever still holds s holds no others
	if after == nil {
		t.last = before
	} else {
		after.before = before
	}
	if before != nil {
		before.after, before.next = after, s.next
		return false
	}
	t.first = after
	t.next, t.stored = s.next, true
	return true
}

// pass notes that there is no record before offset that is not acknowledged. It
// reports whether the offset that may be stored has advanced.
func (t *tracker) pass(offset int64) bool {
	if t.first != nil || t.stored && offset <= t.next {
		return false
	}
	t.next, t.stored = offset, true
	return true
}

// oldest is when the first unacknowledged range began to wait.
func (t *tracker) oldest() (time.Time, bool) {
	if t.first == nil {
		return time.Time{}, false
	}
	return t.first.since, true
}

// offset is the offset that may be stored: everything before it is
// acknowledged. It is false as long as nothing is.
func (t *tracker) offset() (int64, bool) { return t.next, t.stored }

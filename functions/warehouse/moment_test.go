package warehouse

import (
	"testing"
	"time"
)

// Protects against a stream that is taken for fresh because the machine was suspended: the
// first request on it would fail, and count as BigQuery's failure.
func TestMoment(t *testing.T) {
	var m moment
	if m.within(time.Hour) {
		t.Error("what never happened was within the hour")
	}
	m.set()
	if !m.within(time.Hour) {
		t.Error("what happened now was not within the hour")
	}
	// Two hours ago by the day's clock, now by the other: it was suspended. (A time without
	// a monotonic reading is compared by the day's clock only.)
	past := time.Now().Round(0).Add(-2 * time.Hour)
	m.at.Store(&past)
	if m.within(time.Hour) {
		t.Error("two hours of suspension are taken for none")
	}
	// By both.
	both := time.Now().Add(-2 * time.Hour)
	m.at.Store(&both)
	if m.within(time.Hour) {
		t.Error("two hours ago is within the hour")
	}
}

package ingest

import (
	"testing"

	"sluice/internal/batch"
)

// Protects the memory of an instance: however much longer than their values the rows of a stream were, no batch gets more
// room in advance than was reserved for it.
func TestRowBytes(t *testing.T) {
	var s stream
	if got := s.rowBytes(1000, 400_000); got < 400_000 || got > 450_000 {
		t.Errorf("of a stream that nothing is known of: %d bytes for 400,000", got)
	}
	s.learn(400_000, 200_000)
	if got := s.rowBytes(1000, 400_000); got < 200_000 || got > 230_000 {
		t.Errorf("of rows half as long: %d bytes for 400,000", got)
	}
	s.learn(10, 10_000) // tiny values in long rows
	reserved := 3*400_000 + 1000*batch.RecordOverhead
	if got := s.rowBytes(1000, 400_000); got > reserved/2 {
		t.Errorf("of rows a thousand times as long: %d bytes, and %d are reserved", got, reserved)
	}
	for range 200 {
		s.learn(400_000, 200_000)
	}
	if got := s.rowBytes(1000, 400_000); got > 230_000 {
		t.Errorf("the long rows are not forgotten: %d bytes", got)
	}
	s.learn(400_000, 0) // all left out
	if got := s.rowBytes(1000, 400_000); got < 1<<10 || got > 230_000 {
		t.Errorf("%d bytes", got)
	}
}

package batch

import (
	"testing"
	"time"
)

// Protects latency and cost: light batches wait longer, by whichever bound they are light.
func TestPackingWait(t *testing.T) {
	p := Packing{Records: 100, Bytes: 1000, Linger: time.Second, MaxLinger: 5 * time.Second, ReferenceAbove: 10}
	for _, c := range []struct {
		records, bytes int
		want           time.Duration
	}{{1, 1, 5 * time.Second}, {49, 499, 5 * time.Second}, {50, 1, time.Second}, {1, 500, time.Second}, {100, 1000,
		time.Second}} {
		if got := p.Wait(c.records, c.bytes); got != c.want {
			t.Errorf("%d records of %d bytes wait %v, want %v", c.records, c.bytes, got, c.want)
		}
	}
	p.MaxLinger = 0
	if got := p.Wait(1, 1); got != time.Second {
		t.Errorf("with a longest wait below the other one, %v", got)
	}
	if p.Object(80) || !p.Object(81) {
		t.Error("what becomes an object is another size")
	}
}

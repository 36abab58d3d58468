package main

import (
	"testing"
	"time"
)

// Protects the estimate from promising what nobody knows.
func TestRemaining(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		took        time.Duration
		want        string
	}{
		{250, 1000, 10 * time.Second, "  about 30s to go"},
		{1000, 1000, 10 * time.Second, "  about 0s to go"},
		{1100, 1000, 10 * time.Second, "  about 0s to go"}, // redelivered
		{0, 1000, 10 * time.Second, ""},
		{5, 1000, 100 * time.Millisecond, ""},
		{250, 0, 10 * time.Second, ""},
	} {
		if got := remaining(c.done, c.total, c.took); got != c.want {
			t.Errorf("%d of %d after %v: %q, want %q", c.done, c.total, c.took, got, c.want)
		}
	}
}

package telemetry

import (
	"fmt"
	"testing"
	"time"
)

// Protects the log from an outage that fills it, and an operator from an outage whose
// second reason is kept back because of the first.
func TestRepeats(t *testing.T) {
	said := Repeats{Every: time.Minute}
	start := time.Now()
	for _, c := range []struct {
		after    time.Duration
		kind     string
		repeated int
		due      bool
	}{
		{0, "transport: broker 1: refused", 0, true},
		{time.Second, "transport: broker 1: refused", 0, false},
		{2 * time.Second, "transport: broker 22: refused", 0, false}, // but for a number the same
		{2 * time.Second, "denied: topic a", 0, true},                // another error
		{3 * time.Second, "denied: topic b", 0, true},                // of another topic
		{59 * time.Second, "denied: topic b", 0, false},
		{time.Minute, "transport: broker 1: refused", 2, true},
		{61 * time.Second, "transport: broker 1: refused", 0, false},
		{time.Hour, "transport: broker 1: refused", 1, true},
	} {
		repeated, due := said.Due(c.kind, start.Add(c.after))
		if repeated != c.repeated || due != c.due {
			t.Errorf("after %s, %q: %d, %t; want %d, %t", c.after, c.kind, repeated, due, c.repeated, c.due)
		}
	}
	for i := range 10 * maxKinds {
		said.Due(fmt.Sprintf("topic %c%c", 'a'+i%26, 'a'+i/26), start)
	}
	if len(said.kinds) > maxKinds {
		t.Errorf("%d kinds are remembered", len(said.kinds))
	}
}

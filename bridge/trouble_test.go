package bridge

import (
	"fmt"
	"testing"
	"time"
)

// Protects the log from an outage that fills it, and an operator from an outage
// whose second reason is kept back because of the first.
func TestTroubles(t *testing.T) {
	var told troubles
	start := time.Now()
	for _, c := range []struct {
		after      time.Duration
		code, text string
		repeated   int
		due        bool
	}{
		{0, "transport", "broker 1: refused", 0, true},
		{time.Second, "transport", "broker 1: refused", 0, false},
		{2 * time.Second, "transport", "broker 22: refused", 0, false}, // but for a number the same
		{2 * time.Second, "denied", "topic a", 0, true},                // another code
		{3 * time.Second, "denied", "topic b", 0, true},                // another topic
		{59 * time.Second, "denied", "topic b", 0, false},
		{time.Minute, "transport", "broker 1: refused", 2, true},
		{61 * time.Second, "transport", "broker 1: refused", 0, false},
		{time.Hour, "transport", "broker 1: refused", 1, true},
	} {
		repeated, due := told.due(c.code, c.text, start.Add(c.after))
		if repeated != c.repeated || due != c.due {
			t.Errorf("after %s, %s %q: %d, %t; want %d, %t", c.after, c.code, c.text, repeated, due, c.repeated, c.due)
		}
	}
	for i := range 10 * maxTroubles {
		told.due("transport", fmt.Sprintf("topic %c%c", 'a'+i%26, 'a'+i/26), start)
	}
	if len(told.told) > maxTroubles {
		t.Errorf("%d kinds are remembered", len(told.told))
	}
}

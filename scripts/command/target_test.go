package command

import (
	"testing"
	"time"
)

// Times are given as people write them, and what is none of these is refused.
func TestMoments(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]time.Time{
		"15m":                  now.Add(-15 * time.Minute),
		"30d":                  now.Add(-30 * 24 * time.Hour),
		"2026-11-22":           time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
		"2026-11-22 12:30:00":  time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC),
		"2026-11-22T12:30:00Z": time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC),
	} {
		var m moment
		if err := m.Set(text); err != nil || m.Sub(want).Abs() > time.Minute {
			t.Errorf("%s is %v, %v; want %v", text, m.Time, err, want)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-15m", "1.5d", "99999d", "30D", "yesterday"} {
		if m := new(moment); m.Set(text) == nil {
			t.Errorf("%q is taken for %v", text, m.Time)
		}
	}
}

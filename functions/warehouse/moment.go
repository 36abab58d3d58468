package warehouse

import (
	"sync/atomic"
	"time"
)

// moment is when something last happened; its zero value: never. Goroutines may use it
// at the same time.
type moment struct {
	at atomic.Pointer[time.Time]
}

func (m *moment) set() {
	now := time.Now()
	m.at.Store(&now)
}

// within reports whether it is no longer ago than d, by the clock that only runs forward
// and by the one that tells the day: the first stands still while a machine is suspended,
// and the second may be set back.
func (m *moment) within(d time.Duration) bool {
	at := m.at.Load()
	if at == nil {
		return false
	}
	now := time.Now()
	return max(now.Sub(*at), now.Round(0).Sub(at.Round(0))) <= d
}

package telemetry

import (
	"strings"
	"sync"
	"time"
)

// Repeats keeps the log of a long outage short: the same is said once in a while, with how
// often it was kept back in between. What is new is said at once. Its methods may be called
// by several goroutines.
type Repeats struct {
	Every time.Duration // least time between two lines of a kind

	mu    sync.Mutex
	kinds map[string]*repeat
}

// repeat is what is known of one kind.
type repeat struct {
	at       time.Time // of the last line
	repeated int       // since then
}

// maxKinds bounds what is remembered: kinds are made of errors' words, which may hold
// anything.
const maxKinds = 100

// Due reports whether a line is due at now, and how many of its kind were kept back before
// it. Kinds that differ in digits only are one: a port, a count, an address.
func (r *Repeats) Due(kind string, now time.Time) (repeated int, due bool) {
	kind = strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return -1
		}
		return c
	}, kind)
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.kinds[kind]
	if last != nil && now.Sub(last.at) < r.Every {
		last.repeated++
		return 0, false
	}
	if last == nil {
		if r.kinds == nil || len(r.kinds) >= maxKinds {
			r.kinds = map[string]*repeat{}
		}
		last = &repeat{}
		r.kinds[kind] = last
	}
	repeated, last.at, last.repeated = last.repeated, now, 0
	return repeated, true
}

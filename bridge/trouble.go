package bridge

import (
	"strings"
	"time"
)

// troubles keep the log of a long outage short: librdkafka reports the same error
// every few seconds, for each broker, and a commit that fails fails every second.
type troubles struct {
	told map[string]*trouble // by kind
}

// trouble is one kind of error.
type trouble struct {
	at       time.Time // of the last line
	repeated int       // reports since, which got no line
}

const (
	sameTroubleEvery = time.Minute
	// maxTroubles bounds what is remembered: kinds are made of an error's words.
	maxTroubles = 100
)

// due reports whether an error is to be told: one of this code and these words, numbers
// aside, was not told in the last minute. It returns how many were kept back since.
func (t *troubles) due(code, text string, now time.Time) (repeated int, due bool) {
	kind := code + "\x00" + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
	last := t.told[kind]
	if last != nil && now.Sub(last.at) < sameTroubleEvery {
		last.repeated++
		return 0, false
	}
	if last == nil {
		if t.told == nil || len(t.told) >= maxTroubles {
			t.told = map[string]*trouble{}
		}
		last = &trouble{}
		t.told[kind] = last
	}
	repeated, last.at, last.repeated = last.repeated, now, 0
	return repeated, true
}

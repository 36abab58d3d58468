package pubsub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"sluice/internal/reference"
)

// objects puts payloads that would be dear as messages into a bucket. It never holds a batch up:
// without the bucket a payload goes as a message, which costs more.
type objects struct {
	bucket   *reference.Bucket // nil: there is none
	above    int               // payloads of more bytes are worth an object
	timeout  time.Duration     // a write that takes longer has failed: its records are waited for
	pause    time.Duration     // after one that has, one batch tries the bucket again each pause
	log      *slog.Logger
	counters *counters

	mu      sync.Mutex
	failing bool
	since   time.Time // of the present trouble
	next    time.Time // when the bucket is tried again
}

func newObjects(bucket *reference.Bucket, above int, log *slog.Logger, c *counters) objects {
	return objects{bucket: bucket, above: above, timeout: 2 * time.Second, pause: 10 * time.Second, log: log,
		counters: c}
}

// data returns what is to be published for payload: a reference, or payload itself.
func (s *objects) data(ctx context.Context, payload []byte) []byte {
	if s.bucket == nil || len(payload) <= s.above || !s.open(time.Now()) {
		return payload
	}
	writing, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, err := s.bucket.Put(writing, payload)
	if err != nil {
		if ctx.Err() == nil { // else nobody waits for the batch any more
			s.failed(err)
		}
		return payload
	}
	s.worked()
	s.counters.references.Add(1)
	return r.Append(nil)
}

// open reports whether the bucket is to be tried.
func (s *objects) open(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failing {
		return true
	}
	if now.Before(s.next) {
		return false
	}
	s.next = now.Add(s.pause) // this one tries, and the others do not wait for it
	return true
}

func (s *objects) failed(err error) {
	s.counters.storeErrors.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.next = now.Add(s.pause)
	if s.failing {
		return
	}
	s.failing, s.since = true, now
	s.log.Error("payloads cannot be written to the bucket: they go in messages, which cost more, until they can",
		"error", err.Error())
}

func (s *objects) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		s.failing = false
		s.log.Info("payloads are written to the bucket again", "after",
			time.Since(s.since).Round(time.Millisecond).String())
	}
}

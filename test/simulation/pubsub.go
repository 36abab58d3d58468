package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/bridge"
	"sluice/internal/batch"
)

// service is Pub/Sub: a topic of batches with a subscription that pushes to Ingest, and the dead-letter topic with one
// that pushes to DeadLetter.
type service struct {
	w      *world
	nextID int
	open   int // messages that are not acknowledged
}

// attempts is after how many deliveries Pub/Sub gives a message of the first subscription up.
const attempts = 8

// deadline is how long Pub/Sub waits for a push. The handlers' own limit is below it.
const deadline, handlerTimeout = 20 * time.Second, 15 * time.Second

// message is one message.
type message struct {
	id         string
	data       []byte
	dead       bool // it is in the dead-letter topic
	attributes map[string]string
	published  time.Time
	places     []place
	acked      bool
}

// place is where a record of a message comes from.
type place struct {
	partition int32
	offset    int64
	replay    string
}

// store keeps a message and begins to deliver it. The lock is held.
func (s *service) store(data []byte, dead bool, attributes map[string]string) *message {
	w := s.w
	s.nextID++
	s.open++
	m := &message{id: strconv.Itoa(s.nextID), data: bytes.Clone(data), dead: dead, attributes: attributes,
		published: time.Now()}
	var d batch.Decoder
	b, err := d.Decode(m.data, batch.DefaultLimits)
	if err != nil {
		w.violated("rows", "a message cannot be decoded: %v", err)
		return m
	}
	for i := range b.Records {
		r := &b.Records[i]
		m.places = append(m.places, place{r.Partition, r.Offset, b.Replay(r)})
		rec := w.kafka.find(r.Partition, r.Offset)
		if rec == nil || r.Topic != topic {
			w.violated("rows", "a message has a record %s/%d:%d that there was not", r.Topic, r.Partition, r.Offset)
			continue
		}
		if b.Replay(r) == "" && rec.kind != large && !bytes.Equal(rec.value, r.Value) {
			w.violated("rows", "a message has other bytes for record %d/%d", r.Partition, r.Offset)
		}
		rec.kept = true
		rec.lettered = rec.lettered || dead
		if attributes != nil {
			rec.givenUp = true
		}
	}
	w.others.Go(func() { s.deliver(m) })
	return m
}

// deliver pushes a message until it is acknowledged.
func (s *service) deliver(m *message) {
	w := s.w
	place := "push" + m.id
	for try := 1; ; try++ {
		r := w.roll(place)
		time.Sleep(between(r, 0, 30*time.Millisecond))
		if w.duplicate(r) {
			seed := r.Uint64()
			w.others.Go(func() { s.push(m, seed) })
		}
		if s.push(m, r.Uint64()) {
			w.mu.Lock()
			s.open--
			w.mu.Unlock()
			return
		}
		if w.ended() {
			return
		}
		if !m.dead && try == attempts {
			w.mu.Lock()
			w.log("message %s is given up", m.id)
			w.reached[givenUp]++
			s.store(m.data, true, map[string]string{
				"CloudPubSubDeadLetterSourceSubscription":        "ingest",
				"CloudPubSubDeadLetterSourceSubscriptionProject": "p",
				"CloudPubSubDeadLetterSourceDeliveryCount":       strconv.Itoa(try),
			})
			s.open--
			w.mu.Unlock()
			return
		}
		time.Sleep(between(r, 200*time.Millisecond, 3*time.Second))
	}
}

func (w *world) duplicate(r *rand.Rand) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fails(Duplicates, r, 5)
}

// push makes one request, and reports whether it acknowledged the message.
func (s *service) push(m *message, seed uint64) bool {
	w := s.w
	r := rand.New(rand.NewPCG(seed, 0))
	w.mu.Lock()
	to := w.places[r.IntN(len(w.places))]
	slow := w.fails(SlowPushes, r, 10)
	w.mu.Unlock()
	request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(m.data))
	request.Header.Set("X-Goog-Pubsub-Message-Id", m.id)
	request.Header.Set("X-Goog-Pubsub-Publish-Time", m.published.UTC().Format(time.RFC3339Nano))
	for name, value := range m.attributes {
		request.Header.Set(name, value)
	}
	handler := to.ingest
	if m.dead {
		handler = to.letters
	}
	done := make(chan int, 1)
	var late atomic.Bool
	w.others.Go(func() {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		done <- recorder.Code
		if late.Load() && recorder.Code == http.StatusNoContent {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reached[lateAnswer]++
		}
	})
	patience := deadline
	if slow { // as if the instance had been slow: the request goes on beside the next
		patience = between(r, 0, 50*time.Millisecond)
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case code := <-done:
		if code == http.StatusNoContent && to.alive() {
			s.acknowledged(m)
			return true
		}
	case <-t.C:
		late.Store(true)
	case <-to.dead:
	}
	return false
}

// acknowledged checks that nothing is lost with a message.
func (s *service) acknowledged(m *message) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.acked {
		w.reached[ackedTwice]++
	}
	m.acked = true
	for _, p := range m.places {
		rec := w.kafka.find(p.partition, p.offset)
		switch {
		case rec == nil: // told before
		case m.dead && rec.letters == 0:
			w.violated("acks", "dead letter %d/%d is acknowledged, and no row of events_dlq", p.partition, p.offset)
		case !m.dead && p.replay != "" && w.tables.replayed[p] == 0 && !rec.lettered:
			w.violated("acks", "record %d/%d of replay %s is acknowledged, and neither a row nor in the dead-letter topic", p.partition, p.offset, p.replay)
		case !m.dead && p.replay == "" && rec.rows == 0 && !rec.lettered:
			w.violated("acks", "record %d/%d is acknowledged, and neither a row nor in the dead-letter topic",
				p.partition, p.offset)
		}
	}
}

// publisher is a bridge.Publisher.
type publisher struct {
	w    *world
	name string
	dead chan struct{} // closed when its bridge crashes

	stats bridge.PublishStats // under the world's lock
}

func (p *publisher) Objects() bool                               { return false }
func (p *publisher) Observe(func(string, time.Duration, string)) {}

func (p *publisher) Stats() bridge.PublishStats {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.stats
}

func (p *publisher) Publish(ctx context.Context, to bridge.Destination, payload []byte) (taken, reusable bool) {
	w := p.w
	backoff := 100 * time.Millisecond
	for try := 1; ; try++ {
		r := w.roll("publish" + p.name)
		if !p.sleep(ctx, between(r, time.Millisecond, 80*time.Millisecond)) {
			return false, false
		}
		w.mu.Lock()
		failed := w.fails(PublishRefusals, r, 3)
		if !failed {
			w.messages.store(payload, to == bridge.ToDeadLetters, nil)
			failed = w.fails(LostAnswers, r, 4)
		}
		p.stats.Failing = failed
		w.mu.Unlock()
		if !failed {
			return true, try == 1
		}
		if r.IntN(5) == 0 {
			backoff = 30 * time.Second // it did not answer
		}
		if !p.sleep(ctx, backoff/2+between(r, 0, backoff/2)) {
			return false, false
		}
		backoff = min(2*backoff, 10*time.Second)
	}
}

// sleep is false if nobody waits for the batch any more.
func (p *publisher) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-p.dead:
		<-ctx.Done() // it never hears of the batch again
		return false
	}
}

// letters is the dead-letter topic as an instance of Ingest sees it.
type letters struct {
	w  *world
	at *instance
}

// Publish is ingest.DeadLetters'.
func (l letters) Publish(_ context.Context, payload []byte) func(context.Context) error {
	payload = bytes.Clone(payload)
	done := make(chan error, 1)
	w := l.w
	w.others.Go(func() {
		r := w.roll("letter" + l.at.name)
		time.Sleep(between(r, time.Millisecond, 60*time.Millisecond))
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.fails(PublishRefusals, r, 4), l.at.crashed:
			done <- errors.New("the dead-letter topic refuses")
			return
		case w.fails(Silence, r, 6):
			return
		}
		w.messages.store(payload, true, nil)
		if w.fails(LostAnswers, r, 5) {
			done <- errors.New("the connection was reset")
			return
		}
		done <- nil
	})
	return func(ctx context.Context) error {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
	}
}

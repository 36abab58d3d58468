// Package push is the HTTP side of a function that Pub/Sub pushes to: one
// request carries one message, and the status of the answer says what becomes of
// it. The function itself is a Func, which knows nothing of HTTP:
//
//	gate := push.NewGate(log)
//	h := gate.Handler(push.Config{Function: "Ingest", …}, func(ctx context.Context, m *push.Message) error {
//		…                                    // m.Data is valid until the function returns
//		m.Note(slog.Int("records", n))       // joins the request's one log line
//		return nil                           // only when the message's data is safe
//	})
//	…
//	err := gate.Drain(ctx)                       // new requests get 503, running ones finish
//
// # Answers
//
// Pub/Sub takes 102, 200, 201, 202 and 204 for an acknowledgement and anything
// else for "later again". A function that returns
//
//	nil                     is answered 204: the message is done
//	an error like ErrBusy   429: this instance has no room, another may
//	any other error         503: redeliver
//
// and a function that panics, or ends without returning, is answered 500. The
// answer is written after the function has ended, never before, so that nothing
// can be acknowledged by accident. A request that is no push is answered 400, one
// that is too large 413, one from the wrong caller 401 or 403: these say that
// something is misconfigured, and Pub/Sub keeps the message all the same.
//
// # Requests
//
// Both forms of a push are understood: unwrapped, where the body is the message's
// data and the metadata stands in headers (the subscription must write metadata),
// and wrapped, where the body is a JSON envelope. See
// https://cloud.google.com/pubsub/docs/push and
// https://cloud.google.com/pubsub/docs/payload-unwrapping.
package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"sluice/internal/batch"
)

// Func handles one message. When it returns nil the message is acknowledged and
// never seen again. It must return soon after ctx ends.
type Func func(ctx context.Context, m *Message) error

// ErrBusy is answered 429, and so is an error that wraps it.
var ErrBusy = errors.New("this instance holds as many bytes as it may")

// Message is one Pub/Sub message as it was pushed.
type Message struct {
	ID           string
	Subscription string // "projects/P/subscriptions/S"
	OrderingKey  string
	PublishTime  time.Time // zero: unknown
	// DeliveryAttempt counts from 1; 0 is unknown, as in every unwrapped push.
	DeliveryAttempt int
	// Attributes of a wrapped push. Read them with Attribute, which finds those of
	// an unwrapped push too.
	Attributes map[string]string
	// Data is the payload, valid until the function returns.
	Data []byte
	// Damage is why Data is not what was published, nil if it is. No other delivery will mend it.
	Damage error

	header   http.Header
	notes    []slog.Attr
	ranges   []batch.Range // of its records in Kafka
	budget   *Budget
	reserved int64
}

// Attribute returns the value of an attribute, or "". In an unwrapped push the
// attributes are HTTP headers: their names' case is lost, and so is every value
// that is not visible ASCII. Names of HTTP's own headers are therefore no good
// names of attributes.
func (m *Message) Attribute(name string) string {
	if v, ok := m.Attributes[name]; ok {
		return v
	}
	return m.header.Get(name)
}

// Note adds fields to the request's log line. They must hold nothing of an
// event's values.
func (m *Message) Note(fields ...slog.Attr) {
	m.notes = append(m.notes, fields...)
}

// Reserve accounts for n bytes that the function is about to hold until it
// returns, or fails with ErrBusy if this instance has no room for them.
func (m *Message) Reserve(n int64) error {
	if m.budget == nil {
		return nil
	}
	if !m.budget.take(n, m.reserved) {
		return ErrBusy
	}
	m.reserved += n
	return nil
}

// release gives back what Reserve took.
func (m *Message) release() {
	if m.budget != nil {
		m.budget.give(m.reserved)
		m.reserved = 0
	}
}

// Budget bounds the bytes that all requests of a process hold at a time. What is
// larger than the whole budget has its turn when nothing else does: it must not
// wait for ever.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// DefaultBudget is what requests may hold together in an instance of 512 MiB.
const DefaultBudget = 192 << 20

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// take takes n bytes for who has held bytes already.
func (b *Budget) take(n, held int64) bool {
	if used := b.used.Add(n); used > b.limit && used != held+n {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *Budget) give(n int64) { b.used.Add(-n) }

// Package event turns an event into the wire bytes of its row, as its contract says: JSON
// in, one protobuf message as the Storage Write API takes it out, or a Rejection that says
// why not. It does no I/O.
//
//	c, err := contract.ReadFile("shop_events.yaml")
//	decoder, err := event.New(c, event.Fast, time.Now) // one per goroutine, reused
//	row, err := decoder.AppendRow(nil, value, event.Meta{IngestedAt: now, Topic: "shop.events", Offset: 42})
//	var rejection *event.Rejection
//	if errors.As(err, &rejection) { … } // Code, Field, Message; or ErrDropped, ErrSampled
//
// # What every event must be
//
// One JSON object (RFC 8259): valid UTF-8, no duplicate names at any level, also not through
// escapes, of bounded size and depth. Values are never converted unless the contract accepts
// their form; null means absent.
//
//	column       value, unless the contract accepts other forms
//	STRING       string
//	BYTES        string in standard base64 with padding
//	INT64        number without fraction and exponent, within 64 bits
//	FLOAT64      number that is finite in 64 bits
//	NUMERIC      number, exactly; so BIGNUMERIC
//	BOOL         true or false
//	TIMESTAMP    string that ParseTimestamp takes, between the years 1 and 9999
//	DATE, TIME, DATETIME  string in ISO 8601
//	GEOGRAPHY    string in well-known text
//	INTERVAL     string in ISO 8601
//	RANGE        object with start and end
//	JSON         any value, sent as it stands
//	RECORD       object
//	REPEATED     array of these
//
// Members that no column takes are sent as they stand, to the byte and in their order, to the
// contract's column for the rest, or are dropped, or make the event a rejection. BigQuery keeps
// what JSON means and not how it was written: white space, the order of members and the
// form of numbers are lost. A number that its FLOAT64 cannot hold, such as 1e999, is out_of_range.
// See https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#json_type.
//
// # Which rejection an event gets
//
// Anything that makes it no event at all (its size, its syntax, the first in the
// order of the text) comes before anything about a field; the first field at fault in the order of
// the text comes before the first missing one in the order of the table.
package event

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"sluice/internal/batch"
	"sluice/internal/contract"
)

// Config is what is configurable of the built-in contract. Zero fields mean those of
// DefaultConfig.
type Config struct {
	Types []string // what event_type may be
	// how far event_timestamp may be from the time of ingestion: what the table's partitions accept
	MaxAge, MaxAhead time.Duration
	MaxDepth         int // objects and arrays within each other, the event itself counted; at most 1,000
	MaxBytes         int // the event's length
	Now              func() time.Time
	Decoder          string // which implementation: Fast or Strict
}

// The implementations of the contract. They give the same rows and the same
// rejections, but for the wording of messages about syntax.
const (
	Fast   = "fast"   // a hand-written scanner that predicts the next name
	Strict = "strict" // on a tree of jsontext's tokens, the reference: twenty times slower
)

// DefaultConfig returns the defaults: four types, five years back and one ahead
// (what BigQuery's default stream accepts for a table partitioned by day, see
// https://cloud.google.com/bigquery/docs/write-api#write-partitioned), depth 100,
// 8 MiB (a request of the Storage Write API must stay under 10 MB).
func DefaultConfig() Config {
	return Config{
		Types:    []string{"page_view", "add_to_cart", "purchase", "search"},
		MaxAge:   5 * 365 * 24 * time.Hour,
		MaxAhead: 365 * 24 * time.Hour,
		MaxDepth: 100,
		MaxBytes: 8 << 20,
		Now:      time.Now,
		Decoder:  Fast,
	}
}

// Meta is what a row says about its event besides the event.
type Meta struct {
	// IngestedAt is the time of ingestion in microseconds since the Unix epoch. It
	// is also the present of Config.MaxAge and MaxAhead. 0: Config.Now is asked.
	IngestedAt int64
	// The event's place in Kafka. If Offset is negative (batch.NoOffset) it has
	// none, and all kafka columns are null.
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64  // Kafka's, milliseconds since the Unix epoch; 0: none
	ReplayID  string // valid UTF-8; empty: the event was not replayed
	// What else the Kafka record had, for contracts that take it.
	Key     []byte // nil: none
	Headers []batch.RecordHeader
}

// Decoder turns events into rows. It is not safe for concurrent use.
type Decoder struct {
	contract *contract.Contract
	now      func() time.Time
	fast     *fastDecoder // nil: strict decodes
	strict   *strictDecoder

	maxBytes int             // of an event
	framed   bool            // it comes behind a schema registry's prefix
	written  *writtenDecoder // of events that are no JSON; nil: they are
}

// NewDecoder returns a Decoder of the built-in contract, for rows of t: see
// contract.Clickstream.
func NewDecoder(t *contract.Table, c Config) (*Decoder, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	stream, err := contract.Clickstream(t, c.Types, c.MaxAge, c.MaxAhead)
	if err != nil {
		return nil, err
	}
	stream.MaxDepth, stream.MaxBytes = c.MaxDepth, c.MaxBytes
	return New(stream, c.Decoder, c.Now)
}

// New returns a Decoder of a contract: Fast or Strict. now is asked for the time of
// ingestion where Meta does not say it.
func New(c *contract.Contract, decoder string, now func() time.Time) (*Decoder, error) {
	p, err := newPlan(c)
	if err != nil {
		return nil, err
	}
	d := &Decoder{contract: c, now: now, maxBytes: c.MaxBytes, framed: c.Format == contract.FormatJSONSchema && !c.Written()}
	if decoder == Strict {
		d.strict = newStrictDecoder(p)
	} else {
		d.fast = newFastDecoder(p)
	}
	d.written, err = newWrittenDecoder(c, d.fast)
	return d, err
}

// Use gives the decoder the schemas of a contract with a registry.
func (d *Decoder) Use(s Schemas) {
	if d.written != nil && d.written.contract.Registry != nil {
		d.written.schemas = s
	}
}

func (c Config) withDefaults() (Config, error) {
	d := DefaultConfig()
	if c.Types == nil {
		c.Types = d.Types
	}
	if c.Now == nil {
		c.Now = d.Now
	}
	c.MaxAge = cmp.Or(c.MaxAge, d.MaxAge)
	c.MaxAhead = cmp.Or(c.MaxAhead, d.MaxAhead)
	c.MaxDepth = cmp.Or(c.MaxDepth, d.MaxDepth)
	c.MaxBytes = cmp.Or(c.MaxBytes, d.MaxBytes)
	c.Decoder = cmp.Or(c.Decoder, d.Decoder)
	switch {
	case len(c.Types) == 0:
		return c, errors.New("event: no event types: want at least one")
	case c.MaxAge < 0 || c.MaxAhead < 0:
		return c, fmt.Errorf("event: MaxAge %v, MaxAhead %v: want positive durations", c.MaxAge, c.MaxAhead)
	case c.MaxDepth < 1 || c.MaxDepth > 1000:
		return c, fmt.Errorf("event: MaxDepth %d: want 1 to 1000", c.MaxDepth)
	case c.MaxBytes < 1 || c.MaxBytes > 1<<30:
		return c, fmt.Errorf("event: MaxBytes %d: want 1 to 1 GiB", c.MaxBytes)
	case c.Decoder != Fast && c.Decoder != Strict:
		return c, fmt.Errorf("event: Decoder %q: want %s or %s", c.Decoder, Fast, Strict)
	}
	return c, nil
}

// AppendRow appends the row of the event value to dst, as one protobuf message
// without a length. A nil value is Kafka's null. If the event is rejected, the error
// is a *Rejection; if the contract leaves it out, ErrDropped or ErrSampled. dst is then
// returned as it was. value is not read afterwards. Positions in messages count from the first byte of JSON,
// behind a prefix.
func (d *Decoder) AppendRow(dst, value []byte, m Meta) ([]byte, error) {
	if m.IngestedAt == 0 {
		m.IngestedAt = d.now().UnixMicro()
	}
	row, err := d.appendValue(dst, value, &m)
	if err != nil {
		return dst, err
	}
	return row, nil
}

// Retry is AppendRow for an event over which AppendRow has panicked, which is a fault of the decoder: the strict one
// reads it, and if that panics too, the event is rejected. What comes after it can go to AppendRow again.
func (d *Decoder) Retry(dst, value []byte, m Meta) (row []byte, err error) {
	defer func() {
		if recover() != nil {
			row, err = dst, &Rejection{Code: contract.CodeDecoderFailed,
				Message: "the decoder failed over this event, which is a fault of Sluice: report it with the log line " +
					"\"panic\", and replay the event when it is mended"}
		}
	}()
	strict, err := d.another(Strict)
	if err != nil {
		return dst, err
	}
	kind := Strict
	if d.fast != nil {
		kind = Fast
	}
	fresh, err := d.another(kind)
	if err != nil {
		return dst, err
	}
	*d = *fresh // nobody knows what state the old one is in
	return strict.AppendRow(dst, value, m)
}

// another returns a new Decoder for the same events.
func (d *Decoder) another(decoder string) (*Decoder, error) {
	a, err := New(d.contract, decoder, d.now)
	if err != nil {
		return nil, err
	}
	if d.written != nil {
		a.written.schemas = d.written.schemas
	}
	return a, nil
}

func (d *Decoder) appendValue(dst, value []byte, m *Meta) ([]byte, error) {
	if d.written != nil {
		return d.written.appendRow(d, dst, value, m)
	}
	if d.framed {
		var err error
		if value, err = unframe(value); err != nil {
			return nil, err
		}
	}
	if len(value) > d.maxBytes {
		return nil, rejectTooLarge(len(value), d.maxBytes)
	}
	return d.appendText(dst, value, m)
}

// appendText appends the row of an event that is JSON.
func (d *Decoder) appendText(dst, value []byte, m *Meta) ([]byte, error) {
	if len(value) > fewNames && tooManyNames(value) {
		return nil, rejectTooManyNames()
	}
	if d.fast != nil {
		return d.fast.appendRow(dst, value, m)
	}
	if len(value) > largeForStrict {
		strictTurn <- struct{}{}
		defer func() { <-strictTurn }()
	}
	return d.strict.appendRow(dst, value, *m)
}

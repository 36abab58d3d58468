// Package deadletter is the function that keeps what could not be inserted: every
// record of the dead-letter topic becomes a row of events_dlq, with why, where it
// came from, and the bytes as they were, so that it can be explained and replayed.
//
//	f, err := deadletter.New(deadletter.Config{Table: contract.EventsDLQ()}, appender)
//	handler := gate.Handler(push.Config{Function: "DeadLetter", …}, f.Handle)
//
// Messages come from three sides, all in the batch format: from Ingest and from the
// bridge, whose records say why they were rejected, and from Pub/Sub, which forwards
// whole messages that were tried often enough. Nothing is behind this function: it
// never gives a message up, and a row that BigQuery does not take is reduced until
// it does. A message delivered twice becomes two rows, which their coordinates show.
package deadletter

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"sluice/functions/payload"
	"sluice/functions/push"
	"sluice/functions/warehouse"
	"sluice/internal/batch"
	"sluice/internal/contract"
)

// Config is what DeadLetter needs to know.
type Config struct {
	Table *contract.Table
	// Contracts tell whose a record was that came without a word about it, such as one that
	// Pub/Sub gave up.
	Contracts []*contract.Contract
	Limits    batch.Limits // of a payload; zero fields: batch.DefaultLimits
	Tracer    trace.Tracer // is told of every message; nil: nobody is
}

// Function is the function.
type Function struct {
	contracts []*contract.Contract
	limits    batch.Limits
	columns   *columns
	table     *warehouse.Appender
	tracer    trace.Tracer
}

// New returns a Function that appends to table, which remains the caller's to close.
func New(c Config, table *warehouse.Appender) (*Function, error) {
	columns, err := newColumns(c.Table)
	if err != nil {
		return nil, err
	}
	return &Function{contracts: c.Contracts, limits: c.Limits, columns: columns, table: table, tracer: c.Tracer}, nil
}

// Handle is a push.Func.
func (f *Function) Handle(ctx context.Context, m *push.Message) error {
	begin := time.Now()
	start := begin
	var decoder batch.Decoder // dead letters are rare: nothing is worth being kept
	b, damage, err := payload.Decode(m, &decoder, f.limits)
	if err != nil {
		return err
	}
	if damage != nil {
		b = undecodable(m, damage)
	}
	letters := f.newLetters(b, m, start)
	decode := time.Since(start)

	start = time.Now()
	err = f.write(ctx, letters)
	write := time.Since(start)
	note(m, b, letters, err == nil, decode, write)
	f.span(m, b, begin, decode, write, err)
	return err
}

// undecodable is a batch of the one record that a damaged payload is.
func undecodable(m *push.Message, damage error) *batch.Batch {
	return &batch.Batch{Records: []batch.Record{{
		Offset: batch.NoOffset,
		Value:  m.Data,
		Rejection: batch.Rejection{
			Code:    string(contract.CodeUndecodablePayload),
			Message: fmt.Sprintf("The payload of Pub/Sub message %s cannot be read: %v", m.ID, damage),
		},
	}}}
}

// write appends the letters, reducing those that BigQuery refuses.
func (f *Function) write(ctx context.Context, letters []letter) error {
	for _, level := range levels {
		rows := make([][]byte, len(letters))
		for i := range letters {
			rows[i] = f.columns.appendRow(nil, &letters[i], level)
		}
		refused, err := f.table.Write(ctx, rows)
		if err != nil {
			return err
		}
		if len(refused) == 0 {
			return nil
		}
		rest := make([]letter, len(refused))
		for i, e := range refused {
			rest[i] = letters[e.Index]
			rest[i].refusal = e.Message
		}
		letters = rest
	}
	return fmt.Errorf("BigQuery refuses %d dead letters even when nothing is left of them but the reason", len(letters))
}

// newLetters makes each record of b a letter. now is when they failed, if nothing
// tells better.
func (f *Function) newLetters(b *batch.Batch, m *push.Message, now time.Time) []letter {
	from := source(m)
	letters := make([]letter, len(b.Records))
	for i := range b.Records {
		r := &b.Records[i]
		l := letter{header: &b.Header, record: r, why: r.Rejection, now: now.UnixMicro(), failedAt: b.Origin.FailedAt,
			consumer: b.Origin.Consumer, messageID: b.Origin.MessageID, attempt: int64(b.Origin.DeliveryAttempt),
			contract: b.Origin.Contract, target: b.Origin.Table}
		if l.why.Code == "" {
			l.why = from.rejection()
			l.consumer = from.subscription
			l.attempt = from.attempts
		}
		// What Pub/Sub or the bridge has given up does not know whose it was.
		if l.contract == "" {
			if of := contract.Find(f.contracts, r.Topic); of != nil {
				l.contract, l.target = of.Name, of.Table.Name
			}
		}
		l.schemaID = f.schemaID(l.contract, r)
		if l.messageID == "" {
			l.messageID = m.ID
		}
		// Pub/Sub publishes the message to the dead-letter topic when it gives up.
		if l.failedAt == 0 && !m.PublishTime.IsZero() {
			l.failedAt = m.PublishTime.UnixMicro()
		}
		letters[i] = l
	}
	return letters
}

// schemaID is the id of the schema that a record of the contract of that name was written with, "" if it names none.
func (f *Function) schemaID(name string, r *batch.Record) string {
	for _, c := range f.contracts {
		if c.Name != name || !c.Framed() && c.Format != contract.FormatJSONSchema {
			continue
		}
		if id, _, err := c.SplitID(r.Value, batch.HeaderOf(r.Headers, c.IDHeader)); err == nil {
			return id.String()
		}
	}
	return ""
}

// forwarded is what Pub/Sub says, in attributes, about a message that it gave up.
// See https://cloud.google.com/pubsub/docs/handling-failures.
type forwarded struct {
	subscription string // "projects/P/subscriptions/S"; empty: not forwarded
	attempts     int64
}

func source(m *push.Message) forwarded {
	f := forwarded{subscription: m.Attribute("CloudPubSubDeadLetterSourceSubscription")}
	if project := m.Attribute("CloudPubSubDeadLetterSourceSubscriptionProject"); project != "" && f.subscription != "" {
		f.subscription = "projects/" + project + "/subscriptions/" + f.subscription
	}
	f.attempts, _ = strconv.ParseInt(m.Attribute("CloudPubSubDeadLetterSourceDeliveryCount"), 10, 64)
	return f
}

// rejection is the reason of records that carry none of their own.
func (f forwarded) rejection() batch.Rejection {
	r := batch.Rejection{Code: string(contract.CodeAttemptsExhausted)}
	switch {
	case f.subscription == "":
		r.Message = "The message came to the dead-letter topic without a reason and without the attributes of a message " +
			"that Pub/Sub gave up: somebody published it there."
	case f.attempts > 0:
		r.Message = fmt.Sprintf("Pub/Sub gave the message up after %d deliveries to %s: the log of its function says why "+
			"each failed. Replay it when that is repaired.", f.attempts, f.subscription)
	default:
		r.Message = fmt.Sprintf("Pub/Sub gave the message up after too many deliveries to %s: the log of its function "+
			"says why each failed. Replay it when that is repaired.", f.subscription)
	}
	return r
}

// note writes the fields of the request's log line. rejected counts the records by
// the code that they came with.
func note(m *push.Message, b *batch.Batch, letters []letter, landed bool, decode, write time.Duration) {
	m.NoteRanges(b.Ranges())
	rejected := make(map[string]int)
	for i := range letters {
		rejected[text(letters[i].why.Code)]++
	}
	n := 0
	if landed {
		n = len(letters)
	}
	m.Note(slog.Int("records", len(letters)), slog.Int("landed", n))
	push.NoteRejected(m, rejected)
	m.Note(slog.Float64("decode_ms", push.Milliseconds(decode)), slog.Float64("append_ms", push.Milliseconds(write)))
	m.NoteTrace(b.Traceparent)
}

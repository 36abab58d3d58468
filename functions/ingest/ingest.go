// Package ingest is the function that turns pushed batches of events into rows of their
// contracts' tables.
//
//	f, err := ingest.New(ingest.Config{Streams: []ingest.Stream{{Contract: c, Table: appender, …}}, …}, publisher)
//	handler := gate.Handler(push.Config{Function: "Ingest", …}, f.Handle)
//
// A batch holds records of topics of one contract, as the bridge packs them, and so it is
// written to one table. (Should it hold those of several, because contracts have changed since, each
// table gets its own in turn.) Each record of a batch ends in one of three places: as a row; if it can never be one, as
// a record of the dead-letter topic with its reason; or, if its contract leaves it out, in the table that
// accounts for such records. Handle returns nil when BigQuery has acknowledged every row and
// Pub/Sub every reject; before that, any failure leaves the message with Pub/Sub, which
// delivers it again. Rows that have landed by then land twice, which the view over the table
// hides.
package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"sluice/functions/event"
	"sluice/functions/payload"
	"sluice/functions/push"
	"sluice/functions/schemas"
	"sluice/functions/warehouse"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/schema"
)

// Config is what Ingest needs to know.
type Config struct {
	Streams []Stream
	// LeftOut goes to events_left_out, and remains the caller's to close; nil if no contract
	// leaves events out.
	LeftOut *warehouse.Appender
	Decoder string       // event.Fast or event.Strict; empty: event.Fast
	Limits  batch.Limits // of a payload; zero fields: batch.DefaultLimits
	// Consumer names this service and its revision in dead letters.
	Consumer string
	// Tracer and Meter are told of every message; nil: nobody is.
	Tracer trace.Tracer
	Meter  metric.Meter
	Log    *slog.Logger // of what goes wrong besides messages; nil: nobody is told
}

// Stream is a contract and where its rows go.
type Stream struct {
	Contract *contract.Contract
	Table    *warehouse.Appender // remains the caller's to close
	Schemas  *schemas.Schemas    // of a contract with a registry; nil: it has none
}

// Function is the function.
type Function struct {
	config      Config
	streams     []stream
	deadLetters DeadLetters
	workers     sync.Pool
	metrics     *metrics
	leftOut     *leftOutColumns
	panics      panics
}

// stream is a Stream with its decoders, each of which serves one request at a time.
type stream struct {
	Stream
	decoders sync.Pool
	ratio    atomic.Uint64 // of rows to values, the bits of a float64; 0: not known yet
}

// rowBytes is about how many bytes the rows of records have whose values have so many bytes together. Rows that outgrow it
// are copied, over and over for a large batch. It is never more than half of what was reserved for the batch.
func (s *stream) rowBytes(records, values int) int {
	ratio := 1.0
	if bits := s.ratio.Load(); bits != 0 {
		ratio = math.Float64frombits(bits)
	}
	return min(int(1.05*ratio*float64(values)), values+records*batch.RecordOverhead/4) + 1<<10
}

// learn learns from a batch how long rows are. It forgets slowly that they were longer.
func (s *stream) learn(values, rows int) {
	ratio := float64(rows) / float64(values)
	s.ratio.Store(math.Float64bits(max(ratio, 0.9*math.Float64frombits(s.ratio.Load())+0.1*ratio)))
}

// DeadLetters takes what can be no row: OnTopic has them in Pub/Sub.
type DeadLetters interface {
	// Publish begins to publish a batch. kept returns when it is known whether that was done, and when ctx ends at the
	// latest.
	Publish(ctx context.Context, payload []byte) (kept func(ctx context.Context) error)
}

// OnTopic publishes with a Publisher, which remains the caller's to stop.
func OnTopic(p *pubsub.Publisher) DeadLetters { return onTopic{p} }

type onTopic struct{ *pubsub.Publisher }

// Publish is DeadLetters'.
func (t onTopic) Publish(ctx context.Context, payload []byte) func(ctx context.Context) error {
	result := t.Publisher.Publish(ctx, &pubsub.Message{Data: payload})
	return func(ctx context.Context) error {
		if _, err := result.Get(ctx); err != nil {
			return fmt.Errorf("%s: %w", t.Publisher, err)
		}
		return nil
	}
}

// New returns a Function that publishes what can be no row to deadLetters. A contract that no decoder can be made of
// gives contract.Mistakes.
func New(c Config, deadLetters DeadLetters) (*Function, error) {
	f := &Function{config: c, streams: make([]stream, len(c.Streams)), deadLetters: deadLetters,
		leftOut: newLeftOutColumns(), panics: panics{log: c.Log}}
	f.workers.New = func() any { return new(worker) }
	var mistakes contract.Mistakes
	for i, s := range c.Streams {
		newDecoder := func() (*event.Decoder, error) { return event.New(s.Contract, c.Decoder, time.Now) }
		first, err := newDecoder()
		if some, ok := errors.AsType[contract.Mistakes](err); ok {
			mistakes = append(mistakes, some...)
			continue
		}
		if err != nil {
			return nil, err
		}
		f.streams[i].Stream = s
		f.streams[i].decoders.New = func() any {
			d, err := newDecoder()
			if err != nil { // the first one was made of the same
				panic(err)
			}
			return d
		}
		f.streams[i].decoders.Put(first)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	var err error
	f.metrics, err = newMetrics(c.Meter)
	return f, err
}

// stream returns the one that takes the records of that topic; "" are events that did not
// come through Kafka. nil: none does.
func (f *Function) stream(topic string) *stream {
	for i := range f.streams {
		if f.streams[i].Contract.Serves(topic) {
			return &f.streams[i]
		}
	}
	return nil
}

// Handle is a push.Func.
func (f *Function) Handle(ctx context.Context, m *push.Message) (err error) {
	begin := time.Now()
	var l line
	w := f.workers.Get().(*worker)
	b, damage, err := payload.Decode(m, &w.batches, f.config.Limits)
	if err != nil {
		f.workers.Put(w)
		return err
	}
	defer func() {
		l.note(m)
		f.span(m, &l, begin, err)
	}()
	if damage != nil {
		f.workers.Put(w)
		// A bridge that is newer than this function: it is this function's turn.
		if errors.Is(damage, batch.ErrVersion) {
			return fmt.Errorf("deploy this version's functions before its bridge: %w", damage)
		}
		return f.undecodable(ctx, m, damage, &l)
	}
	l.batch(b)
	if f.config.Tracer != nil {
		l.trace(b)
	}
	parts := f.route(b)
	for i := range parts {
		err = f.process(ctx, m, w, b, &parts[i])
		l.add(&parts[i])
		if err != nil {
			// The rows may still be being sent: their memory is not used again.
			w.forgetRows()
			f.workers.Put(w)
			return err
		}
	}
	f.count(parts)
	if cap(w.wire) > retained { // one exceptional message does not hold its memory for ever
		w.forgetRows()
	}
	f.workers.Put(w)
	return nil
}

// route returns a part for each stream that b has records of; mostly that is one.
func (f *Function) route(b *batch.Batch) []part {
	parts := make([]part, 0, 1)
	for i := range b.Records {
		if i > 0 && b.Records[i].Topic == b.Records[i-1].Topic {
			continue
		}
		to := f.stream(b.Records[i].Topic)
		if !slices.ContainsFunc(parts, func(p part) bool { return p.to == to }) {
			parts = append(parts, part{to: to})
		}
	}
	return parts
}

// process brings the records of a part to where they end.
func (f *Function) process(ctx context.Context, m *push.Message, w *worker, b *batch.Batch, p *part) error {
	w.reset()
	if p.to == nil {
		f.refuseAll(w, b)
	} else {
		start := time.Now()
		view, err := f.view(ctx, p.to, b)
		if p.to.Schemas != nil {
			p.schemas = time.Since(start)
		}
		if err != nil {
			return err
		}
		defer view.Close()
		if err := f.land(ctx, w, b, p, view); err != nil {
			return err
		}
		if len(w.waiting) > 0 {
			// Their neighbours have landed.
			start = time.Now()
			err := view.Wait(ctx)
			p.schemas += time.Since(start)
			if err != nil {
				return err
			}
			if err := f.land(ctx, w, b, p, view); err != nil {
				return err
			}
		}
		p.age(b, time.Now())
	}
	start := time.Now()
	err := f.publish(ctx, m, b, p, w.rejects)
	p.publish = time.Since(start)
	return err
}

// land decodes the records of a part, or those that waited for their schemas, and writes their rows.
func (f *Function) land(ctx context.Context, w *worker, b *batch.Batch, p *part, view *schemas.View) error {
	start := time.Now()
	events := p.to.decoders.Get().(*event.Decoder)
	if view != nil {
		events.Use(view)
	}
	err := f.decode(ctx, w, events, b, p.to, start)
	p.to.decoders.Put(events)
	p.decode += time.Since(start)
	if err != nil {
		return err
	}
	for _, left := range w.left {
		if left.rule == ruleDrop {
			p.dropped++
		} else {
			p.sampled++
		}
	}
	start = time.Now()
	refused, err := p.to.Table.Write(ctx, w.rows)
	p.append += time.Since(start)
	if err != nil {
		return err
	}
	p.landed += len(w.rows) - len(refused)
	if err := f.account(ctx, p.to, b, w.left, start.UnixMicro()); err != nil {
		return err
	}
	w.refuse(refused)
	return nil
}

// view returns the schemas that the records of b name which the stream takes; nil: they need none of a registry.
func (f *Function) view(ctx context.Context, to *stream, b *batch.Batch) (*schemas.View, error) {
	if to.Schemas == nil {
		return nil, nil
	}
	var ids []schema.ID
	seen := make(map[schema.ID]bool)
	var prefix []byte // of the record before
	for i := range b.Records {
		r := &b.Records[i]
		if f.stream(r.Topic) != to || len(prefix) > 0 && bytes.HasPrefix(r.Value, prefix) {
			continue
		}
		id, body, err := to.Contract.SplitID(r.Value, batch.HeaderOf(r.Headers, to.Contract.IDHeader))
		if err != nil {
			continue // the decoder says so
		}
		if to.Contract.IDHeader == "" {
			prefix = r.Value[:len(r.Value)-len(body)]
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return to.Schemas.View(ctx, ids)
}

// retained is how much memory for rows a worker keeps, bytes.
const retained = 4 << 20

// undecodable dead-letters a payload that is no batch: no try will make it one.
func (f *Function) undecodable(ctx context.Context, m *push.Message, damage error, l *line) error {
	b := &batch.Batch{Records: []batch.Record{{Offset: batch.NoOffset, Value: m.Data}}}
	start := time.Now()
	p := part{}
	err := f.publish(ctx, m, b, &p, []reject{{0, batch.Rejection{
		Code:    string(contract.CodeUndecodablePayload),
		Message: fmt.Sprintf("The payload of Pub/Sub message %s cannot be read: %v", m.ID, damage),
	}}})
	p.publish = time.Since(start)
	l.add(&p)
	if err == nil {
		f.count([]part{p})
	}
	return err
}

// worker is the memory that one request needs, used from request to request.
type worker struct {
	batches batch.Decoder

	wire    []byte   // the rows, one after the other
	ends    []int    // where each ends in wire
	rows    [][]byte // the parts of wire
	records []int    // of each row: its record's index in the batch
	rejects []reject
	left    []leftOut

	waiting []int // records of which the registry does not know the schema, so far: indexes in the batch
}

// reject is a record that can be no row.
type reject struct {
	record int // its index in the batch
	why    batch.Rejection
}

// reset forgets the rows and the rejects of before.
func (w *worker) reset() {
	w.wire, w.ends, w.rows = w.wire[:0], w.ends[:0], w.rows[:0]
	w.records, w.rejects, w.left, w.waiting = w.records[:0], w.rejects[:0], w.left[:0], w.waiting[:0]
}

// refuseAll makes each record of b whose topic no contract takes a reject.
func (f *Function) refuseAll(w *worker, b *batch.Batch) {
	for i := range b.Records {
		topic := b.Records[i].Topic
		if f.stream(topic) != nil {
			continue
		}
		why := batch.Rejection{Code: string(contract.CodeNoContract), Message: "No contract takes the topic " +
			strconv.Quote(topic) +
			": add it to the topics of one, deploy that, and replay."}
		if topic == "" {
			why.Message = "The event came without a Kafka topic, and no contract takes such events: say bare: true in one, deploy that, and replay."
		}
		w.rejects = append(w.rejects, reject{i, why})
	}
}

// size is how many records of b the stream takes, and how many bytes their values have.
func (f *Function) size(b *batch.Batch, to *stream) (records, values int) {
	mine := false
	for i := range b.Records {
		r := &b.Records[i]
		if i == 0 || r.Topic != b.Records[i-1].Topic {
			mine = f.stream(r.Topic) == to
		}
		if mine {
			records++
			values += len(r.Value)
		}
	}
	return records, values
}

// decode makes each record of b that the stream to takes a row or a reject, or counts it as
// left out, or lets it wait for its schema; if some are waiting, only those.
func (f *Function) decode(ctx context.Context, w *worker, events *event.Decoder, b *batch.Batch, to *stream,
	now time.Time) error {
	again := slices.Clone(w.waiting)
	w.waiting = w.waiting[:0]
	w.wire, w.ends, w.rows, w.records, w.left = w.wire[:0], w.ends[:0], w.rows[:0], w.records[:0], w.left[:0]
	values := 0 // bytes
	if len(again) == 0 {
		var records int
		records, values = f.size(b, to)
		w.wire = slices.Grow(w.wire, to.rowBytes(records, values))
	}
	for next := 0; next < len(b.Records); {
		var err error
		if next, err = f.decodeFrom(ctx, w, events, b, to, now, again, next); err != nil {
			return err
		}
	}
	if values > 0 {
		to.learn(values, len(w.wire))
	}
	// Only now, because wire moves as it grows.
	begin := 0
	for _, end := range w.ends {
		w.rows = append(w.rows, w.wire[begin:end:end])
		begin = end
	}
	return nil
}

// decodeFrom does it for the records from the one called i on, and returns the next one: the end, or the one behind
// a record over which the decoder has panicked. That one alone bears it.
func (f *Function) decodeFrom(ctx context.Context, w *worker, events *event.Decoder, b *batch.Batch, to *stream,
	now time.Time, again []int, i int) (next int, err error) {
	meta := event.Meta{IngestedAt: now.UnixMicro()}
	defer func() {
		if p := recover(); p != nil {
			f.panics.tell(to.Contract.Name, p, debug.Stack())
			wire, failed := events.Retry(w.wire, b.Records[i].Value, meta)
			next, err = i+1, w.sort(i, wire, failed, len(again) == 0)
		}
	}()
	mine := false
	for from := i; i < len(b.Records); i++ {
		if i%256 == 0 && ctx.Err() != nil {
			return i, context.Cause(ctx) // nobody waits for the answer any more
		}
		r := &b.Records[i]
		if i == from || r.Topic != meta.Topic {
			mine = f.stream(r.Topic) == to
		}
		meta.Topic, meta.Partition = r.Topic, r.Partition
		if !mine {
			continue
		}
		if len(again) > 0 {
			if _, ok := slices.BinarySearch(again, i); !ok {
				continue
			}
		}
		meta.Offset, meta.Timestamp, meta.ReplayID = r.Offset, r.Timestamp, b.Replay(r)
		meta.Key, meta.Headers = r.Key, r.Headers
		wire, failed := events.AppendRow(w.wire, r.Value, meta)
		if err := w.sort(i, wire, failed, len(again) == 0); err != nil {
			return i, err
		}
	}
	return i, nil
}

// sort puts the record i where it belongs after the decoder has returned wire and err. mayWait says that it may wait
// for its schema.
func (w *worker) sort(i int, wire []byte, err error, mayWait bool) error {
	switch {
	case err == nil:
		w.wire = wire
		w.ends = append(w.ends, len(wire))
		w.records = append(w.records, i)
	case err == event.ErrDropped:
		w.left = append(w.left, leftOut{i, ruleDrop})
	case err == event.ErrSampled:
		w.left = append(w.left, leftOut{i, ruleSample})
	case schemas.Missing(err) && mayWait:
		w.waiting = append(w.waiting, i)
	default:
		why, ok := errors.AsType[*event.Rejection](err)
		if !ok {
			return err
		}
		w.rejects = append(w.rejects, reject{i, batch.Rejection{Code: string(why.Code), Field: why.Field,
			Message: why.Message}})
	}
	return nil
}

// refuse makes rejects of the rows that BigQuery refused.
func (w *worker) refuse(refused []warehouse.RowError) {
	for _, e := range refused {
		w.rejects = append(w.rejects, reject{w.records[e.Index], batch.Rejection{Code: e.Code, Message: e.Message}})
	}
}

// forgetRows leaves the memory of the rows to whoever uses it still.
func (w *worker) forgetRows() { w.wire, w.rows = nil, nil }

// part is what becomes of the records of one stream in a batch.
type part struct {
	to                      *stream // nil: no contract takes them
	landed                  int
	dropped, sampled        int
	rejected                map[string]int // by code
	oldest                  time.Duration
	decode, append, publish time.Duration
	schemas                 time.Duration // waited for a registry
}

// contract is the name of the part's contract; empty: none takes the records.
func (p *part) contract() string {
	if p.to == nil {
		return ""
	}
	return p.to.Contract.Name
}

// line collects the fields of the request's log line.
type line struct {
	part               // the sum of the parts
	known       bool   // the batch could be decoded
	contracts   string // of the parts
	ranges      []batch.Range
	traceparent string
	records     int
	parent      trace.SpanContext
	links       []trace.Link
}

func (l *line) batch(b *batch.Batch) {
	l.known = true
	l.ranges, l.records, l.traceparent = b.Ranges(), len(b.Records), b.Traceparent
}

// add takes down what has become of a part.
func (l *line) add(p *part) {
	if name := p.contract(); l.contracts == "" {
		l.contracts = name
	} else if name != "" {
		l.contracts += "+" + name
	}
	l.landed += p.landed
	l.dropped += p.dropped
	l.sampled += p.sampled
	for code, n := range p.rejected {
		if l.rejected == nil {
			l.rejected = make(map[string]int)
		}
		l.rejected[code] += n
	}
	l.oldest = max(l.oldest, p.oldest)
	l.decode += p.decode
	l.schemas += p.schemas
	l.append += p.append
	l.publish += p.publish
}

// firstTimestamp is the year 2000, in milliseconds. A smaller number is no time of a record:
// who stamps in seconds seems to be in 1970, and would be 56 years late.
const firstTimestamp = 946_684_800_000

// age takes down how old the oldest record was when it landed.
func (p *part) age(b *batch.Batch, now time.Time) {
	for i := range b.Records {
		if t := b.Records[i].Timestamp; t >= firstTimestamp {
			p.oldest = max(p.oldest, now.Sub(time.UnixMilli(t)))
		}
	}
}

// note writes the fields: coordinates (absent for events that did not come through
// Kafka), counts, and times in milliseconds. age_ms is that of the oldest record,
// from Kafka's timestamp to BigQuery's acknowledgement. The counts of a line whose
// outcome is not ack come again with the message: sum up those of acks only.
func (l *line) note(m *push.Message) {
	if l.contracts != "" {
		m.Note(slog.String("contract", l.contracts))
	}
	m.NoteRanges(l.ranges)
	if l.known {
		m.Note(slog.Int("records", l.records), slog.Int("landed", l.landed))
	}
	if n := l.dropped + l.sampled; n > 0 {
		m.Note(slog.Int("left_out", n))
	}
	if l.dropped > 0 {
		m.Note(slog.Int("dropped", l.dropped))
	}
	if l.sampled > 0 {
		m.Note(slog.Int("sampled_out", l.sampled))
	}
	push.NoteRejected(m, l.rejected)
	m.Note(slog.Float64("decode_ms", push.Milliseconds(l.decode)),
		slog.Float64("append_ms", push.Milliseconds(l.append)),
		slog.Float64("publish_ms", push.Milliseconds(l.publish)))
	if l.schemas > 0 {
		m.Note(slog.Float64("schemas_ms", push.Milliseconds(l.schemas)))
	}
	if l.oldest > 0 {
		m.Note(slog.Float64("age_ms", push.Milliseconds(l.oldest)))
	}
	m.NoteTrace(l.traceparent)
}

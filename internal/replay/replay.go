// Package replay sends dead letters through the pipeline again, once what made them
// fail is repaired, or repaired by a jq expression on the way.
//
//	r := replay.New("clickstream", replay.Filter{Codes: []string{"invalid_event_type"}})
//	plan, err := replay.Look(ctx, engine, r, judge)          // the dry run: what would be sent
//	err = replay.Execute(ctx, engine, r, target, options)    // sends; r.Save between steps
//	r, err := replay.Load(file)                              // after a kill: Execute goes on
//
// Each dead letter is sent once, with its original bytes (or what the transform makes
// of them), its Kafka key, timestamp and coordinates, and the replay's id, which
// its row keeps in replay_id. Records that have landed since they failed are left
// out, so that a second replay of the same letters finds nothing to do; and should
// one be sent twice all the same, the view events shows the event once.
//
// A target is a Pub/Sub topic or a Kafka topic. Through Kafka records get new
// coordinates, and the old ones stay in a record header only: prefer Pub/Sub.
package replay

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/deadletter"
	"sluice/internal/query"
	"sluice/internal/registry"
)

// Filter chooses dead letters; what is zero chooses all.
type Filter struct {
	Codes []string  `json:"codes,omitempty"`
	Field string    `json:"field,omitempty"`
	Since time.Time `json:"since,omitzero"` // of failed_at, inclusive
	// rows of earlier events are not read to find out what has landed
	EventsSince time.Time `json:"events_since,omitzero"`
	Until       time.Time `json:"until,omitzero"` // exclusive
	Topic       string    `json:"topic,omitempty"`
	Partition   *int64    `json:"partition,omitempty"`
	FirstOffset *int64    `json:"first_offset,omitempty"`
	LastOffset  *int64    `json:"last_offset,omitempty"` // inclusive
	EventID     string    `json:"event_id,omitempty"`
	// Landed takes those too that have landed since they failed.
	Landed bool `json:"landed,omitempty"`
}

// Replay is one replay, and how far it is. It is kept in a file between steps.
type Replay struct {
	ID      string `json:"id"`
	Dataset string `json:"dataset"`
	// Contracts say which tables the events go to; nil: the built-in one. They are not kept
	// in the replay's file.
	Contracts []*contract.Contract `json:"-"`
	// Writers find the schemas that events in Avro and Protobuf were written with, for Transform.
	Writers   *registry.Writers `json:"-"`
	Started   time.Time         `json:"started"` // later dead letters are not part of it
	Filter    Filter            `json:"filter"`
	Transform string            `json:"transform,omitempty"` // a jq expression
	Limit     int64             `json:"limit,omitempty"`     // letters to send; 0: all
	Via       string            `json:"via,omitempty"`       // ViaPubSub (also if empty) or ViaKafka
	// the topic; empty: the caller's default, in Kafka each letter's own
	To string `json:"to,omitempty"`

	Cursor  *cursor          `json:"cursor,omitempty"` // the last letter that is done with
	Sent    int64            `json:"sent"`
	Skipped map[string]int64 `json:"skipped"` // letters that cannot be sent, by reason
	Done    bool             `json:"done"`

	looked, candidates int64 // letters that this run has looked at, and of how many
}

// Progress is the share of the letters, 0 to 1, that this run has looked at.
func (r *Replay) Progress() float64 {
	all := r.candidates
	if r.Limit > 0 {
		all = min(all, r.looked+max(r.Limit-r.Sent, 0))
	}
	if all == 0 {
		return 0
	}
	return float64(r.looked) / float64(all)
}

// The ways that a replay can take.
const (
	ViaPubSub = "pubsub"
	ViaKafka  = "kafka"
)

// New returns a replay that has not begun.
func New(dataset string, f Filter) *Replay {
	now := time.Now().UTC().Truncate(time.Microsecond)
	var random [3]byte
	_, _ = rand.Read(random[:])
	return &Replay{
		ID: now.Format("20060102-150405-") + hex.EncodeToString(random[:]), Dataset: dataset, Started: now,
		Filter: f, Skipped: map[string]int64{},
	}
}

// Load reads a replay from its file.
func Load(file string) (*Replay, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &Replay{Skipped: map[string]int64{}}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s is no replay's file: %w", file, err)
	}
	if r.ID == "" || r.Dataset == "" || r.Started.IsZero() {
		return nil, fmt.Errorf("%s is no replay's file: it has no id, dataset or start", file)
	}
	return r, nil
}

// Save writes the replay to its file: the whole of it or nothing.
func (r *Replay) Save(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// Letter is one dead letter.
type Letter struct {
	Code, Field string
	FailedAt    time.Time
	Topic       string // empty: the record did not come through Kafka
	Partition   int32
	Offset      int64 // batch.NoOffset without Kafka
	Timestamp   int64 // Kafka's, milliseconds since the Unix epoch; 0: none
	Key         []byte
	Headers     []batch.RecordHeader
	Value       []byte // the event; nil: null
	Size        int64  // of the whole event where only its head was kept
	LeftOut     string // what else of the record was not kept
	Contract    string // that it was held against; empty: not known
	MessageID   string // of the Pub/Sub message that failed
	Replay      string // the id of the replay that sends it
}

// cursor is a letter's place in the order of a replay. The letters of one message
// that did not come through Kafka share a place.
type cursor struct {
	FailedAt  time.Time `json:"failed_at"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	MessageID string    `json:"message_id"`
}

func (l *Letter) cursor() *cursor {
	return &cursor{l.FailedAt, l.Topic, l.Partition, l.Offset, l.MessageID}
}

func (c *cursor) compare(o *cursor) int {
	return cmp.Or(c.FailedAt.Compare(o.FailedAt), strings.Compare(c.Topic, o.Topic), cmp.Compare(c.Partition,
		o.Partition),
		cmp.Compare(c.Offset, o.Offset), strings.Compare(c.MessageID, o.MessageID))
}

// query is that of the letters behind the cursor, in the cursor's order.
func (r *Replay) query() (statement string, args []any, err error) {
	bounds := contract.Query{Dataset: r.Dataset, Contracts: r.Contracts, EventsSince: r.Filter.EventsSince,
		FailedSince: r.Filter.Since}
	if c := r.Cursor; c != nil && c.FailedAt.After(bounds.FailedSince) {
		bounds.FailedSince = c.FailedAt
	}
	text, err := bounds.SQL("replay_candidates")
	if err != nil {
		return "", nil, err
	}
	where := []string{"failed_at <= ?"}
	args = append(args, r.Started)
	add := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	f := &r.Filter
	if !f.Landed {
		add("NOT landed")
	}
	if r.Cursor != nil {
		add("failed_at >= ?", r.Cursor.FailedAt)
	}
	if !f.Since.IsZero() {
		add("failed_at >= ?", f.Since)
	}
	if !f.Until.IsZero() {
		add("failed_at < ?", f.Until)
	}
	if len(f.Codes) > 0 {
		codes := make([]any, len(f.Codes))
		for i, c := range f.Codes {
			codes[i] = c
		}
		add("error_code IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(codes)), ", ")+")", codes...)
	}
	if f.Field != "" {
		add("error_field = ?", f.Field)
	}
	if f.Topic != "" {
		add("kafka_topic = ?", f.Topic)
	}
	if f.Partition != nil {
		add("kafka_partition = ?", *f.Partition)
	}
	if f.FirstOffset != nil {
		add("kafka_offset >= ?", *f.FirstOffset)
	}
	if f.LastOffset != nil {
		add("kafka_offset <= ?", *f.LastOffset)
	}
	return "SELECT *, COUNT(*) OVER () AS letters FROM (\n" + text + ") AS candidates\nWHERE " + strings.Join(where, " AND ") + `
ORDER BY failed_at, COALESCE(kafka_topic, ''), COALESCE(kafka_partition, 0), COALESCE(kafka_offset, -1), COALESCE(pubsub_message_id, '')`, args, nil
}

// letters runs f for each letter behind the cursor until f returns false.
func (r *Replay) letters(ctx context.Context, engine query.Engine, f func(*Letter) bool) error {
	statement, args, err := r.query()
	if err != nil {
		return err
	}
	r.looked = 0
	for row, err := range engine.Query(ctx, statement, args...) {
		if err != nil {
			return err
		}
		l, err := newLetter(row)
		if err != nil {
			return err
		}
		r.looked, r.candidates = r.looked+1, row[len(row)-1].(int64)
		l.Replay = r.ID
		if r.Cursor != nil && l.cursor().compare(r.Cursor) <= 0 || !matches(l.Value, r.Filter.EventID) {
			continue
		}
		if !f(l) {
			return nil
		}
	}
	return nil
}

// newLetter reads a row of replay_candidates.sql.
func newLetter(row []any) (*Letter, error) {
	text := func(i int) string { s, _ := row[i].(string); return s }
	number := func(i int, absent int64) int64 {
		if n, ok := row[i].(int64); ok {
			return n
		}
		return absent
	}
	l := &Letter{
		Code: text(3), Field: text(4), FailedAt: row[5].(time.Time), Topic: text(6), Partition: int32(number(7,
			0)), Offset: number(8, -1),
		Size: number(2, 0), MessageID: text(11),
	}
	l.Key, _ = row[9].([]byte)
	if at, ok := row[10].(time.Time); ok {
		l.Timestamp = at.UnixMilli()
	}
	if s, ok := row[0].(string); ok {
		l.Value = []byte(s)
	} else if b, ok := row[1].([]byte); ok {
		l.Value = b
	}
	l.LeftOut, l.Contract = text(14), text(15)
	var err error
	if l.Headers, err = deadletter.ParseHeaders(text(13)); err != nil {
		return nil, err
	}
	// Those that a replay before put there: this one has its own.
	l.Headers = slices.DeleteFunc(l.Headers, func(h batch.RecordHeader) bool {
		return string(h.Key) == batch.ReplayIDHeader || string(h.Key) == originalHeader
	})
	return l, nil
}

// matches reports whether the event has the id. One that is no JSON matches if it
// holds the id in quotes anywhere.
func matches(value []byte, id string) bool {
	if id == "" {
		return true
	}
	var e struct {
		ID json.RawMessage `json:"event_id"`
	}
	if json.Unmarshal(value, &e) == nil {
		var s string
		return json.Unmarshal(e.ID, &s) == nil && s == id
	}
	quoted, err := json.Marshal(id)
	return err == nil && strings.Contains(string(value), string(quoted))
}

// The reasons for which a letter is not sent.
const (
	SkipCut       = "only the event's head was kept"
	SkipLeftOut   = "the record's key or headers were not kept, being too large"
	SkipTombstone = "the record is a tombstone: its value is null"
	SkipNoRecord  = "it did not come through Kafka: name a topic for it, or send it through Pub/Sub"
	SkipPayload   = "it is a payload and no record: it can be sent through Pub/Sub only"
	SkipNotJSON   = "the event is no JSON, which --transform needs"
	SkipTransform = "--transform failed on the event"
	SkipNothing   = "--transform gave no event for it"
	SkipSeveral   = "--transform gave several events for it, which would share its coordinates"

	SkipSchema     = "its schema is not known or cannot be used, and --transform needs it"
	SkipUnreadable = "its schema cannot read it, which --transform needs"
	SkipUnwritable = "its schema cannot write what --transform made of it"
)

// prepare makes the letter what is to be sent, or says why it cannot be.
func (r *Replay) prepare(ctx context.Context, t *transform, l *Letter) (skip string) {
	switch {
	case l.Size > 0:
		return SkipCut
	case l.LeftOut != "":
		return SkipLeftOut
	case l.Value == nil:
		return SkipTombstone
	case r.Via == ViaKafka && l.undecodable():
		return SkipPayload
	case r.Via == ViaKafka && l.Topic == "" && r.To == "":
		return SkipNoRecord
	}
	return t.apply(ctx, l)
}

// undecodable reports whether the letter is a whole payload that was no batch.
func (l *Letter) undecodable() bool { return l.Code == string(contract.CodeUndecodablePayload) }

// Plan is what a dry run finds.
type Plan struct {
	Letters int64         `json:"letters"` // that would be sent
	Codes   []PlanCode    `json:"codes"`
	Skipped []PlanSkipped `json:"skipped"`
	Sample  []string      `json:"sample"` // of letters, without values
}

// PlanCode counts the letters that failed for one reason.
type PlanCode struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"`
	Letters int64  `json:"letters"`
	// Fails counts those that today's contract would reject again, as they would be sent
	Fails int64 `json:"fails"`
}

// PlanSkipped counts letters that cannot be sent.
type PlanSkipped struct {
	Reason  string `json:"reason"`
	Letters int64  `json:"letters"`
}

const sampled = 10

// Judge says whether today's contract would reject a record of that Kafka topic, empty if it
// did not come through Kafka; the error is that it could not find out.
type Judge func(topic string, r *batch.Record) (rejected bool, err error)

// Look finds out what r would send, and sends nothing. The judge says which letters
// would be rejected again.
func Look(ctx context.Context, engine query.Engine, r *Replay, judge Judge) (*Plan, error) {
	t, err := newTransform(r)
	if err != nil {
		return nil, err
	}
	p := &Plan{Codes: []PlanCode{}, Skipped: []PlanSkipped{}, Sample: []string{}}
	var trouble error
	err = r.letters(ctx, engine, func(l *Letter) bool {
		if skip := r.prepare(ctx, t, l); skip != "" {
			if t.trouble != nil {
				return false
			}
			i := slices.IndexFunc(p.Skipped, func(s PlanSkipped) bool { return s.Reason == skip })
			if i < 0 {
				i = len(p.Skipped)
				p.Skipped = append(p.Skipped, PlanSkipped{Reason: skip})
			}
			p.Skipped[i].Letters++
			return true
		}
		i := slices.IndexFunc(p.Codes, func(c PlanCode) bool { return c.Code == l.Code && c.Field == l.Field })
		if i < 0 {
			i = len(p.Codes)
			p.Codes = append(p.Codes, PlanCode{Code: l.Code, Field: l.Field})
		}
		p.Codes[i].Letters++
		rejected, err := judge(l.Topic, &batch.Record{Offset: l.Offset, Timestamp: l.Timestamp, Key: l.Key,
			Value: l.Value, Headers: l.Headers})
		if err != nil {
			trouble = err
			return false
		}
		if rejected {
			p.Codes[i].Fails++
		}
		if len(p.Sample) < sampled {
			p.Sample = append(p.Sample, l.String())
		}
		p.Letters++
		return r.Limit == 0 || p.Letters < r.Limit
	})
	if err == nil {
		err = cmp.Or(ctx.Err(), trouble, t.trouble) // an interrupted transform looks like one that failed
	}
	slices.SortFunc(p.Codes, func(a, b PlanCode) int { return cmp.Compare(b.Letters, a.Letters) })
	return p, err
}

// String tells where a letter comes from, and nothing of its event.
func (l *Letter) String() string {
	place := "not from Kafka, message " + l.MessageID
	if l.Offset >= 0 {
		place = fmt.Sprintf("%s/%d offset %d", l.Topic, l.Partition, l.Offset)
	}
	reason := l.Code
	if l.Field != "" {
		reason += " " + l.Field
	}
	return fmt.Sprintf("%s  %s  %s  %d bytes", l.FailedAt.UTC().Format("2006-01-02 15:04:05"), place, reason,
		len(l.Value))
}

// Target takes letters.
type Target interface {
	// Send returns nil when all the letters are durable on the other side.
	Send(ctx context.Context, letters []*Letter) error
}

// Options say how Execute works.
type Options struct {
	File     string        // the replay is saved here after every step; empty: nowhere
	Rate     float64       // letters a second at most; 0: as fast as it goes
	Progress func(*Replay) // called after every step, if not nil
}

// The most that is sent before the replay is saved: as much may be sent again after
// a kill, and is held in memory.
const (
	maxStep      = 1000    // letters
	maxStepBytes = 8 << 20 // of their events
)

// Execute sends the letters behind the cursor to the target. What is sent is never
// unsent: an error leaves the replay at the last step that is done, to go on from.
func Execute(ctx context.Context, engine query.Engine, r *Replay, target Target, o Options) error {
	t, err := newTransform(r)
	if err != nil {
		return err
	}
	if err := r.save(o); err != nil {
		return err
	}
	step := maxStep
	if o.Rate > 0 {
		step = min(maxStep, max(1, int(o.Rate)))
	}
	begin, sent := time.Now(), int64(0)
	var letters []*Letter
	var bytes int
	var last *cursor
	skipped := map[string]int64{}
	send := func() error {
		if last == nil {
			return nil
		}
		if o.Rate > 0 {
			if err := sleep(ctx, time.Until(begin.Add(time.Duration(float64(sent)/o.Rate*float64(time.Second))))); err != nil {
				return err
			}
		}
		if len(letters) > 0 {
			if err := target.Send(ctx, letters); err != nil {
				return err
			}
		}
		sent += int64(len(letters))
		r.Sent += int64(len(letters))
		r.Cursor = last
		for reason, n := range skipped {
			r.Skipped[reason] += n
		}
		clear(skipped)
		letters, bytes, last = nil, 0, nil
		if err := r.save(o); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(r)
		}
		return nil
	}
	var failed error
	err = r.letters(ctx, engine, func(l *Letter) bool {
		if r.Limit > 0 && r.Sent+int64(len(letters)) >= r.Limit {
			return false
		}
		// A step ends between two places, never within one.
		at := l.cursor()
		if (len(letters) >= step || bytes >= maxStepBytes) && at.compare(last) != 0 {
			if failed = send(); failed != nil {
				return false
			}
		}
		skip := r.prepare(ctx, t, l)
		if failed = cmp.Or(ctx.Err(), t.trouble); failed != nil { // and skip says nothing
			return false
		}
		last = at
		if skip != "" {
			skipped[skip]++
			return true
		}
		letters = append(letters, l)
		bytes += len(l.Value)
		return true
	})
	if err := cmp.Or(err, failed); err != nil {
		return err
	}
	if err := send(); err != nil {
		return err
	}
	r.Done = true
	return r.save(o)
}

// save keeps the replay in its file, if it has one.
func (r *Replay) save(o Options) error {
	if o.File == "" {
		return nil
	}
	if err := r.Save(o.File); err != nil {
		return fmt.Errorf("keep the replay's progress: %w", err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Outcome is what became of a replay so far.
type Outcome struct {
	ID       string    `json:"id"`
	Landed   int64     `json:"landed_rows"`
	Rejected int64     `json:"rejected_rows"`
	First    time.Time `json:"first_arrived_at,omitzero"` // zero: nothing has arrived
	Last     time.Time `json:"last_arrived_at,omitzero"`
}

// Outcomes lists the replays that have brought rows.
func Outcomes(ctx context.Context, engine query.Engine, q contract.Query) ([]Outcome, error) {
	text, err := q.SQL("replays")
	if err != nil {
		return nil, err
	}
	all := []Outcome{}
	for row, err := range engine.Query(ctx, text) {
		if err != nil {
			return nil, err
		}
		all = append(all, Outcome{row[0].(string), row[1].(int64), row[2].(int64), row[3].(time.Time),
			row[4].(time.Time)})
	}
	return all, nil
}

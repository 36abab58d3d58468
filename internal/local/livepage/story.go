package livepage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/internal/batch"
	"sluice/internal/local/warehouse"
)

// Story is what is known of one record.
type Story struct {
	Coordinates
	Table string `json:"table"` // where its row is, or would be; empty: no contract takes the topic
	// Outcome is landed, rejected, both, or waiting.
	Outcome string   `json:"outcome"`
	Copies  int      `json:"copies"` // rows in the table; more than one after a redelivery
	TookMS  float64  `json:"took_ms"`
	Code    string   `json:"code,omitempty"`
	Field   string   `json:"field,omitempty"`
	Error   string   `json:"error,omitempty"`
	Steps   []Step   `json:"steps"`
	Fields  []Field  `json:"fields,omitempty"` // of the earliest row in the table
	Letter  []Field  `json:"letter,omitempty"` // of the latest row in events_dlq
	Notes   []string `json:"notes,omitempty"`
	Sent    bool     `json:"sent"`             // from this page
	Replay  string   `json:"replay,omitempty"` // that brought the row in the table

	landed []mark // of each row in the table, the earliest first
	failed []mark // of each row in events_dlq, the earliest first
}

// mark is what a row tells of how it came to be.
type mark struct {
	at        int64  // Unix microseconds: ingested_at or failed_at
	replay    string // the replay that brought the record; empty: none
	message   string // of events_dlq: the Pub/Sub message that the record failed in
	code, why string // of events_dlq
	told      bool   // a push request's steps tell of it
}

// Step is a moment in a record's life.
type Step struct {
	At   int64  `json:"at"` // Unix microseconds
	What string `json:"what"`
	More string `json:"more,omitempty"`
	By   string `json:"by"`             // how this is known
	Kind string `json:"kind,omitempty"` // "bad": a failure, "end": where the record has come to rest
}

// Field is a column and its value.
type Field struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

// deadLetter is the function that keeps the rejected.
const deadLetter = "DeadLetter"

// sent remembers when the page published its records.
type sent struct {
	mu    sync.Mutex
	times map[Coordinates]sentTimes
	order []Coordinates
}

type sentTimes struct{ begun, acked time.Time }

func newSent() *sent { return &sent{times: make(map[Coordinates]sentTimes)} }

func (s *sent) add(c Coordinates, t sentTimes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[c] = t
	if s.order = append(s.order, c); len(s.order) > 1000 {
		delete(s.times, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *sent) get(c Coordinates) (sentTimes, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.times[c]
	return t, ok
}

// record is GET /api/record?topic=T&partition=P&offset=O.
func (p *Page) record(w http.ResponseWriter, r *http.Request) {
	partition, err := strconv.ParseInt(r.FormValue("partition"), 10, 32)
	topic := cmp.Or(r.FormValue("topic"), p.topics()[0])
	offset, err2 := strconv.ParseInt(r.FormValue("offset"), 10, 64)
	if cmp.Or(err, err2) != nil || partition < 0 || offset < 0 {
		refuse(w, http.StatusBadRequest, "partition and offset must be numbers from 0 on.")
		return
	}
	if !slices.Contains(p.topics(), topic) {
		refuse(w, http.StatusNotFound, "There is no such topic.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	story, err := p.story(ctx, Coordinates{topic, partition, offset})
	switch {
	case errors.Is(err, errNoRecord):
		refuse(w, http.StatusNotFound, err.Error())
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error())
	default:
		reply(w, story)
	}
}

var errNoRecord = errors.New("there is no record")

// story puts together what rows, requests and log lines tell of a record.
func (p *Page) story(ctx context.Context, c Coordinates) (*Story, error) {
	s := &Story{Coordinates: c, Table: p.table(c.Topic), TookMS: -1}
	if ends := p.stack.Kafka.EndOffsets(c.Topic); int(c.Partition) >= len(ends) || c.Offset >= ends[c.Partition] {
		return nil, fmt.Errorf("%w at partition %d, offset %d of topic %s", errNoRecord, c.Partition, c.Offset, c.Topic)
	}
	kafkaAt, err := p.rows(ctx, s)
	if err != nil {
		return nil, err
	}
	if t, ok := p.sent.get(c); ok {
		s.Sent = true
		s.step(t.begun.UnixMicro(), "You pressed Publish", "", "this page's clock", "")
		s.step(t.acked.UnixMicro(), "Kafka acknowledged the record", fmt.Sprintf("partition %d, offset %d", c.Partition,
			c.Offset), "the producer's delivery report", "")
	}
	if kafkaAt > 0 {
		s.step(kafkaAt, "The record's timestamp", "set by the producer, to the millisecond", "kafka_timestamp", "")
	}
	deliveries := s.own(p.observer.find(s.mayBring))
	for i := range deliveries {
		s.delivery(&deliveries[i])
	}
	s.rest(p.observer.since().UnixMicro())
	if s.Outcome == "waiting" && len(deliveries) == 0 {
		s.Notes = append(s.Notes, "No function has seen it yet: it waits in Kafka, in the bridge or in Pub/Sub.")
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return s, nil
}

func (s *Story) step(at int64, what, more, by, kind string) {
	s.Steps = append(s.Steps, Step{At: at, What: what, More: more, By: by, Kind: kind})
}

// complete reports whether the message had every record between the offsets that its log
// line tells, as a bridge's has. A replayed message and one of the dead-letter topic have some, in
// any order, and its log line does not tell which; neither does that of a message of many partitions.
func (d *Delivery) complete() bool {
	between := int64(0)
	for _, r := range d.Ranges {
		between += r.Last - r.First + 1
	}
	return d.Records == between
}

// covers reports whether the record lies between the offsets of its partition in the message, as far as
// the log line tells them.
func (d *Delivery) covers(topic string, c Coordinates) bool {
	return len(d.Ranges) == 0 || slices.ContainsFunc(d.Ranges, func(r batch.Range) bool {
		return r.Topic == topic && int64(r.Partition) == c.Partition && r.First <= c.Offset && c.Offset <= r.Last
	})
}

// during reports whether the moment lies in the request.
func (d *Delivery) during(at int64) bool {
	return d.Received.UnixMicro() <= at && at <= d.Answered.UnixMicro()
}

// mayBring reports whether the push request may have brought the record.
func (s *Story) mayBring(d *Delivery) bool {
	if d.Topic == "" || len(d.Ranges) == 0 {
		return d.Topic == s.Topic
	}
	return d.covers(s.Topic, s.Coordinates)
}

// own returns those of the push requests that brought the record.
func (s *Story) own(all []Delivery) []Delivery {
	letters := map[string]bool{} // messages of the dead-letter topic
	for _, m := range s.failed {
		letters[letterOf(all, &m)] = true
	}
	var own []Delivery
	for i := range all {
		d := &all[i]
		switch {
		case d.Function == deadLetter:
			continue
		case !d.complete() && s.rowIn(d) == nil && s.failureIn(d) == nil:
			continue
		}
		own = append(own, *d)
		// Done and without a row: it was rejected, and its dead letter is on its way.
		if s.Outcome == "waiting" && d.Outcome == "ack" {
			letters[letterOf(all, &mark{at: d.Received.UnixMicro()})] = true
		}
	}
	for i := range all {
		if d := &all[i]; d.Function == deadLetter && d.MessageID != "" && letters[d.MessageID] {
			own = append(own, *d)
		}
	}
	slices.SortStableFunc(own, func(a, b Delivery) int { return a.Received.Compare(b.Received) })
	return own
}

// letterOf returns the message that brought the failure to DeadLetter: the failed
// message itself, or the first that was published and kept after the failure.
func letterOf(all []Delivery, m *mark) string {
	for i := range all {
		if d := &all[i]; d.Function == deadLetter && d.MessageID == m.message {
			return d.MessageID
		}
	}
	for i := range all {
		d := &all[i]
		if d.Function != deadLetter || d.Received.UnixMicro() < m.at || m.code != "" && d.Outcome != "ack" {
			continue
		}
		// Pub/Sub tells the time to the millisecond, of an unwrapped push only.
		if d.Published.IsZero() || d.Published.UnixMilli() >= m.at/1000 {
			return d.MessageID
		}
	}
	return ""
}

// rowIn returns the record's row that Ingest made in the request.
func (s *Story) rowIn(d *Delivery) *mark {
	for i := range s.landed {
		m := &s.landed[i]
		if d.during(m.at) && d.covers(s.Topic, s.Coordinates) {
			return m
		}
	}
	return nil
}

// failureIn returns the record's dead letter that came of the request.
func (s *Story) failureIn(d *Delivery) *mark {
	for i := range s.failed {
		if m := &s.failed[i]; d.during(m.at) && m.message == d.MessageID {
			return m
		}
	}
	return nil
}

// delivery adds the steps of a push request.
func (s *Story) delivery(d *Delivery) {
	source := "the log line of " + d.Function
	message := fmt.Sprintf("message %s: %s of %s, %d bytes", d.MessageID, plural(d.Records, "record"),
		plural(d.Parts, "partition"), d.Bytes)
	dead := d.Function == deadLetter
	row, failure := s.rowIn(d), s.failureIn(d)
	again := slices.ContainsFunc(s.Steps, func(o Step) bool {
		return o.By == "the push request's headers" &&
			o.More == message
	})
	if !d.Published.IsZero() && !again {
		what := "The bridge published its batch to Pub/Sub"
		switch {
		case dead && slices.ContainsFunc(s.failed, func(m mark) bool { return m.message == d.MessageID }):
			what = "It was published to the dead-letter topic" // by the bridge, or by Pub/Sub, which gave it up
		case dead:
			what = "Ingest published it to the dead-letter topic"
		case row != nil && row.replay != "":
			what = "Replay " + row.replay + " published it to Pub/Sub"
		case failure != nil && failure.replay != "":
			what = "Replay " + failure.replay + " published it to Pub/Sub"
		}
		s.step(d.Published.UnixMicro(), what, message, "the push request's headers", "")
	}
	received, answered := d.Received.UnixMicro(), d.Answered.UnixMicro()
	s.step(received, "Pub/Sub pushed the message to "+d.Function, "", "the time of the request", "")
	after := func(ms float64) int64 { return received + int64(ms*1000) }
	switch {
	case d.Outcome != "ack":
		s.step(answered, fmt.Sprintf("%s answered %d: deliver it again", d.Function, d.Status), d.Error, source, "bad")
	case dead:
		s.step(after(d.DecodeMS+d.AppendMS), "BigQuery acknowledged the row in events_dlq",
			fmt.Sprintf("append took %.1f "+
				"ms", d.AppendMS), source, "end")
	case failure != nil:
		failure.told = true
		at, what := after(d.DecodeMS), "Ingest rejected the event: "+failure.code
		if failure.code == "row_rejected" {
			at, what = after(d.DecodeMS+d.AppendMS), "BigQuery refused the row"
		}
		s.step(at, what, failure.why, source, "bad")
		s.step(after(d.DecodeMS+d.AppendMS+d.PublishMS), "The dead-letter topic acknowledged it",
			fmt.Sprintf("with the other rejects of its batch, in %.1f ms", d.PublishMS), source, "")
	case row != nil:
		row.told = true
		s.step(row.at, "Ingest began to make the row", fmt.Sprintf("decoding the batch took %.1f ms", d.DecodeMS),
			"ingested_at", "")
		at := row.at + int64((d.DecodeMS+d.AppendMS)*1000)
		s.step(at, "BigQuery acknowledged the row", fmt.Sprintf("append took %.1f ms for %s", d.AppendMS,
			plural(d.Landed, "row")), source, "end")
		s.step(max(answered, at), "Ingest answered 204: the message is done", "", "the time of the answer", "")
	default: // its row or its dead letter is not to be seen yet
		s.step(answered, "Ingest answered 204: the message is done", "", "the time of the answer", "")
	}
}

// rest adds the rows of which no push request tells: of a request that is still being
// answered, or of one before since, from when on requests are remembered.
func (s *Story) rest(since int64) {
	forgotten := false
	add := func(at int64, what, more, by string) {
		kind := ""
		if at < since {
			forgotten, kind = true, "end"
		}
		s.step(at, what, more, by, kind)
	}
	for _, m := range s.landed {
		if !m.told {
			add(m.at, "Ingest made the row", "", "ingested_at")
		}
	}
	for _, m := range s.failed {
		if !m.told {
			add(m.at, "Rejected: "+m.code, m.why, "failed_at")
		}
	}
	if forgotten {
		s.Notes = append(s.Notes, fmt.Sprintf("This page remembers the latest %d push requests: of an earlier one only "+
			"the row speaks.", remembered))
	}
}

func plural(n int64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// rows reads the record's rows into s and returns its Kafka timestamp in
// microseconds, 0 if no row tells.
func (p *Page) rows(ctx context.Context, s *Story) (kafkaAt int64, err error) {
	conn, err := p.stack.Warehouse.DB().Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	// of returns the columns that have a value of each row, and the row's mark.
	of := func(table, moment string) (rows [][]Field, marks []mark, err error) {
		// The numbers are numbers, and the topic is one of the pipeline's: nothing of the request's text is in the
		// statement.
		names, answer, err := warehouse.Answer(ctx, conn, fmt.Sprintf(
			"SELECT *, epoch_us(kafka_timestamp) AS kafka_us, epoch_us(%s) AS moment_us FROM %s WHERE kafka_topic = '%s' AND "+
				"kafka_partition = %d AND kafka_offset = %d ORDER BY moment_us",
			moment, table, strings.ReplaceAll(s.Topic, "'", "''"), s.Partition, s.Offset))
		if err != nil {
			return nil, nil, err
		}
		for _, values := range answer {
			var fields []Field
			var m mark
			for i, name := range names {
				text, _ := values[i].(string)
				number, _ := values[i].(int64)
				switch name {
				case "kafka_us":
					kafkaAt = cmp.Or(number, kafkaAt)
					continue
				case "moment_us":
					m.at = number
					continue
				case "replay_id":
					m.replay = text
				case "pubsub_message_id":
					m.message = text
				case "error_code":
					m.code = text
				case "error":
					m.why = text
				}
				if values[i] != nil {
					fields = append(fields, Field{name, values[i]})
				}
			}
			rows, marks = append(rows, fields), append(marks, m)
		}
		return rows, marks, nil
	}
	var events [][]Field
	var landed []mark
	if s.Table != "" {
		if events, landed, err = of(quoted(s.Table), "ingested_at"); err != nil {
			return 0, err
		}
	}
	letters, failed, err := of("events_dlq", "failed_at")
	if err != nil {
		return 0, err
	}
	s.landed, s.failed = landed, failed
	s.Outcome = "waiting"
	took := func(at int64) {
		if kafkaAt > 0 {
			s.TookMS = float64(at-kafkaAt) / 1000
		}
	}
	if n := len(letters); n > 0 {
		s.Outcome = "rejected"
		s.Letter = letters[n-1]
		for _, f := range s.Letter {
			if f.Name == "error_field" {
				s.Field, _ = f.Value.(string)
			}
		}
		s.Code, s.Error = failed[n-1].code, failed[n-1].why
		took(failed[n-1].at)
	}
	if len(events) > 0 {
		s.Outcome = map[bool]string{false: "landed", true: "both"}[len(letters) > 0]
		s.Copies = len(events)
		s.Fields = events[0]
		took(landed[0].at)
		s.Replay = landed[0].replay
	}
	return kafkaAt, nil
}

package livepage

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice/test/embedded/warehouse"
	"sluice/test/stack"
)

// Story is what is known of one record.
type Story struct {
	Topic string `json:"topic"`
	Coordinates
	// Outcome is landed, rejected, both, or waiting.
	Outcome string   `json:"outcome"`
	Copies  int      `json:"copies"` // rows in fact_events; more than one after a redelivery
	TookMS  float64  `json:"took_ms"`
	Code    string   `json:"code,omitempty"`
	Field   string   `json:"field,omitempty"`
	Error   string   `json:"error,omitempty"`
	Steps   []Step   `json:"steps"`
	Fields  []Field  `json:"fields,omitempty"` // of the earliest row in fact_events
	Letter  []Field  `json:"letter,omitempty"` // of the latest row in events_dlq
	Notes   []string `json:"notes,omitempty"`
	Sent    bool     `json:"sent"` // from this page

	landedAt int64 // microseconds, ingested_at; 0: not landed
	failedAt int64 // microseconds, failed_at; 0: not rejected
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

// record is GET /api/record?partition=P&offset=O.
func (p *Page) record(w http.ResponseWriter, r *http.Request) {
	partition, err := strconv.ParseInt(r.FormValue("partition"), 10, 32)
	offset, err2 := strconv.ParseInt(r.FormValue("offset"), 10, 64)
	if cmp.Or(err, err2) != nil || partition < 0 || offset < 0 {
		refuse(w, http.StatusBadRequest, "partition and offset must be numbers from 0 on.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	story, err := p.story(ctx, Coordinates{partition, offset})
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, story)
}

// story puts together what rows, requests and log lines tell of a record.
func (p *Page) story(ctx context.Context, c Coordinates) (*Story, error) {
	s := &Story{Topic: stack.Topic, Coordinates: c, TookMS: -1}
	if ends := p.stack.Ends(); int(c.Partition) >= len(ends) || c.Offset >= ends[c.Partition] {
		return nil, fmt.Errorf("topic %s has no record at partition %d, offset %d", stack.Topic, c.Partition, c.Offset)
	}
	kafkaAt, err := p.rows(ctx, s)
	if err != nil {
		return nil, err
	}
	if t, ok := p.sent.get(c); ok {
		s.Sent = true
		s.step(t.begun.UnixMicro(), "You pressed Publish", "", "this page's clock", "")
		s.step(t.acked.UnixMicro(), "Kafka acknowledged the record", fmt.Sprintf("partition %d, offset %d", c.Partition, c.Offset), "the producer's delivery report", "")
	}
	if kafkaAt > 0 {
		s.step(kafkaAt, "The record's timestamp", "set by the producer, to the millisecond", "kafka_timestamp", "")
	}
	deliveries := p.observer.of(stack.Topic, c.Partition, c.Offset)
	for i := range deliveries {
		s.delivery(&deliveries[i], s.landedAt)
	}
	if rested := cmp.Or(s.landedAt, s.failedAt); len(deliveries) == 0 && rested > 0 {
		kind := ""
		if rested < p.observer.since().UnixMicro() {
			s.Notes = append(s.Notes, fmt.Sprintf("This page remembers the latest %d push requests; the record's came before them, so only its row speaks.", remembered))
			kind = "end"
		} // else its request is still being answered
		if s.landedAt > 0 {
			s.step(s.landedAt, "Ingest made the row", "", "ingested_at", kind)
		} else {
			s.step(s.failedAt, "Rejected: "+s.Code, s.Error, "failed_at", kind)
		}
	}
	if s.Outcome == "waiting" && len(deliveries) == 0 {
		s.Notes = append(s.Notes, "No function has seen it yet: it waits in Kafka, in the bridge or in Pub/Sub.")
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return s, nil
}

func (s *Story) step(at int64, what, more, by, kind string) {
	s.Steps = append(s.Steps, Step{At: at, What: what, More: more, By: by, Kind: kind})
}

// delivery adds the steps of a push request.
func (s *Story) delivery(d *Delivery, landedAt int64) {
	source := "the log line of " + d.Function
	message := fmt.Sprintf("message %s: %s of partition %d, %d bytes", d.MessageID, plural(d.Records, "record"), d.Partition, d.Bytes)
	dead := d.Function == "DeadLetter"
	again := slices.ContainsFunc(s.Steps, func(o Step) bool { return o.By == "the push request's headers" && o.More == message })
	if !d.Published.IsZero() && !again {
		what := "The bridge published its batch to Pub/Sub"
		if dead {
			what = "Ingest published it to the dead-letter topic"
		}
		s.step(d.Published.UnixMicro(), what, message, "the push request's headers", "")
	}
	received := d.Received.UnixMicro()
	s.step(received, "Pub/Sub pushed the message to "+d.Function, "", "the time of the request", "")
	after := func(ms float64) int64 { return received + int64(ms*1000) }
	switch {
	case d.Outcome != "ack":
		s.step(d.Answered.UnixMicro(), fmt.Sprintf("%s answered %d: deliver it again", d.Function, d.Status), d.Error, source, "bad")
	case dead:
		s.step(after(d.DecodeMS+d.AppendMS), "BigQuery acknowledged the row in events_dlq", fmt.Sprintf("append took %.1f ms", d.AppendMS), source, "end")
	case s.Code != "" && s.Outcome == "rejected":
		at, by := after(d.DecodeMS), source
		what := "Ingest rejected the event: " + s.Code
		if s.Code == "row_rejected" {
			at, what = after(d.DecodeMS+d.AppendMS), "BigQuery refused the row"
		}
		s.step(at, what, s.Error, by, "bad")
		s.step(after(d.DecodeMS+d.AppendMS+d.PublishMS), "The dead-letter topic acknowledged it", fmt.Sprintf("with the other rejects of its batch, in %.1f ms", d.PublishMS), source, "")
	default:
		made := received
		if landedAt > received && landedAt < d.Answered.UnixMicro() {
			made = landedAt
			s.step(made, "Ingest began to make the row", fmt.Sprintf("decoding the batch took %.1f ms", d.DecodeMS), "ingested_at", "")
		}
		at := made + int64((d.DecodeMS+d.AppendMS)*1000)
		s.step(at, "BigQuery acknowledged the row", fmt.Sprintf("append took %.1f ms for %s", d.AppendMS, plural(d.Landed, "row")), source, "end")
		s.step(max(d.Answered.UnixMicro(), at), "Ingest answered 204: the message is done", "", "the time of the answer", "")
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
	of := func(table, order string) ([]string, [][]any, error) {
		// The numbers are numbers: nothing of the request's text is in the statement.
		return warehouse.Answer(ctx, conn, fmt.Sprintf(
			"SELECT *, epoch_us(kafka_timestamp) AS kafka_us, %s AS order_us FROM %s WHERE kafka_topic = '%s' AND kafka_partition = %d AND kafka_offset = %d ORDER BY order_us",
			order, table, s.Topic, s.Partition, s.Offset))
	}
	fields := func(names []string, row []any) []Field {
		var list []Field
		for i, name := range names[:len(names)-2] {
			if row[i] != nil {
				list = append(list, Field{name, row[i]})
			}
		}
		return list
	}
	micros := func(v any) int64 { n, _ := v.(int64); return n }

	names, events, err := of("fact_events", "epoch_us(ingested_at)")
	if err != nil {
		return 0, err
	}
	letterNames, letters, err := of("events_dlq", "epoch_us(failed_at)")
	if err != nil {
		return 0, err
	}
	s.Outcome = "waiting"
	if n := len(letters); n > 0 {
		row := letters[n-1]
		s.Outcome = "rejected"
		s.Letter = fields(letterNames, row)
		kafkaAt = micros(row[len(row)-2])
		for _, f := range s.Letter {
			switch f.Name {
			case "error_code":
				s.Code, _ = f.Value.(string)
			case "error_field":
				s.Field, _ = f.Value.(string)
			case "error":
				s.Error, _ = f.Value.(string)
			}
		}
		s.failedAt = micros(row[len(row)-1])
		if kafkaAt > 0 {
			s.TookMS = float64(s.failedAt-kafkaAt) / 1000
		}
	}
	if len(events) > 0 {
		row := events[0]
		s.Outcome = map[bool]string{false: "landed", true: "both"}[len(letters) > 0]
		s.Copies = len(events)
		s.Fields = fields(names, row)
		s.landedAt = micros(row[len(row)-1])
		if kafkaAt = micros(row[len(row)-2]); kafkaAt > 0 {
			s.TookMS = float64(s.landedAt-kafkaAt) / 1000
		}
	}
	return kafkaAt, nil
}

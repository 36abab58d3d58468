package deadletter

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/deadletter"
	"sluice/internal/telemetry"
)

// letter is one record on its way into events_dlq.
type letter struct {
	header    *batch.Header
	record    *batch.Record
	why       batch.Rejection
	failedAt  int64 // microseconds since the Unix epoch; 0: unknown
	now       int64 // the same, of this request
	consumer  string
	messageID string
	attempt   int64
	contract  string // that the record has; empty: unknown
	target    string // the table that its row was to go to
	schemaID  string // of the registry's, that the record names; empty: none
	refusal   string // why BigQuery did not take the row on the level before
}

// level says how much of a letter its row keeps.
type level struct {
	original int // bytes of the event at most
	record   int // bytes of the event, the key and the headers together
	text     int // bytes of every other field at most
	utf8     bool
}

// levels are tried one after the other. A request to BigQuery has 9 MB at most.
var levels = []level{
	{original: 8 << 20, record: 8<<20 + 256<<10, text: 64 << 10, utf8: true},
	{original: 64 << 10, record: 128 << 10, text: 4 << 10},
	{},
}

// columns are the numbers of the table's columns.
type columns struct {
	event, eventBytes, eventSize, eventSHA256 protowire.Number
	code, field, message                      protowire.Number
	failedAt, consumer                        protowire.Number
	topic, partition, offset, key, timestamp  protowire.Number
	messageID, attempt, traceID, replayID     protowire.Number
	contract, table, headers, leftOut         protowire.Number
	schemaID, subject, version                protowire.Number
}

// newColumns finds the columns in t, or says which one is missing or has another
// type than this package writes.
func newColumns(t *contract.Table) (*columns, error) {
	c := new(columns)
	for _, want := range []struct {
		name   string
		typ    contract.Type
		number *protowire.Number
	}{
		{"original_event", contract.String, &c.event},
		{"original_event_bytes", contract.Bytes, &c.eventBytes},
		{"original_event_size", contract.Int64, &c.eventSize},
		{"original_event_sha256", contract.Bytes, &c.eventSHA256},
		{"error_code", contract.String, &c.code},
		{"error_field", contract.String, &c.field},
		{"error", contract.String, &c.message},
		{"failed_at", contract.Timestamp, &c.failedAt},
		{"consumer", contract.String, &c.consumer},
		{"kafka_topic", contract.String, &c.topic},
		{"kafka_partition", contract.Int64, &c.partition},
		{"kafka_offset", contract.Int64, &c.offset},
		{"kafka_key", contract.Bytes, &c.key},
		{"kafka_timestamp", contract.Timestamp, &c.timestamp},
		{"pubsub_message_id", contract.String, &c.messageID},
		{"delivery_attempt", contract.Int64, &c.attempt},
		{"trace_id", contract.String, &c.traceID},
		{"replay_id", contract.String, &c.replayID},
		{"contract", contract.String, &c.contract},
		{"target_table", contract.String, &c.table},
		{"kafka_headers", contract.JSON, &c.headers},
		{"left_out", contract.String, &c.leftOut},
		{"schema_id", contract.String, &c.schemaID},
		{"schema_subject", contract.String, &c.subject},
		{"schema_version", contract.Int64, &c.version},
	} {
		column, ok := t.Column(want.name)
		if !ok || column.Type != want.typ {
			return nil, fmt.Errorf("the table %s needs a column %s of type %s", t.Name, want.name, want.typ)
		}
		*want.number = column.Number
	}
	return c, nil
}

// appendRow appends the row of l to b.
func (c *columns) appendRow(b []byte, l *letter, lv level) []byte {
	b, room := c.appendOriginal(b, l, lv)
	message := l.why.Message
	if l.refusal != "" {
		message += " (BigQuery refused the whole row: " + l.refusal + ")"
	}
	if message == "" {
		message = "The record was rejected without a reason."
	}
	failedAt, late := l.time()
	if late {
		message += " (It failed at " + time.UnixMicro(l.failedAt).UTC().Format(time.RFC3339) +
			", and could only be written now.)"
	}
	// The code and the reason stay on every level: that is what the table is for.
	b = appendText(b, c.code, l.why.Code, 256)
	b = appendText(b, c.field, l.why.Field, lv.text)
	b = appendText(b, c.message, message, max(lv.text, 1<<10))
	b = appendVarint(b, c.failedAt, failedAt)
	b = appendText(b, c.consumer, l.consumer, lv.text)
	b = appendText(b, c.messageID, l.messageID, lv.text)
	if l.attempt > 0 {
		b = appendVarint(b, c.attempt, l.attempt)
	}
	// A record's own trace, or else that of the batch that it travelled in.
	b = appendText(b, c.traceID, cmp.Or(traceID(telemetry.RecordTraceparent(l.record)), traceID(l.header.Traceparent)),
		lv.text)
	b = appendText(b, c.replayID, l.header.Replay(l.record), lv.text)
	b = appendText(b, c.contract, l.contract, 256)
	b = appendText(b, c.table, l.target, 1<<10)
	b = appendText(b, c.schemaID, l.schemaID, 256)
	b = appendText(b, c.subject, l.why.Subject, 1<<10)
	if l.why.Version > 0 {
		b = appendVarint(b, c.version, int64(l.why.Version))
	}
	b = c.appendKeyAndHeaders(b, l, room)
	if l.record.Offset < 0 {
		return b // not from Kafka
	}
	b = appendText(b, c.topic, l.record.Topic, max(lv.text, 256))
	b = appendVarint(b, c.partition, int64(l.record.Partition))
	b = appendVarint(b, c.offset, l.record.Offset)
	if ms := l.record.Timestamp; ms > 0 && ms <= lastTimestamp/1000 {
		b = appendVarint(b, c.timestamp, ms*1000)
	}
	return b
}

// appendKeyAndHeaders appends those that fit into room, bytes, and says which do not: a part
// of one would be another key, or other headers.
func (c *columns) appendKeyAndHeaders(b []byte, l *letter, room int) []byte {
	left := l.why.Left
	if key := l.record.Key; key != nil {
		if len(key) <= room {
			b = appendBytes(b, c.key, key)
			room -= len(key)
		} else {
			left |= batch.LeftKey
		}
	}
	if headers := l.record.Headers; len(headers) > 0 {
		if kept := deadletter.AppendHeaders(nil, headers); len(kept) <= room {
			b = appendBytes(b, c.headers, kept)
		} else {
			left |= batch.LeftHeaders
		}
	}
	var names []string
	if left&batch.LeftKey != 0 {
		names = append(names, "kafka_key")
	}
	if left&batch.LeftHeaders != 0 {
		names = append(names, "kafka_headers")
	}
	return appendText(b, c.leftOut, strings.Join(names, ", "), 256)
}

// appendOriginal appends the event, or as much of it as the level allows with the
// length and the hash of the whole. A tombstone has none. room is how many bytes the level
// leaves for the key and the headers.
func (c *columns) appendOriginal(b []byte, l *letter, lv level) (row []byte, room int) {
	value, size, sum := l.record.Value, l.why.Size, l.why.SHA256
	whole := utf8.Valid(value)
	if len(value) > lv.original {
		if size == 0 {
			hash := sha256.Sum256(value)
			size, sum = int64(len(value)), hash[:]
		}
		value = value[:lv.original]
	}
	room = lv.record - len(value)
	if size > 0 {
		b = appendVarint(b, c.eventSize, size)
		b = appendBytes(b, c.eventSHA256, sum)
		if head := wholeRunes(value); whole || utf8.Valid(head) {
			value = head
		}
	}
	switch {
	case l.record.Value == nil || lv.original == 0:
		return b, room
	case lv.utf8 && utf8.Valid(value):
		return appendBytes(b, c.event, value), room
	}
	return appendBytes(b, c.eventBytes, value), room
}

// wholeRunes is b without a rune that was cut at its end.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}

// The times that the columns can hold, microseconds since the Unix epoch.
const (
	lastTimestamp = 253402300799_999999 // 9999-12-31
	day           = 24 * 60 * 60 * 1_000_000
)

// time is when the record failed, or, if that is more than a day ago or ahead, now; late says
// that it is the former. The table is partitioned by it, and its partitions may expire after
// two days: BigQuery acknowledges a row for an expired partition, and deletes it. Pub/Sub keeps
// dead letters for a month while this function cannot write them.
func (l *letter) time() (at int64, late bool) {
	if l.failedAt < l.now-day || l.failedAt > l.now+day {
		return l.now, l.failedAt > 0 && l.failedAt < l.now
	}
	return l.failedAt, false
}

// traceID is the trace id in a W3C traceparent, or "".
func traceID(traceparent string) string {
	if c := telemetry.ParseTraceparent(traceparent); c.IsValid() {
		return c.TraceID().String()
	}
	return ""
}

// text is s as a STRING column takes it.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// appendText leaves out what is empty.
func appendText(b []byte, n protowire.Number, s string, limit int) []byte {
	if s = text(s); len(s) > limit {
		s = string(wholeRunes([]byte(s[:limit])))
	}
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendVarint(b []byte, n protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
}

package event

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// The names of columns that mean something to this package.
const (
	eventTimestamp = "event_timestamp"
	eventType      = "event_type"

	properties     = "properties"
	ingestedAt     = "ingested_at"
	kafkaTopic     = "kafka_topic"
	kafkaPartition = "kafka_partition"
	kafkaOffset    = "kafka_offset"
	kafkaTimestamp = "kafka_timestamp"
	replayID       = "replay_id"
)

// columns is a table's schema, prepared for decoding.
type columns struct {
	fields           []field        // what events fill, in the order of the table
	byName           map[string]int // index in fields
	types            []string
	maxAge, maxAhead int64 // microseconds

	// The tags of the columns that this package fills; 0: the table has none.
	properties, ingestedAt, kafkaTopic, kafkaPartition, kafkaOffset, kafkaTimestamp, replayID uint64
}

// field is a column that events fill.
type field struct {
	contract.Column
	tag  uint64 // what stands before the value in the wire bytes
	kind kind
	rule rule
}

// kind is a contract.Type, as a number.
type kind uint8

const (
	kindString kind = iota
	kindInt64
	kindFloat64
	kindBool
	kindTimestamp
	kindJSON
	kindBytes
)

var kinds = map[contract.Type]kind{
	contract.String: kindString, contract.Int64: kindInt64, contract.Float64: kindFloat64, contract.Bool: kindBool,
	contract.Timestamp: kindTimestamp, contract.JSON: kindJSON, contract.Bytes: kindBytes,
}

// rule is what is checked of a value besides its type.
type rule uint8

const (
	ruleNone     rule = iota
	ruleNotEmpty      // required strings
	ruleType          // event_type
	ruleWindow        // event_timestamp
)

func newColumns(t *contract.Table, c Config) (*columns, error) {
	cs := &columns{
		byName:   make(map[string]int),
		types:    slices.Clone(c.Types),
		maxAge:   c.MaxAge.Microseconds(),
		maxAhead: c.MaxAhead.Microseconds(),
	}
	ours := map[string]struct {
		typ contract.Type
		tag *uint64
	}{
		properties:     {contract.JSON, &cs.properties},
		ingestedAt:     {contract.Timestamp, &cs.ingestedAt},
		kafkaTopic:     {contract.String, &cs.kafkaTopic},
		kafkaPartition: {contract.Int64, &cs.kafkaPartition},
		kafkaOffset:    {contract.Int64, &cs.kafkaOffset},
		kafkaTimestamp: {contract.Timestamp, &cs.kafkaTimestamp},
		replayID:       {contract.String, &cs.replayID},
	}
	for _, column := range t.Columns {
		tag := protowire.EncodeTag(column.Number, column.WireType())
		if our, ok := ours[column.Name]; ok {
			if column.Type != our.typ {
				return nil, fmt.Errorf("event: table %s: column %s is %s, want %s", t.Name, column.Name, column.Type, our.typ)
			}
			if column.Required && column.Name != ingestedAt {
				return nil, fmt.Errorf("event: table %s: column %s is REQUIRED, but not every event has one", t.Name, column.Name)
			}
			*our.tag = tag
			continue
		}
		f := field{Column: column, tag: tag, kind: kinds[column.Type]}
		switch {
		case column.Name == eventType && column.Type == contract.String:
			f.rule = ruleType
		case column.Name == eventTimestamp && column.Type == contract.Timestamp:
			f.rule = ruleWindow
		case column.Name == eventType || column.Name == eventTimestamp:
			return nil, fmt.Errorf("event: table %s: column %s is %s, want event_type STRING and event_timestamp TIMESTAMP", t.Name, column.Name, column.Type)
		case column.Required && column.Type == contract.String:
			f.rule = ruleNotEmpty
		}
		cs.byName[column.Name] = len(cs.fields)
		cs.fields = append(cs.fields, f)
	}
	if cs.properties == 0 {
		return nil, fmt.Errorf("event: table %s has no JSON column %s for an event's other members", t.Name, properties)
	}
	return cs, nil
}

// appendOurs appends the columns that events do not fill, but for properties.
func (cs *columns) appendOurs(row []byte, m *Meta) []byte {
	return cs.appendPlace(cs.appendBatch(row, m), m)
}

// appendBatch appends those that are alike for all events of a batch.
func (cs *columns) appendBatch(row []byte, m *Meta) []byte {
	if cs.ingestedAt != 0 {
		row = protowire.AppendVarint(row, cs.ingestedAt)
		row = protowire.AppendVarint(row, uint64(m.IngestedAt))
	}
	if m.Offset < 0 {
		return row
	}
	if cs.kafkaTopic != 0 {
		row = protowire.AppendVarint(row, cs.kafkaTopic)
		row = protowire.AppendString(row, m.Topic)
	}
	if cs.kafkaPartition != 0 {
		row = protowire.AppendVarint(row, cs.kafkaPartition)
		row = protowire.AppendVarint(row, uint64(m.Partition))
	}
	return row
}

// appendPlace appends those that are each event's own.
func (cs *columns) appendPlace(row []byte, m *Meta) []byte {
	if cs.replayID != 0 && m.ReplayID != "" {
		row = protowire.AppendVarint(row, cs.replayID)
		row = protowire.AppendString(row, m.ReplayID)
	}
	if m.Offset < 0 {
		return row
	}
	if cs.kafkaOffset != 0 {
		row = protowire.AppendVarint(row, cs.kafkaOffset)
		row = protowire.AppendVarint(row, uint64(m.Offset))
	}
	// Producers may stamp records with any number. One that BigQuery has no time
	// for must not cost the event its row.
	if cs.kafkaTimestamp != 0 && m.Timestamp != 0 && m.Timestamp >= minTimestamp/1000 && m.Timestamp <= maxTimestamp/1000 {
		row = protowire.AppendVarint(row, cs.kafkaTimestamp)
		row = appendMicros(row, m.Timestamp*1000)
	}
	return row
}

// appendMicros appends a time in microseconds as a varint. Those between 1987 and
// 4253 have eight bytes of seven bits, which are spread without a loop.
func appendMicros(row []byte, t int64) []byte {
	if t < 1<<49 || t >= 1<<56 {
		return protowire.AppendVarint(row, uint64(t))
	}
	v := uint64(t)
	v = v&0x000000000fffffff | v&0x00fffffff0000000<<4
	v = v&0x00003fff00003fff | v&0x0fffc0000fffc000<<2
	v = v&0x007f007f007f007f | v&0x3f803f803f803f80<<1
	return binary.LittleEndian.AppendUint64(row, v|0x0080808080808080)
}

// appendText appends the field f whose member is the string s, unescaped.
func (cs *columns) appendText(row []byte, f *field, s []byte, now int64) ([]byte, *Rejection) {
	switch f.kind {
	case kindString:
		switch {
		case f.rule == ruleNotEmpty && len(s) == 0:
			return row, f.reject(contract.CodeEmptyField, "is empty: send its value")
		case f.rule == ruleType && !cs.isType(s):
			return row, f.reject(contract.CodeInvalidEventType, "is none of "+strings.Join(cs.types, ", "))
		}
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendBytes(row, s), nil
	case kindTimestamp:
		t, err := ParseTimestamp(s)
		return cs.appendTime(row, f, t, err, now)
	case kindBytes:
		return appendBase64(row, f, s)
	}
	return row, f.wrongType('"')
}

// appendTime appends the field f whose member is the timestamp t, or none because of err.
func (cs *columns) appendTime(row []byte, f *field, t int64, err error, now int64) ([]byte, *Rejection) {
	if err != nil {
		return row, f.reject(contract.CodeInvalidTimestamp, "is no timestamp: "+err.Error())
	}
	if t < minTimestamp || t > maxTimestamp {
		return row, f.reject(contract.CodeTimestampOutOfRange, "is outside the years 1 to 9999")
	}
	if f.rule == ruleWindow {
		switch {
		case t < now-cs.maxAge:
			return row, f.reject(contract.CodeTimestampOutOfRange, "is too long ago: the table takes events from the "+days(cs.maxAge)+" before now")
		case t > now+cs.maxAhead:
			return row, f.reject(contract.CodeTimestampOutOfRange, "is too far ahead: the table takes events until "+days(cs.maxAhead)+" from now")
		}
	}
	row = protowire.AppendVarint(row, f.tag)
	return appendMicros(row, t), nil
}

func days(microseconds int64) string {
	const day = 24 * 60 * 60 * 1_000_000
	if microseconds%day == 0 {
		return fmt.Sprintf("%d days", microseconds/day)
	}
	return fmt.Sprintf("%d seconds", microseconds/1_000_000)
}

func (cs *columns) isType(s []byte) bool { return cs.typeIndex(s) >= 0 }

func (cs *columns) typeIndex(s []byte) int {
	for i, t := range cs.types {
		if string(s) == t {
			return i
		}
	}
	return -1
}

// appendProperties appends the column properties; members is what stands between
// its braces, empty if there are none.
func (cs *columns) appendProperties(row, members []byte) []byte {
	if len(members) == 0 {
		return row
	}
	row = protowire.AppendVarint(row, cs.properties)
	row = protowire.AppendVarint(row, uint64(len(members)+2))
	row = append(row, '{')
	row = append(row, members...)
	return append(row, '}')
}

// appendBase64 decodes strictly: standard alphabet, padded, no line breaks (which
// the library's decoder passes over).
func appendBase64(row []byte, f *field, s []byte) ([]byte, *Rejection) {
	const what = "is not in standard base64 with padding: encode its bytes so"
	if len(s)%4 != 0 || bytes.ContainsAny(s, "\r\n") {
		return row, f.reject(contract.CodeInvalidBase64, what)
	}
	n := len(s) / 4 * 3
	switch {
	case bytes.HasSuffix(s, []byte("==")):
		n -= 2
	case bytes.HasSuffix(s, []byte("=")):
		n--
	}
	row = protowire.AppendVarint(row, f.tag)
	row = protowire.AppendVarint(row, uint64(n))
	row, err := strictBase64.AppendDecode(row, s)
	if err != nil {
		return row, f.reject(contract.CodeInvalidBase64, what)
	}
	return row, nil
}

var strictBase64 = base64.StdEncoding.Strict()

// reject returns a rejection of the field; what completes the sentence that begins
// with its name.
func (f *field) reject(code contract.Code, what string) *Rejection {
	return &Rejection{Code: code, Field: f.Name, Message: f.Name + " " + what}
}

// wrongType rejects a member of the JSON kind that begins with the byte kind.
func (f *field) wrongType(kind byte) *Rejection {
	is := "a number"
	switch kind {
	case '{':
		is = "an object"
	case '[':
		is = "an array"
	case '"':
		is = "a string"
	case 't', 'f':
		is = "true or false"
	}
	want := "a string"
	switch f.Type {
	case contract.Int64, contract.Float64:
		want = "a number"
	case contract.Bool:
		want = "true or false"
	case contract.Timestamp:
		want = "a string with a timestamp"
	case contract.Bytes:
		want = "a string in base64"
	}
	return f.reject(contract.CodeWrongType, "is "+is+", not "+want+": send the right type, values are not converted")
}

func (f *field) missing() *Rejection {
	return f.reject(contract.CodeMissingField, "is missing or null: every event needs it")
}

package event

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/contract"
)

// now is the present of all tests.
var now = time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

var meta = Meta{IngestedAt: now.UnixMicro(), Topic: "clickstream", Partition: 3, Offset: 42,
	Timestamp: now.UnixMilli() - 5}

// everyType is a table with a column of each type besides those of fact_events.
func everyType(t testing.TB) *contract.Table {
	t.Helper()
	var columns []json.RawMessage
	if err := json.Unmarshal(contract.File("fact_events"), &columns); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{
		`{"name": "quantity", "type": "INT64"}`, `{"name": "price", "type": "FLOAT64"}`, `{"name": "gift", "type": "BOOL"}`,
		`{"name": "seen_at", "type": "TIMESTAMP"}`, `{"name": "basket", "type": "JSON"}`, `{"name": "token", "type": "BYTES"}`,
	} {
		columns = append(columns, json.RawMessage(c))
	}
	text, err := json.Marshal(columns)
	if err != nil {
		t.Fatal(err)
	}
	table, err := contract.Parse("every_type", text)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func newDecoder(t testing.TB, table *contract.Table, c Config) *Decoder {
	t.Helper()
	d, err := NewDecoder(table, c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// reader reads rows as BigQuery does, by the table's descriptor.
type reader struct {
	descriptor protoreflect.MessageDescriptor
}

func newReader(t testing.TB, table *contract.Table) reader {
	t.Helper()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("row.proto"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{table.Descriptor()},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return reader{file.Messages().Get(0)}
}

// read returns the row's columns that are not null.
func (r reader) read(t testing.TB, row []byte) map[string]any {
	t.Helper()
	m := dynamicpb.NewMessage(r.descriptor)
	if err := proto.Unmarshal(row, m); err != nil {
		t.Fatalf("row %x: %v", row, err)
	}
	if len(m.GetUnknown()) > 0 {
		t.Fatalf("row %x has unknown fields", row)
	}
	columns := map[string]any{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		columns[string(f.Name())] = v.Interface()
		if b, ok := v.Interface().([]byte); ok {
			columns[string(f.Name())] = string(b)
		}
		return true
	})
	return columns
}

const good = `{"event_id":"e1","event_timestamp":"2026-02-03T04:05:06.5Z","event_type":"purchase","user_id":"u1"}`

// with is the good event with more members behind its own.
func with(members string) string { return good[:len(good)-1] + "," + members + "}" }

// without is the good event without one of its members, and with others in its place.
func without(name, members string) string {
	var object map[string]string
	if err := json.Unmarshal([]byte(good), &object); err != nil {
		panic(err)
	}
	delete(object, name)
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	if members == "" {
		return string(text)
	}
	return "{" + members + "," + string(text[1:])
}

// Protects the contract for good events: what lands in which column.
func TestAccepted(t *testing.T) {
	for _, name := range []string{Fast, Strict} {
		t.Run(name, func(t *testing.T) { testAccepted(t, name) })
	}
}

func testAccepted(t *testing.T, decoder string) {
	table := everyType(t)
	d, r := newDecoder(t, table, Config{Decoder: decoder}), newReader(t, table)
	when := func(s string) int64 {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return at.UnixMicro()
	}
	type row = map[string]any
	for _, c := range []struct {
		what, event string
		want        row // what differs from the good event's row; nil: null
	}{
		{"an event of required fields only", good, row{}},
		{"space around everything", " \t\r\n{ \"a\" : [ 1 , 2 ] ,\n" + good[1:len(good)-1] + "}\n ", row{"properties": `{"a":[ 1 , 2 ]}`}},
		{"its fields in another order", `{"user_id":"u1","event_type":"purchase","event_timestamp":"2026-02-03T04:05:06.5Z","event_id":"e1"}`, row{}},
		{"optional fields", with(`"page_url":"https://example.com/a?b=c","product_id":"p9"`), row{"page_url": "https://example.com/a?b=c", "product_id": "p9"}},
		{"optional fields that are null", with(`"page_url":null,"product_id":null,"quantity":null,"basket":null`), row{}},
		{"an optional string that is empty", with(`"page_url":""`), row{"page_url": ""}},
		{"escapes in a value", with(`"page_url":"\"\\\/\b\f\n\r\t\u00e4\u20ac\ud83d\ude00"`), row{"page_url": "\"\\/\b\f\n\r\tä€😀"}},
		{"unescaped UTF-8 in a value", with(`"page_url":"日本語 😀 Ünïcode"`), row{"page_url": "日本語 😀 Ünïcode"}},
		{"NUL in a value, escaped", with(`"page_url":"a\u0000b"`), row{"page_url": "a\x00b"}},
		{"escapes in a name of a column", without("user_id", `"\u0075ser_i\u0064":"u1"`), row{}},
		{"a name that is a column's but for case", with(`"User_Id":"x"`), row{"properties": `{"User_Id":"x"}`}},
		{"a name that begins like a column's", with(`"user_id2":"x","user_i":1`), row{"properties": `{"user_id2":"x","user_i":1}`}},
		{"the empty name", with(`"":0`), row{"properties": `{"":0}`}},
		{"other members, kept to the byte and in order",
			with(`"z":1.50,"a":{"k" : [true, null,"\u00e4\/"]},"m":-0.0e+10,"\u0062":""`),
			row{"properties": `{"z":1.50,"a":{"k" : [true, null,"\u00e4\/"]},"m":-0.0e+10,"\u0062":""}`}},
		{"other members that are null", with(`"a":null`), row{"properties": `{"a":null}`}},
		{"members between the fields", `{"x":1,` + good[1:len(good)-1] + `,"y":2}`, row{"properties": `{"x":1,"y":2}`}},
		{"members named like columns that are ours",
			with(`"ingested_at":1,"kafka_topic":"x","kafka_partition":true,"kafka_offset":"y","kafka_timestamp":0,"properties":{"a":1}`),
			row{"properties": `{"ingested_at":1,"kafka_topic":"x","kafka_partition":true,"kafka_offset":"y","kafka_timestamp":0,"properties":{"a":1}}`}},
		{"the same name in different objects", with(`"a":{"a":{"a":1}},"b":{"a":1}`), row{"properties": `{"a":{"a":{"a":1}},"b":{"a":1}}`}},
		{"integers", with(`"quantity":-9223372036854775808`), row{"quantity": int64(math.MinInt64)}},
		{"the largest integer", with(`"quantity":9223372036854775807`), row{"quantity": int64(math.MaxInt64)}},
		{"zero, minus zero", with(`"quantity":-0`), row{"quantity": int64(0)}},
		{"a float", with(`"price":-12.5e-1`), row{"price": -1.25}},
		{"an integer as float", with(`"price":3`), row{"price": 3.0}},
		{"a float of many digits", with(`"price":0.1000000000000000055511151231257827021181583404541015625`), row{"price": 0.1}},
		{"a float too small for 64 bits is zero", with(`"price":1e-999`), row{"price": 0.0}},
		{"true", with(`"gift":true`), row{"gift": true}},
		{"false", with(`"gift":false`), row{"gift": false}},
		{"another timestamp, outside the window", with(`"seen_at":"0001-01-01T00:00:00Z"`), row{"seen_at": int64(minTimestamp)}},
		{"any JSON in a JSON column, to the byte", with(`"basket":[ 1.0,{"a" :"\u00e4"}]`), row{"basket": `[ 1.0,{"a" :"\u00e4"}]`}},
		{"a string in a JSON column keeps its quotes", with(`"basket":"\u0061"`), row{"basket": `"\u0061"`}},
		{"bytes", with(`"token":"AP9h"`), row{"token": "\x00\xffa"}},
		{"bytes with padding, escaped", with(`"token":"\u0041A=="`), row{"token": "\x00"}},
		{"no bytes", with(`"token":""`), row{"token": ""}},
		{"a timestamp with an offset", without("event_timestamp", `"event_timestamp":"2026-02-03T05:05:06.123456789+01:00"`), row{"event_timestamp": when("2026-02-03T04:05:06.123456Z")}},
		{"a timestamp without an offset is UTC", without("event_timestamp", `"event_timestamp":"2026-02-03 04:05:06"`), row{"event_timestamp": when("2026-02-03T04:05:06Z")}},
		{"a timestamp with an escaped colon", without("event_timestamp", `"event_timestamp":"2026-02-03 04\u003a05:06"`), row{"event_timestamp": when("2026-02-03T04:05:06Z")}},
		{"a timestamp as old as may be", without("event_timestamp", `"event_timestamp":"2021-02-04T04:05:06.789Z"`), row{"event_timestamp": when("2021-02-04T04:05:06.789Z")}},
		{"a timestamp as far ahead as may be", without("event_timestamp", `"event_timestamp":"2027-02-03T04:05:06.789Z"`), row{"event_timestamp": when("2027-02-03T04:05:06.789Z")}},
		{"nesting as deep as may be", with(`"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99)), row{"properties": `{"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`}},
	} {
		want := row{
			"event_id": "e1", "event_timestamp": when("2026-02-03T04:05:06.5Z"), "event_type": "purchase", "user_id": "u1",
			"ingested_at": meta.IngestedAt, "kafka_topic": "clickstream", "kafka_partition": int64(3), "kafka_offset": int64(42), "kafka_timestamp": meta.Timestamp * 1000,
		}
		for name, value := range c.want {
			want[name] = value
		}
		prefix := []byte("before")
		appended, err := d.AppendRow(prefix, []byte(c.event), meta)
		if err != nil {
			t.Errorf("%s: rejected: %v", c.what, err)
			continue
		}
		if !strings.HasPrefix(string(appended), "before") {
			t.Errorf("%s: AppendRow does not append", c.what)
			continue
		}
		got := r.read(t, appended[len("before"):])
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %#v, want %#v", c.what, name, got[name], value)
			}
		}
		for name, value := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%s: %s is %#v, want null", c.what, name, value)
			}
		}
	}
}

// Protects the contract for bad events: code and field are stable, the neighbour's
// bytes in dst stay, and no message repeats a value.
func TestRejected(t *testing.T) {
	for _, name := range []string{Fast, Strict} {
		t.Run(name, func(t *testing.T) { testRejected(t, name) })
	}
}

func testRejected(t *testing.T, decoder string) {
	table := everyType(t)
	d := newDecoder(t, table, Config{MaxBytes: 4000, Decoder: decoder})
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, c := range []struct {
		what, event string
		code        contract.Code
		field       string
	}{
		{"nothing", "", contract.CodeInvalidJSON, ""},
		{"space", " \n", contract.CodeInvalidJSON, ""},
		{"null", "null", contract.CodeInvalidJSON, ""},
		{"a number", "12", contract.CodeInvalidJSON, ""},
		{"an array of events", "[" + good + "]", contract.CodeInvalidJSON, ""},
		{"a string", `"SECRET"`, contract.CodeInvalidJSON, ""},
		{"text", "SECRET", contract.CodeInvalidJSON, ""},
		{"two events", good + good, contract.CodeInvalidJSON, ""},
		{"a byte order mark", "\ufeff" + good, contract.CodeInvalidJSON, ""},
		{"an event cut short", good[:50], contract.CodeInvalidJSON, ""},
		{"an event cut in a literal", `{"a":tru`, contract.CodeInvalidJSON, ""},
		{"a comma too many", with(`"a":1,`), contract.CodeInvalidJSON, ""},
		{"a comma too many in an array", with(`"a":[1,]`), contract.CodeInvalidJSON, ""},
		{"a comma at the beginning", `{,"a":1}`, contract.CodeInvalidJSON, ""},
		{"a colon missing", with(`"a" 1`), contract.CodeInvalidJSON, ""},
		{"a value missing", with(`"a":`), contract.CodeInvalidJSON, ""},
		{"a name that is a number", with(`1:1`), contract.CodeInvalidJSON, ""},
		{"a name that is an array with a duplicate name", `{[{"a":1,"a":2}]:1}`, contract.CodeInvalidJSON, ""},
		{"single quotes", `{'a':1}`, contract.CodeInvalidJSON, ""},
		{"a comment", with(`"a":1/**/`), contract.CodeInvalidJSON, ""},
		{"NaN", with(`"a":NaN`), contract.CodeInvalidJSON, ""},
		{"a number with a leading zero", with(`"a":01`), contract.CodeInvalidJSON, ""},
		{"a number with a plus", with(`"a":+1`), contract.CodeInvalidJSON, ""},
		{"a number that ends in a point", with(`"a":1.`), contract.CodeInvalidJSON, ""},
		{"a number without its exponent", with(`"a":1e`), contract.CodeInvalidJSON, ""},
		{"a line break in a string", with("\"a\":\"\n\""), contract.CodeInvalidJSON, ""},
		{"a control character in a name", with("\"\x01\":1"), contract.CodeInvalidJSON, ""},
		{"an unknown escape", with(`"a":"\x41"`), contract.CodeInvalidJSON, ""},
		{"half a surrogate pair", with(`"a":"\ud83d"`), contract.CodeInvalidJSON, ""},
		{"half a surrogate pair before another escape", with(`"a":"\ud83d\u0041"`), contract.CodeInvalidJSON, ""},
		{"a surrogate pair the wrong way round", with(`"a":"\ude00\ud83d"`), contract.CodeInvalidJSON, ""},
		{"brackets that do not match", with(`"a":[}`), contract.CodeInvalidJSON, ""},
		{"invalid UTF-8 in a value", with("\"a\":\"\xff\""), contract.CodeInvalidUTF8, ""},
		{"invalid UTF-8 in a name", with("\"\xc3\":1"), contract.CodeInvalidUTF8, ""},
		{"an encoded surrogate", with("\"a\":\"\xed\xa0\x80\""), contract.CodeInvalidUTF8, ""},
		{"an overlong encoding", with("\"a\":\"\xc0\xaf\""), contract.CodeInvalidUTF8, ""},
		{"invalid UTF-8 outside of strings", "{\xff}", contract.CodeInvalidUTF8, ""},
		{"invalid UTF-8 behind another syntax error", "{,}\xff", contract.CodeInvalidUTF8, ""},
		{"UTF-16", "\xff\xfe{\x00}\x00", contract.CodeInvalidUTF8, ""},
		{"a field twice", with(`"user_id":"SECRET"`), contract.CodeDuplicateName, "user_id"},
		{"a field twice, once with an escape", with(`"\u0075ser_id":"SECRET"`), contract.CodeDuplicateName, "user_id"},
		{"another name twice", with(`"SECRET":1,"SECRET":1`), contract.CodeDuplicateName, ""},
		{"a name twice, deep within", with(`"a":[{"b":{"user_id":1,"user_\u0069d":1}}]`), contract.CodeDuplicateName, ""},
		{"a duplicate name before a syntax error", with(`"user_id":"x",,,`), contract.CodeDuplicateName, "user_id"},
		{"a syntax error before a duplicate name", with(`,"user_id":"x"`), contract.CodeInvalidJSON, ""},
		{"nesting deeper than may be", with(`"a":` + deep), contract.CodeTooDeep, ""},
		{"nesting deeper than may be, in a field", with(`"user_id2":1,"page_url":` + deep), contract.CodeTooDeep, ""},
		{"nesting deeper than may be, before a syntax error", with(`"a":` + deep + "]"), contract.CodeTooDeep, ""},
		{"more bytes than may be", with(`"a":"` + strings.Repeat("x", 4000) + `"`), contract.CodeTooLarge, ""},
		{"more bytes than may be, and no JSON", strings.Repeat("x", 4001), contract.CodeTooLarge, ""},

		{"no fields", "{}", contract.CodeMissingField, "event_id"},
		{"a missing event_timestamp", without("event_timestamp", ""), contract.CodeMissingField, "event_timestamp"},
		{"a missing event_type", without("event_type", ""), contract.CodeMissingField, "event_type"},
		{"a missing user_id", without("user_id", ""), contract.CodeMissingField, "user_id"},
		{"a user_id that is null", without("user_id", `"user_id":null`), contract.CodeMissingField, "user_id"},
		{"a user_id only within another object", without("user_id", `"a":{"user_id":"u1"}`), contract.CodeMissingField, "user_id"},
		{"an empty event_id", without("event_id", `"event_id":""`), contract.CodeEmptyField, "event_id"},
		{"a blank event_id", without("event_id", `"event_id":" \t"`), contract.CodeEmptyField, "event_id"},
		{"a blank user_id, escaped", without("user_id", `"user_id":"\u0020\u00a0\u3000"`), contract.CodeEmptyField, "user_id"},
		{"an empty user_id", without("user_id", `"user_id":""`), contract.CodeEmptyField, "user_id"},
		{"a number as user_id", without("user_id", `"user_id":4711`), contract.CodeWrongType, "user_id"},
		{"true as page_url", with(`"page_url":true`), contract.CodeWrongType, "page_url"},
		{"an object as page_url", with(`"page_url":{"a":1}`), contract.CodeWrongType, "page_url"},
		{"an array as product_id", with(`"product_id":["SECRET"]`), contract.CodeWrongType, "product_id"},
		{"a number as event_timestamp", without("event_timestamp", `"event_timestamp":1770091506`), contract.CodeWrongType, "event_timestamp"},
		{"a string as INT64", with(`"quantity":"1"`), contract.CodeWrongType, "quantity"},
		{"a fraction as INT64", with(`"quantity":1.0`), contract.CodeWrongType, "quantity"},
		{"an exponent as INT64", with(`"quantity":1e2`), contract.CodeWrongType, "quantity"},
		{"a fraction behind more than 64 bits as INT64", with(`"quantity":100000000000000000000.0`), contract.CodeWrongType, "quantity"},
		{"more than 64 bits as INT64", with(`"quantity":9223372036854775808`), contract.CodeOutOfRange, "quantity"},
		{"less than 64 bits as INT64", with(`"quantity":-9223372036854775809`), contract.CodeOutOfRange, "quantity"},
		{"a string as FLOAT64", with(`"price":"1.5"`), contract.CodeWrongType, "price"},
		{"too much as FLOAT64", with(`"price":1e309`), contract.CodeOutOfRange, "price"},
		{"a string as BOOL", with(`"gift":"true"`), contract.CodeWrongType, "gift"},
		{"a number as BOOL", with(`"gift":1`), contract.CodeWrongType, "gift"},
		{"a number as BYTES", with(`"token":1`), contract.CodeWrongType, "token"},
		{"base64 without padding", with(`"token":"AA"`), contract.CodeInvalidBase64, "token"},
		{"base64 for URLs", with(`"token":"-_-_"`), contract.CodeInvalidBase64, "token"},
		{"base64 with a line break", with(`"token":"AAAA\nAAA"`), contract.CodeInvalidBase64, "token"},
		{"base64 with bits to spare", with(`"token":"AB=="`), contract.CodeInvalidBase64, "token"},
		{"base64 of padding only", with(`"token":"===="`), contract.CodeInvalidBase64, "token"},
		{"an event_type of another case", without("event_type", `"event_type":"Purchase"`), contract.CodeInvalidEventType, "event_type"},
		{"an empty event_type", without("event_type", `"event_type":""`), contract.CodeInvalidEventType, "event_type"},
		{"text as event_timestamp", without("event_timestamp", `"event_timestamp":"SECRET"`), contract.CodeInvalidTimestamp, "event_timestamp"},
		{"text as another timestamp", with(`"seen_at":"SECRET"`), contract.CodeInvalidTimestamp, "seen_at"},
		{"an event_timestamp a microsecond too old", without("event_timestamp", `"event_timestamp":"2021-02-04T04:05:06.788999Z"`), contract.CodeTimestampOutOfRange, "event_timestamp"},
		{"an event_timestamp a microsecond too far ahead", without("event_timestamp", `"event_timestamp":"2027-02-03T04:05:06.789001Z"`), contract.CodeTimestampOutOfRange, "event_timestamp"},
		{"a timestamp in the year 0", with(`"seen_at":"0000-12-31T23:59:59Z"`), contract.CodeTimestampOutOfRange, "seen_at"},
		{"a timestamp in the year 10000 by its offset", with(`"seen_at":"9999-12-31T23:59:59-00:01"`), contract.CodeTimestampOutOfRange, "seen_at"},

		{"two violations: the first in the text counts", with(`"price":"x","page_url":1`), contract.CodeWrongType, "price"},
		{"a violation and a missing field: the violation counts", without("event_id", `"page_url":1`), contract.CodeWrongType, "page_url"},
		{"a violation before a syntax error: the syntax counts", with(`"page_url":1,"a":tru`), contract.CodeInvalidJSON, ""},
		{"a violation before a duplicate name: the name counts", with(`"page_url":1,"page_url":"x"`), contract.CodeDuplicateName, "page_url"},
	} {
		prefix := []byte("before")
		dst, err := d.AppendRow(prefix, []byte(c.event), meta)
		var rejection *Rejection
		if !errors.As(err, &rejection) {
			t.Errorf("%s: accepted (%v), want %s", c.what, err, c.code)
			continue
		}
		if rejection.Code != c.code || rejection.Field != c.field {
			t.Errorf("%s: rejected as %s of %q (%s), want %s of %q", c.what, rejection.Code, rejection.Field,
				rejection.Message, c.code, c.field)
		}
		if rejection.Message == "" || strings.Contains(rejection.Message, "SECRET") ||
			!strings.Contains(rejection.Message, rejection.Field) {
			t.Errorf("%s: the message is %q", c.what, rejection.Message)
		}
		if string(dst) != "before" {
			t.Errorf("%s: dst is %q", c.what, dst)
		}
	}
	if _, err := d.AppendRow(nil, nil, meta); err == nil || !strings.Contains(err.Error(), "null") {
		t.Errorf("a tombstone: %v, want a rejection that says null", err)
	}
	// The decoder is none the worse for all that.
	if _, err := d.AppendRow(nil, []byte(good), meta); err != nil {
		t.Error(err)
	}
}

// Protects the columns that events do not fill.
func TestMeta(t *testing.T) {
	table := contract.FactEvents()
	d, r := newDecoder(t, table, Config{Now: func() time.Time { return now }}), newReader(t, table)
	read := func(m Meta) map[string]any {
		row, err := d.AppendRow(nil, []byte(good), m)
		if err != nil {
			t.Fatal(err)
		}
		return r.read(t, row)
	}
	if row := read(Meta{Topic: "t", Partition: 1, Offset: -1, Timestamp: 5}); row["kafka_topic"] != nil ||
		row["kafka_partition"] != nil || row["kafka_offset"] != nil || row["kafka_timestamp"] != nil {
		t.Errorf("an event that is not from Kafka has kafka columns: %v", row)
	} else if row["ingested_at"] != now.UnixMicro() {
		t.Errorf("ingested_at is %v, want the clock's %v", row["ingested_at"], now.UnixMicro())
	}
	if row := read(Meta{Topic: "t"}); row["kafka_offset"] != int64(0) || row["kafka_partition"] != int64(0) ||
		row["kafka_topic"] != "t" || row["kafka_timestamp"] != nil {
		t.Errorf("offset 0 of partition 0 without a timestamp: %v", row)
	}
	if row := read(Meta{Offset: -1, ReplayID: "r-1"}); row["replay_id"] != "r-1" {
		t.Errorf("replay_id is %v, want r-1", row["replay_id"])
	}
	if row := read(Meta{Topic: "t"}); row["replay_id"] != nil {
		t.Errorf("replay_id is %v for an event that was not replayed", row["replay_id"])
	}
	for _, stamp := range []int64{math.MinInt64, math.MaxInt64, 253_402_300_800_000} {
		if row := read(Meta{Topic: "t", Timestamp: stamp}); row["kafka_timestamp"] != nil {
			t.Errorf("kafka_timestamp is %v for %d, which no TIMESTAMP holds", row["kafka_timestamp"], stamp)
		}
	}
}

// Protects the start of the service: what cannot work is said there.
func TestNewDecoderRefuses(t *testing.T) {
	parse := func(text string) *contract.Table {
		table, err := contract.Parse("t", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	const rest = `,{"name": "properties", "type": "JSON"}]`
	for _, c := range []struct {
		what   string
		table  *contract.Table
		config Config
		says   string
	}{
		{"no event types", contract.FactEvents(), Config{Types: []string{}}, "no event types"},
		{"a negative age", contract.FactEvents(), Config{MaxAge: -1}, "MaxAge"},
		{"a depth beyond reason", contract.FactEvents(), Config{MaxDepth: 1001}, "MaxDepth"},
		{"a negative size", contract.FactEvents(), Config{MaxBytes: -1}, "MaxBytes"},
		{"a decoder that is none", contract.FactEvents(), Config{Decoder: "slow"}, "slow"},
		{"no properties", parse(`[{"name": "a", "type": "STRING"}]`), Config{}, "properties"},
		{"properties of another type", parse(`[{"name": "properties", "type": "STRING"}]`), Config{}, "properties"},
		{"a required kafka_offset", parse(`[{"name": "kafka_offset", "type": "INT64", "mode": "REQUIRED"}` + rest), Config{}, "kafka_offset"},
		{"event_type of another type", parse(`[{"name": "event_type", "type": "INT64"}` + rest), Config{}, "event_type"},
	} {
		if _, err := NewDecoder(c.table, c.config); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error about %s", c.what, err, c.says)
		}
	}
}

// Protects the cost of a good event: nothing is allocated for it.
func TestNoAllocation(t *testing.T) {
	d := newDecoder(t, everyType(t), Config{})
	value := []byte(with(`"page_url":"\u00e4","a":{"b":[1,2,{"c":"d"}]},"quantity":5,"price":1.25,"token":"AAAA","\u0062":"x"`))
	row := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := d.AppendRow(row, value, meta); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

package deadletter

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/deadletter"
)

// descriptor is that of events_dlq, as BigQuery would use it.
func descriptor(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("t.proto"),
		MessageType: []*descriptorpb.DescriptorProto{contract.EventsDLQ().Descriptor()}}
	f, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.Messages().Get(0)
}

const now = 1_795_000_000_000_000

// decode reads a row as BigQuery does: required columns there, strings UTF-8.
func decode(t testing.TB, d protoreflect.MessageDescriptor, row []byte) map[string]any {
	t.Helper()
	m := dynamicpb.NewMessage(d)
	if err := proto.Unmarshal(row, m); err != nil {
		t.Fatal(err)
	}
	if len(m.GetUnknown()) > 0 {
		t.Fatal("columns that are not in the table")
	}
	values := make(map[string]any)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if s, ok := v.Interface().(string); ok && !utf8.ValidString(s) {
			t.Fatalf("%s is not UTF-8", f.Name())
		}
		values[string(f.Name())] = v.Interface()
		return true
	})
	return values
}

// Protects dead letters from being refused: whatever a record holds, its row on any
// level is one that BigQuery takes, and the event is in it whole or with what
// identifies it.
func FuzzRow(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "missing_field", "user_id", "sentence", []byte("key"), int64(7), int64(1_795_000_000_000),
		int64(now), int64(0), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", []byte("value"), int64(0))
	f.Add([]byte("\xff"), "too_large", "\xff", "", []byte(nil), int64(-1), int64(-5), int64(-1), int64(99), "x",
		[]byte("\xff"), int64(3))
	columns, err := newColumns(contract.EventsDLQ())
	if err != nil {
		f.Fatal(err)
	}
	d := descriptor(f)
	f.Fuzz(func(t *testing.T, value []byte, code, field, message string, key []byte, offset, timestamp, failedAt,
		size int64, trace string, header []byte, left int64) {
		if size < 0 || code == "" {
			return
		}
		l := letter{header: &batch.Header{Traceparent: trace}, record: &batch.Record{Topic: field, Offset: offset,
			Timestamp: timestamp, Key: key, Value: value, Headers: []batch.RecordHeader{{Key: key, Value: header}}},
			why: batch.Rejection{Code: code, Field: field, Message: message, Size: size,
				Left: batch.Left(left)}, now: now, failedAt: failedAt, refusal: message}
		for _, lv := range append([]level{{original: 5, record: 60, text: 3, utf8: true}}, levels...) {
			row := decode(t, d, columns.appendRow(nil, &l, lv))
			at := row["failed_at"].(int64)
			if at < now-day || at > now+day {
				t.Fatalf("failed_at %d is in no partition", at)
			}
			if ms, ok := row["kafka_timestamp"].(int64); ok && (ms < 0 || ms > lastTimestamp) {
				t.Fatalf("kafka_timestamp %d", ms)
			}
			if _, ok := row["kafka_offset"]; ok != (offset >= 0) {
				t.Fatal("an offset of no record, or none")
			}
			kept := []byte(nil)
			if s, ok := row["original_event"].(string); ok {
				kept = []byte(s)
			} else if b, ok := row["original_event_bytes"].([]byte); ok {
				kept = b
			}
			leftOut, _ := row["left_out"].(string)
			if k, ok := row["kafka_key"].([]byte); ok && !bytes.Equal(k, key) || !ok && key != nil &&
				!strings.Contains(leftOut, "kafka_key") {
				t.Fatal("the key is not what it was, and nothing says so")
			}
			if text, ok := row["kafka_headers"].(string); !ok && !strings.Contains(leftOut, "kafka_headers") {
				t.Fatal("the headers are left out, and nothing says so")
			} else if ok {
				headers, err := deadletter.ParseHeaders(text)
				if err != nil || len(headers) != 1 || !bytes.Equal(headers[0].Key, key) ||
					!bytes.Equal(headers[0].Value, header) {
					t.Fatalf("the headers became %s: %v", text, err)
				}
			}
			if left&1 != 0 && !strings.Contains(leftOut, "kafka_key") {
				t.Fatal("what the sender left out is not named")
			}
			if !bytes.HasPrefix(value, kept) {
				t.Fatal("the event was changed")
			}
			if sum := sha256.Sum256(value); size == 0 && len(kept) < len(value) &&
				(row["original_event_size"] != int64(len(value)) || !bytes.Equal(row["original_event_sha256"].([]byte),
					sum[:])) {
				t.Fatal("the event was cut, and not identified")
			}
		}
	})
}

// Protects the whole of what fits, and the readability of what is cut.
func TestOriginal(t *testing.T) {
	columns, err := newColumns(contract.EventsDLQ())
	if err != nil {
		t.Fatal(err)
	}
	d := descriptor(t)
	big := strings.Repeat("é", 8<<20)
	for _, test := range []struct {
		name        string
		value       []byte
		size        int64 // it was cut before
		event       string
		bytes       []byte
		wantSize    int64
		noneAtAll   bool
		levelNumber int
	}{
		{name: "text", value: []byte("{}"), event: "{}"},
		{name: "bytes", value: []byte("\xff"), bytes: []byte("\xff")},
		{name: "a tombstone", value: nil, noneAtAll: true},
		{name: "nothing", value: []byte{}, event: ""},
		{name: "cut here", value: []byte(big), event: big[:8<<20], wantSize: 16 << 20},
		{name: "cut before, within a letter", value: []byte("caf\xc3"), size: 77, event: "caf", wantSize: 77},
		{name: "cut before, not UTF-8", value: []byte("a\xffb"), size: 77, bytes: []byte("a\xffb"), wantSize: 77},
		{name: "refused once", value: []byte("{}"), bytes: []byte("{}"), levelNumber: 1},
		{name: "refused twice", value: []byte("{}"), noneAtAll: true, wantSize: 2, levelNumber: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := letter{header: &batch.Header{}, record: &batch.Record{Offset: 1, Value: test.value},
				why: batch.Rejection{Code: "c", Size: test.size}, now: now}
			row := decode(t, d, columns.appendRow(nil, &l, levels[test.levelNumber]))
			event, isText := row["original_event"].(string)
			raw, isBytes := row["original_event_bytes"].([]byte)
			if test.noneAtAll != (!isText && !isBytes) || event != test.event || !bytes.Equal(raw, test.bytes) {
				t.Errorf("text of %d bytes (%v), bytes %q (%v)", len(event), isText, raw, isBytes)
			}
			if size, _ := row["original_event_size"].(int64); size != test.wantSize {
				t.Errorf("size %d, want %d", size, test.wantSize)
			}
		})
	}
}

// Protects deployments from a table that this package cannot fill.
func TestNewSaysWhichColumnIsMissing(t *testing.T) {
	table, err := contract.Parse("events_dlq", []byte(`[{"name":"original_event","type":"STRING","mode":"NULLABLE"},{"name":"original_event_bytes","type":"STRING","mode":"NULLABLE"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Table: table}, nil); err == nil || !strings.Contains(err.Error(),
		"original_event_bytes of type BYTES") {
		t.Errorf("got %v", err)
	}
}

// Protects dead letters that waited for longer than the table keeps its partitions: BigQuery
// would take such a row and delete it with its partition.
func TestLateDeadLetters(t *testing.T) {
	columns, err := newColumns(contract.EventsDLQ())
	if err != nil {
		t.Fatal(err)
	}
	d := descriptor(t)
	for _, test := range []struct {
		name     string
		failedAt int64
		want     int64
		said     bool
	}{
		{"just now", now - 1, now - 1, false},
		{"23 hours ago", now - 23*day/24, now - 23*day/24, false},
		{"three days ago", now - 3*day, now, true},
		{"a month ago", now - 31*day, now, true},
		{"unknown", 0, now, false},
		{"tomorrow", now + 2*day, now, false},
	} {
		l := letter{header: &batch.Header{}, record: &batch.Record{Value: []byte("x"), Offset: -1},
			why: batch.Rejection{Code: "c", Message: "Why."}, now: now, failedAt: test.failedAt}
		for _, lv := range levels {
			row := decode(t, d, columns.appendRow(nil, &l, lv))
			if said := strings.Contains(row["error"].(string),
				"It failed at 20"); row["failed_at"].(int64) != test.want || said != test.said {
				t.Errorf("%s: failed_at %d, error %q", test.name, row["failed_at"], row["error"])
			}
		}
	}
}

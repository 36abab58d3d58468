package batch

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// everything is a batch in which every field is set, and null differs from empty.
func everything() *Batch {
	return &Batch{
		Header: Header{
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Origin:      Origin{Consumer: "ingest-00042-abc", FailedAt: 1_700_000_000_123_456, MessageID: "1234567890", PublishTime: 1_700_000_000_000_000, DeliveryAttempt: 3, Contract: "clickstream", Table: "fact_events"},
			ReplayID:    "20231114-221320-4f2a",
		},
		Records: []Record{
			{Topic: "clickstream", Partition: 7, Offset: 0, Value: []byte(`{"event_id":"a"}`)},
			{Offset: NoOffset, Key: []byte{}, Value: []byte{}},
			{Topic: "clickstream", Partition: 7, Offset: math.MaxInt64, Timestamp: 1_700_000_000_000, Key: []byte("k"),
				Value: nil, Headers: []RecordHeader{
					{Key: []byte("a"), Value: nil}, {Key: []byte{}, Value: []byte{}}, {Key: []byte("\xff"), Value: []byte("v")}}},
			{Topic: "clickstream", Partition: 8, Offset: 5, Value: []byte("x"), Rejection: Rejection{Code: "wrong_type",
				Field: "user_id", Message: "want a string", Size: 99,
				SHA256: bytes.Repeat([]byte{7}, 32), Subject: "clicks-value", Version: 3}},
			{Topic: "orders", Partition: 7, Offset: 6, Value: []byte("y"), Rejection: Rejection{Code: "wrong_type", Field: "page_url", Message: "want a string"}},
		},
	}
}

func encode(t testing.TB, b *Batch) []byte {
	t.Helper()
	e := NewEncoder(b.Header)
	for i := range b.Records {
		e.Append(&b.Records[i])
	}
	if e.Len() != len(b.Records) {
		t.Fatalf("Len is %d after %d records", e.Len(), len(b.Records))
	}
	payload, err := e.Payload(nil)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// Protects decode(encode(x)) = x, null and empty apart, from one batch to the next
// with the same Decoder and Encoder.
func TestRoundTrip(t *testing.T) {
	var d Decoder
	for _, b := range []*Batch{everything(), {}, {Records: []Record{{}}},
		{Records: []Record{{Topic: "t", Partition: math.MaxInt32}}}, everything(),
		{Records: []Record{{Offset: math.MinInt64, Timestamp: math.MinInt64}, {Offset: math.MaxInt64,
			Timestamp: math.MaxInt64}, {Offset: math.MinInt64}}}} {
		got, err := d.Decode(encode(t, b), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !equal(got, b) {
			t.Errorf("got  %+v\nwant %+v", got, b)
		}
	}
}

// equal compares what a batch means: nil and empty slices differ only where null
// and empty do.
func equal(a, b *Batch) bool {
	if a.Header != b.Header || a.Bare != b.Bare || len(a.Records) != len(b.Records) {
		return false
	}
	null := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	for i := range a.Records {
		x, y := &a.Records[i], &b.Records[i]
		if x.Topic != y.Topic || x.Partition != y.Partition || x.Offset != y.Offset || x.Timestamp != y.Timestamp ||
			!null(x.Key, y.Key) || !null(x.Value, y.Value) || len(x.Headers) != len(y.Headers) ||
			x.Rejection.Code != y.Rejection.Code || x.Rejection.Field != y.Rejection.Field ||
			x.Rejection.Message != y.Rejection.Message ||
			x.Rejection.Size != y.Rejection.Size || !bytes.Equal(x.Rejection.SHA256, y.Rejection.SHA256) ||
			x.Rejection.Left != y.Rejection.Left {
			return false
		}
		for j := range x.Headers {
			if !bytes.Equal(x.Headers[j].Key, y.Headers[j].Key) || !null(x.Headers[j].Value, y.Headers[j].Value) {
				return false
			}
		}
	}
	return true
}

// Protects events that others publish straight to the topic: whatever is no packed
// batch is one bare event, also nothing at all.
func TestBareEvent(t *testing.T) {
	var d Decoder
	for _, payload := range []string{`{"event_id":"a"}`, "", "\xff", "\xffSL", "no JSON"} {
		b, err := d.Decode([]byte(payload), DefaultLimits)
		if err != nil {
			t.Fatalf("%q: %v", payload, err)
		}
		want := &Batch{Bare: true, Records: []Record{{Offset: NoOffset, Value: []byte(payload)}}}
		if !equal(b, want) {
			t.Errorf("%q: got %+v, want %+v", payload, b, want)
		}
	}
	if b, err := d.Decode(nil, DefaultLimits); err != nil || b.Records[0].Value == nil {
		t.Errorf("an empty message is a tombstone: %+v, %v", b, err)
	}
}

// Protects the strings that protobuf demands to be UTF-8: a message of BigQuery's
// that is not does not make the batch unreadable.
func TestStringsAreMadeUTF8(t *testing.T) {
	var d Decoder
	b, err := d.Decode(encode(t, &Batch{Records: []Record{{Topic: "a\xffb", Rejection: Rejection{Code: "c",
		Message: "\xc3\x28"}}}}), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if b.Records[0].Topic != "a\uFFFDb" || b.Records[0].Rejection.Message != "\uFFFD(" {
		t.Errorf("got %q and %q", b.Records[0].Topic, b.Records[0].Rejection.Message)
	}
}

// magicV1 begins a payload of version 1.
const magicV1 = magicPrefix + "\x01"

// compressed is a payload with any content.
func compressed(t testing.TB, magic string, content []byte) []byte {
	t.Helper()
	z, err := compressor()
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(content, []byte(magic))
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

// message is a message of fields, each a number and its bytes.
func message(fields ...any) (m []byte) {
	for i := 0; i < len(fields); i += 2 {
		m = protowire.AppendTag(m, protowire.Number(fields[i].(int)), protowire.BytesType)
		m = protowire.AppendString(m, fields[i+1].(string))
	}
	return m
}

// Protects the function from payloads that are damaged or made to hurt: each is a
// typed error.
func TestRefused(t *testing.T) {
	good := encode(t, everything())
	frame := good[len(Magic):]
	compress1 := func(content []byte) []byte { return compressed(t, magicV1, content) }
	compress := func(content []byte) []byte { return compressed(t, Magic, content) }
	columns := func(fields ...any) []byte { return compress(message(fields...)) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	magic := []byte(Magic)
	limits := Limits{Records: 5, RecordBytes: 100, Bytes: 1000, Headers: 3}
	for _, c := range []struct {
		what    string
		payload []byte
		kind    error
	}{
		{"cut after the magic's text", good[:4], ErrTruncated},
		{"cut after the magic", good[:5], ErrTruncated},
		{"cut in the frame header", good[:8], ErrTruncated},
		{"cut in a block", good[:len(good)-20], ErrTruncated},
		{"cut in the checksum", good[:len(good)-1], ErrTruncated},
		{"another version", join([]byte("\xffSLB\x03"), frame), ErrVersion},
		{"version 0", join([]byte("\xffSLB\x00"), frame), ErrVersion},
		{"no zstd frame", join(magic, []byte("{}{}{}{}{}{}")), ErrForged},
		{"a byte after the frame", join(good, []byte{0}), ErrForged},
		{"two frames", join(good, frame), ErrForged},
		{"a skippable frame", join(magic, []byte("\x50\x2a\x4d\x18\x00\x00\x00\x00"), frame), ErrForged},
		{"a flipped bit in the content", func() []byte { p := bytes.Clone(good); p[len(p)-30] ^= 4; return p }(), ErrForged},
		{"a frame that declares no content size", join(magic, []byte("\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00")), ErrForged},
		{"a frame that asks for a dictionary", join(magic, []byte("\x28\xb5\x2f\xfd\x21\x05\x00\x01\x00\x00")), ErrForged},
		{"a bomb: a kilobyte that declares a gigabyte", join(magic, []byte("\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00")), ErrTooLarge},
		{"a frame that declares more than its blocks hold", join(magic, []byte("\x28\xb5\x2f\xfd\x60\x00\x01\x01\x00\x00")), ErrForged},
		{"a frame that asks for more window than the limit", join(magic, []byte("\x28\xb5\x2f\xfd\x80\x88\x01\x00\x00\x00\x09\x00\x00A")), ErrTooLarge},
		{"a block of the reserved type", join(magic, []byte("\x28\xb5\x2f\xfd\x20\x01\x0f\x00\x00A")), ErrForged},
		{"cut between two blocks", join(magic, []byte("\x28\xb5\x2f\xfd\x20\x02\x08\x00\x00A")), ErrTruncated},
		{"no protobuf", compress([]byte("\x0f\x0f\x0f\x0f")), ErrForged},
		{"a topic that is not UTF-8", columns(batchSources, "\x0a\x01\xff", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"more content than the limit", compress(make([]byte, 1001)), ErrTooLarge},
		{"more records than the limit", columns(batchSources, "", batchRuns, "\x00\x06", batchOffsets, zeros(6), batchTimestamps, zeros(6), batchKeys, zeros(6), batchValues, zeros(6)), ErrTooLarge},
		{"a larger record than the limit", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x02", batchKeyData, "k", batchValues, "\x65", batchValueData, strings.Repeat("v", 100)), ErrTooLarge},
		{"more record headers than the limit", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00", batchHeaders, "\x04", batchHeaderKeys, "\x00\x00\x00\x00", batchHeaderValues, "\x00\x00\x00\x00"), ErrTooLarge},
		{"a column twice", columns(batchRuns, "", batchRuns, ""), ErrForged},
		{"a column that is not packed", compress([]byte("\x30\x00")), ErrForged},
		{"values without the rest", columns(batchValues, "\x01"), ErrForged},
		{"offsets without values", columns(batchOffsets, "\x01"), ErrForged},
		{"no source", columns(batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"sources without records", columns(batchSources, ""), ErrForged},
		{"an empty run", columns(batchSources, "", batchRuns, "\x00\x00\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"a longer run than there are records", columns(batchSources, "", batchRuns, "\x00\x02", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"no run", columns(batchSources, "", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"one run more", columns(batchSources, "", batchRuns, "\x00\x01\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"a value that ends beyond the data", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x03", batchValueData, "v"), ErrForged},
		{"data of no value", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x01", batchValueData, "v"), ErrForged},
		{"an offset of eleven bytes", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, strings.Repeat("\xff", 10)+"\x01", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"the beginning of an offset", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00\x80", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00"), ErrForged},
		{"headers of fewer records", columns(batchSources, "", batchRuns, "\x00\x02", batchOffsets, "\x00\x00", batchTimestamps, "\x00\x00", batchKeys, "\x00\x00", batchValues, "\x00\x00", batchHeaders, "\x00"), ErrForged},
		{"fewer headers than the records have", columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00", batchHeaders, "\x02", batchHeaderKeys, "\x00", batchHeaderValues, "\x00"), ErrForged},
		{"a rejection for one record of two", columns(batchSources, "", batchRuns, "\x00\x02", batchOffsets, "\x00\x00", batchTimestamps, "\x00\x00", batchKeys, "\x00\x00", batchValues, "\x00\x00", batchRejections, ""), ErrForged},
		{"version 1: a record that ends beyond the message", compress1([]byte("\x1a\x05\x08")), ErrForged},
		{"version 1: a header that ends beyond its record", compress1([]byte("\x1a\x02\x2a\x05")), ErrForged},
		{"version 1: malformed within a header", compress1([]byte("\x1a\x03\x2a\x01\x0a")), ErrForged},
		{"version 1: a topic that is not UTF-8", compress1([]byte("\x0a\x01\xff")), ErrForged},
		{"version 1: more content than the limit", compress1(make([]byte, 1001)), ErrTooLarge},
		{"version 1: more records than the limit", compress1(bytes.Repeat([]byte("\x1a\x00"), 6)), ErrTooLarge},
		{"version 1: a larger record than the limit", compress1(append([]byte("\x1a\x65\x22\x63"), make([]byte, 99)...)), ErrTooLarge},
		{"version 1: more record headers than the limit", compress1([]byte("\x1a\x08\x2a\x00\x2a\x00\x2a\x00\x2a\x00")), ErrTooLarge},
		{"a larger bare event than the limit", []byte(strings.Repeat("x", 101)), ErrTooLarge},
	} {
		var d Decoder
		limits := limits
		if bytes.HasPrefix(c.payload, good[:len(Magic)+20]) {
			limits = DefaultLimits
		}
		b, err := d.Decode(c.payload, limits)
		var e *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &e) || e.Kind != c.kind || b != nil {
			t.Errorf("%s: got %v, %v; want %v", c.what, b, err, c.kind)
		}
	}
}

// Protects what is just allowed: a limit is the most that is accepted, not the first
// that is refused. And a frame with a block of one repeated byte, which no encoder of
// ours makes.
func TestAcceptedAtTheLimit(t *testing.T) {
	compress := func(content []byte) []byte { return compressed(t, Magic, content) }
	columns := func(fields ...any) []byte { return compress(message(fields...)) }
	compress1 := func(content string) []byte { return compressed(t, magicV1, []byte(content)) }
	limits := Limits{Records: 5, RecordBytes: 100, Bytes: 1000, Headers: 3}
	for what, payload := range map[string][]byte{
		"as many records": columns(batchSources, "", batchRuns, "\x00\x05", batchOffsets, zeros(5),
			batchTimestamps, zeros(5), batchKeys, zeros(5), batchValues, zeros(5)),
		"as large a record": columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00",
			batchTimestamps, "\x00", batchKeys, "\x02", batchKeyData, "k", batchValues, "\x64", batchValueData,
			strings.Repeat("v", 99)),
		"as many record headers": columns(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00",
			batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00", batchHeaders, "\x03", batchHeaderKeys,
			"\x00\x00\x00", batchHeaderValues, "\x00\x00\x00"),
		// unknown fields
		"as much content":                   compress([]byte(strings.Repeat("\xf8\x01\x80\x00", 250))),
		"version 1: as many records":        compress1(strings.Repeat("\x1a\x00", 5)),
		"version 1: as large a record":      compress1("\x1a\x64\x22\x62" + strings.Repeat("x", 98)),
		"version 1: as many record headers": compress1("\x1a\x06\x2a\x00\x2a\x00\x2a\x00"),
		"as large a bare event":             []byte(strings.Repeat("x", 100)),
		"a block of one repeated":           []byte(magicV1 + "\x28\xb5\x2f\xfd\x20\x64\x23\x03\x00x"),
	} {
		if _, err := new(Decoder).Decode(payload, limits); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Protects the memory bound: a few bytes that declare much are refused before
// anything is allocated for them.
func TestForgedSizesAllocateNothing(t *testing.T) {
	for what, payload := range map[string]string{
		"content size": Magic + "\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x01\x01\x00\x00", // 16 MiB, within the limit
		"above limit":  Magic + "\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00",
	} {
		var d Decoder
		if _, err := d.Decode([]byte(payload), DefaultLimits); err == nil {
			t.Errorf("%s: accepted", what)
		}
		if cap(d.buf)+cap(d.records)+cap(d.headers) > 0 {
			t.Errorf("%s: %d bytes, %d records, %d headers allocated", what, cap(d.buf), cap(d.records), cap(d.headers))
		}
	}
}

// Protects the steady state: neither encoding nor decoding allocates per record.
func TestAllocations(t *testing.T) {
	b := &Batch{Header: Header{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	for i := range 500 {
		b.Records = append(b.Records, Record{Topic: "clickstream", Partition: int32(i / 50), Offset: int64(i),
			Timestamp: 1_700_000_000_000, Key: []byte("user"), Value: []byte(`{"event_id":"a"}`),
			Headers:   []RecordHeader{{Key: []byte("k"), Value: []byte("v")}},
			Rejection: Rejection{Code: "wrong_type", Field: "user_id", Message: "want a string"}})
	}
	e := NewEncoder(b.Header)
	var payload []byte
	var d Decoder
	allocs := testing.AllocsPerRun(20, func() {
		e.Reset(b.Header)
		for i := range b.Records {
			e.Append(&b.Records[i])
		}
		payload, _ = e.Payload(payload[:0])
		if _, err := d.Decode(payload, DefaultLimits); err != nil {
			t.Error(err)
		}
	})
	if allocs > 10 {
		t.Errorf("%v allocations for 500 records, want a handful for the batch", allocs)
	}
}

// Protects the process's memory: one exceptional batch is not held for ever.
func TestLargeBuffersAreLetGo(t *testing.T) {
	random := make([]byte, 12<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	large := &Batch{Records: []Record{{Value: random}}}
	small := encode(t, everything())
	e := NewEncoder(Header{})
	e.Append(&large.Records[0])
	payload, err := e.Payload(nil)
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	if _, err := d.Decode(payload, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Decode(small, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	e.Reset(Header{})
	e.Append(&Record{})
	e.Reset(Header{})
	if cap(d.buf) > retained || cap(e.message) > retained {
		t.Errorf("after small batches the decoder holds %d bytes, the encoder %d", cap(d.buf), cap(e.message))
	}

	many := &Batch{Records: make([]Record, 40_000)}
	for i := range many.Records {
		many.Records[i].Headers = []RecordHeader{{}}
	}
	for _, b := range [][]byte{encode(t, many), small, small} {
		if _, err := d.Decode(b, DefaultLimits); err != nil {
			t.Fatal(err)
		}
	}
	if cap(d.records) > 100 || cap(d.headers) > 100 {
		t.Errorf("after small batches the decoder holds %d records, %d headers", cap(d.records), cap(d.headers))
	}
}

// Protects Decode's callers: the strings of a batch outlive it, and no slice of a
// record reaches into its neighbour when it is appended to.
func TestSlicesAreSeparate(t *testing.T) {
	var d Decoder
	b, err := d.Decode(encode(t, everything()), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	topic := b.Records[0].Topic
	_ = append(b.Records[0].Value, "overwritten by an append"...)
	_ = append(b.Records[2].Headers, RecordHeader{})
	if !equal(b, everything()) {
		t.Error("an append to one record changed another")
	}
	if _, err := d.Decode(encode(t, &Batch{Records: []Record{{Topic: "another-one"}}}), DefaultLimits); err != nil {
		t.Fatal(err)
	}
	if topic != "clickstream" {
		t.Errorf("the topic of the batch before became %q", topic)
	}
}

// Protects Decode against any bytes: it does not panic, keeps its memory bound, and
// what it accepts encodes and decodes to the same.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, everything()))
	f.Add(encode(f, &Batch{}))
	f.Add([]byte(`{"event_id":"a"}`))
	f.Add([]byte(Magic + "\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00"))
	limits := Limits{Records: 100, RecordBytes: 10_000, Bytes: 50_000, Headers: 200}
	var d, again Decoder
	f.Fuzz(func(t *testing.T, payload []byte) {
		b, err := d.Decode(payload, limits)
		if cap(d.buf) > limits.Bytes+zstdSlack || cap(d.records) > limits.Records || cap(d.headers) > limits.Headers ||
			d.text.Cap() > 2*limits.Bytes {
			t.Fatalf("%d bytes, %d records, %d headers, %d bytes of strings allocated", cap(d.buf), cap(d.records),
				cap(d.headers), d.text.Cap())
		}
		var e *Error
		if err != nil {
			if !errors.As(err, &e) {
				t.Fatalf("error is a %T", err)
			}
			return
		}
		if b.Bare {
			return
		}
		same, err := again.Decode(encode(t, b), Limits{})
		if err != nil || !equal(same, b) {
			t.Fatalf("decoded %+v\nagain   %+v, %v", b, same, err)
		}
	})
}

// Protects the protobuf decoding, which random bytes rarely reach through zstd: the
// content itself is fuzzed, against the same invariants.
func FuzzContent(f *testing.F) {
	e := NewEncoder(everything().Header)
	for _, r := range everything().Records {
		e.Append(&r)
	}
	f.Add(bytes.Clone(e.finish()))
	f.Add(message(batchSources, "", batchRuns, "\x00\x01", batchOffsets, "\x00", batchTimestamps, "\x00", batchKeys,
		"\x00", batchValues, "\x00"))
	var d, again Decoder
	f.Fuzz(func(t *testing.T, content []byte) {
		b, err := d.Decode(compressed(t, Magic, content), DefaultLimits)
		sameAsGenerated(t, content, b, err)
		if err != nil {
			return
		}
		same, err := again.Decode(encode(t, b), Limits{})
		if err != nil || !equal(same, b) {
			t.Fatalf("decoded %+v\nagain   %+v, %v", b, same, err)
		}
	})
}

// Protects the same for version 1.
func FuzzContentV1(f *testing.F) {
	f.Add([]byte("\x0a\x0bclickstream\x10\x07\x1a\x02\x2a\x00\x1a\x00\x3b\x3c"))
	f.Add(encodeV1(f, everything()))
	var d, again Decoder
	f.Fuzz(func(t *testing.T, content []byte) {
		b, err := d.Decode(compressed(t, magicV1, content), DefaultLimits)
		sameAsGeneratedV1(t, content, b, err)
		if err != nil {
			return
		}
		same, err := again.Decode(encode(t, b), Limits{})
		if err != nil || !equal(same, b) {
			t.Fatalf("decoded %+v\nagain   %+v, %v", b, same, err)
		}
	})
}

// Protects instances from what a stranger may publish: a header that is copied into every
// row, a hash that no row can hold. Such a batch is refused once it is decoded, as damaged
// payloads are; what the project's own programs write stays below every limit.
func TestWhatABatchSaysOfItselfIsBounded(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, change := range map[string]func(b *Batch){
		"topic":               func(b *Batch) { b.Records[1].Topic = long(maxTopic + 1) },
		"partition":           func(b *Batch) { b.Records[1].Partition = -1 },
		"traceparent":         func(b *Batch) { b.Traceparent = long(maxTraceparent + 1) },
		"replay id":           func(b *Batch) { b.ReplayID = long(maxReplayID + 1) },
		"consumer":            func(b *Batch) { b.Origin.Consumer = long(MaxName + 1) },
		"message id":          func(b *Batch) { b.Origin.MessageID = long(MaxName + 1) },
		"contract":            func(b *Batch) { b.Origin.Contract = long(MaxName + 1) },
		"table":               func(b *Batch) { b.Origin.Table = long(MaxName + 1) },
		"rejection code":      func(b *Batch) { b.Records[3].Rejection.Code = long(MaxName + 1) },
		"rejected field":      func(b *Batch) { b.Records[3].Rejection.Field = long(MaxName + 1) },
		"rejection message":   func(b *Batch) { b.Records[3].Rejection.Message = long(MaxMessage + 1) },
		"SHA-256":             func(b *Batch) { b.Records[3].Rejection.SHA256 = make([]byte, 9<<20) },
		"the size of a value": func(b *Batch) { b.Records[3].Rejection.Size = -1 },
	} {
		b := everything()
		change(b)
		var d Decoder
		_, err := d.Decode(encode(t, b), Limits{})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Detail, name) {
			t.Errorf("%s: %v, want an error that names it", name, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%s: the error has %d bytes: it repeats the payload", name, len(err.Error()))
		}
	}
	most := everything()
	most.Records[0].Topic, most.Traceparent, most.ReplayID = long(maxTopic), long(maxTraceparent), long(maxReplayID)
	most.Origin.Consumer, most.Origin.MessageID = long(MaxName), long(MaxName)
	most.Origin.Contract, most.Origin.Table = long(MaxName), long(MaxName)
	most.Records[3].Rejection.Message = long(MaxMessage)
	var d Decoder
	if _, err := d.Decode(encode(t, most), Limits{}); err != nil {
		t.Errorf("all at their limits: %v", err)
	}
}

// Protects rejections whose words are another's: they are cut at a character, not refused.
func TestClip(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aü", 2, "a"}, {"日本", 5, "日"}, {"\xff\xff\xff", 2,
		"\xff\xff"}, {"\x80\x80", 1, ""}} {
		if got := Clip(c.text, c.most); got != c.want {
			t.Errorf("Clip(%q, %d) is %q, want %q", c.text, c.most, got, c.want)
		}
	}
}

// Protects decode(encode(x)) = x for batches of any shape.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), []byte("seed"))
	var d Decoder
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		b := randomBatch(seed, data)
		got, err := d.Decode(encode(t, b), Limits{})
		if err != nil || !equal(got, b) {
			t.Fatalf("got  %+v, %v\nwant %+v", got, err, b)
		}
	})
}

// randomBatch is a batch of any shape, made of pieces of data.
func randomBatch(seed uint64, data []byte) *Batch {
	r := rand.New(rand.NewPCG(seed, 1))
	piece := func() []byte {
		switch r.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		i := r.IntN(len(data) + 1)
		return data[i : i+r.IntN(len(data)-i+1)]
	}
	text := func() string {
		s := strings.ToValidUTF8(string(piece()), "?")
		if len(s) > maxReplayID { // the shortest limit of all
			s = strings.ToValidUTF8(s[:maxReplayID/2], "?")
		}
		return s
	}
	number := func() int64 { return int64(r.Uint64()) >> r.IntN(64) }
	b := &Batch{Header: Header{Traceparent: text(), ReplayID: text()}}
	if r.IntN(2) == 0 {
		b.Origin = Origin{Consumer: text(), FailedAt: number(), MessageID: text(), PublishTime: number(),
			DeliveryAttempt: int32(number()), Contract: text(), Table: text()}
	}
	topics := []string{text(), text(), ""}
	for range r.IntN(20) {
		record := Record{Topic: topics[r.IntN(3)], Partition: int32(number()&math.MaxInt32) >> r.IntN(31),
			Offset: number(), Timestamp: number(), Key: piece(), Value: piece()}
		for range r.IntN(4) {
			record.Headers = append(record.Headers, RecordHeader{Key: piece(), Value: piece()})
		}
		if r.IntN(3) == 0 {
			record.Rejection = Rejection{Code: text(), Field: text(), Message: text(), Size: number() & math.MaxInt64,
				Left:    Left(r.IntN(4)),
				Subject: text(), Version: int32(number() & math.MaxInt32)}
			if r.IntN(2) == 0 {
				record.Rejection.SHA256 = bytes.Repeat([]byte{byte(r.Uint32())}, 32)
			}
		}
		b.Records = append(b.Records, record)
	}
	return b
}

// Protects the codecs that all goroutines share (run with -race).
func TestConcurrentUse(t *testing.T) {
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			var d Decoder
			for range 50 {
				if b, err := d.Decode(encode(t, everything()), DefaultLimits); err != nil || !equal(b, everything()) {
					t.Errorf("got %+v, %v", b, err)
				}
			}
		})
	}
	wait.Wait()
}

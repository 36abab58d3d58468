package batch

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"sluice/internal/batch/batchpb"
)

// fromProto is what a generated message means in the types of this package.
func fromProto(m *batchpb.Batch) *Batch {
	b := &Batch{Header: Header{Topic: m.GetTopic(), Partition: m.GetPartition(), Traceparent: m.GetTraceparent(), ReplayID: m.GetReplayId()}}
	if o := m.GetOrigin(); o != nil {
		b.Origin = Origin{o.GetConsumer(), o.GetFailedAt(), o.GetMessageId(), o.GetPublishTime(), o.GetDeliveryAttempt(), o.GetContract(), o.GetTable()}
	}
	for _, r := range m.GetRecords() {
		record := Record{Offset: NoOffset, Timestamp: r.GetTimestampMs(), Key: r.Key, Value: r.Value}
		if r.Offset != nil {
			record.Offset = r.GetOffset()
		}
		for _, h := range r.GetHeaders() {
			record.Headers = append(record.Headers, RecordHeader{h.GetKey(), h.Value})
		}
		if j := r.GetRejection(); j != nil {
			record.Rejection = Rejection{j.GetCode(), j.GetField(), j.GetMessage(), j.GetSize(), j.GetSha256(), Left(j.GetLeft())}
		}
		b.Records = append(b.Records, record)
	}
	return b
}

// sameAsGenerated compares a verdict on content with the generated code's.
func sameAsGenerated(t *testing.T, content []byte, b *Batch, err error) bool {
	t.Helper()
	var m batchpb.Batch
	want := proto.Unmarshal(content, &m)
	if want == nil && err != nil && fromProto(&m).check() != nil {
		return true // well-formed, and more than a batch may say of itself
	}
	if (want == nil) != (err == nil) {
		t.Errorf("error is %v, the generated code's %v", err, want)
		return false
	}
	if err == nil && !equal(b, fromProto(&m)) {
		t.Errorf("got %+v\nthe generated code's %+v", b, fromProto(&m))
		return false
	}
	return true
}

// Protects batch.proto as the truth: what this package encodes, the generated code
// reads, and encodes to the same bytes again.
func TestEncodingIsThatOfTheGeneratedCode(t *testing.T) {
	batches := []*Batch{{}, everything()}
	for seed := range uint64(200) {
		batches = append(batches, randomBatch(seed, []byte("any bytes \xff\x00 äöü at all")))
	}
	for _, b := range batches {
		e := NewEncoder(b.Header)
		for i := range b.Records {
			e.Append(&b.Records[i])
		}
		var m batchpb.Batch
		if err := proto.Unmarshal(e.buf, &m); err != nil {
			t.Fatal(err)
		}
		if !equal(b, fromProto(&m)) {
			t.Fatalf("encoded %+v\nread    %+v", b, fromProto(&m))
		}
		again, err := proto.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != len(e.buf) {
			t.Fatalf("the generated code needs %d bytes for %d", len(again), len(e.buf))
		}
	}
}

// Protects readers from writers of another age: unknown fields, fields of another
// type, repeated scalars and merged messages are read as the generated code reads them.
func TestDecodingIsThatOfTheGeneratedCode(t *testing.T) {
	embed := func(field protowire.Number, parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), bytes.Join(parts, nil))
	}
	varint := func(field protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), v)
	}
	fixed := func(field protowire.Number) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(nil, field, protowire.Fixed64Type), 1)
	}
	group := bytes.Join([][]byte{protowire.AppendTag(nil, 9, protowire.StartGroupType), varint(1, 1), protowire.AppendTag(nil, 9, protowire.EndGroupType)}, nil)
	unknown := bytes.Join([][]byte{embed(99, []byte("later")), varint(98, 7), fixed(97), group}, nil)
	for what, parts := range map[string][][]byte{
		"unknown fields everywhere": {unknown, embed(batchTopic, []byte("t")), unknown,
			embed(batchRecords, unknown, varint(recordOffset, 5), embed(recordHeaders, unknown, embed(headerKey, []byte("k"))), embed(recordRejection, unknown)),
			embed(batchOrigin, unknown, varint(originFailedAt, 3))},
		"known numbers of other types":   {varint(batchTopic, 1), fixed(batchPartition), varint(batchRecords, 2), embed(batchRecords, embed(recordOffset, []byte("x")), varint(recordValue, 1), fixed(recordHeaders))},
		"the last scalar counts":         {varint(batchPartition, 1), varint(batchPartition, 2), embed(batchTopic, []byte("a")), embed(batchTopic), embed(batchRecords, varint(recordOffset, 1), varint(recordOffset, 0), embed(recordKey, []byte("k")), embed(recordKey))},
		"embedded messages merge":        {embed(batchOrigin, varint(originFailedAt, 3)), embed(batchRecords, embed(recordRejection, embed(rejectionCode, []byte("c"))), embed(recordRejection, embed(rejectionField, []byte("f")))), embed(batchOrigin, embed(originConsumer, []byte("c")))},
		"a 64-bit varint as partition":   {varint(batchPartition, 1<<40|3)},
		"a group that does not end":      {protowire.AppendTag(nil, 9, protowire.StartGroupType)},
		"a group that does not begin":    {protowire.AppendTag(nil, 9, protowire.EndGroupType)},
		"field number zero":              {{0x00, 0x00}},
		"a code that is not UTF-8":       {embed(batchRecords, embed(recordRejection, embed(rejectionCode, []byte("\xff"))))},
		"a consumer that is not UTF-8":   {embed(batchOrigin, embed(originConsumer, []byte("\xff")))},
		"a varint of eleven bytes":       {append([]byte{0x10}, bytes.Repeat([]byte{0xff}, 11)...)},
		"a non-minimal varint":           {{0x10, 0x81, 0x00}},
		"an empty record, empty header":  {embed(batchRecords), embed(batchRecords, embed(recordHeaders))},
		"a rejection without its fields": {embed(batchRecords, embed(recordRejection))},
	} {
		content := bytes.Join(parts, nil)
		z, err := compressor()
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		b, err := d.Decode(z.EncodeAll(content, []byte(Magic)), DefaultLimits)
		if !sameAsGenerated(t, content, b, err) {
			t.Errorf("%s: differs", what)
		}
	}
}

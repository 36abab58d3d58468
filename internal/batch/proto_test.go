package batch

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"sluice/internal/batch/batchpb"
	"sluice/internal/batch/batchpb/v1"
)

// fromProto is what a generated message means in the types of this package.
func fromProtoV1(m *batchpb1.Batch) *Batch {
	b := &Batch{Header: Header{Traceparent: m.GetTraceparent(), ReplayID: m.GetReplayId()}}
	if o := m.GetOrigin(); o != nil {
		b.Origin = Origin{o.GetConsumer(), o.GetFailedAt(), o.GetMessageId(), o.GetPublishTime(),
			o.GetDeliveryAttempt(), o.GetContract(), o.GetTable()}
	}
	for _, r := range m.GetRecords() {
		record := Record{Topic: m.GetTopic(), Partition: m.GetPartition(), Offset: NoOffset,
			Timestamp: r.GetTimestampMs(), Key: r.Key, Value: r.Value}
		if r.Offset != nil {
			record.Offset = r.GetOffset()
		}
		for _, h := range r.GetHeaders() {
			record.Headers = append(record.Headers, RecordHeader{h.GetKey(), h.Value})
		}
		if j := r.GetRejection(); j != nil {
			record.Rejection = Rejection{j.GetCode(), j.GetField(), j.GetMessage(), j.GetSize(), j.GetSha256(),
				Left(j.GetLeft()), j.GetSubject(), j.GetVersion()}
		}
		b.Records = append(b.Records, record)
	}
	return b
}

// sameAsGenerated compares a verdict on content with the generated code's.
func sameAsGeneratedV1(t *testing.T, content []byte, b *Batch, err error) bool {
	t.Helper()
	var m batchpb1.Batch
	want := proto.Unmarshal(content, &m)
	if want == nil && err != nil && (fromProtoV1(&m).check() != nil ||
		(&source{place: place{m.GetTopic(), m.GetPartition(), true}}).check() != nil) {
		return true // well-formed, and more than a batch may say of itself
	}
	if (want == nil) != (err == nil) {
		t.Errorf("error is %v, the generated code's %v", err, want)
		return false
	}
	if err == nil && !equal(b, fromProtoV1(&m)) {
		t.Errorf("got %+v\nthe generated code's %+v", b, fromProtoV1(&m))
		return false
	}
	return true
}

// Protects readers from writers of another age: unknown fields, fields of another
// type, repeated scalars and merged messages are read as the generated code reads them.
func TestDecodingV1IsThatOfTheGeneratedCode(t *testing.T) {
	embed := func(field protowire.Number, parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), bytes.Join(parts, nil))
	}
	varint := func(field protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), v)
	}
	fixed := func(field protowire.Number) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(nil, field, protowire.Fixed64Type), 1)
	}
	group := bytes.Join([][]byte{protowire.AppendTag(nil, 9, protowire.StartGroupType), varint(1, 1),
		protowire.AppendTag(nil, 9, protowire.EndGroupType)}, nil)
	unknown := bytes.Join([][]byte{embed(99, []byte("later")), varint(98, 7), fixed(97), group}, nil)
	for what, parts := range map[string][][]byte{
		"unknown fields everywhere": {unknown, embed(v1BatchTopic, []byte("t")), unknown,
			embed(v1BatchRecords, unknown, varint(v1RecordOffset, 5), embed(v1RecordHeaders, unknown,
				embed(v1HeaderKey, []byte("k"))), embed(v1RecordRejection, unknown)),
			embed(v1BatchOrigin, unknown, varint(originFailedAt, 3))},
		"known numbers of other types":   {varint(v1BatchTopic, 1), fixed(v1BatchPartition), varint(v1BatchRecords, 2), embed(v1BatchRecords, embed(v1RecordOffset, []byte("x")), varint(v1RecordValue, 1), fixed(v1RecordHeaders))},
		"the last scalar counts":         {varint(v1BatchPartition, 1), varint(v1BatchPartition, 2), embed(v1BatchTopic, []byte("a")), embed(v1BatchTopic), embed(v1BatchRecords, varint(v1RecordOffset, 1), varint(v1RecordOffset, 0), embed(v1RecordKey, []byte("k")), embed(v1RecordKey))},
		"embedded messages merge":        {embed(v1BatchOrigin, varint(originFailedAt, 3)), embed(v1BatchRecords, embed(v1RecordRejection, embed(rejectionCode, []byte("c"))), embed(v1RecordRejection, embed(rejectionField, []byte("f")))), embed(v1BatchOrigin, embed(originConsumer, []byte("c")))},
		"a 64-bit varint as partition":   {varint(v1BatchPartition, 1<<40|3)},
		"a group that does not end":      {protowire.AppendTag(nil, 9, protowire.StartGroupType)},
		"a group that does not begin":    {protowire.AppendTag(nil, 9, protowire.EndGroupType)},
		"field number zero":              {{0x00, 0x00}},
		"a code that is not UTF-8":       {embed(v1BatchRecords, embed(v1RecordRejection, embed(rejectionCode, []byte("\xff"))))},
		"a consumer that is not UTF-8":   {embed(v1BatchOrigin, embed(originConsumer, []byte("\xff")))},
		"a varint of eleven bytes":       {append([]byte{0x10}, bytes.Repeat([]byte{0xff}, 11)...)},
		"a non-minimal varint":           {{0x10, 0x81, 0x00}},
		"an empty record, empty header":  {embed(v1BatchRecords), embed(v1BatchRecords, embed(v1RecordHeaders))},
		"a rejection without its fields": {embed(v1BatchRecords, embed(v1RecordRejection))},
	} {
		content := bytes.Join(parts, nil)
		var d Decoder
		b, err := d.Decode(compressed(t, magicV1, content), DefaultLimits)
		if !sameAsGeneratedV1(t, content, b, err) {
			t.Errorf("%s: differs", what)
		}
	}
}

// encodeV1 is the message of version 1 with the records of b that are from one place.
func encodeV1(t testing.TB, b *Batch) []byte {
	t.Helper()
	m := &batchpb1.Batch{Topic: b.Records[0].Topic, Partition: b.Records[0].Partition, Traceparent: b.Traceparent,
		ReplayId: b.ReplayID,
		Origin: &batchpb1.Origin{Consumer: b.Origin.Consumer, FailedAt: b.Origin.FailedAt,
			MessageId: b.Origin.MessageID, PublishTime: b.Origin.PublishTime,
			DeliveryAttempt: b.Origin.DeliveryAttempt, Contract: b.Origin.Contract, Table: b.Origin.Table}}
	for _, r := range b.Records {
		if r.Topic != m.GetTopic() || r.Partition != m.GetPartition() {
			continue
		}
		record := &batchpb1.Record{TimestampMs: r.Timestamp, Key: r.Key, Value: r.Value}
		if r.Offset != NoOffset {
			record.Offset = &r.Offset
		}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, &batchpb1.Header{Key: h.Key, Value: h.Value})
		}
		if j := r.Rejection; j.Code != "" {
			record.Rejection = &batchpb1.Rejection{Code: j.Code, Field: j.Field, Message: j.Message, Size: j.Size,
				Sha256: j.SHA256, Left: int32(j.Left), Subject: j.Subject, Version: j.Version}
		}
		m.Records = append(m.Records, record)
	}
	content, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Protects an upgrade: what a bridge of before has published is read as it was.
func TestVersion1IsRead(t *testing.T) {
	want := everything()
	want.Records = []Record{want.Records[0], want.Records[2]}
	b, err := new(Decoder).Decode(compressed(t, magicV1, encodeV1(t, everything())), DefaultLimits)
	if err != nil || !equal(b, want) {
		t.Errorf("got  %+v, %v\nwant %+v", b, err, want)
	}
}

// fromProto is what a generated message means in the types of this package, or nil if its
// columns do not fit together. It is as plain as batch.proto is.
func fromProto(m *batchpb.Batch) *Batch {
	b := &Batch{Header: Header{Traceparent: m.GetTraceparent(), ReplayID: m.GetReplayId()}}
	if o := m.GetOrigin(); o != nil {
		b.Origin = Origin{o.GetConsumer(), o.GetFailedAt(), o.GetMessageId(), o.GetPublishTime(),
			o.GetDeliveryAttempt(), o.GetContract(), o.GetTable()}
	}
	n := len(m.Values)
	if len(m.Offsets) != n || len(m.Timestamps) != n || len(m.Keys) != n || len(m.Headers) != 0 &&
		len(m.Headers) != n ||
		len(m.Rejections) != 0 && len(m.Rejections) != n || len(m.HeaderKeys) != len(m.HeaderValues) ||
		len(m.Runs)%2 != 0 || len(m.Sources) > n {
		return nil
	}
	next := map[uint32]int64{}
	for i, s := range m.Sources {
		next[uint32(i)] = s.GetOffset()
	}
	bad := false
	take := func(data *[]byte, length uint32) []byte {
		if length == 0 {
			return nil
		}
		if int(length-1) > len(*data) {
			bad = true
			return nil
		}
		v := (*data)[: length-1 : length-1]
		*data = (*data)[length-1:]
		return v
	}
	keys, values, headers := append([]byte{}, m.KeyData...), append([]byte{}, m.ValueData...), append([]byte{},
		m.HeaderData...)
	header, timestamp := 0, int64(0)
	for run := 0; run < len(m.Runs); run += 2 {
		at, count := m.Runs[run], int(m.Runs[run+1])
		if int(at) >= len(m.Sources) || count == 0 || count > n-len(b.Records) {
			return nil
		}
		for range count {
			i := len(b.Records)
			timestamp += m.Timestamps[i]
			r := Record{Topic: m.Sources[at].GetTopic(), Partition: m.Sources[at].GetPartition(), Offset: NoOffset,
				Timestamp: timestamp,
				Key:       take(&keys, m.Keys[i]), Value: take(&values, m.Values[i])}
			if m.Sources[at].Offset != nil {
				r.Offset = next[at] + m.Offsets[i]
				next[at] = r.Offset + 1
			}
			if len(m.Headers) > 0 {
				for range m.Headers[i] {
					if header == len(m.HeaderKeys) || m.HeaderKeys[header] == 1<<32-1 {
						return nil
					}
					r.Headers = append(r.Headers, RecordHeader{take(&headers, m.HeaderKeys[header]+1),
						take(&headers, m.HeaderValues[header])})
					header++
				}
			}
			if len(m.Rejections) > 0 {
				j := m.Rejections[i]
				r.Rejection = Rejection{j.GetCode(), j.GetField(), j.GetMessage(), j.GetSize(), j.GetSha256(),
					Left(j.GetLeft()), j.GetSubject(), j.GetVersion()}
			}
			b.Records = append(b.Records, r)
		}
	}
	if bad || len(b.Records) != n || header != len(m.HeaderKeys) || len(keys)+len(values)+len(headers) > 0 {
		return nil
	}
	for _, s := range m.Sources {
		if (&source{place: place{s.GetTopic(), s.GetPartition(), true}}).check() != nil {
			return nil
		}
	}
	if b.check() != nil {
		return nil
	}
	return b
}

// sameAsGenerated compares a verdict on content with the generated code's. That reads more:
// columns in several pieces and numbers that are cut to 32 bits. What this package reads is
// the same there.
func sameAsGenerated(t *testing.T, content []byte, b *Batch, err error) {
	t.Helper()
	if err != nil {
		return
	}
	var m batchpb.Batch
	if wrong := proto.Unmarshal(content, &m); wrong != nil {
		t.Fatalf("accepted; the generated code says %v", wrong)
	}
	if want := fromProto(&m); want == nil || !equal(b, want) {
		t.Fatalf("got %+v\nthe generated code's %+v", b, want)
	}
}

// Protects batch.proto as the truth: what this package encodes, the generated code
// reads, and what that encodes this package reads.
func TestEncodingIsThatOfTheGeneratedCode(t *testing.T) {
	batches := []*Batch{{}, everything()}
	for seed := range uint64(500) {
		batches = append(batches, randomBatch(seed, []byte("any bytes \xff\x00 äöü at all")))
	}
	var d Decoder
	for _, b := range batches {
		e := NewEncoder(b.Header)
		for i := range b.Records {
			e.Append(&b.Records[i])
		}
		content := e.finish()
		if size := e.Size(); size < len(content) || size > len(content)+200+30*len(b.Records) {
			t.Errorf("Size is %d, the batch has %d bytes", size, len(content))
		}
		var m batchpb.Batch
		if err := proto.Unmarshal(content, &m); err != nil {
			t.Fatal(err)
		}
		if got := fromProto(&m); got == nil || !equal(b, got) {
			t.Fatalf("encoded %+v\nread    %+v", b, got)
		}
		again, err := proto.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Decode(compressed(t, Magic, again), Limits{}); err != nil || !equal(b, got) {
			t.Fatalf("the generated code encoded %+v\nread %+v, %v", b, got, err)
		}
	}
}

// Protects readers from writers of another age: unknown fields are passed over, and a
// source, a rejection and an origin are read as the generated code reads them.
func TestUnknownFieldsArePassedOver(t *testing.T) {
	unknown := string(protowire.AppendFixed64(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(message(99,
		"later"), 98, protowire.VarintType), 7), 97, protowire.Fixed64Type), 1))
	content := message(batchSources, unknown+"\x0a\x01t"+unknown, batchRuns, "\x00\x01", batchOffsets, "\x00",
		batchTimestamps, "\x00", batchKeys, "\x00", batchValues, "\x00",
		batchOrigin, unknown, batchRejections, unknown+"\x0a\x01c")
	content = append([]byte(unknown), content...)
	b, err := new(Decoder).Decode(compressed(t, Magic, content), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	sameAsGenerated(t, content, b, err)
	if r := b.Records[0]; r.Topic != "t" || r.Rejection.Code != "c" {
		t.Errorf("got %+v", r)
	}
}

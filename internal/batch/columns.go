package batch

import "google.golang.org/protobuf/encoding/protowire"

// decodeColumns decodes the Batch of batch.proto. Fields that it does not know are passed
// over. A known one of another shape (twice, not packed, of another length than its
// neighbours) is refused: no Encoder makes it, and passing over it would lose records.
func (d *Decoder) decodeColumns(message []byte, l Limits) error {
	var c [lastColumn + 1][]byte
	sources, rejections := 0, 0
	f := fields{rest: message}
	for f.next() {
		switch {
		case f.typ < 0, f.number <= batchRejections && f.typ != protowire.BytesType:
			return errForged
		case f.number == batchSources:
			sources++
		case f.number == batchRejections:
			rejections++
		case f.number >= batchRuns && f.number <= lastColumn:
			if c[f.number] != nil {
				return errForged
			}
			c[f.number] = f.bytes
		}
	}
	records, headers := count(c[batchValues]), count(c[batchHeaderKeys])
	switch {
	case records > l.Records:
		return failf(ErrTooLarge, "%d records, the limit is %d", records, l.Records)
	case headers > l.Headers:
		return failf(ErrTooLarge, "%d record headers, the limit is %d", headers, l.Headers)
	case count(c[batchOffsets]) != records, count(c[batchTimestamps]) != records, count(c[batchKeys]) != records,
		len(c[batchHeaders]) > 0 && count(c[batchHeaders]) != records, count(c[batchHeaderValues]) != headers,
		rejections > 0 && rejections != records, sources > records:
		return failf(ErrForged, "its columns differ in length")
	}
	if err := d.make(records, headers); err != nil {
		return err
	}
	if cap(d.sources) < sources {
		d.sources = make([]source, 0, sources)
	}
	d.records = d.records[:records]
	if err := d.headerFields(message); err != nil {
		return err
	}
	return d.fill(&c, records, l)
}

// headerFields decodes what is in no column, the rejections into records that are otherwise
// empty.
func (d *Decoder) headerFields(message []byte) error {
	n := 0
	f := fields{rest: message}
	for f.next() {
		ok := true
		switch f.number {
		case batchTraceparent:
			ok = d.string(&d.batch.Traceparent, d.last.Traceparent, f.bytes)
		case batchReplayID:
			ok = d.string(&d.batch.ReplayID, d.last.ReplayID, f.bytes)
		case batchOrigin:
			ok = d.origin(f.bytes)
		case batchSources:
			var s source
			if ok = d.source(&s, f.bytes); ok {
				if err := s.check(); err != nil {
					return err
				}
				d.sources = append(d.sources, s)
			}
		case batchRejections:
			ok = d.rejection(&d.records[n].Rejection, f.bytes)
			if d.records[n].Rejection.Code != "" {
				d.lastRej = d.records[n].Rejection
			}
			n++
		}
		if !ok {
			return errForged
		}
	}
	return nil
}

// source decodes a Source.
func (d *Decoder) source(s *source, b []byte) bool {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.typ < 0:
			return false
		case f.number == sourceTopic && f.typ == protowire.BytesType:
			previous := d.topic
			if n := len(d.sources); n > 0 {
				previous = d.sources[n-1].topic
			}
			if !d.string(&s.topic, previous, f.bytes) {
				return false
			}
		case f.number == sourcePartition && f.typ == protowire.VarintType:
			s.partition = int32(f.varint)
		case f.number == sourceOffset && f.typ == protowire.VarintType:
			s.kafka, s.next = true, int64(f.varint)
		}
	}
	return true
}

// fill makes the records of columns of the right lengths.
func (d *Decoder) fill(c *[lastColumn + 1][]byte, records int, l Limits) error {
	runs := numbers{rest: c[batchRuns]}
	offsets, timestamps := numbers{rest: c[batchOffsets]}, numbers{rest: c[batchTimestamps]}
	keys, values := data{numbers{rest: c[batchKeys]}, c[batchKeyData]}, data{numbers{rest: c[batchValues]},
		c[batchValueData]}
	headers := numbers{rest: c[batchHeaders]}
	headerKeys, headerValues := numbers{rest: c[batchHeaderKeys]}, numbers{rest: c[batchHeaderValues]}
	headerData := c[batchHeaderData]
	var timestamp int64
	for i := 0; i < records; {
		at, run := runs.next(), runs.next()
		if at >= uint64(len(d.sources)) || run == 0 || run > uint64(records-i) {
			return errForged
		}
		s := &d.sources[at]
		for range run {
			r := &d.records[i]
			i++
			r.Topic, r.Partition, r.Offset = s.topic, s.partition, NoOffset
			if delta := offsets.signed(); s.kafka {
				r.Offset = s.next + delta
				s.next = r.Offset + 1
			}
			timestamp += timestamps.signed()
			r.Timestamp = timestamp
			var ok1, ok2 bool
			r.Key, ok1 = keys.next()
			r.Value, ok2 = values.next()
			if !ok1 || !ok2 {
				return errForged
			}
			size := len(r.Key) + len(r.Value)
			if len(headers.rest) > 0 {
				n := headers.next()
				if n > uint64(cap(d.headers)-len(d.headers)) {
					return errForged
				}
				before := len(headerData)
				first := len(d.headers)
				for range n {
					var h RecordHeader
					var ok bool
					if h.Key, headerData, ok = cut(headerKeys.next()+1, headerData); !ok || h.Key == nil {
						return errForged
					}
					if h.Value, headerData, ok = cut(headerValues.next(), headerData); !ok {
						return errForged
					}
					d.headers = append(d.headers, h)
				}
				if n > 0 {
					r.Headers = d.headers[first:len(d.headers):len(d.headers)]
				}
				size += before - len(headerData)
			}
			if size > l.RecordBytes {
				return failf(ErrTooLarge, "a record of %d bytes, the limit is %d", size, l.RecordBytes)
			}
		}
	}
	left := len(headerData) + len(keys.rest) + len(values.rest)
	for _, n := range []numbers{runs, offsets, timestamps, keys.lengths, values.lengths, headers, headerKeys,
		headerValues} {
		left += len(n.rest)
		if n.bad {
			return errForged
		}
	}
	if left > 0 {
		return failf(ErrForged, "its columns hold more than its records")
	}
	return nil
}

// count is how many numbers there are in a column: each ends with a byte below 0x80.
func count(column []byte) int {
	n := 0
	for _, b := range column {
		if b < 0x80 {
			n++
		}
	}
	return n
}

// numbers are those of a column that are left.
type numbers struct {
	rest []byte
	bad  bool // something was no number
}

// next takes one. Of nothing, and of what is no number, it takes MaxUint64, which is no length
// and no count of anything.
func (n *numbers) next() uint64 {
	if len(n.rest) > 0 && n.rest[0] < 0x80 {
		v := uint64(n.rest[0])
		n.rest = n.rest[1:]
		return v
	}
	v, size := protowire.ConsumeVarint(n.rest)
	if size < 0 {
		n.rest, n.bad = nil, true
		return 1<<64 - 1
	}
	n.rest = n.rest[size:]
	return v
}

// signed takes one of either sign.
func (n *numbers) signed() int64 { return protowire.DecodeZigZag(n.next()) }

// data is a column of lengths and the bytes that they divide.
type data struct {
	lengths numbers
	rest    []byte
}

// next takes the next one, and is false if it ends beyond the data.
func (d *data) next() (v []byte, ok bool) {
	v, d.rest, ok = cut(d.lengths.next(), d.rest)
	return v, ok
}

// cut takes the first length-1 bytes of b, or nil if length is 0. It is false if there are
// not so many.
func cut(length uint64, b []byte) (v, rest []byte, ok bool) {
	if length == 0 {
		return nil, b, true
	}
	if length--; length > uint64(len(b)) {
		return nil, b, false
	}
	if b == nil {
		b = []byte{} // what is empty is not null
	}
	return b[:length:length], b[length:], true
}

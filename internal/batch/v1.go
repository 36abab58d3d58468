package batch

import "google.golang.org/protobuf/encoding/protowire"

// The field numbers of v1.proto, but for those of the messages that version 2 has, too.
const (
	v1BatchTopic       = 1
	v1BatchPartition   = 2
	v1BatchRecords     = 3
	v1BatchTraceparent = 4
	v1BatchOrigin      = 5
	v1BatchReplayID    = 6

	v1RecordOffset    = 1
	v1RecordTimestamp = 2
	v1RecordKey       = 3
	v1RecordValue     = 4
	v1RecordHeaders   = 5
	v1RecordRejection = 6

	v1HeaderKey   = 1
	v1HeaderValue = 2
)

// decodeV1 decodes a message of version 1, whose records are of one partition and follow
// one another.
func (d *Decoder) decodeV1(message []byte, l Limits) error {
	records, headers, err := countV1(message, l)
	if err == nil {
		err = d.make(records, headers)
	}
	if err != nil {
		return err
	}
	var at source
	if err := d.messageV1(message, &at); err != nil {
		return err
	}
	for i := range d.records { // the topic may come behind them
		d.records[i].Topic, d.records[i].Partition = at.topic, at.partition
	}
	return at.check()
}

// countV1 checks the limits and the outline of the message.
func countV1(b []byte, l Limits) (records, headers int, err error) {
	f := fields{rest: b}
	for f.next() {
		if f.typ < 0 {
			return 0, 0, errForged
		}
		if f.number != v1BatchRecords || f.typ != protowire.BytesType {
			continue
		}
		if len(f.bytes) > l.RecordBytes {
			return 0, 0, failf(ErrTooLarge, "a record of %d bytes, the limit is %d", len(f.bytes), l.RecordBytes)
		}
		if records++; records > l.Records {
			return 0, 0, failf(ErrTooLarge, "more than %d records", l.Records)
		}
		r := fields{rest: f.bytes}
		for r.next() {
			if r.typ < 0 {
				return 0, 0, errForged
			}
			if r.number == v1RecordHeaders && r.typ == protowire.BytesType {
				if headers++; headers > l.Headers {
					return 0, 0, failf(ErrTooLarge, "more than %d record headers", l.Headers)
				}
			}
		}
	}
	return records, headers, nil
}

// messageV1 decodes the Batch. As protobuf demands, unknown fields (also known ones
// of another wire type) are passed over, the last of several scalars counts, and
// several embedded messages of a singular field are merged.
func (d *Decoder) messageV1(b []byte, at *source) error {
	f := fields{rest: b}
	for f.next() {
		ok := true
		switch f.typ {
		case protowire.VarintType:
			if f.number == v1BatchPartition {
				at.partition = int32(f.varint)
			}
		case protowire.BytesType:
			switch f.number {
			case v1BatchRecords:
				ok = d.recordV1(f.bytes)
			case v1BatchTopic:
				ok = d.string(&at.topic, d.topic, f.bytes)
			case v1BatchTraceparent:
				ok = d.string(&d.batch.Traceparent, d.last.Traceparent, f.bytes)
			case v1BatchOrigin:
				ok = d.origin(f.bytes)
			case v1BatchReplayID:
				ok = d.string(&d.batch.ReplayID, d.last.ReplayID, f.bytes)
			}
		case -1:
			ok = false
		}
		if !ok {
			return errForged
		}
	}
	return nil
}

func (d *Decoder) recordV1(b []byte) bool {
	d.records = append(d.records, Record{Offset: NoOffset})
	r := &d.records[len(d.records)-1]
	first := len(d.headers)
	f := fields{rest: b}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			switch f.number {
			case v1RecordOffset:
				r.Offset = int64(f.varint)
			case v1RecordTimestamp:
				r.Timestamp = int64(f.varint)
			}
		case protowire.BytesType:
			ok := true
			switch f.number {
			case v1RecordKey:
				r.Key = f.bytes
			case v1RecordValue:
				r.Value = f.bytes
			case v1RecordHeaders:
				ok = d.headerV1(f.bytes)
			case v1RecordRejection:
				ok = d.rejection(&r.Rejection, f.bytes)
			}
			if !ok {
				return false
			}
		case -1:
			return false
		}
	}
	if len(d.headers) > first {
		r.Headers = d.headers[first:len(d.headers):len(d.headers)]
	}
	if r.Rejection.Code != "" {
		d.lastRej = r.Rejection
	}
	return true
}

func (d *Decoder) headerV1(b []byte) bool {
	h := RecordHeader{Key: []byte{}}
	f := fields{rest: b}
	for f.next() {
		if f.typ < 0 {
			return false
		}
		if f.typ == protowire.BytesType {
			switch f.number {
			case v1HeaderKey:
				h.Key = f.bytes
			case v1HeaderValue:
				h.Value = f.bytes
			}
		}
	}
	d.headers = append(d.headers, h)
	return true
}

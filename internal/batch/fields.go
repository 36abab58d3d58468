package batch

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields are those of a message whose fields are varints and bytes, one after the
// other. It is declared before the loop over it, because a variable of the loop's own
// is copied at each turn, which costs as much as all the rest.
type fields struct {
	rest   []byte
	number protowire.Number
	typ    protowire.Type // -1: the message is malformed here
	varint uint64         // of VarintType
	bytes  []byte         // of BytesType, with a capacity that does not reach into what follows
}

// next goes to the next field, and reports whether there is one.
func (f *fields) next() bool {
	b := f.rest
	if len(b) == 0 {
		return false
	}
	// Field numbers below 16 have a tag of one byte, short lengths one of one or two.
	n := 1
	if f.number, f.typ = protowire.Number(b[0]>>3), protowire.Type(b[0]&7); b[0] >= 0x80 || f.number == 0 {
		// protowire lets larger numbers pass than there are, for a format of old.
		if f.number, f.typ, n = protowire.ConsumeTag(b); n < 0 || f.number > protowire.MaxValidNumber {
			return f.malformed()
		}
	}
	b = b[n:]
	if f.typ != protowire.VarintType && f.typ != protowire.BytesType {
		if n = protowire.ConsumeFieldValue(f.number, f.typ, b); n < 0 {
			return f.malformed()
		}
		f.rest = b[n:]
		return true
	}
	switch {
	case len(b) > 1 && b[0] < 0x80:
		f.varint, n = uint64(b[0]), 1
	case len(b) > 2 && b[1] < 0x80:
		f.varint, n = uint64(b[0]&0x7f)|uint64(b[1])<<7, 2
	default:
		if f.varint, n = protowire.ConsumeVarint(b); n < 0 {
			return f.malformed()
		}
	}
	b = b[n:]
	if f.typ == protowire.BytesType {
		if f.varint > uint64(len(b)) {
			return f.malformed()
		}
		f.bytes = b[:f.varint:f.varint]
		b = b[f.varint:]
	}
	f.rest = b
	return true
}

func (f *fields) malformed() bool {
	f.typ, f.rest = -1, nil
	return true
}

func (d *Decoder) rejection(j *Rejection, b []byte) bool {
	f := fields{rest: b}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			switch f.number {
			case rejectionSize:
				j.Size = int64(f.varint)
			case rejectionLeft:
				j.Left = Left(f.varint)
			case rejectionVersion:
				j.Version = int32(f.varint)
			}
		case protowire.BytesType:
			ok := true
			switch f.number {
			case rejectionCode:
				ok = d.string(&j.Code, d.lastRej.Code, f.bytes)
			case rejectionField:
				ok = d.string(&j.Field, d.lastRej.Field, f.bytes)
			case rejectionMessage:
				ok = d.string(&j.Message, d.lastRej.Message, f.bytes)
			case rejectionSHA256:
				j.SHA256 = f.bytes
			case rejectionSubject:
				ok = d.string(&j.Subject, d.lastRej.Subject, f.bytes)
			}
			if !ok {
				return false
			}
		case -1:
			return false
		}
	}
	return true
}

func (d *Decoder) origin(b []byte) bool {
	o := &d.batch.Origin
	f := fields{rest: b}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			switch f.number {
			case originFailedAt:
				o.FailedAt = int64(f.varint)
			case originPublishTime:
				o.PublishTime = int64(f.varint)
			case originDeliveryAttempt:
				o.DeliveryAttempt = int32(f.varint)
			}
		case protowire.BytesType:
			ok := true
			switch f.number {
			case originConsumer:
				ok = d.string(&o.Consumer, d.last.Origin.Consumer, f.bytes)
			case originMessageID:
				ok = d.string(&o.MessageID, d.last.Origin.MessageID, f.bytes)
			case originContract:
				ok = d.string(&o.Contract, d.last.Origin.Contract, f.bytes)
			case originTable:
				ok = d.string(&o.Table, d.last.Origin.Table, f.bytes)
			}
			if !ok {
				return false
			}
		case -1:
			return false
		}
	}
	return true
}

// string sets *s to a copy of b: previous where that is the same, otherwise a part
// of one string that all strings of the batch share. It reports whether b is UTF-8.
func (d *Decoder) string(s *string, previous string, b []byte) bool {
	if previous == string(b) {
		*s = previous
		return true
	}
	if !utf8.Valid(b) {
		return false
	}
	start := d.text.Len()
	d.text.Write(b)
	*s = d.text.String()[start:]
	return true
}

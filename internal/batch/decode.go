package batch

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits bounds what Decode accepts. They are checked before anything is
// allocated; a field that is not positive means the one of DefaultLimits.
type Limits struct {
	Records     int // records in a payload
	RecordBytes int // bytes of one record as it is encoded, or of a bare event
	Bytes       int // bytes of the decompressed batch, at most 256 MiB
	Headers     int // record headers in a payload, all records together
}

// DefaultLimits is what the bridge stays well below.
var DefaultLimits = Limits{Records: 65_536, RecordBytes: 16 << 20, Bytes: 32 << 20, Headers: 262_144}

// Decoder decodes payloads, one after the other; the zero Decoder is ready. Its
// memory is that of the largest recent payload: at most Limits.Bytes + 200 bytes a
// record and 48 bytes a record header, and while a batch with rejections or many
// strings is in use twice the bytes of those. Decoders are not safe for concurrent use.
type Decoder struct {
	buf     []byte
	records []Record
	headers []RecordHeader
	text    strings.Builder // the strings of the batch
	batch   Batch
	// Before is called before what the records take is allocated, with how many there are, and how
	// many headers they have together; nil: nobody is asked. Its error is Decode's.
	Before func(records, headers int) error

	last    Header    // of the batch before: its strings are shared where they are the same
	lastRej Rejection // of the record before, for the same reason
}

// Decode decodes one payload: a packed batch, or any other bytes as a batch of one
// bare event. The Batch is valid until the next Decode; that of a bare event also
// points into payload. The error is an *Error.
func (d *Decoder) Decode(payload []byte, l Limits) (*Batch, error) {
	l = l.orDefault()
	d.reset()
	if len(payload) < len(magicPrefix) || string(payload[:len(magicPrefix)]) != magicPrefix {
		return d.bare(payload, l)
	}
	if len(payload) < len(Magic) {
		return nil, failf(ErrTruncated, "it ends in the magic bytes")
	}
	if v := payload[len(Magic)-1]; v != Magic[len(Magic)-1] {
		return nil, failf(ErrVersion, "version %d of the format, this program reads version %d", v, Magic[len(Magic)-1])
	}
	message, err := decompress(payload[len(Magic):], d.buf, l.Bytes)
	if err != nil {
		return nil, err
	}
	d.buf = message
	records, headers, err := count(message, l)
	if err != nil {
		return nil, err
	}
	if d.Before != nil {
		if err := d.Before(records, headers); err != nil {
			return nil, err
		}
	}
	if cap(d.records) < records {
		d.records = make([]Record, 0, records)
	}
	if cap(d.headers) < headers {
		d.headers = make([]RecordHeader, 0, headers)
	}
	if err := d.message(message); err != nil {
		return nil, err
	}
	d.batch.Records = d.records
	if err := d.batch.check(); err != nil {
		return nil, err
	}
	d.last = d.batch.Header
	return &d.batch, nil
}

// The most bytes that a batch may say of itself and of its rejections. Whatever makes
// batches stays below these; what a stranger publishes would be copied into every row, and
// could end an instance or make its dead letter too large for the table for ever.
const (
	maxTopic       = 249     // Kafka's limit
	maxTraceparent = 256     // version 00 has 55 bytes, later ones may have more
	MaxName        = 1 << 10 // of a consumer, a message id, a contract, a table, a code, a field
	MaxMessage     = 128 << 10
)

// Clip returns the beginning of s that a Rejection or an Origin may hold, for texts that are
// another's: BigQuery's words about a row have no limit, and a batch that says more of itself
// than check allows is refused as a whole.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// check refuses a batch that says things of itself that no program of this project says.
func (b *Batch) check() error {
	tooLong := func(what string, n, most int) error {
		return failf(ErrTooLarge, "its %s has %d bytes, the limit is %d", what, n, most)
	}
	switch h := &b.Header; {
	case len(h.Topic) > maxTopic:
		return tooLong("topic", len(h.Topic), maxTopic)
	case h.Partition < 0:
		return failf(ErrForged, "its partition is negative")
	case len(h.Traceparent) > maxTraceparent:
		return tooLong("traceparent", len(h.Traceparent), maxTraceparent)
	case len(h.ReplayID) > maxReplayID:
		return tooLong("replay id", len(h.ReplayID), maxReplayID)
	case len(h.Origin.Consumer) > MaxName:
		return tooLong("consumer", len(h.Origin.Consumer), MaxName)
	case len(h.Origin.MessageID) > MaxName:
		return tooLong("message id", len(h.Origin.MessageID), MaxName)
	case len(h.Origin.Contract) > MaxName:
		return tooLong("contract", len(h.Origin.Contract), MaxName)
	case len(h.Origin.Table) > MaxName:
		return tooLong("table", len(h.Origin.Table), MaxName)
	}
	for i := range b.Records {
		switch j := &b.Records[i].Rejection; {
		case len(j.SHA256) != 0 && len(j.SHA256) != 32:
			return failf(ErrForged, "a SHA-256 has %d bytes", len(j.SHA256))
		case len(j.Code) > MaxName:
			return tooLong("rejection code", len(j.Code), MaxName)
		case len(j.Field) > MaxName:
			return tooLong("rejected field", len(j.Field), MaxName)
		case len(j.Message) > MaxMessage:
			return tooLong("rejection message", len(j.Message), MaxMessage)
		case j.Size < 0:
			return failf(ErrForged, "the size of a value is negative")
		}
	}
	return nil
}

func (l Limits) orDefault() Limits {
	fallback := func(v *int, otherwise int) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	fallback(&l.Records, DefaultLimits.Records)
	fallback(&l.RecordBytes, DefaultLimits.RecordBytes)
	fallback(&l.Bytes, DefaultLimits.Bytes)
	fallback(&l.Headers, DefaultLimits.Headers)
	l.Bytes = min(l.Bytes, maxBytes)
	return l
}

// reset forgets the batch before, and lets go of what it alone needed.
func (d *Decoder) reset() {
	const retainedRecords, retainedHeaders = 8 << 10, 16 << 10
	if used := len(d.records); cap(d.records) > retainedRecords && used < cap(d.records)/4 {
		d.records = nil
	}
	if used := len(d.headers); cap(d.headers) > retainedHeaders && used < cap(d.headers)/4 {
		d.headers = nil
	}
	clear(d.records)
	clear(d.headers)
	d.records, d.headers = d.records[:0], d.headers[:0]
	d.batch = Batch{}
	d.lastRej = Rejection{}
	d.text.Reset()
}

func (d *Decoder) bare(payload []byte, l Limits) (*Batch, error) {
	if len(payload) > l.RecordBytes {
		return nil, failf(ErrTooLarge, "a bare event of %d bytes, the limit is %d", len(payload), l.RecordBytes)
	}
	if payload == nil {
		payload = []byte{}
	}
	d.records = append(d.records, Record{Offset: NoOffset, Value: payload})
	d.batch.Records = d.records
	d.batch.Bare = true
	return &d.batch, nil
}

var errForged = &Error{Kind: ErrForged, Detail: "its content is no batch"}

// count checks the limits and the outline of the message.
func count(b []byte, l Limits) (records, headers int, err error) {
	f := fields{rest: b}
	for f.next() {
		if f.typ < 0 {
			return 0, 0, errForged
		}
		if f.number != batchRecords || f.typ != protowire.BytesType {
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
			if r.number == recordHeaders && r.typ == protowire.BytesType {
				if headers++; headers > l.Headers {
					return 0, 0, failf(ErrTooLarge, "more than %d record headers", l.Headers)
				}
			}
		}
	}
	return records, headers, nil
}

// message decodes the Batch. As protobuf demands, unknown fields (also known ones
// of another wire type) are passed over, the last of several scalars counts, and
// several embedded messages of a singular field are merged.
func (d *Decoder) message(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		ok := true
		switch f.typ {
		case protowire.VarintType:
			if f.number == batchPartition {
				d.batch.Partition = int32(f.varint)
			}
		case protowire.BytesType:
			switch f.number {
			case batchRecords:
				ok = d.record(f.bytes)
			case batchTopic:
				ok = d.string(&d.batch.Topic, d.last.Topic, f.bytes)
			case batchTraceparent:
				ok = d.string(&d.batch.Traceparent, d.last.Traceparent, f.bytes)
			case batchOrigin:
				ok = d.origin(f.bytes)
			case batchReplayID:
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

func (d *Decoder) record(b []byte) bool {
	d.records = append(d.records, Record{Offset: NoOffset})
	r := &d.records[len(d.records)-1]
	first := len(d.headers)
	f := fields{rest: b}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			switch f.number {
			case recordOffset:
				r.Offset = int64(f.varint)
			case recordTimestamp:
				r.Timestamp = int64(f.varint)
			}
		case protowire.BytesType:
			ok := true
			switch f.number {
			case recordKey:
				r.Key = f.bytes
			case recordValue:
				r.Value = f.bytes
			case recordHeaders:
				ok = d.header(f.bytes)
			case recordRejection:
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

func (d *Decoder) header(b []byte) bool {
	h := RecordHeader{Key: []byte{}}
	f := fields{rest: b}
	for f.next() {
		if f.typ < 0 {
			return false
		}
		if f.typ == protowire.BytesType {
			switch f.number {
			case headerKey:
				h.Key = f.bytes
			case headerValue:
				h.Value = f.bytes
			}
		}
	}
	d.headers = append(d.headers, h)
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

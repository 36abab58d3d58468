package batch

import (
	"strings"
	"unicode/utf8"
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
// memory is that of the largest recent payload: at most Limits.Bytes + 300 bytes a
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

	sources []source

	last    Header    // of the batch before: its strings are shared where they are the same
	topic   string    // of the batch before, for the same reason
	lastRej Rejection // of the record before, for the same reason
}

// Decode decodes one payload: a packed batch of any version, or any other bytes as a
// batch of one bare event. The Batch is valid until the next Decode; that of a bare event
// also points into payload. The error is an *Error.
func (d *Decoder) Decode(payload []byte, l Limits) (*Batch, error) {
	l = l.orDefault()
	d.reset()
	if len(payload) < len(magicPrefix) || string(payload[:len(magicPrefix)]) != magicPrefix {
		return d.bare(payload, l)
	}
	if len(payload) < len(Magic) {
		return nil, failf(ErrTruncated, "it ends in the magic bytes")
	}
	version := payload[len(magicPrefix)]
	if version != 1 && version != 2 {
		return nil, failf(ErrVersion, "version %d of the format, this program reads versions 1 and 2", version)
	}
	message, err := decompress(payload[len(Magic):], d.buf, l.Bytes)
	if err != nil {
		return nil, err
	}
	d.buf = message
	if version == 1 {
		err = d.decodeV1(message, l)
	} else {
		err = d.decodeColumns(message, l)
	}
	if err == nil {
		d.batch.Records = d.records
		err = d.batch.check()
	}
	if err != nil {
		return nil, err
	}
	d.last = d.batch.Header
	if n := len(d.records); n > 0 {
		d.topic = d.records[n-1].Topic
	}
	return &d.batch, nil
}

// make makes room for records.
func (d *Decoder) make(records, headers int) error {
	if d.Before != nil {
		if err := d.Before(records, headers); err != nil {
			return err
		}
	}
	if cap(d.records) < records {
		d.records = make([]Record, 0, records)
	}
	if cap(d.headers) < headers {
		d.headers = make([]RecordHeader, 0, headers)
	}
	return nil
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

func tooLong(what string, n, most int) error {
	return failf(ErrTooLarge, "its %s has %d bytes, the limit is %d", what, n, most)
}

// check refuses a source that no program of this project names.
func (s *source) check() error {
	switch {
	case len(s.topic) > maxTopic:
		return tooLong("topic", len(s.topic), maxTopic)
	case s.partition < 0:
		return failf(ErrForged, "its partition is negative")
	}
	return nil
}

// check refuses a batch that says things of itself that no program of this project says.
func (b *Batch) check() error {
	switch h := &b.Header; {
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
		case len(j.Subject) > MaxName:
			return tooLong("subject", len(j.Subject), MaxName)
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
		d.records, d.sources = nil, nil
	}
	if used := len(d.headers); cap(d.headers) > retainedHeaders && used < cap(d.headers)/4 {
		d.headers = nil
	}
	clear(d.records)
	clear(d.headers)
	d.records, d.headers, d.sources = d.records[:0], d.headers[:0], d.sources[:0]
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

package batch

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Magic begins every packed payload that is written: a byte that UTF-8 never contains,
// "SLB", and the version of the format.
const Magic = magicPrefix + "\x02"

const magicPrefix = "\xffSLB"

// The field numbers of batch.proto.
const (
	batchTraceparent  = 1
	batchOrigin       = 2
	batchReplayID     = 3
	batchSources      = 4
	batchRuns         = 5
	batchOffsets      = 6
	batchTimestamps   = 7
	batchKeys         = 8
	batchValues       = 9
	batchHeaders      = 10
	batchHeaderKeys   = 11
	batchHeaderValues = 12
	batchKeyData      = 13
	batchValueData    = 14
	batchHeaderData   = 15
	batchRejections   = 16

	sourceTopic     = 1
	sourcePartition = 2
	sourceOffset    = 3

	rejectionCode    = 1
	rejectionField   = 2
	rejectionMessage = 3
	rejectionSize    = 4
	rejectionSHA256  = 5
	rejectionLeft    = 6
	rejectionSubject = 7
	rejectionVersion = 8

	originConsumer        = 1
	originFailedAt        = 2
	originMessageID       = 3
	originPublishTime     = 4
	originDeliveryAttempt = 5
	originContract        = 6
	originTable           = 7
)

// Encoder collects the records of one batch. It may be used again after Reset, by
// one goroutine at a time; the zero Encoder is empty, with a zero Header.
type Encoder struct {
	// message is the field value_data so far. Values are most of a batch, and so they lie
	// where they will be compressed; the other fields are put behind them for that long.
	message []byte
	header  []byte                 // the fields of the Header
	columns [lastColumn + 1][]byte // by field number
	rejects []byte                 // the fields rejections

	sources []source      // in the order of their numbers
	places  int           // a bound of what sources take
	numbers map[place]int // of sources
	current int           // the number of the source of the record before
	run     uint64        // records since the source changed, which are not in columns yet
	time    int64         // timestamp of the record before
	records int
}

// place is where records come from.
type place struct {
	topic     string
	partition int32
	kafka     bool // its records have offsets
}

// source is a place, and how far its records have come.
type source struct {
	place
	first, next int64 // the offset of its first record, and the one expected now
}

// A column is a field of packed numbers or of data.
const lastColumn = batchHeaderData

// NewEncoder returns an Encoder for a batch with the header h.
func NewEncoder(h Header) *Encoder {
	e := new(Encoder)
	e.Reset(h)
	return e
}

// valueData is the tag of value_data and a length of 0 that takes five bytes, as any other
// that is written over it.
const valueData = string(batchValueData<<3|byte(protowire.BytesType)) + "\x80\x80\x80\x80\x00"

// Reset empties the encoder for a batch with the header h.
func (e *Encoder) Reset(h Header) {
	e.message = append(reusable(e.message, len(e.message))[:0], valueData...)
	for i := range e.columns {
		e.columns[i] = reusable(e.columns[i], len(e.columns[i]))[:0]
	}
	e.rejects = reusable(e.rejects, len(e.rejects))[:0]
	e.sources, e.places, e.current, e.run, e.time, e.records = e.sources[:0], 0, -1, 0, 0, 0
	clear(e.numbers)
	e.header = appendString(e.header[:0], batchTraceparent, h.Traceparent)
	if h.Origin != (Origin{}) {
		e.header = appendOrigin(e.header, &h.Origin)
	}
	e.header = appendString(e.header, batchReplayID, h.ReplayID)
}

// Append adds a copy of r. Strings that are not UTF-8 are made so: each run of wrong
// bytes becomes U+FFFD.
func (e *Encoder) Append(r *Record) {
	if e.message == nil {
		e.Reset(Header{})
	}
	s := e.source(place{r.Topic, r.Partition, r.Offset != NoOffset}, r.Offset)
	e.run++
	c := &e.columns
	c[batchOffsets] = appendSigned(c[batchOffsets], r.Offset-s.next)
	if s.kafka {
		s.next = r.Offset + 1
	}
	c[batchTimestamps] = appendSigned(c[batchTimestamps], r.Timestamp-e.time)
	e.time = r.Timestamp
	c[batchKeys] = appendLength(c[batchKeys], r.Key)
	c[batchKeyData] = append(c[batchKeyData], r.Key...)
	c[batchValues] = appendLength(c[batchValues], r.Value)
	e.message = append(e.message, r.Value...)
	if len(r.Headers) > 0 || len(c[batchHeaders]) > 0 {
		e.appendHeaders(r.Headers)
	}
	if size := sizeRejection(&r.Rejection); size > 0 || len(e.rejects) > 0 {
		if len(e.rejects) == 0 {
			for range e.records {
				e.rejects = appendRejection(e.rejects, &Rejection{}, 0)
			}
		}
		e.rejects = appendRejection(e.rejects, &r.Rejection, size)
	}
	e.records++
}

// source returns the one of a record from that place, whose offset is offset.
func (e *Encoder) source(at place, offset int64) *source {
	if e.current >= 0 && e.sources[e.current].place == at { // records come in runs
		return &e.sources[e.current]
	}
	e.endRun()
	if e.numbers == nil {
		e.numbers = map[place]int{}
	}
	n, known := e.numbers[at]
	if !known {
		n = len(e.sources)
		e.numbers[at] = n
		e.sources = append(e.sources, source{at, offset, offset})
		e.places += len(at.topic) + 24
	}
	e.current = n
	return &e.sources[n]
}

// endRun writes down the run of the records so far.
func (e *Encoder) endRun() {
	if e.run > 0 {
		e.columns[batchRuns] = protowire.AppendVarint(e.columns[batchRuns], uint64(e.current))
		e.columns[batchRuns] = protowire.AppendVarint(e.columns[batchRuns], e.run)
		e.run = 0
	}
}

// appendHeaders adds the headers of one record.
func (e *Encoder) appendHeaders(headers []RecordHeader) {
	c := &e.columns
	if len(c[batchHeaders]) == 0 { // those before had none
		c[batchHeaders] = append(c[batchHeaders], make([]byte, e.records)...)
	}
	c[batchHeaders] = protowire.AppendVarint(c[batchHeaders], uint64(len(headers)))
	for i := range headers {
		h := &headers[i]
		c[batchHeaderKeys] = protowire.AppendVarint(c[batchHeaderKeys], uint64(len(h.Key)))
		c[batchHeaderValues] = appendLength(c[batchHeaderValues], h.Value)
		c[batchHeaderData] = append(append(c[batchHeaderData], h.Key...), h.Value...)
	}
}

// Len is the number of records appended since the last Reset.
func (e *Encoder) Len() int { return e.records }

// Size is the length in bytes of the batch before compression, which Limits.Bytes bounds,
// or somewhat more. The payload is never more than a fraction of a percent larger.
func (e *Encoder) Size() int {
	const tags = 4 * lastColumn // of the columns, and their lengths
	n := len(e.message) + len(e.header) + e.places + len(e.rejects) + tags
	for _, c := range e.columns {
		n += len(c)
	}
	return n
}

// Payload appends the payload, the bytes of one Pub/Sub message, to dst. More
// records may be appended afterwards; the error is reserved for codecs that can fail.
func (e *Encoder) Payload(dst []byte) ([]byte, error) {
	z, err := compressor()
	if err != nil {
		return dst, err
	}
	return e.PayloadWith(dst, func(dst, src []byte) ([]byte, error) { return z.EncodeAll(src, dst), nil })
}

// PayloadWith is Payload with another implementation of zstd: compress must append
// one frame that declares its content size and needs no dictionary.
func (e *Encoder) PayloadWith(dst []byte, compress func(dst, src []byte) ([]byte, error)) ([]byte, error) {
	values := len(e.message)
	dst, err := compress(append(dst, Magic...), e.finish())
	if values > 0 {
		e.message = e.message[:values]
	}
	return dst, err
}

// finish returns the whole Batch message. It lies behind the values, until more of them
// are appended.
func (e *Encoder) finish() []byte {
	if len(e.message) == 0 {
		e.Reset(Header{})
	}
	e.endRun()
	for i, n := 0, len(e.message)-len(valueData); i < 4; i, n = i+1, n>>7 {
		e.message[1+i] = byte(n) | 0x80
	}
	e.message[5] = byte((len(e.message) - len(valueData)) >> 28)
	m := append(e.message, e.header...)
	for i := range e.sources {
		m = appendSource(m, &e.sources[i])
	}
	for number, c := range e.columns {
		if len(c) > 0 {
			m = protowire.AppendBytes(protowire.AppendTag(m, protowire.Number(number), protowire.BytesType), c)
		}
	}
	m = append(m, e.rejects...)
	e.message = m[:len(e.message)]
	return m
}

func appendSource(b []byte, s *source) []byte {
	size := sizeString(s.topic) + sizeVarint(uint64(s.partition))
	if s.kafka {
		size += 1 + protowire.SizeVarint(uint64(s.first))
	}
	b = protowire.AppendTag(b, batchSources, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendString(b, sourceTopic, s.topic)
	b = appendVarint(b, sourcePartition, uint64(s.partition))
	if s.kafka {
		b = protowire.AppendTag(b, sourceOffset, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(s.first))
	}
	return b
}

// appendSigned appends a number that is near 0, of either sign.
func appendSigned(b []byte, v int64) []byte {
	return protowire.AppendVarint(b, protowire.EncodeZigZag(v))
}

// appendLength appends the length of v, by which null can be told from empty.
func appendLength(b, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	return protowire.AppendVarint(b, uint64(len(v))+1)
}

// appendRejection appends one of the given size.
func appendRejection(b []byte, j *Rejection, size int) []byte {
	b = protowire.AppendTag(b, batchRejections, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendString(b, rejectionCode, j.Code)
	b = appendString(b, rejectionField, j.Field)
	b = appendString(b, rejectionMessage, j.Message)
	b = appendVarint(b, rejectionSize, uint64(j.Size))
	if len(j.SHA256) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, rejectionSHA256, protowire.BytesType), j.SHA256)
	}
	b = appendVarint(b, rejectionLeft, uint64(j.Left))
	b = appendString(b, rejectionSubject, j.Subject)
	return appendVarint(b, rejectionVersion, uint64(j.Version))
}

func sizeRejection(j *Rejection) int {
	n := sizeString(j.Code) + sizeString(j.Field) + sizeString(j.Message) + sizeVarint(uint64(j.Size))
	if len(j.SHA256) > 0 {
		n += 1 + protowire.SizeBytes(len(j.SHA256))
	}
	return n + sizeVarint(uint64(j.Left)) + sizeString(j.Subject) + sizeVarint(uint64(j.Version))
}

func appendOrigin(b []byte, o *Origin) []byte {
	b = protowire.AppendTag(b, batchOrigin, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeString(o.Consumer)+sizeVarint(uint64(o.FailedAt))+
		sizeString(o.MessageID)+sizeVarint(uint64(o.PublishTime))+sizeVarint(uint64(o.DeliveryAttempt))+
		sizeString(o.Contract)+sizeString(o.Table)))
	b = appendString(b, originConsumer, o.Consumer)
	b = appendVarint(b, originFailedAt, uint64(o.FailedAt))
	b = appendString(b, originMessageID, o.MessageID)
	b = appendVarint(b, originPublishTime, uint64(o.PublishTime))
	b = appendVarint(b, originDeliveryAttempt, uint64(o.DeliveryAttempt))
	b = appendString(b, originContract, o.Contract)
	return appendString(b, originTable, o.Table)
}

// appendVarint leaves out zero, as proto3 does for a field without presence.
func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func sizeVarint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), valid(s))
}

func sizeString(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(valid(s)))
}

// valid makes s what a protobuf string must be.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// retained is the largest buffer that is kept without having been needed lately.
const retained = 4 << 20

// reusable returns b, or nil if b is large and its last use needed little of it:
// one exceptional batch does not hold its memory for ever.
func reusable(b []byte, used int) []byte {
	if cap(b) > retained && used < cap(b)/4 {
		return nil
	}
	return b
}

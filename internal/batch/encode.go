package batch

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Magic begins every packed payload: a byte that UTF-8 never contains, "SLB", and
// the version of the format.
const Magic = magicPrefix + "\x01"

const magicPrefix = "\xffSLB"

// The field numbers of batch.proto.
const (
	batchTopic       = 1
	batchPartition   = 2
	batchRecords     = 3
	batchTraceparent = 4
	batchOrigin      = 5
	batchReplayID    = 6

	recordOffset    = 1
	recordTimestamp = 2
	recordKey       = 3
	recordValue     = 4
	recordHeaders   = 5
	recordRejection = 6

	headerKey   = 1
	headerValue = 2

	rejectionCode    = 1
	rejectionField   = 2
	rejectionMessage = 3
	rejectionSize    = 4
	rejectionSHA256  = 5
	rejectionLeft    = 6

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
	buf     []byte // the Batch message so far
	records int
}

// NewEncoder returns an Encoder for a batch with the header h.
func NewEncoder(h Header) *Encoder {
	e := new(Encoder)
	e.Reset(h)
	return e
}

// Reset empties the encoder for a batch with the header h.
func (e *Encoder) Reset(h Header) {
	e.buf = reusable(e.buf, len(e.buf))[:0]
	e.records = 0
	e.buf = appendString(e.buf, batchTopic, h.Topic)
	e.buf = appendVarint(e.buf, batchPartition, uint64(h.Partition))
	e.buf = appendString(e.buf, batchTraceparent, h.Traceparent)
	if h.Origin != (Origin{}) {
		e.buf = appendOrigin(e.buf, &h.Origin)
	}
	e.buf = appendString(e.buf, batchReplayID, h.ReplayID)
}

// Append adds a copy of r. Strings that are not UTF-8 are made so: each run of wrong
// bytes becomes U+FFFD.
func (e *Encoder) Append(r *Record) {
	e.buf = protowire.AppendTag(e.buf, batchRecords, protowire.BytesType)
	e.buf = protowire.AppendVarint(e.buf, uint64(sizeRecord(r)))
	e.buf = appendRecord(e.buf, r)
	e.records++
}

// Len is the number of records appended since the last Reset.
func (e *Encoder) Len() int { return e.records }

// Size is the length in bytes of the batch before compression: what Limits.Bytes
// counts. The payload is never more than a fraction of a percent larger.
func (e *Encoder) Size() int { return len(e.buf) }

// Payload appends the payload, the bytes of one Pub/Sub message, to dst. More
// records may be appended afterwards; the error is reserved for codecs that can fail.
func (e *Encoder) Payload(dst []byte) ([]byte, error) {
	z, err := compressor()
	if err != nil {
		return dst, err
	}
	return z.EncodeAll(e.buf, append(dst, Magic...)), nil
}

// PayloadWith is Payload with another implementation of zstd: compress must append
// one frame that declares its content size and needs no dictionary.
func (e *Encoder) PayloadWith(dst []byte, compress func(dst, src []byte) ([]byte, error)) ([]byte, error) {
	return compress(append(dst, Magic...), e.buf)
}

// sizeRecord is the length of what appendRecord appends.
func sizeRecord(r *Record) int {
	n := 0
	if r.Offset != NoOffset {
		n += 1 + protowire.SizeVarint(uint64(r.Offset))
	}
	n += sizeVarint(uint64(r.Timestamp))
	if r.Key != nil {
		n += 1 + protowire.SizeBytes(len(r.Key))
	}
	if r.Value != nil {
		n += 1 + protowire.SizeBytes(len(r.Value))
	}
	for i := range r.Headers {
		n += 1 + protowire.SizeBytes(sizeHeader(&r.Headers[i]))
	}
	if m := sizeRejection(&r.Rejection); m > 0 {
		n += 1 + protowire.SizeBytes(m)
	}
	return n
}

func appendRecord(b []byte, r *Record) []byte {
	if r.Offset != NoOffset {
		b = protowire.AppendTag(b, recordOffset, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(r.Offset))
	}
	b = appendVarint(b, recordTimestamp, uint64(r.Timestamp))
	b = appendOptionalBytes(b, recordKey, r.Key)
	b = appendOptionalBytes(b, recordValue, r.Value)
	for i := range r.Headers {
		h := &r.Headers[i]
		b = protowire.AppendTag(b, recordHeaders, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(sizeHeader(h)))
		if len(h.Key) > 0 {
			b = appendOptionalBytes(b, headerKey, h.Key)
		}
		b = appendOptionalBytes(b, headerValue, h.Value)
	}
	if n := sizeRejection(&r.Rejection); n > 0 {
		j := &r.Rejection
		b = protowire.AppendTag(b, recordRejection, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(n))
		b = appendString(b, rejectionCode, j.Code)
		b = appendString(b, rejectionField, j.Field)
		b = appendString(b, rejectionMessage, j.Message)
		b = appendVarint(b, rejectionSize, uint64(j.Size))
		if len(j.SHA256) > 0 {
			b = appendOptionalBytes(b, rejectionSHA256, j.SHA256)
		}
		b = appendVarint(b, rejectionLeft, uint64(j.Left))
	}
	return b
}

func sizeHeader(h *RecordHeader) int {
	n := 0
	if len(h.Key) > 0 {
		n += 1 + protowire.SizeBytes(len(h.Key))
	}
	if h.Value != nil {
		n += 1 + protowire.SizeBytes(len(h.Value))
	}
	return n
}

func sizeRejection(j *Rejection) int {
	n := sizeString(j.Code) + sizeString(j.Field) + sizeString(j.Message) + sizeVarint(uint64(j.Size))
	if len(j.SHA256) > 0 {
		n += 1 + protowire.SizeBytes(len(j.SHA256))
	}
	n += sizeVarint(uint64(j.Left))
	return n
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

// appendOptionalBytes leaves out nil, and keeps empty.
func appendOptionalBytes(b []byte, field protowire.Number, v []byte) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
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

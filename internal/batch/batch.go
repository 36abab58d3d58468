// Package batch is the wire format between the bridge and the functions: many
// Kafka records, of any topics and partitions, packed into the payload of one
// Pub/Sub message.
//
// A payload is the five bytes of Magic followed by one zstd frame that declares
// its content size and holds a Batch message of batch.proto. The first byte of
// Magic can stand in no UTF-8 text, so a payload describes itself and needs no
// attribute: whatever does not begin with Magic is one bare event, as anybody
// may publish it to the topic without knowing this package.
//
// In the order of use:
//
//	enc := batch.NewEncoder(batch.Header{Traceparent: "00-…"})
//	enc.Append(&record)             // copies; enc.Size() and enc.Len() tell when to send
//	payload, err := enc.Payload(nil) // the bytes of one Pub/Sub message
//	enc.Reset(header)               // the encoder may be used again
//
//	var dec batch.Decoder           // reused from message to message
//	b, err := dec.Decode(payload, batch.DefaultLimits) // b is valid until the next Decode
//	for i := range b.Records { … }
//
// The dead-letter topic carries the same format: a rejected record is a Record
// with a Rejection, and the Header tells who rejected it and when.
package batch

import (
	"fmt"
	"strings"
)

// Header is what all records of a batch share.
type Header struct {
	// Traceparent is the W3C trace context that the batch belongs to, or empty.
	Traceparent string
	// Origin is set on dead letters only.
	Origin Origin
	// ReplayID names the replay that the records are part of, or is empty: they
	// come for the first time, or again as they may.
	ReplayID string
}

// ReplayIDHeader is the Kafka record header that names the replay a record is part
// of, where a replay goes through Kafka and the bridge makes the batch's Header.
const ReplayIDHeader = "sluice-replay-id"

const maxReplayID = 128

// Replay returns the id of the replay that the record r of a batch with this
// header is part of, or "".
func (h *Header) Replay(r *Record) string {
	if h.ReplayID != "" {
		return h.ReplayID
	}
	for i := range r.Headers {
		// Anybody may set a header: what is too long to be an id is none.
		if string(r.Headers[i].Key) == ReplayIDHeader && len(r.Headers[i].Value) <= maxReplayID {
			return strings.ToValidUTF8(string(r.Headers[i].Value), "\uFFFD")
		}
	}
	return ""
}

// Origin tells who rejected the records of a dead-letter batch. All fields are
// optional.
type Origin struct {
	Consumer        string // service and revision, such as "ingest-00042-abc"
	FailedAt        int64  // microseconds since the Unix epoch
	MessageID       string // the Pub/Sub message that carried the records
	PublishTime     int64  // of that message, microseconds since the Unix epoch
	DeliveryAttempt int32  // of that message; 0 is unknown
	Contract        string // that the records have; empty: unknown, or none takes them
	Table           string // where their rows were to go; empty: unknown
}

// NoOffset is the Offset of a record that did not come through Kafka.
const NoOffset = -1

// Record is one Kafka record, opaque bytes throughout.
type Record struct {
	// Topic, Partition and Offset say where the record came from. Topic is empty for an
	// event that did not come through Kafka (published straight to Pub/Sub).
	Topic     string
	Partition int32
	Offset    int64  // NoOffset: not from Kafka
	Timestamp int64  // Kafka's, milliseconds since the Unix epoch; 0: none
	Key       []byte // nil: null
	Value     []byte // nil: null (a tombstone)
	Headers   []RecordHeader
	// Rejection is set on dead letters only: the zero Rejection is none.
	Rejection Rejection
}

// RecordHeader is one Kafka record header.
type RecordHeader struct {
	Key   []byte // text by Kafka's protocol, but nothing enforces it; decoded keys are never nil
	Value []byte // nil: null
}

// Rejection says why a record cannot become a row.
type Rejection struct {
	Code    string // stable, such as "missing_field"; empty: not rejected
	Field   string // the field at fault, or empty
	Message string // a sentence that a person can act on; no event values
	// Size and SHA256 describe the whole value where Value was cut to its head.
	Size   int64 // bytes; 0: Value is whole
	SHA256 []byte
	Left   Left // what else of the record was left out
	// Subject and Version name the schema that Value was written with, as its registry does; empty: it has none, or
	// none is known.
	Subject string
	Version int32
}

// Left says what of a record is not in a dead letter, because it did not fit.
type Left int32

// The parts of a record that can be left out as a whole.
const (
	LeftKey Left = 1 << iota
	LeftHeaders
)

// Batch is a decoded payload. Its byte slices point into the Decoder's buffer and
// are valid until the next Decode; that of a bare event points into the payload.
// Its strings are copies, and may be kept.
type Batch struct {
	Header
	Records []Record
	// Bare reports that the payload was one bare event, not a packed batch.
	Bare bool
}

// Range is where some records of a batch came from, for log lines and traces.
type Range struct {
	Topic       string
	Partition   int32
	First, Last int64 // the smallest and the largest offset; NoOffset: not from Kafka
	Records     int
}

// String is "topic/partition:first-last".
func (r Range) String() string {
	return fmt.Sprintf("%s/%d:%d-%d", r.Topic, r.Partition, r.First, r.Last)
}

// MarshalText is String, for logs.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Ranges returns one Range for each partition that the batch has records of, in the order
// of their first records.
func (b *Batch) Ranges() []Range {
	var ranges []Range
	known := map[place]int{}
	at := -1
	for i := range b.Records {
		r := &b.Records[i]
		if at < 0 || ranges[at].Partition != r.Partition || ranges[at].Topic != r.Topic {
			key := place{topic: r.Topic, partition: r.Partition}
			n, ok := known[key]
			if !ok {
				n = len(ranges)
				known[key] = n
				ranges = append(ranges, Range{Topic: r.Topic, Partition: r.Partition, First: r.Offset, Last: r.Offset})
			}
			at = n
		}
		x := &ranges[at]
		x.First, x.Last, x.Records = min(x.First, r.Offset), max(x.Last, r.Offset), x.Records+1
	}
	return ranges
}

// HeaderOf returns the value of the header of that name, of several the last one's; nil: there is none.
func HeaderOf(headers []RecordHeader, name string) []byte {
	for i := len(headers) - 1; i >= 0; i-- {
		if string(headers[i].Key) == name {
			return headers[i].Value
		}
	}
	return nil
}

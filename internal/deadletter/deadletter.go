// Package deadletter decides how much of a record is kept where the whole of it does not
// fit, and how the row says what is missing: a replay must not send a record that is no longer
// what it was.
package deadletter

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"sluice/internal/batch"
)

// Trim reduces the record so that its value, its key and its headers have at most limit bytes
// each. Of a longer value the head stays, with the length and the hash of the whole in the
// Rejection. A part of a key or of headers would be another key, or other headers: they are
// left out as a whole, which the Rejection says too.
func Trim(r *batch.Record, limit int) {
	if len(r.Value) > limit {
		if r.Rejection.Size == 0 {
			sum := sha256.Sum256(r.Value)
			r.Rejection.Size, r.Rejection.SHA256 = int64(len(r.Value)), sum[:]
		}
		r.Value = r.Value[:limit]
	}
	if len(r.Key) > limit {
		r.Key = nil
		r.Rejection.Left |= batch.LeftKey
	}
	if HeadersSize(r.Headers) > limit {
		r.Headers = nil
		r.Rejection.Left |= batch.LeftHeaders
	}
}

// HeadersSize is about how many bytes the headers take, as wire bytes or as a column.
func HeadersSize(headers []batch.RecordHeader) int {
	n := 0
	for i := range headers {
		n += 32 + 2*(len(headers[i].Key)+len(headers[i].Value))
	}
	return n
}

// header is one header in the column kafka_headers. What is no UTF-8 stands in base64.
type header struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 []byte  `json:"key_base64,omitempty"`
	Value     *string `json:"value"` // null: the header has none, or it stands in base64
	Base64    []byte  `json:"value_base64,omitempty"`
}

// AppendHeaders appends the headers as the JSON of the column kafka_headers: an array, in
// their order, of {"key": …, "value": …}; nothing if there are none.
func AppendHeaders(b []byte, headers []batch.RecordHeader) []byte {
	if len(headers) == 0 {
		return b
	}
	out := make([]header, len(headers))
	for i, h := range headers {
		if utf8.Valid(h.Key) {
			key := string(h.Key)
			out[i].Key = &key
		} else {
			out[i].KeyBase64 = h.Key
		}
		if h.Value != nil && utf8.Valid(h.Value) {
			value := string(h.Value)
			out[i].Value = &value
		} else {
			out[i].Base64 = h.Value
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and bytes can always be written
	}
	return append(b, text...)
}

// ParseHeaders reads what AppendHeaders has written.
func ParseHeaders(text string) ([]batch.RecordHeader, error) {
	if text == "" {
		return nil, nil
	}
	var in []header
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, fmt.Errorf("the headers of a dead letter cannot be read: %w", err)
	}
	headers := make([]batch.RecordHeader, len(in))
	for i, h := range in {
		headers[i] = batch.RecordHeader{Key: h.KeyBase64, Value: h.Base64}
		if h.Key != nil {
			headers[i].Key = []byte(*h.Key)
		}
		if h.Value != nil {
			headers[i].Value = []byte(*h.Value)
		}
	}
	return headers, nil
}

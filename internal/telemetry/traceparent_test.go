package telemetry

import (
	"strings"
	"testing"

	"sluice/internal/batch"
)

const example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// Producers write traceparents, well and badly: a good one is continued as it is, a
// bad one is none, and never an error.
func TestParseTraceparent(t *testing.T) {
	for _, c := range []struct {
		name, text     string
		valid, sampled bool
	}{
		{"sampled", example, true, true},
		{"not sampled", example[:53] + "00", true, false},
		{"a later version, with more behind", "01" + example[2:] + "-what-comes", true, true},
		{"empty", "", false, false},
		{"cut off", example[:54], false, false},
		{"upper case", strings.ToUpper(example), false, false},
		{"the forbidden version", "ff" + example[2:], false, false},
		{"no trace", "00-" + strings.Repeat("0", 32) + example[35:], false, false},
		{"no span", example[:36] + strings.Repeat("0", 16) + "-01", false, false},
		{"binary", strings.Repeat("\xff", 55), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ParseTraceparent(c.text)
			if got.IsValid() != c.valid || got.IsSampled() != c.sampled {
				t.Errorf("valid %v, sampled %v; want %v, %v", got.IsValid(), got.IsSampled(), c.valid, c.sampled)
			}
			if c.valid && strings.HasPrefix(c.text, "00") && Traceparent(got) != c.text {
				t.Errorf("written back: %q, want %q", Traceparent(got), c.text)
			}
		})
	}
}

// Whatever a header holds, it is read without a panic, and what is valid is written
// back in a form that is read as the same.
func FuzzParseTraceparent(f *testing.F) {
	f.Add(example)
	f.Add("00-")
	f.Fuzz(func(t *testing.T, s string) {
		c := ParseTraceparent(s)
		if !c.IsValid() {
			return
		}
		if again := ParseTraceparent(Traceparent(c)); again.TraceID() != c.TraceID() || again.SpanID() != c.SpanID() ||
			again.IsSampled() != c.IsSampled() {
			t.Errorf("%q is read as %v, and written and read again as %v", s, c, again)
		}
	})
}

// The header is found among others by its exact name.
func TestRecordTraceparent(t *testing.T) {
	header := func(key, value string) batch.RecordHeader {
		return batch.RecordHeader{Key: []byte(key), Value: []byte(value)}
	}
	r := &batch.Record{Headers: []batch.RecordHeader{header("tracestate", "x"), header("Traceparent", "y"),
		header("traceparent", example)}}
	if got := RecordTraceparent(r); got != example {
		t.Errorf("%q", got)
	}
	if got := RecordTraceparent(&batch.Record{}); got != "" {
		t.Errorf("%q without headers", got)
	}
}

package batch

import (
	"strings"
	"testing"
)

// Protects whose replay a record is said to be part of: the batch's own id counts
// first, then the record's header, and a header that cannot be an id is none.
func TestReplay(t *testing.T) {
	header := func(value string) []RecordHeader {
		return []RecordHeader{{Key: []byte("other"), Value: []byte("x")}, {Key: []byte(ReplayIDHeader),
			Value: []byte(value)}}
	}
	for _, test := range []struct {
		name, batch string
		headers     []RecordHeader
		want        string
	}{
		{"no replay", "", nil, ""},
		{"through Pub/Sub", "r1", nil, "r1"},
		{"through Kafka", "", header("r2"), "r2"},
		{"through both", "r1", header("r2"), "r1"},
		{"not UTF-8", "", header("r\xff"), "r\uFFFD"},
		{"too long", "", header(strings.Repeat("r", 129)), ""},
		{"null", "", []RecordHeader{{Key: []byte(ReplayIDHeader)}}, ""},
	} {
		h := Header{ReplayID: test.batch}
		if got := h.Replay(&Record{Headers: test.headers}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

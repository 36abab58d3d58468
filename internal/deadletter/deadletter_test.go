package deadletter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/batch"
)

// Protects the promise that a dead letter never passes for a record that it is not: what does
// not fit is left out as a whole and named, and only a value that was cut counts as cut.
func TestTrim(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 101)
	for name, test := range map[string]struct {
		record batch.Record
		value  int
		size   int64
		left   batch.Left
	}{
		"whole":        {batch.Record{Key: long[:100], Value: long[:100]}, 100, 0, 0},
		"long value":   {batch.Record{Key: long[:1], Value: long}, 100, 101, 0},
		"long key":     {batch.Record{Key: long, Value: long[:7]}, 7, 0, batch.LeftKey},
		"long headers": {batch.Record{Headers: []batch.RecordHeader{{Key: []byte("k"), Value: long}}}, 0, 0, batch.LeftHeaders},
		"all":          {batch.Record{Key: long, Value: long, Headers: []batch.RecordHeader{{Key: long}}}, 100, 101, batch.LeftKey | batch.LeftHeaders},
		"cut before":   {batch.Record{Value: long, Rejection: batch.Rejection{Size: 5000, SHA256: make([]byte, 32)}}, 100, 5000, 0},
	} {
		r := test.record
		Trim(&r, 100)
		if len(r.Value) != test.value || r.Rejection.Size != test.size ||
			(r.Rejection.SHA256 != nil) != (test.size > 0) || r.Rejection.Left != test.left {
			t.Errorf("%s: %+v", name, r)
		}
		if len(r.Key) > 0 && !bytes.Equal(r.Key, test.record.Key) {
			t.Errorf("%s: the key is a part of what it was", name)
		}
	}
}

// Protects that headers survive the column, whatever bytes they have.
func TestHeaders(t *testing.T) {
	headers := []batch.RecordHeader{
		{Key: []byte("tenant"), Value: []byte("ac\"me")}, {Key: []byte("null"), Value: nil}, {Key: []byte(""), Value: []byte{}},
		{Key: []byte("\xff"), Value: []byte("\x00\xfe")}, {Key: []byte("tenant"), Value: []byte("again <&>")},
	}
	text := string(AppendHeaders(nil, headers))
	got, err := ParseHeaders(text)
	if diff := cmp.Diff(headers, got); err != nil || diff != "" {
		t.Errorf("%v (-want, +got):\n%s\nof %s", err, diff, text)
	}
	if AppendHeaders(nil, nil) != nil {
		t.Error("no headers are something")
	}
	if _, err := ParseHeaders("{"); err == nil || strings.Contains(err.Error(), "{\n") {
		t.Errorf("damaged headers are read: %v", err)
	}
}

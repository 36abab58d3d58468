package event

import (
	"bytes"
	"testing"

	"sluice/internal/contract"
	"sluice/internal/schema"
)

// appendOrRetry is what the functions do with an event; panicked says whether the decoder has.
func appendOrRetry(d *Decoder, dst, value []byte, m Meta) (row []byte, panicked bool, err error) {
	defer func() {
		if recover() != nil {
			panicked = true
			row, err = d.Retry(dst, value, m)
		}
	}()
	row, err = d.AppendRow(dst, value, m)
	return row, false, err
}

// Protects the neighbours of an event over which the decoder panics: the event itself is read by the strict decoder, and
// those behind it by a new one.
func TestRetryAfterAPanic(t *testing.T) {
	c, err := contract.Preset("segment")
	if err != nil {
		t.Fatal(err)
	}
	healthy, err := New(c, Fast, then)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(c, Fast, then)
	if err != nil {
		t.Fatal(err)
	}
	read := newReader(t, c.Table)
	prefix := []byte("what is before stays")
	for i, value := range segmentEvents(5) {
		if i == 2 {
			d.fast.offers = nil // a fault
		}
		want, err := healthy.AppendRow(nil, value, Meta{Offset: 7})
		if err != nil {
			t.Fatal(err)
		}
		got, panicked, err := appendOrRetry(d, prefix, value, Meta{Offset: 7})
		if err != nil || !bytes.HasPrefix(got, prefix) || normal(t, read, got[len(prefix):]) != normal(t, read, want) {
			t.Errorf("event %d: another row than that of a healthy decoder, or %v", i, err)
		}
		if panicked != (i == 2) {
			t.Errorf("event %d: panicked is %v", i, panicked)
		}
	}
}

type broken struct{}

func (broken) Program(schema.ID) (*Program, error) { panic("a fault") }

// Protects the same if both decoders panic: only the event is rejected.
func TestRetryOfBothDecoders(t *testing.T) {
	text := "contract: 1\nname: orders\ntopics: orders\nrest: drop\nformat: avro\nregistry: {url: http://127.0.0.1:1, subject: orders-value, version: 1}\n" +
		"table: {name: orders}\ncolumns: [{name: id, type: STRING}]\n"
	c, err := contract.Read("orders.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, decoder := range []string{Fast, Strict} {
		d, err := New(c, decoder, then)
		if err != nil {
			t.Fatal(err)
		}
		d.Use(broken{})
		row, panicked, err := appendOrRetry(d, []byte("before"), []byte{0, 0, 0, 0, 1, 2, 'x'}, Meta{})
		if r, ok := err.(*Rejection); !ok || r.Code != contract.CodeDecoderFailed || string(row) != "before" || !panicked {
			t.Errorf("%s: row %q, %v, panicked is %v", decoder, row, err, panicked)
		}
	}
}

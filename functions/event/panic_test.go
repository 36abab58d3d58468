package event

import (
	"bytes"
	"testing"

	"sluice/internal/contract"
	"sluice/internal/schema"
)

// Protects the neighbours of an event over which the decoder panics: the event itself is read by the strict decoder, and
// those behind it by a new one.
func TestPanicCostsNobody(t *testing.T) {
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
	told := 0
	d.Panicked = func(value any, stack []byte) {
		told++
		if _, ok := value.(error); !ok || !bytes.Contains(stack, []byte("fastDecoder")) {
			t.Errorf("told of %v, with the stack\n%s", value, stack)
		}
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
		got, err := d.AppendRow(prefix, value, Meta{Offset: 7})
		if err != nil || !bytes.HasPrefix(got, prefix) || normal(t, read, got[len(prefix):]) != normal(t, read, want) {
			t.Errorf("event %d: another row than that of a healthy decoder, or %v", i, err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}

type broken struct{}

func (broken) Program(schema.ID) (*Program, error) { panic("a fault") }

// Protects the same if both decoders panic: only the event is rejected.
func TestPanicOfBothDecoders(t *testing.T) {
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
		told := 0
		d.Panicked = func(any, []byte) { told++ }
		d.Use(broken{})
		row, err := d.AppendRow([]byte("before"), []byte{0, 0, 0, 0, 1, 2, 'x'}, Meta{})
		if r, ok := err.(*Rejection); !ok || r.Code != contract.CodeDecoderFailed || string(row) != "before" || told != 2 {
			t.Errorf("%s: row %q, %v, told %d times", decoder, row, err, told)
		}
	}
}

package event_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sluice/functions/event"
	"sluice/internal/contract"
)

// Protects events behind a schema registry's prefix: their rows are those of the same events without one, in both
// decoders, and what is no such event says what it is.
func TestSchemaRegistrysPrefix(t *testing.T) {
	read := func(more string) *contract.Contract {
		c, err := contract.Read("orders.yaml", []byte("contract: 1\ntopics: orders\nrest: drop\n"+more+
			"columns:\n- {name: id, type: STRING, mode: REQUIRED}\n- {name: n, type: INT64}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	framed, plain := read("format: json_schema\n"), read("")
	const json = `{"id":"a","n":7}`
	glue := "\x03\x00" + strings.Repeat("\xab", 16)
	meta := event.Meta{Topic: "orders", IngestedAt: 1}
	for _, decoder := range []string{event.Fast, event.Strict} {
		d, err := event.New(framed, decoder, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := event.New(plain, decoder, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		want, err := p.AppendRow(nil, []byte(json), meta)
		if err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"\x00\x00\x00\x00\x07", "\x00\xff\xff\xff\xff", glue} {
			if got, err := d.AppendRow(nil, []byte(prefix+json), meta); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %x: %x, %v", decoder, prefix, got, err)
			}
		}
		for value, want := range map[string]string{
			json:                                 "is plain JSON: say format: json",
			"":                                   "is empty",
			"\x00\x00":                           "ends within it, after 2 bytes",
			glue:                                 "ends within AWS Glue's, after 18 bytes",
			"\x03\x05" + strings.Repeat("x", 30): "compressed by the serializer (5)",
			"x":                                  "does not begin with one",
			"\x00\x00\x00\x00\x07{":              "ends",
			"\x00\x00\x00\x00\x07\x02\x06ab":     "",
		} {
			if _, err := d.AppendRow(nil, []byte(value), meta); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %q: %v, want %s", decoder, value, err, want)
			}
		}
		if _, err := d.AppendRow(nil, nil, meta); err == nil || !strings.Contains(err.Error(), "tombstone") {
			t.Errorf("%s, a tombstone: %v", decoder, err)
		}
		for value, want := range map[string]string{
			"\x00\x00\x00\x00\x07" + json: "begins with a schema registry's prefix, id 7: the contract says json; say format: json_schema",
			glue + json:                   "AWS Glue's prefix, schema version abab",
		} {
			if _, err := p.AppendRow(nil, []byte(value), meta); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, plain: %v, want %s", decoder, err, want)
			}
		}
	}
}

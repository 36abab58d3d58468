package event

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/internal/contract"
)

// Protects contracts that have the versions of a schema beside them, for those whose registry cannot be asked: each
// event is read with the one that it names, by Confluent's number or AWS Glue's UUID.
func TestVersionsBesideTheContract(t *testing.T) {
	const glue = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
	folder := contract.Folder{
		"v1.avsc": `{"type":"record","name":"R","fields":[{"name":"id","type":"string"}]}`,
		"v2.avsc": `{"type":"record","name":"R","fields":[{"name":"n","type":"int"},{"name":"id","type":"string"}]}`,
	}
	c, err := contract.ReadIn(folder, "orders.yaml",
		[]byte("contract: 1\ntopics: orders\nrest: drop\nformat: avro\nschema: {file: v2.avsc, ids: {7: v1.avsc, "+glue+": v2.avsc}}\n"+
			"columns: [{name: id, type: STRING, mode: REQUIRED}, {name: n, type: INT64}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	uuid := "\x3f\x25\x04\xe0\x4f\x89\x11\xd3\x9a\x0c\x03\x05\xe8\x2c\x33\x01"
	for _, decoder := range []string{Fast, Strict} {
		d, err := New(c, decoder, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		read := newReader(t, c.Table)
		for value, want := range map[string]string{
			"\x00\x00\x00\x00\x07\x02a":     "a",
			"\x03\x00" + uuid + "\x0e\x02b": "b",
		} {
			row, err := d.AppendRow(nil, []byte(value), meta)
			if err != nil {
				t.Fatal(err)
			}
			if got := read.read(t, row)["id"]; got != want {
				t.Errorf("%s: %x is %v, want %s", decoder, value, got, want)
			}
		}
		for value, want := range map[string]string{
			"\x00\x00\x00\x00\x08\x02a": "unknown_schema: the event names the schema 8, which is not among the contract's",
			"\x00\x00\x00\x00\x07\x04a": "undecodable_value: id ends too early, after 2 bytes of the value: it was written with another schema than v1.avsc (id 7), which it names",
			"\x02a":                     "undecodable_value: the contract expects a schema registry's prefix",
		} {
			_, err := d.AppendRow(nil, []byte(value), meta)
			var r *Rejection
			if !errors.As(err, &r) || !strings.HasPrefix(r.Error(), want) {
				t.Errorf("%s: %x: %v, want %s", decoder, value, err, want)
			}
		}
	}
}

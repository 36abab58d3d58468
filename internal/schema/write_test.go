package schema

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/twmb/avro"
)

// Protects replays that repair events: what was read, and is written with the same schema, is read as the same again;
// for random schemas and values of Avro, and random messages of Protobuf.
func TestWrite(t *testing.T) {
	rd := rand.New(rand.NewPCG(9, 10))
	var r Reader
	again := func(text string, p *Program, value []byte) bool {
		t.Helper()
		first, err := r.AppendJSON(nil, p, value, wide)
		if err != nil {
			return false
		}
		written, err := p.Write(first)
		if err != nil {
			if strings.Contains(err.Error(), "google.protobuf.Any") || strings.Contains(string(first), `"mask":`) {
				return false // the library writes no paths in a mask that are no names
			}
			if beyond(string(first)) {
				return false
			}
			t.Fatalf("schema %s\n%s\n%v", text, first, err)
		}
		second, err := r.AppendJSON(nil, p, written, wide)
		if err != nil {
			t.Fatalf("schema %s\n%s\n%v", text, first, err)
		}
		if normalize(t, p, first) != normalize(t, p, second) {
			t.Fatalf("schema %s\n%s\n%s", text, first, second)
		}
		return true
	}
	count := 0
	for range 2000 {
		names := 0
		text := randomRecord(rd, 4, &names, new([]string))
		p, err := Avro(text)
		if err != nil {
			t.Fatal(err)
		}
		root := avro.MustParse(text).Root()
		for range 5 {
			if again(text, p, randomValue(rd, root, namedTypes(root, map[string]*avro.SchemaNode{}), 6, nil)) {
				count++
			}
		}
	}
	if count < 5000 {
		t.Errorf("only %d values of Avro were written", count)
	}
	p, d := protoEvent(t)
	count = 0
	for range 20_000 {
		if again("", p, randomMessage(rd, d, 4)) {
			count++
		}
	}
	if count < 5000 {
		t.Errorf("only %d messages of Protobuf were written", count)
	}
}

// Protects from writing what the schema cannot say, without a word: each is refused with the field's path, and no
// value.
func TestWriteMistakes(t *testing.T) {
	a, err := Avro(`{"type":"record","name":"R","fields":[{"name":"s","type":"string"},{"name":"n","type":["null","int"]},
		{"name":"r","type":["null",{"type":"record","name":"I","fields":[{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":1}}]}]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ProtobufFile(fstest.MapFS{"e.proto": {Data: []byte(`syntax = "proto3"; message E { string s = 1; int32 n = 2; message I { bool b = 1; } I r = 3; }`)}}, "e.proto", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p           *Program
		event, want string
	}{
		{a, `{"s":"a"}`, ""},
		{a, `{"s":"a","n":null,"r":{"d":1.5}}`, ""},
		{a, `{}`, "s is missing, and its schema has no null for it"},
		{a, `{"s":7}`, "s has a value that its type in the schema, string, cannot have"},
		{a, `{"s":"a","n":3000000000}`, "n has a value that its type in the schema, int, cannot have"},
		{a, `{"s":"a","r":{"d":1.55}}`, "r.d has a value that its type in the schema, bytes, cannot have"},
		{a, `{"s":"a","more":"secret"}`, "the event has a member that is no field of the schema"},
		{a, `[]`, "the event has a value that its type in the schema, record, cannot have"},
		{a, `{`, "the event is not valid JSON"},
		{a, `{"s":"a"} x`, "the event is not valid JSON"},
		{p, `{"s":"a","n":5,"r":{"b":true}}`, ""},
		{p, `{"s":"a","more":"secret"}`, "more is no field of the schema"},
		{p, `{"s":"a","r":{"c":1}}`, "r: c is no field of the schema"},
		{p, `{"n":"secret"}`, "n has a value that its type cannot have"},
		{p, `[]`, "a value is none that its field's type can have"},
	} {
		_, err := c.p.Write([]byte(c.event))
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: %v, want %s", c.event, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a value: %v", err)
		}
	}
}

// beyond reports whether an event has a time that package time does not read: a year of more than four digits, or
// before 0.
func beyond(text string) bool { return farYear.MatchString(text) }

var farYear = regexp.MustCompile(`"[+-]\d{4,}-\d\d-\d\d`)

// normalize is JSON in one form: members sorted, without white space.
func normalize(t *testing.T, p *Program, text []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if d := p.Descriptor(); d != nil { // zeros without presence are not written
		v = comparable(v)
		withoutZeros(d, v)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

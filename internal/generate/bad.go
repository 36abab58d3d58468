package generate

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Fault is one way for an event to break the contract.
type Fault struct {
	Name string
	Code string // the rejection it must meet
	// spoil breaks the good event whose members stand in g.object, and leaves it in g.value.
	spoil func(g *Generator)
}

// Faults lists every kind of bad event that a Generator makes.
func Faults() []Fault { return faults }

// bad writes a bad event into g.value and returns its code.
func (g *Generator) bad() string {
	f := &faults[g.rand.IntN(len(faults))]
	g.Spoil(f)
	return f.Code
}

// Spoil makes an event with the fault f: Kafka key and value, valid until the
// generator's next use.
func (g *Generator) Spoil(f *Fault) (key, value []byte) {
	g.members(g.producer())
	f.spoil(g)
	return g.key, g.value
}

var faults = []Fault{
	{"no event_id", "missing_field", func(g *Generator) { g.without("event_id") }},
	{"no user_id", "missing_field", func(g *Generator) { g.without("user_id") }},
	{"null event_timestamp", "missing_field", func(g *Generator) { g.replace("event_timestamp", "null") }},
	{"empty user_id", "empty_field", func(g *Generator) { g.replace("user_id", `""`) }},
	{"number as user_id", "wrong_type", func(g *Generator) { g.replace("user_id", "4711") }},
	{"array as page_url", "wrong_type", func(g *Generator) {
		g.without("page_url")
		g.splice(`"page_url":["https://shop.example/"],`)
	}},
	{"unknown event_type", "invalid_event_type", func(g *Generator) { g.replace("event_type", `"page_veiw"`) }},
	{"a date that is none", "invalid_timestamp", func(g *Generator) { g.replace("event_timestamp", `"2026-02-30T12:00:00Z"`) }},
	{"a local date format", "invalid_timestamp", func(g *Generator) { g.replace("event_timestamp", `"22.11.2026 12:00"`) }},
	{"seconds since 1970 as a string", "invalid_timestamp", func(g *Generator) { g.replace("event_timestamp", `"1795000000"`) }},
	{"a clock at its epoch", "timestamp_out_of_range", func(g *Generator) { g.replace("event_timestamp", `"1970-01-01T00:00:13Z"`) }},
	{"a clock far ahead", "timestamp_out_of_range", func(g *Generator) {
		g.replace("event_timestamp", fmt.Sprintf("%q", g.config.Now().AddDate(30, 0, 0).UTC().Format(time.RFC3339)))
	}},
	{"cut off", "invalid_json", func(g *Generator) {
		g.whole()
		end := len(g.value) * 2 / 3
		for !utf8.RuneStart(g.value[end]) { // half a character would be invalid_utf8
			end--
		}
		g.value = g.value[:end]
	}},
	{"two events in one record", "invalid_json", func(g *Generator) { g.whole(); g.value = append(g.value, g.value...) }},
	{"not an object", "invalid_json", func(g *Generator) { g.value = append(g.value[:0], `["page_view"]`...) }},
	{"not JSON at all", "invalid_json", func(g *Generator) { g.value = append(g.value[:0], "user=4711&type=page_view"...) }},
	{"an empty record", "invalid_json", func(g *Generator) { g.value = g.value[:0] }},
	{"a bare control character", "invalid_json", func(g *Generator) { g.splice("\"note\":\"a\x01b\",") }},
	{"Latin-1 text", "invalid_utf8", func(g *Generator) { g.splice("\"city\":\"M\xfcnchen\",") }},
	{"half a surrogate pair", "invalid_json", func(g *Generator) { g.splice(`"mood":"\ud83d",`) }},
	{"a name twice", "duplicate_name", func(g *Generator) { g.splice(`"user_id":"x",`) }},
	{"nested without end", "too_deep", func(g *Generator) {
		g.splice(`"tree":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + ",")
	}},
}

// whole puts the members together as they are.
func (g *Generator) whole() { g.value = g.object.appendTo(g.value[:0]) }

// without leaves the member out.
func (g *Generator) without(name string) {
	o := &g.object
	for i, m := range o.members {
		if bytes.HasPrefix(o.text[m.start:m.end], []byte(`"`+name+`"`)) {
			o.members = append(o.members[:i], o.members[i+1:]...)
			break
		}
	}
	g.whole()
}

// replace gives the member another value, written raw.
func (g *Generator) replace(name, value string) {
	o := &g.object
	for i, m := range o.members {
		if bytes.HasPrefix(o.text[m.start:m.end], []byte(`"`+name+`"`)) {
			start := len(o.text)
			o.text = append(o.text, `"`+name+`":`+value...)
			o.members[i] = member{start, len(o.text)}
		}
	}
	g.whole()
}

// splice writes raw text, its comma included, behind the opening brace.
func (g *Generator) splice(members string) {
	g.whole()
	g.value = append(append([]byte("{"), members...), g.value[1:]...)
}

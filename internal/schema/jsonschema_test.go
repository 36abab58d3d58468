package schema

import (
	"errors"
	"strings"
	"testing"
)

// Protects what is said of events that their JSON Schema does not allow: the place, what is wanted, and nothing of the
// value.
func TestJSONSchema(t *testing.T) {
	p, err := JSON(`{"type":"object","required":["id"],"additionalProperties":false,"properties":{
		"id":{"type":"string","minLength":2,"maxLength":9,"pattern":"^[a-z]+$"},
		"n":{"type":["integer","null"],"minimum":1,"maximum":10.5},
		"kind":{"enum":["a","b"]},
		"tags":{"type":"array","minItems":1,"items":{"type":"string"},"uniqueItems":true},
		"to":{"$ref":"address.json"},
		"never":false,
		"any":{"anyOf":[{"type":"string"},{"type":"number","exclusiveMinimum":5}]}}}`,
		map[string]string{"address.json": `{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}`})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ event, want string }{
		{`{"id":"secret"}`, ""},
		{`{"id":"secret","n":null,"kind":"a","tags":["x"],"to":{"city":"Bern"},"any":7}`, ""},
		{`no JSON at all`, ""}, // the decoder says so
		{`[]`, "the event is not what the event's schema says: is array, want object"},
		{`{}`, "the event is not what the event's schema says: lacks id"},
		{`{"id":7}`, "id is not what the event's schema says: is number, want string"},
		{`{"id":"s"}`, "id is not what the event's schema says: has 1 characters, want at least 2"},
		{`{"id":"secretsecret"}`, "id is not what the event's schema says: has 12 characters, want at most 9"},
		{`{"id":"SECRET"}`, "id is not what the event's schema says: want a text that matches ^[a-z]+$"},
		{`{"id":"secret","n":0}`, "n is not what the event's schema says: want at least 1"},
		{`{"id":"secret","n":11}`, "n is not what the event's schema says: want at most 21/2"},
		{`{"id":"secret","kind":"secret"}`, "kind is not what the event's schema says: want one of [a b]"},
		{`{"id":"secret","tags":[]}`, "tags is not what the event's schema says: has 0 elements, want at least 1"},
		{`{"id":"secret","tags":["x",7]}`, "tags[1] is not what the event's schema says: is number, want string"},
		{`{"id":"secret","tags":["secret","secret"]}`, "tags is not what the event's schema says: the keyword uniqueItems is not met"},
		{`{"id":"secret","to":{}}`, "to is not what the event's schema says: lacks city"},
		{`{"id":"secret","never":"secret"}`, "never is not what the event's schema says: is not to be there"},
		{`{"id":"secret","secret":1}`, "the event is not what the event's schema says: has members that the schema does not know"},
	} {
		var r Reader
		got, err := r.AppendJSON([]byte("before"), p, []byte(c.event), wide)
		if c.want == "" {
			if err != nil || string(got) != "before"+c.event {
				t.Errorf("%s: %s, %v", c.event, got, err)
			}
			continue
		}
		var fault *Error
		if !errors.As(err, &fault) || fault.Limit != Invalid || fault.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.event, err, c.want)
		}
		if err != nil && strings.Contains(strings.ToLower(err.Error()), "secret") {
			t.Errorf("%s: the message shows a value: %v", c.event, err)
		}
	}
	for _, wrong := range []string{`{`, `{"type":7}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"http://127.0.0.1/x"}`,
		`{"$ref":"missing.json"}`} {
		if _, err := JSON(wrong, nil); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
	if p, err := JSON(`{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{"type":"string"}]}`,
		nil); err != nil || p == nil {
		t.Error(err)
	}
}

package replay

import (
	"context"
	"testing"
	"time"
)

// Protects what a transform may do to an event: repair it or leave it, never double
// it, and never touch what it does not name.
func TestTransform(t *testing.T) {
	for _, c := range []struct{ name, expression, value, want, skip string }{
		{"none: to the byte", "", ` {"b": 1.0e5 , "a":"\u00fc"}`, ` {"b": 1.0e5 , "a":"\u00fc"}`, ""},
		{"a field is set", `.event_type = "search"`, `{"event_type":"s","n":12345678901234567890,"f":2.50}`, `{"event_type":"search","f":2.50,"n":12345678901234567890}`, ""},
		{"by the reason", `.why = $code + $field`, `{}`, `{"why":"wrong_typeuser_id"}`, ""},
		{"a number becomes text", `.user_id |= tostring`, `{"user_id":4711}`, `{"user_id":"4711"}`, ""},
		{"behind a registry's prefix", `.a += 1`, "\x00\x00\x00\x00\x07{\"a\":1}", "\x00\x00\x00\x00\x07{\"a\":2}", ""},
		{"behind Glue's", `.a += 1`, "\x03\x00abcdefghijklmnop{\"a\":1}", "\x03\x00abcdefghijklmnop{\"a\":2}", ""},
		{"Avro behind a prefix", `.a += 1`, "\x00\x00\x00\x00\x07\x02a", "\x00\x00\x00\x00\x07\x02a", SkipNotJSON},
		{"nothing", "empty", `{}`, `{}`, SkipNothing},
		{"two", "., .", `{}`, `{}`, SkipSeveral},
		{"one and a failure", `., error("x")`, `{}`, `{}`, SkipTransform},
		{"a failure", `.a + 1`, `{"a":"x"}`, `{"a":"x"}`, SkipTransform},
		{"no JSON", ".", `{"a":`, `{"a":`, SkipNotJSON},
		{"two events in one record", ".", `{}{}`, `{}{}`, SkipNotJSON},
		{"a cut off event", ".", "", "", SkipNotJSON},
	} {
		tr, err := newTransform(&Replay{Transform: c.expression})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		l := &Letter{Code: "wrong_type", Field: "user_id", Value: []byte(c.value)}
		if skip := tr.apply(t.Context(), l); skip != c.skip || string(l.Value) != c.want {
			t.Errorf("%s: %s, %q, want %s, %q", c.name, l.Value, skip, c.want, c.skip)
		}
	}
}

// Protects against an expression that never ends: it can be interrupted, and has a
// limit of its own.
func TestTransformThatNeverEnds(t *testing.T) {
	tr, err := newTransform(&Replay{Transform: "last(repeat(.))"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if skip := tr.apply(ctx, &Letter{Value: []byte("{}")}); skip != SkipTransform {
		t.Errorf("it ends with %q", skip)
	}
}

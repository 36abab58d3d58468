package generate

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"
)

func fixedNow() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// A load test is repeatable only if the same seed gives the same bytes.
func TestSameSeedSameEvents(t *testing.T) {
	c := Config{Seed: 7, Bad: 5, Duplicate: 5, Now: fixedNow}
	a, b := New(c), New(c)
	c.Seed = 8
	other := New(c)
	same := 0
	for i := range 5000 {
		x, y, z := a.Next(), b.Next(), other.Next()
		if !bytes.Equal(x.Value, y.Value) || !bytes.Equal(x.Key, y.Key) || x.Code != y.Code {
			t.Fatalf("event %d differs between two generators of one seed", i)
		}
		if bytes.Equal(x.Value, z.Value) {
			same++
		}
	}
	if same > 500 {
		t.Errorf("%d of 5000 events are the same under another seed", same)
	}
}

// The load must look like real clickstream: valid, varied, and of the size that
// the benchmarks assume.
func TestGoodEventsAreRealistic(t *testing.T) {
	g := New(Config{Seed: 1, Now: fixedNow})
	const n = 20_000
	kinds, users, ids, bytesTotal := map[string]int{}, map[string]int{}, map[string]bool{}, 0
	for range n {
		e := g.Next()
		var v struct {
			ID   string    `json:"event_id"`
			Type string    `json:"event_type"`
			User string    `json:"user_id"`
			At   time.Time `json:"event_timestamp"`
		}
		if err := json.Unmarshal(e.Value, &v); err != nil {
			t.Fatalf("%v in %s", err, e.Value)
		}
		if v.User != string(e.Key) || v.At.After(fixedNow()) || v.At.Before(fixedNow().Add(-4*time.Second)) {
			t.Fatalf("unexpected user or time in %s", e.Value)
		}
		kinds[v.Type]++
		users[v.User]++
		ids[v.ID] = true
		bytesTotal += len(e.Value)
	}
	if len(ids) != n {
		t.Errorf("%d event ids in %d events", len(ids), n)
	}
	if mean := bytesTotal / n; mean < 350 || mean > 650 {
		t.Errorf("mean size %d B", mean)
	}
	if k := kinds["page_view"] * 100 / n; k < 57 || k > 63 || len(kinds) != 4 {
		t.Errorf("kinds %v", kinds)
	}
	if len(users) < 1500 {
		t.Errorf("only %d users", len(users))
	}
}

// --bad and --duplicate are percentages that the summary of a run is held against.
func TestShareOfBadAndDuplicateEvents(t *testing.T) {
	g := New(Config{Seed: 3, Bad: 10, Duplicate: 10, Now: fixedNow})
	bad, duplicate, codes := 0, 0, map[string]bool{}
	for range 20_000 {
		e := g.Next()
		if e.Duplicate {
			duplicate++
		} else if e.Code != "" {
			bad++
			codes[e.Code] = true
		}
	}
	if bad < 1500 || bad > 2100 || duplicate < 1800 || duplicate > 2200 {
		t.Errorf("bad %d, duplicate %d of 20000", bad, duplicate)
	}
	for _, f := range Faults() {
		if !codes[f.Code] {
			t.Errorf("no event with code %s", f.Code)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	g := New(Config{Seed: 1})
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(g.Next().Value)))
	}
}

// Protects verdicts that tests count on: only what is to be rejected for its encoding
// is not UTF-8, wherever an event was cut off.
func TestOnlyEncodingFaultsBreakUTF8(t *testing.T) {
	g := New(Config{Seed: 1, Bad: 100, Now: fixedNow})
	for range 50_000 {
		if e := g.Next(); utf8.Valid(e.Value) == (e.Code == "invalid_utf8") {
			t.Fatalf("an event that is to be rejected with %s: valid UTF-8 is %v", e.Code, utf8.Valid(e.Value))
		}
	}
}

package event

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/contract"
	"sluice/internal/generate"
)

// differ holds the Fast decoder against the Strict one.
type differ struct {
	fast, strict *Decoder
	reader       reader
}

func newDiffer(tb testing.TB, table *contract.Table) *differ {
	// A small depth and size, so that texts reach them.
	c := Config{MaxDepth: 6, MaxBytes: 4096}
	d := &differ{fast: newDecoder(tb, table, c), reader: newReader(tb, table)}
	c.Decoder = Strict
	d.strict = newDecoder(tb, table, c)
	return d
}

// compare fails unless both decoders give the same verdict, code and field, and the
// same row. It reports whether they accept.
func (d *differ) compare(tb testing.TB, value []byte) bool {
	tb.Helper()
	before := bytes.Clone(value)
	got, gotErr := d.fast.AppendRow([]byte("before"), value, meta)
	want, wantErr := d.strict.AppendRow([]byte("before"), value, meta)
	if !bytes.Equal(before, value) {
		tb.Fatalf("%q: the event was changed", before)
	}
	if wantErr != nil {
		w := wantErr.(*Rejection)
		g, ok := gotErr.(*Rejection)
		if !ok || g.Code != w.Code || g.Field != w.Field {
			tb.Fatalf("%q: fast says %v, strict says %v", value, gotErr, wantErr)
		}
		if string(got) != "before" {
			tb.Fatalf("%q: rejected, but dst became %q", value, got)
		}
		return false
	}
	if gotErr != nil {
		tb.Fatalf("%q: fast says %v, strict accepts", value, gotErr)
	}
	if bytes.Equal(got, want) {
		return true
	}
	// The order of the columns is free.
	g, w := d.reader.read(tb, got[len("before"):]), d.reader.read(tb, want[len("before"):])
	if !maps.Equal(g, w) {
		tb.Fatalf("%q:\nfast   %v\nstrict %v", value, g, w)
	}
	return true
}

// shapes are events that lead the decoders through every branch: with what the
// fuzzer makes of them, and before each other, because the Fast decoder learns.
func shapes() []string {
	s := []string{
		good, with(`"a":1`), with(`"a": 1`), with(` "a" : 1 `), with(`"page_url":"x","a":[{"b":1},{"b":2,"c":{}}],"z":null`),
		with(`"quantity":1,"price":-1.5e3,"gift":true,"seen_at":"2026-01-02 03:04:05.678","basket":{"a":[1]},"token":"AAAA"`),
		with(`"quantity":9223372036854775808`), with(`"price":1e999`), with(`"token":"A"`), with(`"basket":null`),
		with(`"\u0061":1,"a":2`), with(`"a":"\ud83d\ude00\ud83d"`), with("\"a\":\"ü日\xff\""), with(`"a":{"a":{"a":{"a":{"a":1}}}}`),
		with(`"properties":1,"kafka_offset":"x"`), without("user_id", `"user_id":null`), without("event_type",
			`"event_type":"x"`),
		without("event_timestamp", `"event_timestamp":"2026-02-03T05:05:06.123456789+01:00"`),
		strings.ReplaceAll(strings.ReplaceAll(with(`"a":{"b":1}`), ":", ": "), ",", ", "),
		"{}", "{ }", `{"a":1 }`, `{"a":1,}`, `{"a"1}`, `{"a":1"b":2}`, "null", "[]", "", " ", "{", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, good + "x", good + " \n",
	}
	// The same names in different objects, behind names that are predicted and others.
	long := strings.Repeat("l", 40)
	for _, name := range []string{"a", long, `\u0061`} {
		s = append(s,
			with(fmt.Sprintf(`"%s":{"user_id":1,"user_id":2}`,
				name)), with(fmt.Sprintf(`"%s":{"event_id":1,"b":2},"b":3`, name)),
			with(fmt.Sprintf(`"%s":{"event_id":1},"event_id":"x"`,
				name)), with(fmt.Sprintf(`"%s":{"%s":{"x":1,"y":2},"x":3},"x":4,"y":5,"x":6`, name, name)),
			with(fmt.Sprintf(`"%s":{"%s":1,"page_url":2},"page_url":"p"`, long,
				name)), with(fmt.Sprintf(`"%s":[{"x":1,"y":2},{"x":1,"y":2,"x":3}]`, name)),
			fmt.Sprintf(`{"%s":{"event_id":"e0"},%s`, name, good[1:]), fmt.Sprintf(`{"%s":1,%s`, name,
				good[1:]), fmt.Sprintf(`{,"%s":1}`, name), fmt.Sprintf(`{"x":{,"%s":1}}`, name))
	}
	// Names as long as, and longer than, what is predicted; many members.
	for _, n := range []int{10, 15, 16, 17, 18, 19, 20, 23, 24, 25, 27, 28, 29, 31, 32, 33, 64} {
		s = append(s, with(fmt.Sprintf(`"%s":"%s","%s_":1`, strings.Repeat("n", n), strings.Repeat("v", n),
			strings.Repeat("n", n))))
	}
	return s
}

// Protects the claim that both decoders are one contract, on what producers send,
// good and bad, in one order and another.
func TestDecodersAgree(t *testing.T) {
	for _, table := range []*contract.Table{contract.FactEvents(), everyType(t)} {
		d := newDiffer(t, table)
		for range 2 {
			for _, s := range shapes() {
				d.compare(t, []byte(s))
				for i := range s { // cut everywhere
					d.compare(t, []byte(s[:i]))
				}
				for i := range s { // each byte another
					for _, c := range []byte{'"', '\\', ',', '}', ']', ' ', 0, 0x80, '0'} {
						d.compare(t, []byte(s[:i]+string([]byte{c})+s[i+1:]))
					}
				}
			}
		}
		g := generate.New(generate.Config{Seed: 2, Bad: 20, Now: func() time.Time { return now }})
		for range 20_000 {
			d.compare(t, g.Next().Value)
		}
		for _, f := range generate.Faults() {
			_, value := g.Spoil(&f)
			d.compare(t, value)
		}
	}
}

var mutations = flag.Int("mutations", 20_000, "how many mutated events TestDecodersAgreeOnMutations compares")

// Protects the same claim on events that were cut, spliced, and had pieces of JSON
// put in at random: faster than the fuzzer, and deeper in. For a long run:
//
//	go test ./functions/event -run Mutations -mutations 12000000 -timeout 0
func TestDecodersAgreeOnMutations(t *testing.T) {
	d := newDiffer(t, everyType(t))
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	g := generate.New(generate.Config{Seed: seed, Bad: 10, Now: func() time.Time { return now }})
	var pool [][]byte
	for range 3000 {
		pool = append(pool, bytes.Clone(g.Next().Value))
	}
	for _, s := range shapes() {
		for range 5 {
			pool = append(pool, []byte(s))
		}
	}
	pieces := []string{
		`"`, `\`, `,`, `:`, `{`, `}`, `[`, `]`, ` `, "\n", "\x00", "\x80", "\xff", "é", "日", "😀", `\u0061`, `\ud83d\ude00`, `\ud83d`, `\/`, `\n`,
		`null`, `true`, `false`, `0`, `-`, `1.5`, `1e3`, `"a":1,`, `"user_id":"u",`, `"page_url":`, `,"b":{"c":1}`, `[1,2]`, `+01:00`, `Z`, `.123456789`,
		`"` + strings.Repeat("l", 28) + `":`,
	}
	accepted := 0
	for range *mutations {
		v := bytes.Clone(pool[r.IntN(len(pool))])
		for range 1 + r.IntN(4) {
			if len(v) == 0 {
				break
			}
			i := r.IntN(len(v))
			piece := []byte(pieces[r.IntN(len(pieces))])
			switch r.IntN(6) {
			case 0: // another byte
				v[i] = byte(r.Uint32())
			case 1, 2: // a piece more
				v = slices.Insert(v, i, piece...)
			case 3: // a piece instead
				v = slices.Replace(v, i, min(len(v), i+len(piece)), piece...)
			case 4: // a part of another event
				o := pool[r.IntN(len(pool))]
				from := r.IntN(len(o) + 1)
				v = slices.Insert(v, i, o[from:min(len(o), from+r.IntN(60))]...)
			case 5: // a part less, or all the rest
				if r.IntN(4) == 0 {
					v = v[:i]
				} else {
					v = slices.Delete(v, i, min(len(v), i+1+r.IntN(8)))
				}
			}
		}
		if d.compare(t, v) {
			accepted++
		}
	}
	t.Logf("%d inputs, %d of them accepted, seed %d", *mutations, accepted, seed)
}

// Protects the same claim against any text, also in the middle of an event, and
// with a decoder that has learned from any other.
func FuzzDecodersAgree(f *testing.F) {
	for _, s := range shapes() {
		f.Add([]byte(s), uint8(0))
	}
	f.Add([]byte(`"a":1,"a":2`), uint8(1))
	f.Add([]byte(`{"x":"\u00fc"}`), uint8(2))
	f.Add([]byte(`2026-02-03T04:05:06.789+00:00`), uint8(3))
	f.Add([]byte(`-0.5E+7`), uint8(4))
	g := generate.New(generate.Config{Seed: 3, Bad: 20, Now: func() time.Time { return now }})
	for range 100 {
		f.Add(bytes.Clone(g.Next().Value), uint8(0))
	}
	d := newDiffer(f, everyType(f))
	count := 0
	f.Fuzz(func(t *testing.T, text []byte, place uint8) {
		if count++; count%4096 == 0 && d.fast.fast != nil {
			d.fast.fast.names.forget() // so that a find can be repeated
		}
		value := text
		switch place % 6 {
		case 1: // as members
			value = []byte(with(string(text)))
		case 2: // as another member's value
			value = []byte(with(`"a":` + string(text) + `,"b":"c"`))
		case 3: // as the timestamp
			value = []byte(without("event_timestamp", `"event_timestamp":"`+string(text)+`"`))
		case 4: // as the value of each column that is no string
			for _, name := range []string{"quantity", "price", "gift", "basket"} {
				d.compare(t, []byte(with(`"`+name+`":`+string(text))))
			}
			return
		case 5: // as a name
			value = []byte(with(`"` + string(text) + `":1,"a":{"` + string(text) + `": 2}`))
		}
		d.compare(t, value)
		d.compare(t, value) // as predicted
	})
}

package event

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/internal/contract"
)

// many is the good event with more members, made by f.
func many(n int, f func(i int) string) []byte {
	var b strings.Builder
	b.WriteString(good[:len(good)-1])
	for i := range n {
		b.WriteString("," + f(i))
	}
	b.WriteString("}")
	return []byte(b.String())
}

// Protects instances from events whose names are the load: the limit holds in both decoders
// alike, counts a name in another object as another, and alike objects of an array once.
func TestTooManyNames(t *testing.T) {
	const few, lots = maxEventNames - 100, maxEventNames + 100
	for name, test := range map[string]struct {
		event    []byte
		rejected bool
	}{
		"few names":  {many(few, func(i int) string { return fmt.Sprintf(`"%d":1`, i) }), false},
		"many names": {many(lots, func(i int) string { return fmt.Sprintf(`"%d":1`, i) }), true},
		"many names in one object": {many(1, func(int) string {
			return `"o":` + string(many(lots, func(i int) string { return fmt.Sprintf(`"%d":1`, i) }))
		}), true},
		"the same names in many places": {many(200, func(i int) string {
			return fmt.Sprintf(`"o%d":%s`, i, many(200, func(k int) string { return fmt.Sprintf(`"%d":1`, k) }))
		}), true},
		"alike objects of an array": {many(1, func(int) string { return `"a":[` + strings.Repeat(`{"x":1,"y":{"z":"{,:"}},`, lots) + `{}]` }), false},
		"names with quotes":         {many(few, func(i int) string { return fmt.Sprintf(`"\"%d" : "\\"`, i) }), false},
	} {
		for _, decoder := range []string{Fast, Strict} {
			d := newDecoder(t, contract.FactEvents(), Config{Decoder: decoder})
			_, err := d.AppendRow(nil, test.event, meta)
			var why *Rejection
			if errors.As(err, &why); (err != nil) != test.rejected || test.rejected &&
				(why == nil || why.Code != contract.CodeTooLarge) {
				t.Errorf("%s, %s: %v", name, decoder, err)
			}
		}
	}
}

// Protects instances from crafted events: whatever one holds, the fast decoder allocates no more
// than a few times what is reserved for it, and keeps little of that from event to event.
func TestMemoryOfCraftedEvents(t *testing.T) {
	const most = 8 << 20
	fill := func(s string) string { return strings.Repeat(s, (most-300)/len(s)) }
	for name, event := range map[string][]byte{
		"names":        many(maxEventNames-100, func(i int) string { return fmt.Sprintf(`"%d":1`, i) }),
		"long names":   many(maxEventNames-100, func(i int) string { return fmt.Sprintf(`"%0200d":1`, i) }),
		"a string":     many(1, func(int) string { return `"s":"` + fill("x") + `"` }),
		"escapes":      many(1, func(int) string { return `"page_url":"` + fill(`\n`) + `"` }),
		"an array":     many(1, func(int) string { return `"s":[` + fill("1,") + `1]` }),
		"objects":      many(1, func(int) string { return `"s":[` + fill(`{"a":1},`) + `1]` }),
		"wide numbers": many(1, func(int) string { return `"s":[` + fill("1e999,") + `1]` }),
		"deep":         many(1, func(int) string { return `"s":` + strings.Repeat("[", 1<<20) }),
	} {
		d := newDecoder(t, contract.FactEvents(), Config{Now: func() time.Time { return now }})
		_, _ = d.AppendRow(nil, []byte(good), meta)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = d.AppendRow(nil, event, meta)
		runtime.ReadMemStats(&after)
		// Ingest reserves three times the bytes. What grows by doubling is allocated twice over.
		if allocated, limit := after.TotalAlloc-before.TotalAlloc, uint64(6*3*len(event)+8<<20); allocated > limit {
			t.Errorf("%s: %d bytes allocated for an event of %d, want at most %d", name, allocated, len(event), limit)
		}
		_, _ = d.AppendRow(nil, []byte(good), meta)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 4<<20 {
			t.Errorf("%s: %d bytes are kept", name, kept)
		}
		runtime.KeepAlive(d)
	}
}

package event

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/internal/contract"
	"sluice/internal/generate"
)

// corpus is what the benchmarks decode: distinct events of all producers in random
// order, because one batch repeated flatters a CPU that learns its branches.
func corpus(tb testing.TB, n int, bad float64) (events [][]byte, bytes int64) {
	tb.Helper()
	g := generate.New(generate.Config{Seed: 1, Bad: bad, Now: func() time.Time { return now }})
	text := make([]byte, 0, n*1024) // one behind the other, as in a decompressed batch
	for range n {
		start := len(text)
		text = append(text, g.Next().Value...)
		events = append(events, text[start:len(text):len(text)])
	}
	return events, int64(len(text))
}

// each runs f over all events b.N times, and reports the time per event.
func each(b *testing.B, events [][]byte, size int64, f func(value []byte)) {
	b.SetBytes(size / int64(len(events)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f(events[i])
		if i++; i == len(events) {
			i = 0
		}
	}
}

const (
	corpusSize = 20_000
	chunkSize  = 1_000 // of a round
	rounds     = 240
)

func BenchmarkDecode(b *testing.B) {
	events, size := corpus(b, corpusSize, 0)
	b.Run("valid", func(b *testing.B) {
		each(b, events, size, func(value []byte) {
			if !jsontext.Value(value).IsValid() {
				b.Fatal("invalid")
			}
		})
	})
	for _, name := range []string{"strict", "fast"} {
		d := newDecoder(b, contract.FactEvents(), Config{Decoder: name})
		row := make([]byte, 0, 8192)
		b.Run(name, func(b *testing.B) {
			each(b, events, size, func(value []byte) {
				if _, err := d.AppendRow(row, value, meta); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkRatios times the decoder against its yardsticks in interleaved rounds
// over the same events, so that whatever else the machine does hits all alike, and
// reports the medians:
//
//	decode_vs_strict   the whole way from JSON to row, over jsontext's check that it is valid JSON
//	decode_vs_naive    the same over a map, reflection and dynamicpb
//	decode_allocs_per_event
//
// One iteration is all rounds.
func BenchmarkRatios(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	events, _ := corpus(b, corpusSize, 0)
	fast := newDecoder(b, contract.FactEvents(), Config{})
	naive := newNaive(b, contract.FactEvents())
	row := make([]byte, 0, 8192)
	variants := []func(value []byte) error{
		func(value []byte) error {
			if !jsontext.Value(value).IsValid() {
				return errors.New("invalid")
			}
			return nil
		},
		func(value []byte) error { _, err := fast.AppendRow(row, value, meta); return err },
		func(value []byte) error { _, err := naive.row(value, meta); return err },
	}
	var perEvent, vsValid, vsNaive []float64
	round := 0
	measure := func() {
		chunk := events[round*chunkSize%corpusSize:][:chunkSize]
		var ns [3]float64
		for i := range variants {
			v := (i + round) % len(variants) // each comes first as often
			start := time.Now()
			for _, value := range chunk {
				if err := variants[v](value); err != nil {
					b.Fatal(err)
				}
			}
			ns[v] = float64(time.Since(start)) / chunkSize
		}
		perEvent = append(perEvent, ns[1])
		vsValid, vsNaive = append(vsValid, ns[1]/ns[0]), append(vsNaive, ns[1]/ns[2])
		round++
	}
	for b.Loop() {
		for range corpusSize / chunkSize { // warms up
			measure()
		}
		perEvent, vsValid, vsNaive = nil, nil, nil
		for range rounds {
			measure()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(perEvent), "decode_ns_per_event")
	b.ReportMetric(median(vsValid), "decode_vs_strict")
	b.ReportMetric(median(vsNaive), "decode_vs_naive")
	b.ReportMetric(testing.AllocsPerRun(1, func() {
		for _, value := range events {
			if _, err := fast.AppendRow(row, value, meta); err != nil {
				b.Fatal(err)
			}
		}
	})/corpusSize, "decode_allocs_per_event")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkWorstVs times what could hurt, in interleaved rounds:
//
//	bad_vs_good             events of 22 kinds of faults, against good ones
//	many_names_vs_strict    an event of 20,000 names, against the check that it is valid JSON
//	escaped_names_vs_strict the same with an escape in each
//
// A duplicate check that compares each name with each takes seconds for the latter.
func BenchmarkWorstVs(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	good, _ := corpus(b, corpusSize, 0)
	bad, _ := corpus(b, corpusSize, 100)
	plain, escaped := manyNames(`%q:%d`), manyNames(`"\u006e%s":%d`)
	d := newDecoder(b, contract.FactEvents(), Config{})
	row := make([]byte, 0, 1<<20)
	decode := func(events ...[]byte) float64 {
		start := time.Now()
		for _, value := range events {
			_, _ = d.AppendRow(row, value, meta)
		}
		return float64(time.Since(start))
	}
	valid := func(value []byte) float64 {
		start := time.Now()
		if !jsontext.Value(value).IsValid() {
			b.Fatal("invalid")
		}
		return float64(time.Since(start))
	}
	var badVs, plainVs, escapedVs []float64
	for b.Loop() {
		badVs, plainVs, escapedVs = nil, nil, nil
		for round := range rounds / 6 {
			from := round * chunkSize % corpusSize
			badVs = append(badVs, decode(bad[from:from+chunkSize]...)/decode(good[from:from+chunkSize]...))
			plainVs = append(plainVs, decode(plain)/valid(plain))
			escapedVs = append(escapedVs, decode(escaped)/valid(escaped))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(badVs), "bad_vs_good")
	b.ReportMetric(median(plainVs), "many_names_vs_strict")
	b.ReportMetric(median(escapedVs), "escaped_names_vs_strict")
}

// manyNames is an event of 20,000 names of that form.
func manyNames(form string) []byte {
	text := []byte(good[:len(good)-1])
	for i := range 20_000 {
		text = fmt.Appendf(append(text, ','), form, fmt.Sprintf("name_%d", i), i)
	}
	return append(text, '}')
}

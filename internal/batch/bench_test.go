package batch

import (
	"bytes"
	"testing"

	"sluice/internal/generate"
)

// generated are batches of 500 generated events, and their length in bytes.
func generated(tb testing.TB) (batches []*Batch, size int64) {
	tb.Helper()
	g := generate.New(generate.Config{Seed: 1})
	for i := range 40 {
		b := &Batch{}
		for j := range 500 {
			e := g.Next()
			b.Records = append(b.Records, Record{Topic: "clickstream", Partition: int32(i % 12), Offset: int64(j),
				Timestamp: 1_700_000_000_000 + int64(j), Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value)})
			size += int64(len(e.Value))
		}
		batches = append(batches, b)
	}
	return batches, size
}

// BenchmarkEncode and BenchmarkDecode are the price of a batch of 500 events,
// zstd included; ratio is the events' bytes over the payload's.
func BenchmarkEncode(b *testing.B) {
	batches, size := generated(b)
	e := NewEncoder(Header{})
	var payload []byte
	b.SetBytes(size / int64(len(batches)))
	b.ReportAllocs()
	i, total := 0, 0
	for b.Loop() {
		from := batches[i%len(batches)]
		e.Reset(from.Header)
		for j := range from.Records {
			e.Append(&from.Records[j])
		}
		var err error
		if payload, err = e.Payload(payload[:0]); err != nil {
			b.Fatal(err)
		}
		total += len(payload)
		i++
	}
	b.ReportMetric(float64(size)/float64(len(batches))*float64(i)/float64(total), "ratio")
}

func BenchmarkDecode(b *testing.B) {
	batches, size := generated(b)
	var payloads [][]byte
	for _, from := range batches {
		payloads = append(payloads, encode(b, from))
	}
	var d Decoder
	b.SetBytes(size / int64(len(batches)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := d.Decode(payloads[i%len(payloads)], DefaultLimits); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

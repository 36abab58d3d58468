package zstd_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"sluice/internal/batch"
	"sluice/internal/generate"
	"sluice/internal/zstd"
)

// payload is compressed by c, or where there is none by the Go implementation.
func payload(t testing.TB, c *zstd.Compressor, e *batch.Encoder) []byte {
	t.Helper()
	f := e.Payload
	if c != nil {
		f = func(dst []byte) ([]byte, error) {
			return e.PayloadWith(dst, func(dst, src []byte) ([]byte, error) { return c.Append(dst, src, zstd.Fast) })
		}
	}
	p, err := f(nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The functions' decoder, which is the Go implementation and accepts only frames
// that declare their size, reads whatever this one writes.
func FuzzDecoderReadsFrames(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte("a"), uint16(1))
	f.Add([]byte(`{"event_id": "1", "event_type": "page_view"}`), uint16(1000))
	f.Add(bytes.Repeat([]byte("abc"), 100_000), uint16(3))
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	f.Add(random, uint16(2))
	c := zstd.New()
	f.Fuzz(func(t *testing.T, value []byte, repeat uint16) {
		n := int(repeat)%1000 + 1
		if len(value) > 1<<20 || n*len(value) > 8<<20 {
			n = 1
		}
		e := batch.NewEncoder(batch.Header{})
		for i := range n {
			e.Append(&batch.Record{Topic: "t", Partition: 7, Offset: int64(i), Value: value})
		}
		var dec batch.Decoder
		b, err := dec.Decode(payload(t, c, e), batch.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Records) != n || b.Records[0].Topic != "t" || b.Records[0].Partition != 7 {
			t.Fatalf("%d records, the first %+v, want %d of t[7]", len(b.Records), b.Records[0], n)
		}
		for i, r := range b.Records {
			if r.Offset != int64(i) || !bytes.Equal(r.Value, value) {
				t.Fatalf("record %d differs", i)
			}
		}
	})
}

// Compressors do not share anything: several work at a time.
func TestConcurrentCompressors(t *testing.T) {
	if zstd.New() == nil {
		return // TestAvailable says where that is a fault
	}
	src := slices.Repeat([]byte("clickstream "), 5000)
	want, err := zstd.New().Append(nil, src, zstd.Small)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			c := zstd.New()
			for range 50 {
				if got, err := c.Append(nil, src, zstd.Small); err != nil || !bytes.Equal(got, want) {
					t.Errorf("concurrent compressions differ: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// Protects the bill from a level that is not used.
func TestLevels(t *testing.T) {
	c := zstd.New()
	if c == nil {
		t.Skip("there is no library: librdkafka is linked dynamically, and the Go implementation knows no levels")
	}
	g := generate.New(generate.Config{Seed: 1})
	var src []byte
	for range 1000 {
		src = append(src, g.Next().Value...)
	}
	var sizes []int
	for _, level := range []int{zstd.Fast, zstd.Small} {
		frame, err := c.Append(nil, src, level)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(frame))
	}
	if 10*sizes[1] > 9*sizes[0] {
		t.Errorf("fast %d bytes, small %d: want a tenth less", sizes[0], sizes[1])
	}
}

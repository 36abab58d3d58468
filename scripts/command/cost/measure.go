package cost

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"time"

	"sluice/functions/event"
	"sluice/functions/push"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/generate"
	"sluice/internal/telemetry"
	"sluice/internal/zstd"
)

// sizes are the batches whose compression is measured; between them it is
// interpolated.
var sizes = []int{1, 3, 10, 33, 100, 333, 1000, 3000, 10_000}

// day is when the measured events happen.
var day = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// Measure takes the quantities of so many events from the project's own generator,
// packer and decoder.
func Measure(sample int) (Quantities, error) {
	// Each event is a millisecond after the one before, of a day that is always the same: so is what is measured of
	// their bytes, then.
	at := day
	g := generate.New(generate.Config{Seed: 1, Now: func() time.Time { return at }})
	events, total := make([]record, sample), 0
	for i := range events {
		e := g.Next()
		events[i] = record{timestamp: at.UnixMilli(), key: bytes.Clone(e.Key), value: bytes.Clone(e.Value)}
		at = at.Add(time.Millisecond)
		events[i].partition = int32(crc32.ChecksumIEEE(e.Key) % partitions)
		total += len(e.Value)
	}
	q := Quantities{Sample: sample, EventBytes: float64(total) / float64(sample)}

	// Packing, at each size. The CPU is that of the largest.
	payloads := make(map[int]float64, len(sizes))
	var packed [][]byte
	for _, size := range sizes {
		var out [][]byte
		var before int
		used, err := cpu(func() (err error) {
			out, before, err = pack(events, size, zstd.Small)
			return err
		})
		if err != nil {
			return q, err
		}
		bytes := 0
		for _, p := range out {
			bytes += len(p)
		}
		payloads[size] = float64(bytes) / float64(sample)
		packed, q.PackCPU, q.PackedBytes = out, used/float64(sample), float64(before)/float64(sample)
	}
	fast, err := cpu(func() error {
		_, _, err := pack(events, sizes[len(sizes)-1], zstd.Fast)
		return err
	})
	if err != nil {
		return q, err
	}
	q.FastCPU = fast / float64(sample)
	q.PayloadBytes = func(records float64) float64 { return interpolate(payloads, records) }

	// Decoding, of the largest batches.
	rows := 0
	used, err := cpu(func() (err error) {
		rows, err = decode(packed)
		return err
	})
	if err != nil {
		return q, err
	}
	q.IngestCPU, q.RowBytes = used/float64(sample), float64(rows)/float64(sample)
	q.LineBytes = line()
	return q, nil
}

// record is an event as it comes out of Kafka.
type record struct {
	partition  int32
	timestamp  int64 // milliseconds since the Unix epoch
	key, value []byte
}

// partitions are those of the measured records.
const partitions = 100

// pack returns the payloads of the events in batches of a size, and their bytes before compression.
func pack(events []record, size, level int) (out [][]byte, before int, _ error) {
	compressor := zstd.New()
	e := batch.NewEncoder(batch.Header{})
	var offsets [partitions]int64
	for some := range slices.Chunk(events, size) {
		// Kafka's client hands out one partition after the other.
		some = slices.SortedStableFunc(slices.Values(some), func(a, b record) int {
			return cmp.Compare(a.partition,
				b.partition)
		})
		for i := range some {
			r := &some[i]
			e.Append(&batch.Record{
				Topic: "clickstream", Partition: r.partition, Offset: offsets[r.partition], Timestamp: r.timestamp, Key: r.key, Value: r.value,
			})
			offsets[r.partition]++
		}
		before += e.Size()
		payload, err := payload(e, compressor, level)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, payload)
		e.Reset(batch.Header{})
	}
	return out, before, nil
}

// payload compresses as the bridge does.
func payload(e *batch.Encoder, c *zstd.Compressor, level int) ([]byte, error) {
	if c == nil { // librdkafka brings no such library along here
		return e.Payload(nil)
	}
	return e.PayloadWith(nil, func(dst, src []byte) ([]byte, error) { return c.Append(dst, src, level) })
}

// decode makes rows of the events and returns their bytes.
func decode(payloads [][]byte) (int, error) {
	c := event.DefaultConfig()
	c.Now = func() time.Time { return day.Add(time.Hour) }
	d, err := event.NewDecoder(contract.FactEvents(), c)
	if err != nil {
		return 0, err
	}
	var dec batch.Decoder
	var wire []byte
	rows := 0
	for _, payload := range payloads {
		b, err := dec.Decode(payload, batch.DefaultLimits)
		if err != nil {
			return 0, err
		}
		wire = wire[:0]
		for i := range b.Records {
			r := &b.Records[i]
			wire, err = d.AppendRow(wire, r.Value, event.Meta{IngestedAt: r.Timestamp * 1000, Topic: r.Topic,
				Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp})
			if err != nil {
				return 0, fmt.Errorf("a generated event is no row: %w", err)
			}
		}
		rows += len(wire)
	}
	return rows, nil
}

// line is the length of a request's log line, with what Cloud Logging adds to each
// entry of Cloud Run (resource, labels, names: about 600 bytes).
func line() float64 {
	var log bytes.Buffer
	ranges := make([]batch.Range, 100)
	for i := range ranges {
		ranges[i] = batch.Range{Topic: "clickstream", Partition: int32(i), First: 123456789, Last: 123457788}
	}
	gate := push.NewGate(telemetry.NewLogger(&log, slog.LevelInfo))
	h := gate.Handler(push.Config{Function: "Ingest", Project: "acme-clickstream"}, func(_ context.Context,
		m *push.Message) error {
		m.NoteRanges(ranges)
		m.Note(slog.Int("records", 1000), slog.Int("landed", 1000), slog.Float64("decode_ms", 1.234),
			slog.Float64("append_ms", 123.456),
			slog.Float64("publish_ms", 0), slog.Float64("age_ms", 456.789))
		return nil
	})
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader([]byte("x")))
	r.Header.Set("x-goog-pubsub-message-id", "12345678901234567")
	r.Header.Set("x-goog-pubsub-subscription-name", "projects/acme-clickstream/subscriptions/clickstream-ingest")
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	h.ServeHTTP(httptest.NewRecorder(), r)
	return float64(log.Len()) + 600
}

// cpu is the CPU time, in seconds, that f takes; the best of three, because the
// machine may be shared.
func cpu(f func() error) (float64, error) {
	best := 0.0
	for i := range 3 {
		before, err := used()
		if err != nil {
			return 0, err
		}
		if err := f(); err != nil {
			return 0, err
		}
		after, err := used()
		if err != nil {
			return 0, err
		}
		if t := after - before; i == 0 || t < best {
			best = t
		}
	}
	return best, nil
}

// used is the CPU time of this process so far.
func used() (float64, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("the CPU time of this process: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// interpolate returns the bytes at a batch size between those measured.
func interpolate(measured map[int]float64, records float64) float64 {
	for i := 1; i < len(sizes); i++ {
		low, high := float64(sizes[i-1]), float64(sizes[i])
		if records <= high {
			share := max(0, (records-low)/(high-low))
			return measured[sizes[i-1]]*(1-share) + measured[sizes[i]]*share
		}
	}
	return measured[sizes[len(sizes)-1]]
}

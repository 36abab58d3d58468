package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/klauspost/compress/zstd"

	"sluice/internal/audit"
	"sluice/internal/batch"
	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/internal/query"
	"sluice/scripts/pipeline"
)

// publish puts payloads on the topic, as a bridge or anybody else does.
func (w *world) publish(payloads ...[]byte) {
	w.t.Helper()
	client, err := pubsub.NewClient(w.t.Context(), local.Project, w.PubSub.ClientOptions()...)
	w.must(err)
	defer client.Close()
	p := client.Publisher(local.Topic)
	p.PublishSettings.ByteThreshold = 1 << 20
	defer p.Stop()
	var results []*pubsub.PublishResult
	for _, payload := range payloads {
		results = append(results, p.Publish(w.t.Context(), &pubsub.Message{Data: payload}))
	}
	for _, r := range results {
		_, err := r.Get(w.t.Context())
		w.must(err)
	}
	w.must(w.PubSub.WaitIdle(w.t.Context()))
}

// Poison in every position of a batch, and batches of nothing but poison: each bad
// event is dead-lettered by itself, every neighbour lands, nothing is delivered twice.
func TestPoisonInEveryPosition(t *testing.T) {
	t.Parallel()
	w := start(t, pipeline.Config{Config: local.Config{Bridges: -1}})
	g := generate.New(generate.Config{Seed: 3})
	faults := generate.Faults()
	const size = 24
	var payloads [][]byte
	var good, bad int64
	var next [4]int64 // offsets, by partition
	pack := func(isBad func(i int) bool) {
		partition := len(payloads) % len(next)
		e := batch.NewEncoder(batch.Header{})
		for i := range size {
			r := batch.Record{Topic: local.Topic, Partition: int32(partition), Offset: next[partition],
				Timestamp: time.Now().UnixMilli()}
			if isBad(i) {
				r.Key, r.Value = g.Spoil(&faults[bad%int64(len(faults))])
				bad++
			} else {
				e := g.Next()
				r.Key, r.Value = e.Key, e.Value
				good++
			}
			e.Append(&r)
			next[partition]++
		}
		payload, err := e.Payload(nil)
		w.must(err)
		payloads = append(payloads, payload)
	}
	for position := range size {
		for range 4 {
			pack(func(i int) bool { return i == position })
		}
		pack(func(i int) bool { return i != position }) // one good event among poison
	}
	for range 20 {
		pack(func(int) bool { return true })
	}
	w.publish(payloads...)
	report, err := audit.Run(t.Context(), query.Database{DB: w.Warehouse.DB()}, nil,
		audit.Config{Dataset: local.Dataset})
	w.must(err)
	if c := report.Totals; c.Landed != good || c.DeadLettered != bad || c.Consumed != good+bad || c.DuplicateRows != 0 {
		t.Errorf("%d good and %d bad records have become %+v", good, bad, c)
	}
	if s := w.PubSub.Stats(local.Ingest); s.Failed != 0 {
		t.Errorf("%d deliveries failed", s.Failed)
	}
	t.Logf("%d batches, %d good events landed, %d bad ones are dead letters, lost 0, duplicate rows 0", len(payloads),
		good, bad)
}

// What is no batch at all must neither stop the flow nor take memory: it is
// dead-lettered once, with its bytes, while good batches land.
func TestGarbageAndBombs(t *testing.T) {
	t.Parallel()
	w := start(t, pipeline.Config{Config: local.Config{Push: local.PushConfig{BackoffScale: 0.005}},
		TuneBridge: smallBatches})
	w.load(77, 1500)
	w.flow(500)

	e := batch.NewEncoder(batch.Header{})
	for i := range 100 {
		e.Append(&batch.Record{Topic: local.Topic, Offset: int64(i), Value: bytes.Repeat([]byte("x"), 100)})
	}
	whole, err := e.Payload(nil)
	w.must(err)
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	w.must(err)
	bomb := z.EncodeAll(make([]byte, 200<<20), []byte(batch.Magic)) // 200 MiB in some kilobytes
	lie := append([]byte(nil), whole...)
	binary.LittleEndian.PutUint32(lie[len(batch.Magic)+5:], 1<<31)
	garbage := [][]byte{
		[]byte(batch.Magic),
		[]byte(batch.Magic[:4]),
		append([]byte(batch.Magic), "no zstd frame"...),
		append([]byte(batch.Magic), z.EncodeAll([]byte("no protobuf \xff\xff\xff"), nil)...),
		bomb, lie,
	}
	for i := len(batch.Magic); i < len(whole); i += 17 {
		garbage = append(garbage, whole[:i]) // cut anywhere
	}
	// Whatever these become, they must become something: a damaged frame whose checksum
	// nobody made may even decode.
	w.publish(garbage...)
	ended := time.Now()
	w.produce(2000)
	w.endLoad()
	figures := w.settle(ended)
	got := w.one("SELECT COUNT(*) FROM events_dlq WHERE error_code = 'undecodable_payload'")
	if got != int64(len(garbage)) {
		t.Errorf("%d of %d payloads are dead letters", got, len(garbage))
	}
	if kept := w.one("SELECT COUNT(*) FROM events_dlq WHERE original_event_bytes = ?", bomb); kept != 1 {
		t.Errorf("the bomb is kept %d times, want once and whole", kept)
	}
	t.Logf("%d payloads that are no batch; %v", len(garbage), figures)
}

// Records that no Pub/Sub message can carry are dead-lettered by the bridge, their
// neighbours land, and the partition moves on.
func TestRecordsTooLarge(t *testing.T) {
	t.Parallel()
	w := start(t, pipeline.Config{TuneBridge: smallBatches})
	w.load(5, 1000)
	w.flow(300)
	const large = 6
	for i := range large {
		value := fmt.Appendf(nil, `{"event_id":"large-%d","event_timestamp":%q,"event_type":"search","user_id":"u","blob":"`, i, time.Now().UTC().Format(time.RFC3339))
		value = append(bytes.Join([][]byte{value, bytes.Repeat([]byte("0123456789abcdef"), 11<<16)}, nil), `"}`...)
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Partition: int32(i % 4)}, Value: value}
		w.must(w.producer.ProduceMessage(t.Context(), m))
		w.produced.Add(1)
		w.mu.Lock()
		w.expected["too_large"]++
		w.mu.Unlock()
		w.produce(200)
	}
	w.endLoad()
	t.Log(w.settle(time.Now()))
	if got := w.one("SELECT COUNT(*) FROM events_dlq WHERE error_code = 'too_large' AND original_event_size > 11000000 AND octet_length(original_event_sha256) = 32 AND original_event LIKE '{\"event_id\":\"large-%'"); got != large {
		t.Errorf("%d of %d large records have their head, size and hash", got, large)
	}
}

package ingest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"sluice/functions/event"
	"sluice/functions/push"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/generate"
)

// BenchmarkHandlerVsZstd measures all the work that Ingest does for a push, from the
// raw body to the bytes of the request to BigQuery, against nothing but decompressing
// the same bodies: 20,000 distinct events of mixed shapes in batches of 500, on one
// CPU, body by body in turns. It reports the median ratio as handler_vs_zstd.
func BenchmarkHandlerVsZstd(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const events, perBatch, rounds = 20_000, 500, 30
	bodies := pushes(b, events, perBatch)

	w := new(worker)
	f := &Function{streams: make([]stream, 1)}
	builtIn, err := contract.Preset("clickstream")
	if err != nil {
		b.Fatal(err)
	}
	f.streams[0].Contract = builtIn
	decoder, err := event.NewDecoder(contract.FactEvents(), event.Config{})
	if err != nil {
		b.Fatal(err)
	}
	var wire []byte
	handler := push.NewGate(slog.New(slog.DiscardHandler)).Handler(push.Config{}, func(_ context.Context,
		m *push.Message) error {
		records, err := w.batches.Decode(m.Data, batch.DefaultLimits)
		if err != nil {
			return err
		}
		w.reset()
		if err := f.decode(b.Context(), w, decoder, records, &f.streams[0], time.Now()); err != nil {
			return err
		}
		request := &storagepb.AppendRowsRequest{
			WriteStream: "projects/p/datasets/d/tables/t/streams/_default",
			Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: &storagepb.AppendRowsRequest_ProtoData{
				Rows: &storagepb.ProtoRows{SerializedRows: w.rows},
			}},
		}
		wire, err = proto.MarshalOptions{}.MarshalAppend(wire[:0], request)
		return err
	})
	request := httptest.NewRequest(http.MethodPost, "/", nil)
	request.Header.Set("X-Goog-Pubsub-Message-Id", "1")
	full := func(body []byte) {
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		recorder := httptest.NewRecorder()
		if handler.ServeHTTP(recorder, request); recorder.Code != http.StatusNoContent {
			b.Fatalf("answered %d", recorder.Code)
		}
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	defer z.Close()
	var plain []byte
	decompress := func(body []byte) {
		if plain, err = z.DecodeAll(body[len(batch.Magic):], plain[:0]); err != nil {
			b.Fatal(err)
		}
	}
	var ratios []float64
	for b.Loop() {
		ratios = ratios[:0]
		for round := range rounds + 1 {
			for _, body := range bodies { // body by body, so that a busy machine slows both
				var all, floor time.Duration
				timeFull := func() { start := time.Now(); full(body); all = time.Since(start) }
				timeFloor := func() { start := time.Now(); decompress(body); floor = time.Since(start) }
				if round%2 == 0 { // each finds the body in the cache as often
					timeFull()
					timeFloor()
				} else {
					timeFloor()
					timeFull()
				}
				if round > 0 { // the first warms up
					ratios = append(ratios, float64(all)/float64(floor))
				}
			}
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "handler_vs_zstd")
}

// pushes are bodies of batches of generated events.
func pushes(b *testing.B, events, perBatch int) [][]byte {
	b.Helper()
	g := generate.New(generate.Config{Seed: 1})
	e := batch.NewEncoder(batch.Header{})
	var bodies [][]byte
	for i := range events {
		event := g.Next()
		e.Append(&batch.Record{Topic: "clickstream", Offset: int64(i), Timestamp: time.Now().UnixMilli(),
			Key: event.Key, Value: event.Value})
		if e.Len() == perBatch {
			body, err := e.Payload(nil)
			if err != nil {
				b.Fatal(err)
			}
			bodies = append(bodies, body)
			e.Reset(batch.Header{})
		}
	}
	return bodies
}

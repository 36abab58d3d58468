// Package hostile has what whoever may publish to the topics could send on purpose go through both functions: payloads
// whose parts contradict each other, repeat, or are far too large, built part by part, since mutating compressed bytes
// reaches none of them.
package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/googleapis/gax-go/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"sluice/functions/deadletter"
	"sluice/functions/ingest"
	"sluice/functions/push"
	"sluice/functions/warehouse"
	"sluice/internal/batch"
	"sluice/internal/batch/batchpb"
	"sluice/internal/contract"
)

// bigQuery takes every row at once.
type bigQuery struct{}

func (bigQuery) AppendRows(ctx context.Context, _ ...gax.CallOption) (storagepb.BigQueryWrite_AppendRowsClient, error) {
	return &stream{ctx: ctx, answers: make(chan *storagepb.AppendRowsResponse, 1000)}, nil
}

type stream struct {
	grpc.ClientStream
	ctx     context.Context
	answers chan *storagepb.AppendRowsResponse
}

func (s *stream) Send(*storagepb.AppendRowsRequest) error {
	s.answers <- &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}}
	return nil
}

func (s *stream) Recv() (*storagepb.AppendRowsResponse, error) {
	select {
	case a := <-s.answers:
		return a, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

func (s *stream) CloseSend() error { return nil }

// topic collects dead letters.
type topic struct{ payloads [][]byte }

func (t *topic) Publish(_ context.Context, payload []byte) func(context.Context) error {
	t.payloads = append(t.payloads, bytes.Clone(payload))
	return func(context.Context) error { return nil }
}

// functions are both functions.
type functions struct {
	ingest, letters http.Handler
	topic           topic
}

// handlerTimeout is the functions' own limit here; production's is 50 s.
const handlerTimeout = 10 * time.Second

func newFunctions(tb testing.TB) *functions {
	log := slog.New(slog.DiscardHandler)
	builtIn, err := contract.Preset("clickstream")
	if err != nil {
		tb.Fatal(err)
	}
	appender := func(t *contract.Table) *warehouse.Appender {
		a := warehouse.NewAppender(bigQuery{}, t, warehouse.AppenderConfig{Table: "projects/p/datasets/d/tables/" +
			t.Name}, log)
		tb.Cleanup(func() { a.Close(context.Background()) })
		return a
	}
	f := new(functions)
	in, err := ingest.New(ingest.Config{Streams: []ingest.Stream{{Contract: builtIn, Table: appender(builtIn.Table)}},
		Consumer: "test"}, &f.topic)
	if err != nil {
		tb.Fatal(err)
	}
	dead, err := deadletter.New(deadletter.Config{Table: contract.EventsDLQ(),
		Contracts: []*contract.Contract{builtIn}},
		appender(contract.EventsDLQ()))
	if err != nil {
		tb.Fatal(err)
	}
	gate := push.NewGate(log)
	c := push.Config{Project: "p", Timeout: handlerTimeout, Budget: push.NewBudget(192 << 20)}
	c.Function = "Ingest"
	f.ingest = gate.Handler(c, in.Handle)
	c.Function = "DeadLetter"
	f.letters = gate.Handler(c, dead.Handle)
	return f
}

// deliveries is after how many a message must be settled, BigQuery taking all.
const deliveries = 3

// settle delivers a payload as Pub/Sub does, and then what it becomes: each message must be acknowledged, and neither
// memory nor time be out of proportion to what it declares.
func (f *functions) settle(t *testing.T, h http.Handler, payload []byte, attributes map[string]string) {
	t.Helper()
	for try := 1; ; try++ {
		request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(payload))
		request.Header.Set("X-Goog-Pubsub-Message-Id", "1")
		for name, value := range attributes {
			request.Header.Set(name, value)
		}
		f.topic.payloads = nil
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, request)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if used, reserved := after.TotalAlloc-before.TotalAlloc, reserves(payload); used > perReserved*reserved {
			t.Fatalf("%d bytes take %d KiB, more than %d times the %d KiB that they reserve", len(payload), used>>10,
				perReserved, reserved>>10)
		}
		if took > handlerTimeout+time.Second {
			t.Fatalf("%d bytes took %v", len(payload), took)
		}
		if recorder.Code == http.StatusNoContent {
			break
		}
		if try == deliveries {
			t.Fatalf("not settled after %d deliveries: %d %s", try, recorder.Code, recorder.Body)
		}
	}
	if h == f.letters {
		return
	}
	for _, letter := range f.topic.payloads {
		f.settle(t, f.letters, letter, nil)
	}
}

// perReserved is how much a request may allocate for each byte that it reserves: what it holds grows by doubling, and
// is garbage before the request ends.
const perReserved = 8

// reserves is what a request with the payload reserves of an instance's memory, bytes: see Handle of both functions,
// and 2 MiB for the request itself and what the process does beside it.
func reserves(payload []byte) uint64 {
	n := 2<<20 + len(payload) + 3*batch.DeclaredSize(payload, batch.DefaultLimits)
	d := batch.Decoder{Before: func(records, headers int) error {
		n += records*batch.RecordOverhead + headers*batch.HeaderOverhead
		return nil
	}}
	_, _ = d.Decode(payload, batch.DefaultLimits)
	return uint64(n)
}

var encoder = func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return e
}()

// source gives values out of the fuzzer's bytes; when they end, zeros.
type source struct{ b []byte }

func (s *source) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

// number is one of the sizes at which something changes, or a small one.
func (s *source) number() uint64 {
	edges := []uint64{0, 1, 2, 127, 128, 1 << 10, 10_000, 20_000, 64 << 10, 100_000, 1 << 20, 1<<31 - 1, 1 << 31,
		1<<32 - 1, 1 << 63, 1<<64 - 1}
	if v := s.byte(); v < 128 {
		return uint64(v)
	} else {
		return edges[int(v)%len(edges)]
	}
}

// many is how often something is repeated: mostly seldom.
func (s *source) many() int { return int(min(s.number(), 100_000)) }

func (s *source) text() string {
	unit := string(s.take(int(s.byte() % 16)))
	if unit == "" {
		return ""
	}
	return strings.Repeat(unit, min(1+s.many(), (2<<20)/len(unit)))
}

func (s *source) take(n int) []byte {
	n = min(n, len(s.b))
	v := s.b[:n]
	s.b = s.b[n:]
	return v
}

func (s *source) numbers() []uint32 {
	n := s.many()
	out := make([]uint32, 0, min(n, 1000))
	a, b := uint32(s.number()), uint32(s.number())
	for i := range n {
		if i%2 == 0 {
			out = append(out, a)
		} else {
			out = append(out, b)
		}
	}
	return out
}

// payload builds a message of version 2 part by part.
func payload(b []byte) []byte {
	s := &source{b}
	m := &batchpb.Batch{}
	records := 1 + s.many()
	consistent := s.byte()%4 != 0 // else every column has a length of its own
	if consistent {
		value := s.text()
		if s.byte()%2 == 0 {
			value = `{"event_id":"a","event_timestamp":"2026-11-28T00:00:00Z","event_type":"page_view","user_id":"u","x":` + value + `}`
		}
		records = min(records, 1+(8<<20)/(len(value)+16))
		m.Sources = []*batchpb.Source{{Topic: s.text(), Partition: int32(s.number())}}
		if s.byte()%2 == 0 {
			m.Sources[0].Topic, m.Sources[0].Partition, m.Sources[0].Offset = "clickstream", 1, proto.Int64(int64(s.number()))
		}
		m.Runs = []uint32{0, uint32(records)}
		headers := 0
		if s.byte()%3 == 0 {
			headers = min(s.many(), 200_000/records)
		}
		name := s.text()
		name = name[:min(len(name), (4<<20)/(records*max(headers, 1)))]
		for range records {
			m.Offsets = append(m.Offsets, 0)
			m.Timestamps = append(m.Timestamps, int64(s.number()))
			m.Keys = append(m.Keys, 0)
			m.Values = append(m.Values, uint32(len(value)+1))
			if headers > 0 {
				m.Headers = append(m.Headers, uint32(headers))
				for range headers {
					m.HeaderKeys, m.HeaderValues = append(m.HeaderKeys, uint32(len(name))), append(m.HeaderValues, 0)
				}
			}
		}
		m.ValueData = bytes.Repeat([]byte(value), records)
		m.HeaderData = bytes.Repeat([]byte(name), records*headers)
	} else {
		for range min(s.many(), 1000) {
			m.Sources = append(m.Sources, &batchpb.Source{Topic: s.text()[:0], Partition: int32(s.number()),
				Offset: proto.Int64(int64(s.number()))})
		}
		m.Runs, m.Keys, m.Values, m.Headers, m.HeaderKeys, m.HeaderValues = s.numbers(), s.numbers(), s.numbers(),
			s.numbers(), s.numbers(), s.numbers()
		for _, v := range s.numbers() {
			m.Offsets = append(m.Offsets, int64(v))
			m.Timestamps = append(m.Timestamps, -int64(v))
		}
		m.KeyData, m.ValueData, m.HeaderData = []byte(s.text()), []byte(s.text()), []byte(s.text())
	}
	if s.byte()%2 == 0 {
		m.Traceparent, m.ReplayId = s.text(), s.text()
	}
	if s.byte()%2 == 0 { // it says that it is of dead letters
		m.Origin = &batchpb.Origin{Consumer: s.text(), FailedAt: int64(s.number()), MessageId: s.text(),
			PublishTime:     int64(s.number()),
			DeliveryAttempt: int32(s.number()), Contract: s.text(), Table: s.text()}
		why := &batchpb.Rejection{Code: s.text(), Field: s.text(), Message: s.text(), Size: int64(s.number()),
			Sha256: []byte(s.text()),
			Left:   int32(s.number()), Subject: s.text(), Version: int32(s.number())}
		room := (4 << 20) / (1 + proto.Size(why))
		for range min(len(m.Values), room) {
			m.Rejections = append(m.Rejections, why)
		}
	}
	wire, err := proto.Marshal(m)
	if err != nil { // text that is not UTF-8: as bytes it can be sent all the same
		m.Traceparent, m.ReplayId, m.Origin, m.Rejections = "", "", nil, nil
		for _, from := range m.Sources {
			from.Topic = strings.ToValidUTF8(from.Topic, "?")
		}
		wire, _ = proto.Marshal(m)
		wire = protowire.AppendBytes(protowire.AppendTag(wire, 3, protowire.BytesType), s.take(50))
	}
	if s.byte()%8 == 0 { // fields that nobody knows, many of them
		extra := protowire.AppendVarint(protowire.AppendTag(nil, protowire.Number(100+s.byte()), protowire.VarintType),
			s.number())
		wire = append(wire, bytes.Repeat(extra, s.many())...)
	}
	return encoder.EncodeAll(wire, []byte(batch.Magic))
}

// FuzzBoth protects both functions from whoever may publish: see settle for what must hold.
func FuzzBoth(f *testing.F) {
	r := uint64(1)
	for range 60 {
		seed := make([]byte, 0, 96)
		for range 12 {
			r = r*6364136223846793005 + 1442695040888963407
			seed = binary.LittleEndian.AppendUint64(seed, r)
		}
		f.Add(seed, byte(r>>40))
	}
	both := newFunctions(f)
	f.Fuzz(func(t *testing.T, b []byte, way byte) {
		p := payload(b)
		if len(p) > 10_000_000 {
			return // more than Pub/Sub takes
		}
		switch way % 3 {
		case 0:
			both.settle(t, both.ingest, p, nil)
		case 1: // somebody has published it to the dead-letter topic
			both.settle(t, both.letters, p, nil)
		case 2: // Pub/Sub has given it up
			both.settle(t, both.letters, p, map[string]string{"CloudPubSubDeadLetterSourceSubscription": "ingest",
				"CloudPubSubDeadLetterSourceDeliveryCount": "100"})
		}
	})
}

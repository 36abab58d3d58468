package bridge

import (
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"sluice/internal/batch"
)

// Without a tracer a record costs no allocation on account of traces, and a batch
// none either unless a record brings a trace along.
func TestTracesCostNothingWhenNobodyWantsThem(t *testing.T) {
	b, p := &Bridge{}, &packer{}
	now := time.Now()
	for name, r := range map[string]*batch.Record{
		"without headers":    {},
		"with other headers": {Headers: []batch.RecordHeader{{Key: []byte("content-type"), Value: []byte("application/json")}}},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if b.beginTrace(p, r, now) != "" {
				t.Fatal("a trace out of nothing")
			}
			endTrace(p.takeTrace(), 1, 1, true)
		}); n > 0 {
			t.Errorf("a record %s costs %g allocations", name, n)
		}
	}
}

// What a batch costs on account of traces: off, passed on, and told. Its floor is off,
// of which there is one per record as well: a comparison with nil.
func BenchmarkTracePerBatch(b *testing.B) {
	traced := &batch.Record{Headers: []batch.RecordHeader{{Key: []byte("traceparent"),
		Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}}}
	now := time.Now()
	run := func(b *testing.B, bridge *Bridge, r *batch.Record) {
		p := &packer{}
		b.ReportAllocs()
		for b.Loop() {
			bridge.beginTrace(p, r, now)
			endTrace(p.takeTrace(), 500, 200_000, true)
		}
	}
	b.Run("off", func(b *testing.B) { run(b, &Bridge{}, &batch.Record{}) })
	b.Run("passed on", func(b *testing.B) { run(b, &Bridge{}, traced) })
	b.Run("told", func(b *testing.B) {
		told := &Bridge{}
		told.Trace(sdktrace.NewTracerProvider().Tracer("benchmark"))
		run(b, told, traced)
	})
}

package ingest

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/functions/event"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/schema"
)

// faulty are schemas of which one makes every decoder panic.
type faulty struct{ good *event.Program }

func (f faulty) Program(id schema.ID) (*event.Program, error) {
	if id.String() == "2" {
		panic("secret")
	}
	return f.good, nil
}

// Protects the neighbours of an event over which the decoder panics, and that such panics are told of once a minute, with
// the contract and how many there were, and without what was read.
func TestPanicsOfTheDecoder(t *testing.T) {
	c, err := contract.Read("orders.yaml", []byte("contract: 1\nname: orders\ntopics: orders\nrest: drop\nformat: avro\n"+
		"registry: {url: http://127.0.0.1:1, subject: orders-value, version: 1}\ntable: {name: orders}\n"+
		"columns: [{name: id, type: STRING}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := schema.Avro(`{"type":"record","name":"order","fields":[{"name":"id","type":"string"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	program, err := event.Compile(c, written, "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	f, err := New(Config{Streams: []Stream{{Contract: c}}, Log: slog.New(slog.NewTextHandler(&out, nil))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	to := &f.streams[0]
	d := to.decoders.Get().(*event.Decoder)
	d.Use(faulty{program})
	b := new(batch.Batch)
	for i, id := range []byte{1, 2, 1, 2, 2, 1} {
		b.Records = append(b.Records, batch.Record{Topic: "orders", Offset: int64(i), Value: []byte{0, 0, 0, 0, id, 2, 'x'}})
	}
	decode := func() {
		w := new(worker)
		if err := f.decode(t.Context(), w, d, b, to, time.Now()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.records, []int{0, 2, 5}) || len(w.rows) != 3 || len(w.rejects) != 3 {
			t.Errorf("rows of %v, %d rejects", w.records, len(w.rejects))
		}
		for i, r := range w.rejects {
			if r.why.Code != string(contract.CodeDecoderFailed) || r.record != []int{1, 3, 4}[i] {
				t.Errorf("reject %d: record %d, %s", i, r.record, r.why.Code)
			}
		}
	}
	decode()
	if n := strings.Count(out.String(), "msg=panic"); n != 1 {
		t.Errorf("%d lines, want one", n)
	}
	f.panics.quiet = time.Time{}
	decode()
	lines := out.String()
	for _, want := range []string{"contract=orders panics=1 ", "contract=orders panics=3 ", "function=Ingest",
		"stack_trace=", "panic with a string"} {
		if !strings.Contains(lines, want) {
			t.Errorf("the lines lack %q", want)
		}
	}
	if strings.Contains(lines, "secret") {
		t.Error("the value of a panic is in the log")
	}
}

package ingest

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sluice/functions/event"
	"sluice/internal/contract"
	"sluice/internal/schema"
)

type broken struct{}

func (broken) Program(schema.ID) (*event.Program, error) { panic("secret") }

// Protects that a decoder which panics is told of once a minute, with the contract and how often, and without what it
// read.
func TestPanicsAreTold(t *testing.T) {
	c, err := contract.Read("orders.yaml", []byte("contract: 1\nname: orders\ntopics: orders\nrest: drop\nformat: avro\n"+
		"registry: {url: http://127.0.0.1:1, subject: orders-value, version: 1}\ntable: {name: orders}\ncolumns: [{name: id, type: STRING}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	f, err := New(Config{Streams: []Stream{{Contract: c}}, Log: slog.New(slog.NewTextHandler(&out, nil))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := f.streams[0].decoders.Get().(*event.Decoder)
	d.Use(broken{})
	fail := func() {
		_, err := d.AppendRow(nil, []byte{0, 0, 0, 0, 1, 2, 'x'}, event.Meta{})
		if r, ok := err.(*event.Rejection); !ok || r.Code != contract.CodeDecoderFailed {
			t.Fatal(err)
		}
	}
	fail()
	fail()
	if n := strings.Count(out.String(), "msg=panic"); n != 1 {
		t.Errorf("%d lines", n)
	}
	f.panics.quiet = time.Time{}
	fail()
	lines := out.String()
	for _, want := range []string{"contract=orders panics=1 ", "contract=orders panics=4 ", "function=Ingest",
		"stack_trace=", "panic with a string"} {
		if !strings.Contains(lines, want) {
			t.Errorf("the lines lack %q", want)
		}
	}
	if strings.Contains(lines, "secret") {
		t.Error("the value of a panic is in the log")
	}
}

package ingest

import (
	"context"
	"errors"
	"testing"

	"sluice/internal/batch"
	"sluice/internal/contract"

	"sluice/functions/event"
	"sluice/functions/push"
)

// Protects a processor from working on for a request that nobody waits for any more: with thousands of records
// neither reading them nor dead-lettering them goes on behind the handler's timeout.
func TestNothingGoesOnBehindTheDeadline(t *testing.T) {
	c, err := contract.Preset("clickstream")
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Streams: []Stream{{Contract: c}}, Decoder: event.Fast}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &batch.Batch{Records: make([]batch.Record, 10_000)}
	var rejects []reject
	for i := range b.Records {
		b.Records[i] = batch.Record{Topic: "clickstream", Value: []byte("no event")}
		rejects = append(rejects, reject{record: i, why: batch.Rejection{Code: "invalid_json"}})
	}
	gone := errors.New("the handler's timeout")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	// Without a table and a publisher, whatever would be written or published ends the test.
	w := new(worker)
	if err := f.process(ctx, &push.Message{}, w, b, &part{to: f.stream("clickstream")}); !errors.Is(err, gone) {
		t.Errorf("reading: %v", err)
	}
	if len(w.rejects) > 256 {
		t.Errorf("%d records were read", len(w.rejects))
	}
	if err := f.publish(ctx, &push.Message{}, b, &part{}, rejects); !errors.Is(err, gone) {
		t.Errorf("dead-lettering: %v", err)
	}
}

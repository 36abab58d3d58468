package local_test

import (
	"testing"

	"sluice/internal/local"
	"sluice/internal/local/kafka"
)

// Protects ./scripts/run --once from calling a run a success in which Kafka refused an
// event: when Flush returns, the report of every record has been read, whatever it says.
func TestFlushKnowsEveryReport(t *testing.T) {
	k, err := kafka.Start(kafka.Config{Topics: map[string]int32{"clicks": 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	for range 20 { // it was a race, lost about every other time
		p, err := local.NewProducer(k.Brokers(), "clicks")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Produce(t.Context(), nil, []byte("one"), nil); err != nil {
			t.Fatal(err)
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := p.Delivered(); n != 1 {
			t.Errorf("%d records delivered, want 1", n)
		}
		p.Close()
	}
}

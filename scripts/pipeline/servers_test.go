package attach_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/internal/local/kafka"
	"sluice/internal/local/pubsub"
	"sluice/test/attach"
)

// Protects ./scripts/run --kafka --pubsub: what is missing is created, every
// record is accounted for, and a second run on the same servers works, too.
func TestServersByAddress(t *testing.T) {
	k, err := kafka.Start(kafka.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	p, err := pubsub.Start(pubsub.Config{Project: local.Project})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, wrapped := range []bool{true, false} {
		a, err := attach.Start(t.Context(), attach.Config{
			Kafka: k.Brokers(), PubSub: p.Addr(), Partitions: 2, Bridges: 2, Wrapped: wrapped,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		from, err := a.Ends()
		if err != nil {
			t.Fatal(err)
		}
		producer, err := local.NewProducer(a.Brokers(), a.Topic())
		if err != nil {
			t.Fatal(err)
		}
		const events = 2000
		generated := generate.New(generate.Config{Seed: 1, Bad: 5})
		for range events {
			e := generated.Next()
			if err := producer.Produce(t.Context(), e.Key, e.Value, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := producer.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		producer.Close()
		to, err := a.Ends()
		if err != nil {
			t.Fatal(err)
		}
		account, err := a.Await(t.Context(), from, to, 2*time.Minute)
		if err != nil || account.Missing != 0 || account.Landed+account.DeadLettered != events ||
			account.DeadLettered == 0 {
			t.Errorf("wrapped %v: %+v, %v", wrapped, account, err)
		}
		latency, err := a.Latency(t.Context(), from, to)
		if err != nil || latency.Max < latency.P50 || latency.Max == 0 {
			t.Errorf("latency %+v, %v", latency, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		if err := a.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// Protects who mistypes an address from waiting: every server is named that does not answer.
func TestServersThatDoNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	for what, c := range map[string]attach.Config{
		"Kafka":                     {Kafka: gone + "," + gone},
		"Pub/Sub":                   {PubSub: gone},
		"BigQuery's REST interface": {BigQueryREST: gone, BigQueryGRPC: gone},
	} {
		c.Log = slog.New(slog.DiscardHandler)
		if _, err := attach.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(),
			what+" does not answer") || !strings.Contains(err.Error(), gone) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

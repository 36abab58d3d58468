package pipeline_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/internal/contract"
	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/internal/local/kafka"
	"sluice/internal/local/pubsub"
	"sluice/scripts/pipeline"
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
		a, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{
			Servers: local.Servers{Kafka: k.Brokers(), PubSub: p.Addr()}, Partitions: 2, Bridges: 2, Wrapped: wrapped,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}})
		if err != nil {
			t.Fatal(err)
		}
		from, err := a.Ends(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		producer, err := a.NewProducer()
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
		to, err := a.Ends(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		account, err := a.AwaitAll(t.Context(), from, to, 2*time.Minute)
		if err != nil || account.Missing != 0 || account.Landed+account.DeadLettered != events ||
			account.DeadLettered == 0 {
			t.Errorf("wrapped %v: %+v, %v", wrapped, account, err)
		}
		latency, err := a.Took(t.Context(), from, to)
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

// Protects a contract of one's own on a Kafka of one's own: its topics are created, and its events land in its table.
func TestOwnContractOnServersByAddress(t *testing.T) {
	k, err := kafka.Start(kafka.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	c, err := contract.Read("shop.yaml", []byte(`contract: 1
name: shop
rest: drop
topics: [orders, refunds]
columns:
- {name: id, type: INT64, mode: REQUIRED}
- {name: city, type: STRING, from: address.city}
`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{Contracts: []*contract.Contract{c},
		Servers: local.Servers{Kafka: k.Brokers()}, Log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for _, topic := range []string{"orders", "refunds"} {
		p, err := local.NewProducer(s.Brokers(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Produce(t.Context(), nil, []byte(`{"id":1,"address":{"city":"Bern"}}`), nil),
			p.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
	to, err := s.Ends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if account, err := s.AwaitAll(t.Context(), nil, to, time.Minute); err != nil || account.Landed != 1 {
		t.Errorf("%+v, %v", account, err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var n int
		if err := s.Warehouse.DB().QueryRow("SELECT COUNT(*) FROM shop WHERE city = 'Bern'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d rows, want one of each topic", n)
		}
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
	for what, c := range map[string]local.Servers{
		"Kafka":                     {Kafka: gone + "," + gone},
		"Pub/Sub":                   {PubSub: gone},
		"BigQuery's REST interface": {BigQueryREST: gone, BigQueryGRPC: gone},
	} {
		config := pipeline.Config{Config: local.Config{Servers: c, Log: slog.New(slog.DiscardHandler)}}
		if _, err := pipeline.Start(t.Context(), config); err == nil || !strings.Contains(err.Error(),
			what+" does not answer") || !strings.Contains(err.Error(), gone) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

package conformance_test

import (
	"context"
	"testing"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/contract"
	"sluice/internal/local/kafka"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
	"sluice/test/conformance"
)

// Protects the embedded servers' claim to behave as the real ones: the suite that
// runs on third-party servers passes on them, with both kinds of push.
func TestEmbeddedServers(t *testing.T) {
	for name, wrapped := range map[string]bool{"unwrapped": false, "wrapped": true} {
		t.Run(name, func(t *testing.T) {
			k, err := kafka.Start(kafka.Config{Brokers: 3})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { k.Close() })
			p, err := pubsub.Start(pubsub.Config{Project: "conformance"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			w, err := warehouse.Start(warehouse.Config{Project: "conformance",
				Tables: []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { w.Close() })
			conformance.Run(t, conformance.Servers{
				Brokers: k.Brokers(), Client: &client.ConfigMap{"bootstrap.servers": k.Brokers(), "enable.metrics.push": false},
				PubSub: p.Addr(), PubSubOptions: p.ClientOptions(), Wrapped: wrapped,
				BigQuery: w.Addr(), Project: "conformance", Engine: query.Database{DB: w.DB()},
				RestartBroker: func(context.Context) error {
					if err := k.Down(); err != nil {
						return err
					}
					return k.Up()
				},
				Failover: func(_ context.Context, topic string) (func(context.Context) error, error) {
					return func(context.Context) error { return nil }, k.MoveLeaders(topic)
				},
				Compact: k.Cluster().Compact,
			})
		})
	}
}

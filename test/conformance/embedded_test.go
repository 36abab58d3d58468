package conformance_test

import (
	"context"
	"testing"

	"sluice/internal/local"
	"sluice/internal/local/kafka"
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
			conformance.Run(t, conformance.Servers{
				By: local.Servers{Kafka: k.Brokers()}, Wrapped: wrapped,
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

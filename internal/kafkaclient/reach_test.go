package kafkaclient_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/kafkaclient"
)

// Protects operators from half a minute of silence and then "timed out": what stands against a
// connection is said, and soon.
func TestReachSaysWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct {
		name, brokers, want string
		more                kafka.ConfigMap
	}{
		{"refused", closed, "Connection refused", nil},
		{"no such name", "no-such-host.invalid:9092", "resolve", nil},
		{"no TLS there", silent.Addr().String(), "", kafka.ConfigMap{"security.protocol": "SSL", "socket.connection.setup.timeout.ms": 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := kafka.ConfigMap{"bootstrap.servers": c.brokers, "group.id": "g", "enable.metrics.push": false,
				"log_level": 0}
			for name, value := range c.more {
				p[name] = value
			}
			consumer, err := kafka.NewConsumer(&p)
			if err != nil {
				t.Fatal(err)
			}
			defer consumer.Close()
			delete(p, "group.id")
			producer, err := kafka.NewProducer(&p)
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			for client, reach := range map[string]func(context.Context) error{
				"consumer": func(ctx context.Context) error { return kafkaclient.Reach(ctx, consumer) },
				"producer": func(ctx context.Context) error { return kafkaclient.ReachProducer(ctx, producer) },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				err := reach(ctx)
				if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "can be reached") ||
					!strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v", client, err)
				}
				cancel()
			}
		})
	}
}

package bridge

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/internal/kafkaclient"
)

// librdkafka asks for a token, gets what the source answers, and asks again after
// a failure; the loop goes on meanwhile.
func TestTokensReachLibrdkafka(t *testing.T) {
	b := unconnected(t, func(c *Config) { c.OAuth = "google" })
	asked := make(chan struct{}, 1)
	b.tokens = func(context.Context) (kafka.OAuthBearerToken, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return kafkaclient.GoogleToken("access", time.Now().Add(2*time.Second), "bridge@p.iam.gserviceaccount.com", time.Now())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	// The second question comes before the first token expires, which librdkafka
	// must have taken to know.
	for range 2 {
		select {
		case <-asked:
		case <-time.After(time.Minute):
			t.Fatal("no token was asked for")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// unconnected is a bridge whose servers do not exist.
func unconnected(t *testing.T, change func(*Config)) *Bridge {
	t.Helper()
	conn, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := pubsub.NewClient(t.Context(), "p", option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c := DefaultConfig()
	c.Brokers, c.Project = "127.0.0.1:1", "p"
	change(&c)
	b, err := New(c, client, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.publishCtx = t.Context()
	return b
}

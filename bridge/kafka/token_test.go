package kafka

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
	"sluice/internal/kafkaclient"
)

// librdkafka asks for a token, gets what the source answers, and asks again after
// a failure; the loop goes on meanwhile.
func TestTokensReachLibrdkafka(t *testing.T) {
	config := bridge.DefaultConfig()
	config.Brokers, config.Project, config.OAuth = "127.0.0.1:1", "p", "google"
	c := New(config, slog.New(slog.DiscardHandler))
	asked := make(chan struct{}, 1)
	c.tokens = func(context.Context) (kafka.OAuthBearerToken, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return kafkaclient.GoogleToken("access", time.Now().Add(2*time.Second), "bridge@p.iam.gserviceaccount.com",
			time.Now())
	}
	if err := c.Join(deaf{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, left := c.Leave()
		<-left
	}()
	// The second question comes before the first token expires, which librdkafka
	// must have taken to know.
	for end, questions := time.Now().Add(time.Minute), 0; questions < 2; {
		if time.Now().After(end) {
			t.Fatalf("%d tokens were asked for", questions)
		}
		if err := c.Poll(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-asked:
			questions++
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// deaf is a Member that hears nothing.
type deaf struct{ bridge.Member }

func (deaf) Troubled(string, error)           {}
func (deaf) Standing(bool, []bridge.Standing) {}

package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Times of Reach.
const (
	reachPatience = 3 * time.Second  // for another broker, once there is a reason
	reachTimeout  = 30 * time.Second // without any
)

// client is a consumer or a producer.
type client interface {
	GetMetadata(topic *string, allTopics bool, timeoutMs int) (*kafka.Metadata, error)
}

// Reach waits until Kafka has answered a consumer once, and otherwise says why it does not:
// librdkafka's requests know only that they have timed out, and tell what stood against them in events.
func Reach(ctx context.Context, c *kafka.Consumer) error {
	return reach(ctx, c, func() kafka.Event { return c.Poll(10) })
}

// ReachProducer is Reach of a producer. It takes events of the producer's channel.
func ReachProducer(ctx context.Context, p *kafka.Producer) error {
	return reach(ctx, p, func() kafka.Event {
		select {
		case e := <-p.Events():
			return e
		case <-time.After(10 * time.Millisecond):
			return nil
		}
	})
}

func reach(ctx context.Context, c client, event func() kafka.Event) error {
	var reason error
	begin := time.Now()
	for {
		_, err := c.GetMetadata(nil, false, 500)
		if err == nil {
			return nil
		}
		for e := event(); e != nil; e = event() {
			// That all brokers are down says less than why one is.
			if failure, ok := e.(kafka.Error); ok && (reason == nil || failure.Code() != kafka.ErrAllBrokersDown) {
				reason = failure
			}
		}
		waited := time.Since(begin)
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), reason)
		case reason != nil && waited > reachPatience:
			return fmt.Errorf("no broker of Kafka can be reached: %w", reason)
		case waited > reachTimeout:
			return fmt.Errorf("no broker of Kafka has answered in %v, without a reason: do its addresses and "+
				"security.protocol fit? %w", reachTimeout, err)
		}
	}
}

package bridge

import (
	"context"
	"time"
)

// Publisher gives payloads to whoever keeps them until they are rows; package bridge/pubsub has Pub/Sub's. Many
// goroutines use it at a time.
type Publisher interface {
	// Publish tries until the payload is kept, and is false if ctx ended first. reusable says that nobody uses the
	// payload's memory any more.
	Publish(ctx context.Context, to Destination, payload []byte) (taken, reusable bool)
	// Objects reports whether large payloads go where their size is not billed.
	Objects() bool
	// Observe has every request told: its topic, the time it took, and the name of its error, empty if there was none.
	// It must come before the first one.
	Observe(func(topic string, took time.Duration, failure string))
	Stats() PublishStats
}

// Destination is where a payload goes.
type Destination int

// The destinations.
const (
	ToFunctions   Destination = iota // a batch of records
	ToDeadLetters                    // a record that no message can carry
)

// PublishStats is what a Publisher has done.
type PublishStats struct {
	Acknowledged int64 // publish requests that Pub/Sub has acknowledged
	Retries      int64 // publish requests that failed and were tried again
	References   int64 // batches that were written to the bucket and referred to
	StoreErrors  int64 // batches that could not be, and went as messages
	Failing      bool  // at least one batch is refused and tried again
}

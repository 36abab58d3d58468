// Package pubsub gives a bridge's batches to Pub/Sub: all that the bridge knows of it is here.
//
//	p := pubsub.New(config, client, bucket, log)    // client is a Pub/Sub client, bucket nil or for large payloads
//	b, err := bridge.New(config, consumer, p, log)
//
// A batch is one message, or, if it is large and there is a bucket, an object of the bucket and a message that refers
// to it.
package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2"
	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/bridge"
	"sluice/internal/reference"
)

// Publisher is a bridge.Publisher. It publishes one message a request, and tries again until Pub/Sub has
// taken it.
//
// It calls the generated client of pubsub.Client and not pubsub.Publisher, whose
// bundles let one bad message fail its neighbours, whose requests cannot be
// cancelled, whose Stop waits for as long as a request may take, and whose retries
// nobody can count. Flow control is the byte budget of the bridge and the number of
// requests at a time.
type Publisher struct {
	client             *vkit.TopicAdminClient
	topics             map[bridge.Destination]string // projects/P/topics/T
	objects            objects
	timeout            time.Duration
	retryMin, retryMax time.Duration
	options            []gax.CallOption
	slots              chan struct{} // one for each request at a time
	log                *slog.Logger
	counters           counters
	observe            func(topic string, took time.Duration, failure string)
	mu                 sync.Mutex
	failing            int              // batches whose last try has failed
	failingSince       time.Time        // of the present trouble
	told               map[failure]bool // its reasons
}

// counters are the numbers behind Stats.
type counters struct {
	acknowledged, retries, references, storeErrors atomic.Int64
	failing                                        atomic.Bool
}

// New returns a Publisher. client and bucket, which may be nil, remain the caller's to close.
func New(cfg bridge.Config, client *pubsub.Client, bucket *reference.Bucket, log *slog.Logger) *Publisher {
	p := &Publisher{
		client: client.TopicAdminClient,
		topics: map[bridge.Destination]string{
			bridge.ToFunctions:   topicName(cfg.Project, cfg.Topic),
			bridge.ToDeadLetters: topicName(cfg.Project, cfg.DeadLetterTopic),
		},
		timeout:  cfg.PublishTimeout,
		retryMin: cfg.RetryMin,
		retryMax: cfg.RetryMax,
		slots:    make(chan struct{}, cfg.PublishConcurrency),
		log:      log,
		observe:  func(string, time.Duration, string) {},
		options: []gax.CallOption{
			// Without the generated client's own retries each failure is seen, and
			// there is one place that waits.
			gax.WithRetry(nil),
			gax.WithGRPCOptions(grpc.ForceCodecV2(newPublishCodec())),
		},
	}
	p.objects = newObjects(bucket, cfg.ReferenceAbove, log, &p.counters)
	return p
}

// Observe is bridge.Publisher's.
func (p *Publisher) Observe(f func(topic string, took time.Duration, failure string)) { p.observe = f }

// Objects is bridge.Publisher's.
func (p *Publisher) Objects() bool { return p.objects.bucket != nil }

// Stats is bridge.Publisher's.
func (p *Publisher) Stats() bridge.PublishStats {
	c := &p.counters
	return bridge.PublishStats{Acknowledged: c.acknowledged.Load(), Retries: c.retries.Load(),
		References:  c.references.Load(),
		StoreErrors: c.storeErrors.Load(), Failing: c.failing.Load()}
}

// topicName is the full name of a topic given as such or by its ID.
func topicName(project, topic string) string {
	if strings.Contains(topic, "/") {
		return topic
	}
	return fmt.Sprintf("projects/%s/topics/%s", project, topic)
}

// Publish is bridge.Publisher's. The payload's memory is free if the first try did it: otherwise gRPC may still hold it
// for a try that has failed.
func (p *Publisher) Publish(ctx context.Context, to bridge.Destination, payload []byte) (taken, reusable bool) {
	topic, data := p.topics[to], p.objects.data(ctx, payload)
	req := &pubsubpb.PublishRequest{Topic: topic, Messages: []*pubsubpb.PubsubMessage{{Data: data}}}
	backoff := p.retryMin
	for try := 1; ; try++ {
		err := p.try(ctx, req)
		if err == nil {
			if try > 1 {
				p.recovered()
			}
			return true, try == 1
		}
		if ctx.Err() != nil {
			if try > 1 {
				p.abandoned()
			}
			return false, false
		}
		p.failed(topic, err, try == 1)
		p.counters.retries.Add(1)
		// Half of the backoff is random, so that what failed together does not come
		// back together.
		t := time.NewTimer(backoff/2 + rand.N(backoff/2+1))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			p.abandoned()
			return false, false
		}
		backoff = min(2*backoff, p.retryMax)
	}
}

// try makes one request.
func (p *Publisher) try(ctx context.Context, req *pubsubpb.PublishRequest) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	start := time.Now()
	answer, err := p.client.Publish(ctx, req, p.options...)
	if err == nil && len(answer.GetMessageIds()) != len(req.Messages) {
		// What has no id is not said to be stored.
		err = status.Errorf(codes.Internal, "Pub/Sub answered with %d ids for %d messages", len(answer.GetMessageIds()),
			len(req.Messages))
	}
	if err == nil {
		p.counters.acknowledged.Add(1)
		p.observe(req.Topic, time.Since(start), "")
	} else {
		p.observe(req.Topic, time.Since(start), status.Code(err).String())
	}
	return err
}

// failed notes that a try has failed; first says that it was a batch's first one. A line tells when publishing
// as a whole begins to fail, and each further reason of the same trouble: another topic, or another code.
func (p *Publisher) failed(topic string, err error, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first {
		if p.failing++; p.failing == 1 {
			p.failingSince = time.Now()
			p.counters.failing.Store(true)
		}
	}
	reason := failure{topic, status.Code(err)}
	if p.told[reason] {
		return
	}
	if p.told == nil {
		p.told = make(map[failure]bool)
	}
	p.told[reason] = true
	p.log.Error("publishing fails; it is tried again until it succeeds",
		"topic", topic, "code", reason.code.String(), "error", err.Error())
}

// failure is a reason for which publishing fails.
type failure struct {
	topic string
	code  codes.Code
}

// recovered notes that a batch that had failed is published.
func (p *Publisher) recovered() { p.ended("publishing has recovered") }

// abandoned notes that a batch that had failed is no longer ours to publish.
func (p *Publisher) abandoned() { p.ended("publishing has stopped failing: its batches were given up") }

func (p *Publisher) ended(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing--; p.failing == 0 {
		p.counters.failing.Store(false)
		clear(p.told)
		p.log.Info(message, "after", time.Since(p.failingSince).Round(time.Millisecond).String())
	}
}

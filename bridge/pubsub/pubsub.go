package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2"
	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// publisher publishes one message a request, and tries again until Pub/Sub has
// taken it.
//
// It calls the generated client of pubsub.Client and not pubsub.Publisher, whose
// bundles let one bad message fail its neighbours, whose requests cannot be
// cancelled, whose Stop waits for as long as a request may take, and whose retries
// nobody can count. Flow control is the byte budget of the bridge and the number of
// requests at a time.
type publisher struct {
	client             *vkit.TopicAdminClient
	topic, deadLetter  string // projects/P/topics/T
	timeout            time.Duration
	retryMin, retryMax time.Duration
	options            []gax.CallOption
	slots              chan struct{} // one for each request at a time
	log                *slog.Logger
	counters           *counters
	metrics            *metrics
	mu                 sync.Mutex
	failing            int              // batches whose last try has failed
	failingSince       time.Time        // of the present trouble
	told               map[failure]bool // its reasons
}

func newPublisher(cfg Config, client *pubsub.Client, log *slog.Logger, c *counters, m *metrics) *publisher {
	return &publisher{
		client:     client.TopicAdminClient,
		topic:      topicName(cfg.Project, cfg.Topic),
		deadLetter: topicName(cfg.Project, cfg.DeadLetterTopic),
		timeout:    cfg.PublishTimeout,
		retryMin:   cfg.RetryMin,
		retryMax:   cfg.RetryMax,
		slots:      make(chan struct{}, cfg.PublishConcurrency),
		log:        log,
		counters:   c,
		metrics:    m,
		options: []gax.CallOption{
			// Without the generated client's own retries each failure is seen, and
			// there is one place that waits.
			gax.WithRetry(nil),
			gax.WithGRPCOptions(grpc.ForceCodecV2(newPublishCodec())),
		},
	}
}

// topicName is the full name of a topic given as such or by its ID.
func topicName(project, topic string) string {
	if strings.Contains(topic, "/") {
		return topic
	}
	return fmt.Sprintf("projects/%s/topics/%s", project, topic)
}

// publish tries until topic has taken data, and is false if ctx ended first. At once is whether the first
// try did it: otherwise gRPC may still hold data of a try that has failed.
func (p *publisher) publish(ctx context.Context, topic string, data []byte) (taken, atOnce bool) {
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
func (p *publisher) try(ctx context.Context, req *pubsubpb.PublishRequest) error {
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
		err = status.Errorf(codes.Internal, "Pub/Sub answered with %d ids for %d messages", len(answer.GetMessageIds()), len(req.Messages))
	}
	p.metrics.published(req.Topic, time.Since(start), err)
	if err == nil {
		p.counters.acknowledged.Add(1)
	}
	return err
}

// failed notes that a try has failed; first says that it was a batch's first one. A line tells when publishing
// as a whole begins to fail, and each further reason of the same trouble: another topic, or another code.
func (p *publisher) failed(topic string, err error, first bool) {
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
func (p *publisher) recovered() { p.ended("publishing has recovered") }

// abandoned notes that a batch that had failed is no longer ours to publish.
func (p *publisher) abandoned() { p.ended("publishing has stopped failing: its batches were given up") }

func (p *publisher) ended(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing--; p.failing == 0 {
		p.counters.failing.Store(false)
		clear(p.told)
		p.log.Info(message, "after", time.Since(p.failingSince).Round(time.Millisecond).String())
	}
}

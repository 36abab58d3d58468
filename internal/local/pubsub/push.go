package pubsub

import (
	"container/heap"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// subscription is a push subscription: its unacked messages and the deliveries
// under way.
type subscription struct {
	server *Server
	name   string
	topic  string
	client *http.Client

	wake    chan struct{} // holds a token when something changed
	done    chan struct{}
	running sync.WaitGroup
	once    sync.Once

	mu       sync.Mutex
	config   *pubsubpb.Subscription // replaced, never changed
	ready    queue
	delayed  delayed
	paused   bool
	window   int
	shrunkAt time.Time
	stats    Stats
}

// item is an unacked message.
type item struct {
	message  *pubsubpb.PubsubMessage
	attempts int       // deliveries begun
	due      time.Time // of the next delivery, while delayed
}

// The push window begins small, grows with every success while it is the limit,
// which doubles it per round trip, and halves on failure.
const firstWindow = 4

// slowPush is the latency from which the window does not grow.
const slowPush = time.Second

func newSubscription(s *Server, c *pubsubpb.Subscription) *subscription {
	sub := &subscription{
		server: s, name: c.Name, topic: c.Topic, config: c,
		client: &http.Client{
			Transport: &http.Transport{
				MaxIdleConnsPerHost: s.config.MaxOutstanding,
				DisableCompression:  true,
				IdleConnTimeout:     time.Minute,
				WriteBufferSize:     64 << 10,
			},
			// A redirect is an answer like any other: not an ack.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		window: min(firstWindow, s.config.MaxOutstanding),
	}
	sub.running.Go(sub.dispatch)
	return sub
}

func (s *subscription) settings() *pubsubpb.Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

func (s *subscription) configure(c *pubsubpb.Subscription) {
	s.mu.Lock()
	s.config = c
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// add takes published messages, which the topic's other subscriptions share.
func (s *subscription) add(messages []*pubsubpb.PubsubMessage) {
	s.mu.Lock()
	for _, m := range messages {
		s.ready.push(&item{message: m})
		s.stats.Published++
		s.stats.Bytes += int64(len(m.Data))
		s.stats.Backlog++
		s.stats.BacklogBytes += int64(len(m.Data))
	}
	s.mu.Unlock()
	s.signal()
}

// stop ends the deliveries; the server's context must have ended or the
// subscription be gone.
func (s *subscription) stop() {
	s.once.Do(func() { close(s.done) })
	s.running.Wait()
	s.client.CloseIdleConnections()
}

// dispatch starts deliveries as the window allows.
func (s *subscription) dispatch() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := s.start()
		timer.Reset(next)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.done:
			return
		}
	}
}

// start begins what deliveries it can and tells how long nothing will be due.
func (s *subscription) start() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.delayed) > 0 && !s.delayed[0].due.After(now) {
		s.ready.push(heap.Pop(&s.delayed).(*item))
	}
	retention := s.config.GetMessageRetentionDuration().AsDuration()
	for !s.paused && s.stats.Outstanding < s.window && s.ready.len() > 0 {
		i := s.ready.pop()
		if retention > 0 && s.server.config.Now().Sub(i.message.PublishTime.AsTime()) > retention {
			s.stats.Expired++
			s.forget(i)
			continue
		}
		i.attempts++
		s.stats.Delivered++
		s.stats.Outstanding++
		config := s.config
		s.running.Go(func() { s.deliver(i, config) })
	}
	if len(s.delayed) == 0 {
		return time.Hour
	}
	return max(time.Until(s.delayed[0].due), time.Millisecond)
}

// forget takes a message out of the backlog.
func (s *subscription) forget(i *item) {
	s.stats.Backlog--
	s.stats.BacklogBytes -= int64(len(i.message.Data))
}

// deliver makes one delivery and settles the message.
func (s *subscription) deliver(i *item, config *pubsubpb.Subscription) {
	began := time.Now()
	fault, handle := s.server.pushFaults.take(func(f *PushFault) bool {
		return (f.Subscription == "" || f.Subscription == s.name) && (f.When == nil || f.When(i.message))
	})
	other := make(chan bool, 1)
	if fault != nil && fault.Twice {
		go func() { other <- s.request(i, config, fault, handle) }()
	} else {
		other <- false
	}
	acked := s.request(i, config, fault, handle)
	acked = <-other || acked
	took := time.Since(began)

	forward := false
	s.mu.Lock()
	s.stats.Outstanding--
	switch {
	case s.ended():
		// cut off by Close: neither acked nor failed
	case acked:
		s.stats.Acked++
		if took < slowPush && s.stats.Outstanding+1 >= s.window && s.window < s.server.config.MaxOutstanding {
			s.window++
		}
		if fault != nil && fault.Again {
			s.later(i, config)
			break
		}
		s.forget(i)
	default:
		s.stats.Failed++
		// What began before the window shrank says nothing new.
		if began.After(s.shrunkAt) {
			s.window, s.shrunkAt = max(s.window/2, 1), time.Now()
		}
		if p := config.DeadLetterPolicy; p != nil && i.attempts >= int(maxAttempts(p)) {
			forward = true
			break
		}
		s.later(i, config)
	}
	s.mu.Unlock()

	if forward {
		s.deadLetter(i, config)
	}
	s.signal()
}

func (s *subscription) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return s.server.ctx.Err() != nil
	}
}

// later queues a message for its next delivery.
func (s *subscription) later(i *item, config *pubsubpb.Subscription) {
	i.due = time.Now().Add(time.Duration(float64(backoff(config.RetryPolicy,
		i.attempts)) * s.server.config.BackoffScale))
	heap.Push(&s.delayed, i)
}

// backoffs are the least and greatest wait of a retry policy; without one, those
// of push backoff.
// https://cloud.google.com/pubsub/docs/handling-failures#subscription_retry_policy
func backoffs(p *pubsubpb.RetryPolicy) (minimum, maximum time.Duration) {
	if p == nil {
		return 100 * time.Millisecond, 60 * time.Second
	}
	minimum, maximum = 10*time.Second, 600*time.Second
	if p.MinimumBackoff != nil {
		minimum = p.MinimumBackoff.AsDuration()
	}
	if p.MaximumBackoff != nil {
		maximum = p.MaximumBackoff.AsDuration()
	}
	return minimum, maximum
}

// backoff is the wait after so many failed deliveries: it doubles, and is spread
// by a fifth so that an outage does not end in step.
func backoff(p *pubsubpb.RetryPolicy, attempts int) time.Duration {
	minimum, maximum := backoffs(p)
	d := float64(minimum) * math.Pow(2, float64(min(attempts, 40)-1))
	d *= 0.8 + 0.4*rand.Float64()
	return time.Duration(min(d, float64(maximum)))
}

func maxAttempts(p *pubsubpb.DeadLetterPolicy) int32 {
	if p.MaxDeliveryAttempts == 0 {
		return 5
	}
	return p.MaxDeliveryAttempts
}

// deadLetter forwards a message to the dead-letter topic and then acks it; if
// that fails, the message is delivered again.
func (s *subscription) deadLetter(i *item, config *pubsubpb.Subscription) {
	parts := strings.SplitN(s.name, "/", 4) // projects/P/subscriptions/S
	m := &pubsubpb.PubsubMessage{Data: i.message.Data, OrderingKey: i.message.OrderingKey,
		Attributes: make(map[string]string, len(i.message.Attributes)+4)}
	for key, value := range i.message.Attributes {
		m.Attributes[key] = value
	}
	// The names are those that Google's emulator writes.
	m.Attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = strconv.Itoa(i.attempts)
	m.Attributes["CloudPubSubDeadLetterSourceSubscription"] = parts[3]
	m.Attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = parts[1]
	m.Attributes["CloudPubSubDeadLetterSourceTopicPublishTime"] = i.message.PublishTime.AsTime().UTC().Format(time.RFC3339Nano)
	_, err := s.server.publish(context.Background(), &pubsubpb.PublishRequest{
		Topic:    config.DeadLetterPolicy.DeadLetterTopic,
		Messages: []*pubsubpb.PubsubMessage{m},
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.server.log.Error("pubsub: forward to the dead-letter topic", "subscription", s.name, "message_id",
			i.message.MessageId, "error", err)
		s.later(i, config)
		return
	}
	s.stats.DeadLettered++
	s.forget(i)
}

// queue is a first-in first-out list that does not grow with what passed through.
type queue struct {
	items []*item
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(i *item) { q.items = append(q.items, i) }

func (q *queue) pop() *item {
	i := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	if q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return i
}

// delayed is a heap of messages by the time of their next delivery.
type delayed []*item

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d delayed) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)        { *d = append(*d, x.(*item)) }
func (d *delayed) Pop() any {
	old := *d
	n := len(old) - 1
	i := old[n]
	old[n] = nil
	*d = old[:n]
	return i
}

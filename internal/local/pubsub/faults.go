package pubsub

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// PublishFault makes publish requests go wrong. The first installed fault that
// matches takes the request. The zero PublishFault fails one request to any topic
// with UNAVAILABLE, which the client retries.
type PublishFault struct {
	Topic string // short or full name; "": all
	Skip  int    // requests that pass before the first is taken
	Count int    // requests to take; 0: one, -1: all until Remove
	// When chooses further, if not nil: by a message, for example. It must be quick.
	When func(r *pubsubpb.PublishRequest) bool

	Wait       time.Duration // before the request is looked at
	Hang       bool          // stops there until Remove or the request's end
	StoreFirst bool          // the messages are published, the answer is the error
	Code       codes.Code    // OK without Wait and Hang is UNAVAILABLE; with them, success
	Message    string
}

// PushFault makes deliveries go wrong on the side of Pub/Sub. The zero PushFault
// loses one delivery of any subscription before the request is made.
type PushFault struct {
	Subscription string // short or full name; "": all
	Skip         int
	Count        int // deliveries to take; 0: one, -1: all until Remove
	When         func(m *pubsubpb.PubsubMessage) bool

	Wait time.Duration // before the request is made, within the ack deadline
	// LoseAnswer makes the request and takes its answer for a failure: the
	// message comes again. Again takes the answer and delivers the message once
	// more all the same, as at-least-once delivery may. Twice makes two requests at
	// the same time.
	LoseAnswer bool
	Again      bool
	Twice      bool
}

func (f *PublishFault) error() error {
	code := f.Code
	if code == codes.OK {
		if f.Wait > 0 || f.Hang {
			return nil
		}
		code = codes.Unavailable
	}
	message := f.Message
	if message == "" {
		message = "injected fault: " + strings.ToLower(code.String())
	}
	return status.Error(code, message)
}

// FaultHandle is an installed fault.
type FaultHandle struct {
	hits    atomic.Int64
	removed chan struct{}
	once    sync.Once
	drop    func()
}

// Hits is how often the fault was taken.
func (h *FaultHandle) Hits() int { return int(h.hits.Load()) }

// Remove ends the fault; requests that hang on it go on.
func (h *FaultHandle) Remove() {
	h.once.Do(func() { close(h.removed) })
	h.drop()
}

// FailPublish installs a fault for publish requests of clients; forwarding to a
// dead-letter topic is the service's own and not affected.
func (s *Server) FailPublish(f PublishFault) *FaultHandle {
	if f.Topic != "" {
		f.Topic = s.TopicName(f.Topic)
	}
	return s.publishFaults.install(f, f.Skip, f.Count)
}

// FailPush installs a fault for deliveries.
func (s *Server) FailPush(f PushFault) *FaultHandle {
	if f.Subscription != "" {
		f.Subscription = s.SubscriptionName(f.Subscription)
	}
	return s.pushFaults.install(f, f.Skip, f.Count)
}

// faults are the installed faults of one kind, in order.
type faults[F any] struct {
	mu        sync.Mutex
	installed []*installed[F]
}

type installed[F any] struct {
	fault      F
	skip, left int
	handle     *FaultHandle
}

func (l *faults[F]) install(fault F, skip, count int) *FaultHandle {
	if count == 0 {
		count = 1
	}
	i := &installed[F]{fault: fault, skip: skip, left: count, handle: &FaultHandle{removed: make(chan struct{})}}
	i.handle.drop = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(i)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.installed = append(l.installed, i)
	return i.handle
}

func (l *faults[F]) remove(gone *installed[F]) {
	for n, i := range l.installed {
		if i == gone {
			l.installed = append(l.installed[:n:n], l.installed[n+1:]...)
			return
		}
	}
}

// take returns the first fault that matches and is not used up, or nil.
func (l *faults[F]) take(matches func(*F) bool) (*F, *FaultHandle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.installed {
		if !matches(&i.fault) {
			continue
		}
		if i.skip > 0 {
			i.skip--
			continue
		}
		i.handle.hits.Add(1)
		if i.left > 0 {
			if i.left--; i.left == 0 {
				l.remove(i)
			}
		}
		return &i.fault, i.handle
	}
	return nil, nil
}

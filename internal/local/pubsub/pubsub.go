// Package pubsub is Pub/Sub for one process: a gRPC server that Google's client
// talks to, and the push service behind it, which makes one HTTP request per
// message, retries with the subscription's backoff, counts delivery attempts and
// forwards what keeps failing to the dead-letter topic.
//
//	p, err := pubsub.Start(pubsub.Config{})
//	defer p.Close()
//	os.Setenv("PUBSUB_EMULATOR_HOST", p.Addr()) // or client options
//
//	err = p.CreateTopic(ctx, "clickstream")
//	err = p.CreatePushSubscription(ctx, pubsub.PushSubscription{Name: "ingest", Topic: "clickstream", Endpoint: url, Unwrapped: true})
//	…
//	err = p.WaitIdle(ctx)          // every pushed message is acked or dead-lettered
//	s := p.Stats("ingest")         // delivered, acked, failed, dead-lettered, backlog
//
//	fault := p.FailPublish(pubsub.PublishFault{Code: codes.Unavailable, Count: -1})
//	fault.Remove()
//
// Administration, schemas and pull subscriptions are pstest's. What pstest lacks
// is here: it never pushes, drops messages after ten minutes, keeps every message
// in memory for good, and takes requests of at most 4 MB. So messages of push
// subscriptions do not pass through it: they live in queues of this package until
// they are acked, dead-lettered or older than the subscription's retention.
//
// What is not here: message ordering, filters, exactly-once delivery and OIDC
// tokens on push subscriptions, seek and snapshots of them.
package pubsub

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"sluice/internal/local/listener"
)

// Config says how the service behaves. The zero value is usable.
type Config struct {
	Addr    string // host:port to listen on; default 127.0.0.1:0
	Project string // of names given without one; default "local"

	// MaxOutstanding bounds the requests that one push subscription has open:
	// the push window's maximum. Default 100; the service's is 3,000 per region.
	MaxOutstanding int
	// BackoffScale multiplies the waits between deliveries of a failing message,
	// so that tests need not wait for minutes. Default 1.
	BackoffScale float64

	Log *slog.Logger     // default: discarded
	Now func() time.Time // default time.Now; for publish times and retention
}

// Server is a running Pub/Sub.
type Server struct {
	config   Config
	log      *slog.Logger
	listener *listener.Listener
	grpc     *grpc.Server
	serving  sync.WaitGroup
	fake     *pstest.Server
	once     sync.Once

	ctx    context.Context // of pushes; ends with Close
	cancel context.CancelFunc

	publishFaults faults[PublishFault]
	pushFaults    faults[PushFault]

	admin sync.Mutex // one administrative request at a time

	mu     sync.RWMutex
	nextID int64
	push   map[string]*subscription // by full name
	topics map[string]*topic        // by full name
	pulled map[string]string        // pull subscriptions: full name → topic
	closed bool
}

// topic is who gets what is published.
type topic struct {
	push []*subscription
	pull int // subscriptions that pstest serves
}

// maxMessage is above the limit of a publish request, so that the limit is
// enforced, and worded, by Publish and not by gRPC.
const maxMessage = 32 << 20

// Start serves.
func Start(c Config) (*Server, error) {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:0")
	c.Project = cmp.Or(c.Project, "local")
	c.MaxOutstanding = cmp.Or(c.MaxOutstanding, 100)
	c.BackoffScale = cmp.Or(c.BackoffScale, 1)
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	l, err := listener.Listen(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("pubsub: %w", err)
	}
	s := &Server{
		config:   c,
		log:      c.Log,
		listener: l,
		// pstest opens a port of its own, which nobody knows: only its service is
		// used, through ours.
		fake:   pstest.NewServerWithAddress("127.0.0.1:0"),
		push:   make(map[string]*subscription),
		topics: make(map[string]*topic),
		pulled: make(map[string]string),
		// Ids of the service are decimal numbers of no meaning.
		nextID: c.Now().UnixNano(),
		grpc: grpc.NewServer(
			grpc.MaxRecvMsgSize(maxMessage),
			grpc.MaxSendMsgSize(maxMessage),
			grpc.InitialWindowSize(4<<20),
			grpc.InitialConnWindowSize(16<<20),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second,
				PermitWithoutStream: true}),
		),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	pubsubpb.RegisterPublisherServer(s.grpc, &publisher{GServer: &s.fake.GServer, s: s})
	pubsubpb.RegisterSubscriberServer(s.grpc, &subscriber{GServer: &s.fake.GServer, s: s})
	pubsubpb.RegisterSchemaServiceServer(s.grpc, &s.fake.GServer)
	s.serving.Go(func() {
		if err := s.grpc.Serve(l); err != nil {
			s.log.Error("pubsub: serve", "error", err)
		}
	})
	return s, nil
}

// Addr is the gRPC address, host:port, plain text: PUBSUB_EMULATOR_HOST.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Down closes all connections of clients and refuses new ones; pushes go on.
func (s *Server) Down() error { return s.listener.Down() }

// Up takes connections again on the same address.
func (s *Server) Up() error { return s.listener.Up() }

// Drop breaks the connections of clients that are open.
func (s *Server) Drop() { s.listener.Drop() }

// Close stops pushing, cancels the pushes under way and stops serving.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		subs := s.push
		s.push = nil
		s.mu.Unlock()
		s.cancel()
		for _, sub := range subs {
			sub.stop()
		}
		s.grpc.Stop()
		s.listener.Close()
		s.serving.Wait()
		s.fake.Close()
	})
	return nil
}

// TopicName is a topic's full name; a full name is left as it is.
func (s *Server) TopicName(topic string) string { return s.full("topics", topic) }

// SubscriptionName is a subscription's full name; a full name is left as it is.
func (s *Server) SubscriptionName(subscription string) string {
	return s.full("subscriptions", subscription)
}

func (s *Server) full(collection, name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return "projects/" + s.config.Project + "/" + collection + "/" + name
}

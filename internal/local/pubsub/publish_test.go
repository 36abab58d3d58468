package pubsub_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"
	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/internal/local/pubsub"
)

// publishOnce makes one publish request, without the client's retries.
func publishOnce(t *testing.T, w *world, messages ...*pubsubpb.PubsubMessage) error {
	t.Helper()
	c, err := apiv1.NewTopicAdminClient(t.Context(), w.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.CallOptions.Publish = nil
	_, err = c.Publish(t.Context(), &pubsubpb.PublishRequest{Topic: w.TopicName("events"), Messages: messages})
	return err
}

// Protects the limits that the bridge must keep, and the room below them: 9 MB
// pass, which pstest refuses.
func TestPublishLimits(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events", Unwrapped: true})
	many := make([]*pubsubpb.PubsubMessage, 1001)
	for i := range many {
		many[i] = &pubsubpb.PubsubMessage{Data: []byte("x")}
	}
	attributes := make(map[string]string)
	for i := range 101 {
		attributes[strings.Repeat("k", i+1)] = ""
	}
	for _, test := range []struct {
		name     string
		messages []*pubsubpb.PubsubMessage
		code     codes.Code
	}{
		{"9 MB", []*pubsubpb.PubsubMessage{{Data: make([]byte, 9_000_000)}}, codes.OK},
		{"10 MB and its envelope", []*pubsubpb.PubsubMessage{{Data: make([]byte, 10_000_000)}}, codes.InvalidArgument},
		{"two messages of 6 MB", []*pubsubpb.PubsubMessage{{Data: make([]byte, 6_000_000)}, {Data: make([]byte, 6_000_000)}}, codes.InvalidArgument},
		{"1,001 messages", many, codes.InvalidArgument},
		{"1,000 messages", many[:1000], codes.OK},
		{"no message", nil, codes.InvalidArgument},
		{"an empty message", []*pubsubpb.PubsubMessage{{Data: []byte("x")}, {}}, codes.InvalidArgument},
		{"only attributes", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{"a": ""}}}, codes.OK},
		{"101 attributes", []*pubsubpb.PubsubMessage{{Attributes: attributes}}, codes.InvalidArgument},
		{"a long key", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{strings.Repeat("k", 257): ""}}}, codes.InvalidArgument},
		{"a long value", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{"k": strings.Repeat("v", 1025)}}}, codes.InvalidArgument},
		{"a reserved key", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{"googclient_x": ""}}}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := w.Stats("sub").Published
			if err := publishOnce(t, w, test.messages...); status.Code(err) != test.code {
				t.Errorf("%v, want %v", err, test.code)
			}
			if test.code != codes.OK && w.Stats("sub").Published != before {
				t.Error("part of a refused request was published")
			}
		})
	}
	w.settle(t)
}

// Protects the fault tests of the bridge: what a fault does to the request, to
// its messages, and when it ends.
func TestPublishFaults(t *testing.T) {
	marked := func(r *pubsubpb.PublishRequest) bool { return bytes.Contains(r.Messages[0].Data, []byte("poison")) }
	for _, test := range []struct {
		name      string
		fault     pubsub.PublishFault
		code      codes.Code
		published int64
	}{
		{"the zero fault", pubsub.PublishFault{}, codes.Unavailable, 0},
		{"by code", pubsub.PublishFault{Code: codes.PermissionDenied}, codes.PermissionDenied, 0},
		{"the answer is lost", pubsub.PublishFault{StoreFirst: true}, codes.Unavailable, 1},
		{"slow", pubsub.PublishFault{Wait: time.Millisecond}, codes.OK, 1},
		{"slow and failing", pubsub.PublishFault{Wait: time.Millisecond, Code: codes.ResourceExhausted}, codes.ResourceExhausted, 0},
		{"of one message", pubsub.PublishFault{When: marked, Code: codes.InvalidArgument, Count: -1}, codes.InvalidArgument, 0},
		{"of another topic", pubsub.PublishFault{Topic: "dead"}, codes.OK, 1},
		{"not yet", pubsub.PublishFault{Skip: 1}, codes.OK, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pubsub.Config{})
			w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events"})
			fault := w.FailPublish(test.fault)
			if err := publishOnce(t, w, &pubsubpb.PubsubMessage{Data: []byte("poison")}); status.Code(err) != test.code {
				t.Errorf("%v, want %v", err, test.code)
			}
			if got := w.Stats("sub").Published; got != test.published {
				t.Errorf("%d messages published, want %d", got, test.published)
			}
			fault.Remove()
			if err := publishOnce(t, w, &pubsubpb.PubsubMessage{Data: []byte("x")}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Protects tests of a hung Pub/Sub: the client's deadline ends the request, and
// removing the fault lets later ones through.
func TestPublishHangs(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	fault := w.FailPublish(pubsub.PublishFault{Hang: true, Count: -1})
	c, err := apiv1.NewTopicAdminClient(t.Context(), w.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := &pubsubpb.PublishRequest{Topic: w.TopicName("events"),
		Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}}
	if _, err := c.Publish(ctx, r); !errors.Is(err, context.DeadlineExceeded) &&
		status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("hung: %v", err)
	}
	fault.Remove()
	if _, err := c.Publish(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// Protects the fault tests of the functions: deliveries lost before and after the
// request, and delivered once more although acked.
func TestPushFaults(t *testing.T) {
	for _, test := range []struct {
		name           string
		fault          pubsub.PushFault
		requests, acks int64
	}{
		{"the zero fault: no request", pubsub.PushFault{}, 1, 1},
		{"the answer is lost", pubsub.PushFault{LoseAnswer: true}, 2, 1},
		{"delivered again", pubsub.PushFault{Again: true}, 2, 2},
		{"delivered twice at once", pubsub.PushFault{Twice: true}, 2, 1},
		{"slow", pubsub.PushFault{Wait: time.Millisecond}, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pubsub.Config{BackoffScale: 0.01})
			w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events"})
			w.FailPush(test.fault)
			w.publish(t, "events", &client.Message{Data: []byte("x")})
			w.settle(t)
			if got := w.Stats("sub"); int64(len(w.pushes())) != test.requests || got.Acked != test.acks ||
				got.Backlog != 0 {
				t.Errorf("%d requests, %+v, want %d requests and %d acks", len(w.pushes()), got, test.requests,
					test.acks)
			}
		})
	}
}

// Protects tests of an outage: Google's client publishes on by itself when the
// service is back at its address.
func TestDownAndUp(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events"})
	w.publish(t, "events", &client.Message{Data: []byte("x")})
	if err := w.Down(); err != nil {
		t.Fatal(err)
	}
	p := w.client.Publisher("events")
	defer p.Stop()
	result := p.Publish(t.Context(), &client.Message{Data: []byte("y")})
	time.Sleep(20 * time.Millisecond)
	if err := w.Up(); err != nil {
		t.Fatal(err)
	}
	if _, err := result.Get(t.Context()); err != nil {
		t.Error(err)
	}
	w.settle(t)
	if s := w.Stats("sub"); s.Acked != 2 {
		t.Errorf("stats %+v", s)
	}
}

// Protects the two kinds of subscriptions of one topic: pull ones are pstest's,
// push ones ours, both get every message.
func TestPullBesidePush(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	w.subscribe(t, pubsub.PushSubscription{Name: "pushed", Topic: "events", Unwrapped: true})
	if _, err := w.client.SubscriptionAdminClient.CreateSubscription(t.Context(),
		&pubsubpb.Subscription{Name: w.SubscriptionName("pulled"), Topic: w.TopicName("events")}); err != nil {
		t.Fatal(err)
	}
	id := w.publish(t, "events", &client.Message{Data: []byte("x")})
	w.settle(t)
	if got := w.pushes(); len(got) != 1 || got[0].header.Get("X-Goog-Pubsub-Message-Id") != id {
		t.Errorf("pushed %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := w.client.Subscriber("pulled").Receive(ctx, func(_ context.Context, m *client.Message) {
		if m.ID != id {
			t.Errorf("pulled %s, want %s", m.ID, id)
		}
		m.Ack()
		cancel()
	})
	if err != nil {
		t.Error(err)
	}
	_, err = w.client.SubscriptionAdminClient.Pull(t.Context(),
		&pubsubpb.PullRequest{Subscription: w.SubscriptionName("pushed"), MaxMessages: 1})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("pull from a push subscription: %v", err)
	}
}

// Protects the settings that infra gives the subscriptions: they are taken, kept
// and answered, and impossible ones are refused.
func TestSubscriptionSettings(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	admin := w.client.SubscriptionAdminClient
	valid := func() *pubsubpb.Subscription {
		return &pubsubpb.Subscription{
			Name: w.SubscriptionName("sub"), Topic: w.TopicName("events"), AckDeadlineSeconds: 60,
			PushConfig:               &pubsubpb.PushConfig{PushEndpoint: w.endpoint.URL, Wrapper: &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}},
			MessageRetentionDuration: durationpb.New(31 * 24 * time.Hour),
			RetryPolicy:              &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(10 * time.Second), MaximumBackoff: durationpb.New(600 * time.Second)},
			DeadLetterPolicy:         &pubsubpb.DeadLetterPolicy{DeadLetterTopic: w.TopicName("dead"), MaxDeliveryAttempts: 100},
		}
	}
	if _, err := admin.CreateSubscription(t.Context(), valid()); err != nil {
		t.Fatal(err)
	}
	got, err := admin.GetSubscription(t.Context(),
		&pubsubpb.GetSubscriptionRequest{Subscription: w.SubscriptionName("sub")})
	if err != nil {
		t.Fatal(err)
	}
	if d := got.GetMessageRetentionDuration().AsDuration(); d != 31*24*time.Hour ||
		got.GetDeadLetterPolicy().GetMaxDeliveryAttempts() != 100 ||
		!got.GetPushConfig().GetNoWrapper().GetWriteMetadata() {
		t.Errorf("settings %v", got)
	}
	for _, test := range []struct {
		name   string
		change func(s *pubsubpb.Subscription)
		code   codes.Code
	}{
		{"the same name", func(s *pubsubpb.Subscription) { s.Name = w.SubscriptionName("sub") }, codes.AlreadyExists},
		{"a short name", func(s *pubsubpb.Subscription) { s.Name = w.SubscriptionName("s") }, codes.InvalidArgument},
		{"a reserved name", func(s *pubsubpb.Subscription) { s.Name = w.SubscriptionName("google-s") }, codes.InvalidArgument},
		{"no such topic", func(s *pubsubpb.Subscription) { s.Topic = w.TopicName("absent") }, codes.NotFound},
		{"no such dead-letter topic", func(s *pubsubpb.Subscription) { s.DeadLetterPolicy.DeadLetterTopic = w.TopicName("absent") }, codes.NotFound},
		{"endpoint without a scheme", func(s *pubsubpb.Subscription) { s.PushConfig.PushEndpoint = "localhost:8080" }, codes.InvalidArgument},
		{"4 attempts", func(s *pubsubpb.Subscription) { s.DeadLetterPolicy.MaxDeliveryAttempts = 4 }, codes.InvalidArgument},
		{"101 attempts", func(s *pubsubpb.Subscription) { s.DeadLetterPolicy.MaxDeliveryAttempts = 101 }, codes.InvalidArgument},
		{"backoff over 600 s", func(s *pubsubpb.Subscription) { s.RetryPolicy.MaximumBackoff = durationpb.New(601 * time.Second) }, codes.InvalidArgument},
		{"retention over 31 days", func(s *pubsubpb.Subscription) { s.MessageRetentionDuration = durationpb.New(32 * 24 * time.Hour) }, codes.InvalidArgument},
		{"exactly once", func(s *pubsubpb.Subscription) { s.EnableExactlyOnceDelivery = true }, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := valid()
			s.Name = w.SubscriptionName("other")
			test.change(s)
			if _, err := admin.CreateSubscription(t.Context(), s); status.Code(err) != test.code {
				t.Errorf("%v, want %v", err, test.code)
			}
		})
	}
	if err := admin.DeleteSubscription(t.Context(),
		&pubsubpb.DeleteSubscriptionRequest{Subscription: w.SubscriptionName("sub")}); err != nil {
		t.Error(err)
	}
	w.publish(t, "events", &client.Message{Data: []byte("x")})
	if got := len(w.pushes()); got != 0 {
		t.Errorf("%d pushes of a deleted subscription", got)
	}
}

package pubsub

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// resourceID is what a topic or a subscription may be called.
// https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
var resourceID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}$`)

// checkName refuses what is no full name of a collection's member.
func checkName(collection, name string) error {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "projects" || parts[1] == "" || parts[2] != collection ||
		!resourceID.MatchString(parts[3]) || strings.HasPrefix(parts[3], "goog") {
		return status.Errorf(codes.InvalidArgument, "Invalid [%s] name: (name=%s)", collection, name)
	}
	return nil
}

// CreateTopic creates a topic by its full name.
func (p *publisher) CreateTopic(ctx context.Context, t *pubsubpb.Topic) (*pubsubpb.Topic, error) {
	if err := checkName("topics", t.GetName()); err != nil {
		return nil, err
	}
	p.s.admin.Lock()
	defer p.s.admin.Unlock()
	created, err := p.GServer.CreateTopic(ctx, t)
	if err != nil {
		return nil, err
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.topics[created.Name] = &topic{}
	return proto.CloneOf(created), nil
}

// DeleteTopic deletes a topic; its subscriptions keep their backlog. The dead-letter topic of a push subscription can
// be deleted too, as with the service: it forwards again when there is one of that name.
func (p *publisher) DeleteTopic(ctx context.Context, r *pubsubpb.DeleteTopicRequest) (*emptypb.Empty, error) {
	p.s.admin.Lock()
	defer p.s.admin.Unlock()
	empty, err := p.GServer.DeleteTopic(ctx, r)
	if err != nil {
		return nil, err
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	delete(p.s.topics, r.Topic)
	return empty, nil
}

// subscriber is pstest's subscriber service; push subscriptions are ours.
type subscriber struct {
	*pstest.GServer
	s *Server
}

// pstestRetention is the longest that pstest takes; Pub/Sub takes 31 days.
const (
	pstestRetention = 7 * 24 * time.Hour
	maxRetention    = 31 * 24 * time.Hour
)

func (b *subscriber) CreateSubscription(ctx context.Context, r *pubsubpb.Subscription) (*pubsubpb.Subscription, error) {
	if err := checkName("subscriptions", r.GetName()); err != nil {
		return nil, err
	}
	s := b.s
	s.admin.Lock()
	defer s.admin.Unlock()
	r = proto.CloneOf(r)
	pushed := r.GetPushConfig().GetPushEndpoint() != ""
	if pushed {
		if err := checkPush(r); err != nil {
			return nil, err
		}
	}
	retention := r.GetMessageRetentionDuration()
	if d := retention.AsDuration(); d > pstestRetention && d <= maxRetention {
		r.MessageRetentionDuration = durationpb.New(pstestRetention)
	}
	policy := r.DeadLetterPolicy
	if pushed && policy != nil {
		r.DeadLetterPolicy = nil // it is ours: pstest would keep its topic from being deleted
		if err := s.checkPolicy(policy); err != nil {
			return nil, err
		}
	}
	created, err := b.GServer.CreateSubscription(ctx, r)
	if err != nil {
		return nil, err
	}
	created.DeadLetterPolicy = policy
	if retention != nil {
		created.MessageRetentionDuration = retention
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[created.Topic]
	if !pushed {
		s.pulled[created.Name] = created.Topic
		t.pull++
		return proto.CloneOf(created), nil
	}
	// Detached, pstest keeps the subscription and gives it no messages.
	if _, err := b.GServer.DetachSubscription(ctx,
		&pubsubpb.DetachSubscriptionRequest{Subscription: created.Name}); err != nil {
		return nil, err
	}
	sub := newSubscription(s, proto.CloneOf(created))
	s.push[created.Name] = sub
	t.push = append(slices.Clip(t.push), sub)
	return proto.CloneOf(created), nil
}

// checkPolicy refuses a dead-letter policy whose topic is not there, and fills in its default.
func (s *Server) checkPolicy(p *pubsubpb.DeadLetterPolicy) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.topics[p.DeadLetterTopic] == nil {
		return status.Errorf(codes.NotFound, "Resource not found (resource=%s): the dead-letter topic",
			p.DeadLetterTopic)
	}
	if p.MaxDeliveryAttempts == 0 {
		p.MaxDeliveryAttempts = 5
	}
	return nil
}

// checkPush refuses what the push service here cannot do, and what Pub/Sub's
// does not.
func checkPush(r *pubsubpb.Subscription) error {
	endpoint, err := url.Parse(r.PushConfig.PushEndpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return status.Errorf(codes.InvalidArgument,
			"Invalid push endpoint given (endpoint=%s): want http:// or https://",
			r.PushConfig.PushEndpoint)
	}
	switch {
	case r.EnableExactlyOnceDelivery:
		return status.Error(codes.InvalidArgument, "enable_exactly_once_delivery is not for push subscriptions")
	case r.EnableMessageOrdering:
		return status.Error(codes.Unimplemented, "the embedded Pub/Sub pushes without message ordering")
	case r.Filter != "":
		return status.Error(codes.Unimplemented, "the embedded Pub/Sub pushes without filters")
	}
	if p := r.DeadLetterPolicy; p != nil && p.MaxDeliveryAttempts != 0 && (p.MaxDeliveryAttempts < 5 ||
		p.MaxDeliveryAttempts > 100) {
		return status.Errorf(codes.InvalidArgument, "max_delivery_attempts is %d: want 5 to 100", p.MaxDeliveryAttempts)
	}
	if p := r.RetryPolicy; p != nil {
		minimum, maximum := backoffs(p)
		if minimum < 0 || maximum > 600*time.Second || minimum > maximum {
			return status.Errorf(codes.InvalidArgument, "retry_policy: backoff from %v to %v: want 0 s to 600 s",
				minimum, maximum)
		}
	}
	return nil
}

func (b *subscriber) UpdateSubscription(ctx context.Context,
	r *pubsubpb.UpdateSubscriptionRequest) (*pubsubpb.Subscription, error) {
	s := b.s
	s.admin.Lock()
	defer s.admin.Unlock()
	name := r.GetSubscription().GetName()
	sub := s.subscription(name)
	r = proto.CloneOf(r)
	if sub != nil && slices.Contains(r.GetUpdateMask().GetPaths(), "push_config") &&
		r.Subscription.GetPushConfig().GetPushEndpoint() == "" ||
		sub == nil && r.GetSubscription().GetPushConfig().GetPushEndpoint() != "" {
		return nil, status.Error(codes.Unimplemented,
			"the embedded Pub/Sub does not change a subscription between push and pull")
	}
	retention := r.GetSubscription().GetMessageRetentionDuration()
	if d := retention.AsDuration(); d > pstestRetention && d <= maxRetention {
		r.Subscription.MessageRetentionDuration = durationpb.New(pstestRetention)
	}
	if sub != nil {
		wanted := proto.CloneOf(sub.settings())
		for _, path := range r.GetUpdateMask().GetPaths() {
			field := wanted.ProtoReflect().Descriptor().Fields().ByTextName(path)
			if field != nil {
				wanted.ProtoReflect().Set(field, r.Subscription.ProtoReflect().Get(field))
			}
		}
		if err := checkPush(wanted); err != nil {
			return nil, err
		}
	}
	var policy *pubsubpb.DeadLetterPolicy
	if sub != nil {
		policy = sub.settings().DeadLetterPolicy
		if paths := r.GetUpdateMask().GetPaths(); slices.Contains(paths, "dead_letter_policy") {
			if policy = r.Subscription.DeadLetterPolicy; policy != nil {
				if err := s.checkPolicy(policy); err != nil {
					return nil, err
				}
			}
			r.Subscription.DeadLetterPolicy = nil // see CreateSubscription
		}
	}
	updated, err := b.GServer.UpdateSubscription(ctx, r)
	if err != nil {
		return nil, err
	}
	if sub != nil {
		updated.DeadLetterPolicy = policy
	}
	if slices.Contains(r.GetUpdateMask().GetPaths(), "message_retention_duration") {
		updated.MessageRetentionDuration = retention
	}
	if sub != nil {
		sub.configure(proto.CloneOf(updated))
	}
	return proto.CloneOf(updated), nil
}

// ModifyPushConfig changes the endpoint of a push subscription.
func (b *subscriber) ModifyPushConfig(ctx context.Context, r *pubsubpb.ModifyPushConfigRequest) (*emptypb.Empty,
	error) {
	_, err := b.UpdateSubscription(ctx, &pubsubpb.UpdateSubscriptionRequest{
		Subscription: &pubsubpb.Subscription{Name: r.Subscription, PushConfig: r.PushConfig},
		UpdateMask:   &fieldmaskpb.FieldMask{Paths: []string{"push_config"}},
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (b *subscriber) GetSubscription(ctx context.Context, r *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription,
	error) {
	b.s.admin.Lock()
	defer b.s.admin.Unlock()
	found, err := b.GServer.GetSubscription(ctx, r)
	if err != nil {
		return nil, err
	}
	found = proto.CloneOf(found)
	if sub := b.s.subscription(r.Subscription); sub != nil { // see CreateSubscription
		found.DeadLetterPolicy = proto.CloneOf(sub.settings().DeadLetterPolicy)
	}
	return found, nil
}

func (b *subscriber) DeleteSubscription(ctx context.Context, r *pubsubpb.DeleteSubscriptionRequest) (*emptypb.Empty,
	error) {
	s := b.s
	s.admin.Lock()
	defer s.admin.Unlock()
	empty, err := b.GServer.DeleteSubscription(ctx, r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	sub := s.push[r.Subscription]
	delete(s.push, r.Subscription)
	if sub != nil {
		if t := s.topics[sub.topic]; t != nil {
			t.push = slices.DeleteFunc(slices.Clone(t.push), func(other *subscription) bool { return other == sub })
		}
	}
	s.unpull(r.Subscription)
	s.mu.Unlock()
	if sub != nil {
		sub.stop()
	}
	return empty, nil
}

func (b *subscriber) DetachSubscription(ctx context.Context,
	r *pubsubpb.DetachSubscriptionRequest) (*pubsubpb.DetachSubscriptionResponse, error) {
	s := b.s
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.subscription(r.Subscription) != nil {
		return nil, status.Error(codes.Unimplemented,
			"the embedded Pub/Sub does not detach push subscriptions: delete them")
	}
	response, err := b.GServer.DetachSubscription(ctx, r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unpull(r.Subscription)
	return response, nil
}

// unpull forgets a pull subscription.
func (s *Server) unpull(name string) {
	t := s.topics[s.pulled[name]]
	if t != nil {
		t.pull--
	}
	delete(s.pulled, name)
}

// Pull is for pull subscriptions, as in Pub/Sub.
func (b *subscriber) Pull(ctx context.Context, r *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	if b.s.subscription(r.Subscription) != nil {
		return nil, status.Errorf(codes.FailedPrecondition,
			"This method is not supported for this subscription type (%s "+
				"is a push subscription).", r.Subscription)
	}
	return b.GServer.Pull(ctx, r)
}

// Seek is for pull subscriptions only; in Pub/Sub it is for all.
func (b *subscriber) Seek(ctx context.Context, r *pubsubpb.SeekRequest) (*pubsubpb.SeekResponse, error) {
	if b.s.subscription(r.Subscription) != nil {
		return nil, status.Error(codes.Unimplemented, "the embedded Pub/Sub does not seek push subscriptions")
	}
	return b.GServer.Seek(ctx, r)
}

// subscription finds a push subscription by its full name.
func (s *Server) subscription(name string) *subscription {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.push[name]
}

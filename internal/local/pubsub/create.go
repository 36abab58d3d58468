package pubsub

import (
	"context"
	"time"

	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// PushSubscription is a push subscription with the settings that the project
// uses; names are short or full.
type PushSubscription struct {
	Name     string
	Topic    string
	Endpoint string // URL

	// Unwrapped sends the data as the request's body and the metadata in headers;
	// otherwise the body is the JSON envelope.
	Unwrapped bool

	AckDeadline            time.Duration // default 10 s; the service takes 10 s to 600 s, this server from 1 s
	MinBackoff, MaxBackoff time.Duration // both 0: no retry policy
	Retention              time.Duration // default 7 days

	DeadLetterTopic     string // none if empty
	MaxDeliveryAttempts int    // 5 to 100; default 5
}

// ClientOptions reach the server with any of Google's gRPC clients.
func (s *Server) ClientOptions() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(s.Addr()),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// CreateTopic creates a topic, through the administrative client.
func (s *Server) CreateTopic(ctx context.Context, name string) error {
	client, err := apiv1.NewTopicAdminClient(ctx, s.ClientOptions()...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.CreateTopic(ctx, &pubsubpb.Topic{Name: s.TopicName(name)})
	return err
}

// CreatePushSubscription creates a push subscription, through the administrative
// client.
func (s *Server) CreatePushSubscription(ctx context.Context, p PushSubscription) error {
	client, err := apiv1.NewSubscriptionAdminClient(ctx, s.ClientOptions()...)
	if err != nil {
		return err
	}
	defer client.Close()
	sub := &pubsubpb.Subscription{
		Name:               s.SubscriptionName(p.Name),
		Topic:              s.TopicName(p.Topic),
		AckDeadlineSeconds: int32(p.AckDeadline / time.Second),
		PushConfig:         &pubsubpb.PushConfig{PushEndpoint: p.Endpoint},
	}
	if p.Unwrapped {
		sub.PushConfig.Wrapper = &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}
	}
	if p.MinBackoff > 0 || p.MaxBackoff > 0 {
		sub.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(p.MinBackoff),
			MaximumBackoff: durationpb.New(p.MaxBackoff)}
	}
	if p.Retention > 0 {
		sub.MessageRetentionDuration = durationpb.New(p.Retention)
	}
	if p.DeadLetterTopic != "" {
		sub.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: s.TopicName(p.DeadLetterTopic),
			MaxDeliveryAttempts: int32(p.MaxDeliveryAttempts)}
	}
	_, err = client.CreateSubscription(ctx, sub)
	return err
}

// SetEndpoint points a push subscription somewhere else, as a new deployment may.
func (s *Server) SetEndpoint(ctx context.Context, name, endpoint string) error {
	sub := s.subscription(s.SubscriptionName(name))
	client, err := apiv1.NewSubscriptionAdminClient(ctx, s.ClientOptions()...)
	if err != nil {
		return err
	}
	defer client.Close()
	changed := &pubsubpb.PushConfig{PushEndpoint: endpoint}
	if sub != nil {
		changed.Wrapper = sub.settings().GetPushConfig().GetWrapper()
	}
	_, err = client.UpdateSubscription(ctx, &pubsubpb.UpdateSubscriptionRequest{
		Subscription: &pubsubpb.Subscription{Name: s.SubscriptionName(name), PushConfig: changed},
		UpdateMask:   &fieldmaskpb.FieldMask{Paths: []string{"push_config"}},
	})
	return err
}

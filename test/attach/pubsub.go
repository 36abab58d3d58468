package attach

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/internal/local"
)

// subscribe creates the topics and the push subscriptions that are missing, the
// dead-letter subscription before its topic is used, and points all of them here.
func (a *Attached) subscribe(ctx context.Context, functions string) (err error) {
	client, err := pubsub.NewClient(ctx, a.config.Project, a.pubSubOptions()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	full := func(collection, name string) string {
		return "projects/" + a.config.Project + "/" + collection + "/" + name
	}
	for _, s := range []struct{ topic, name, path string }{
		{local.DeadLetterTopic, local.DeadLetter, "/DeadLetter"},
		{local.Topic, local.Ingest, "/Ingest"},
	} {
		if _, err := client.TopicAdminClient.CreateTopic(ctx,
			&pubsubpb.Topic{Name: full("topics", s.topic)}); err != nil && status.Code(err) != codes.AlreadyExists {
			return err
		}
		push := &pubsubpb.PushConfig{PushEndpoint: functions + s.path}
		if !a.config.Wrapped {
			push.Wrapper = &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}
		}
		sub := &pubsubpb.Subscription{
			Name: full("subscriptions", s.name), Topic: full("topics",
				s.topic), PushConfig: push, AckDeadlineSeconds: 60,
			RetryPolicy: &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(time.Second), MaximumBackoff: durationpb.New(10 * time.Second)},
		}
		if s.topic == local.Topic {
			sub.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: full("topics", local.DeadLetterTopic),
				MaxDeliveryAttempts: 100}
		}
		_, err := client.SubscriptionAdminClient.CreateSubscription(ctx, sub)
		if status.Code(err) == codes.AlreadyExists {
			err = client.SubscriptionAdminClient.ModifyPushConfig(ctx,
				&pubsubpb.ModifyPushConfigRequest{Subscription: sub.Name, PushConfig: push})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

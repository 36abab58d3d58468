package doctor

import (
	"context"
	"fmt"
	"path"
	"strings"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Topics are the topics of a pipeline.
type Topics struct{ Project, Batches, DeadLetters string }

// Messages looks whether the topics are there, and their subscriptions push as the pipeline needs it.
func Messages(ctx context.Context, client *pubsub.Client, t Topics) []Finding {
	dead := fmt.Sprintf("projects/%s/topics/%s", t.Project, t.DeadLetters)
	var found []Finding
	for _, name := range []string{t.Batches, t.DeadLetters} {
		full := fmt.Sprintf("projects/%s/topics/%s", t.Project, name)
		what := "topic " + name
		_, err := client.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: full})
		switch status.Code(err) {
		case codes.OK:
			found = append(found, ok(what, "there"))
		case codes.NotFound:
			found = append(found, failed(what, "not there",
				"./scripts/deploy makes it; the bridge keeps its records in Kafka until then"))
			continue
		case codes.PermissionDenied:
			found = append(found, failed(what, "may not be read: "+status.Convert(err).Message(),
				"give this account roles/pubsub.viewer"))
			continue
		default:
			return append(found, Finding{State: Unknown, What: what, Said: err.Error(),
				Remedy: "see whether the project is right, and the network"})
		}
		found = append(found, subscriptions(ctx, client, full, name == t.Batches, dead)...)
	}
	return found
}

// subscriptions looks at those of a topic. batches says that it is the one that the bridge publishes to.
func subscriptions(ctx context.Context, client *pubsub.Client, topic string, batches bool, dead string) []Finding {
	what := "subscriptions of " + path.Base(topic)
	var found []Finding
	pushes := 0
	for it := client.TopicAdminClient.ListTopicSubscriptions(ctx,
		&pubsubpb.ListTopicSubscriptionsRequest{Topic: topic}); ; {
		name, err := it.Next()
		if err == iterator.Done {
			break
		}
		if err != nil {
			return append(found, Finding{State: Unknown, What: what, Said: err.Error(),
				Remedy: "give this account roles/pubsub.viewer"})
		}
		s, err := client.SubscriptionAdminClient.GetSubscription(ctx,
			&pubsubpb.GetSubscriptionRequest{Subscription: name})
		if err != nil {
			return append(found, Finding{State: Unknown, What: "subscription " + path.Base(name), Said: err.Error(),
				Remedy: "give this account roles/pubsub.viewer"})
		}
		if s.GetPushConfig().GetPushEndpoint() == "" {
			continue // somebody else's: packed batches are of no use to a pull subscription
		}
		pushes++
		found = append(found, subscription(s, batches, dead))
	}
	switch {
	case pushes == 0:
		return append(found, failed(what, "none pushes: what is published is lost", "./scripts/deploy makes it"))
	case pushes > 1:
		found = append(found, Finding{State: Warning, What: what,
			Said:   fmt.Sprintf("%d push: each makes a row of each event", pushes),
			Remedy: "delete all but the deployment's"})
	}
	return found
}

// leastDeadline is the handlers' own limit, seconds: HANDLER_TIMEOUT.
const leastDeadline = 60

func subscription(s *pubsubpb.Subscription, batches bool, dead string) Finding {
	what := "subscription " + path.Base(s.Name)
	var wrong []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	add(s.Detached, "it is detached")
	add(s.State == pubsubpb.Subscription_RESOURCE_ERROR,
		"Pub/Sub cannot push: its endpoint or its service account is not what it may use")
	wrapper := s.PushConfig.GetNoWrapper()
	add(wrapper != nil && !wrapper.WriteMetadata, "it pushes without metadata (no_wrapper.write_metadata): no request can be told from another")
	add(s.AckDeadlineSeconds < leastDeadline, "its ack deadline of %d s is below %d s: what is still being written is pushed again", s.AckDeadlineSeconds, leastDeadline)
	policy := s.DeadLetterPolicy
	add(batches && policy == nil, "it has no dead-letter topic: a message that always fails is pushed until it expires")
	add(batches && policy != nil && policy.DeadLetterTopic != dead, "its dead letters go to %s, not %s",
		path.Base(policy.GetDeadLetterTopic()), path.Base(dead))
	add(!batches && policy != nil, "dead letters have a dead-letter topic themselves: they are lost there")
	add(s.RetryPolicy == nil, "it has no retry policy: what fails is pushed again at once")
	add(s.ExpirationPolicy != nil && s.ExpirationPolicy.Ttl != nil && s.ExpirationPolicy.Ttl.AsDuration() > 0,
		"it expires when nothing was pushed for %v",
		s.GetExpirationPolicy().GetTtl().AsDuration())
	if len(wrong) > 0 {
		return failed(what, strings.Join(wrong, "; "), "./scripts/deploy sets what infra/pubsub.tf says")
	}
	return ok(what, "pushes to %s", s.PushConfig.PushEndpoint)
}

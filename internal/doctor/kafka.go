package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/kafkaclient"
)

// kafkaTimeout bounds each question to Kafka, if ctx does not end before.
const kafkaTimeout = 15 * time.Second

func left(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Millisecond, min(kafkaTimeout, time.Until(end)))
	}
	return kafkaTimeout
}

// Kafka looks whether Kafka answers, has the topics, by name or, from ^ on, by regular expression, and knows the
// bridge's group.
func Kafka(ctx context.Context, c *kafkaclient.Connection, group string, topics []string) []Finding {
	const what = "Kafka"
	remedy := "see whether the servers, the network and the properties (KAFKA_CONFIG_*) are those of the bridge"
	properties := c.ConfigMap()
	properties["enable.metrics.push"] = false
	properties["log_level"] = 2 // what fails is told once, below
	admin, err := kafka.NewAdminClient(&properties)
	if err != nil {
		return []Finding{failed(what, err.Error(), "check --kafka-config")}
	}
	defer admin.Close()
	token, err := c.Token(ctx)
	if err == nil && token != nil {
		err = admin.SetOAuthBearerToken(*token)
	}
	if err != nil {
		return []Finding{failed(what, err.Error(), remedy)}
	}
	md, err := admin.GetMetadata(nil, true, int(left(ctx).Milliseconds()))
	if err != nil {
		return []Finding{failed(what, "does not answer: "+err.Error(), remedy)}
	}
	found := []Finding{ok(what, "answers, %d brokers, %d topics that this user sees", len(md.Brokers), len(md.Topics))}
	for _, wanted := range topics {
		found = append(found, kafkaTopic(md, wanted))
	}
	return append(found, consumerGroup(ctx, admin, group))
}

func kafkaTopic(md *kafka.Metadata, wanted string) Finding {
	what := "Kafka topic " + wanted
	match := func(name string) bool { return name == wanted }
	if strings.HasPrefix(wanted, "^") {
		pattern, err := regexp.Compile(wanted)
		if err != nil {
			return failed(what, "is no regular expression: "+err.Error(), "correct it in the contract")
		}
		match = pattern.MatchString
	}
	var names []string
	partitions := 0
	for name, t := range md.Topics {
		if match(name) && t.Error.Code() == kafka.ErrNoError {
			names = append(names, name)
			partitions += len(t.Partitions)
		}
	}
	if len(names) == 0 {
		return failed(what, "not there, or this user may not see it",
			"create it, or give the user the right to describe and read it (ACL)")
	}
	slices.Sort(names)
	return ok(what, "there, %d partitions: %s", partitions, strings.Join(names, ", "))
}

func consumerGroup(ctx context.Context, admin *kafka.AdminClient, group string) Finding {
	what := "consumer group " + group
	result, err := admin.DescribeConsumerGroups(ctx, []string{group}, kafka.SetAdminRequestTimeout(left(ctx)))
	if err == nil && len(result.ConsumerGroupDescriptions) == 1 {
		if e := result.ConsumerGroupDescriptions[0].Error; e.Code() != kafka.ErrNoError &&
			e.Code() != kafka.ErrGroupIDNotFound {
			err = e
		}
	}
	var code kafka.Error
	switch {
	case errors.As(err, &code) && code.Code() == kafka.ErrGroupAuthorizationFailed:
		return failed(what, "this user may not read it", "give it the right to (ACL: READ on the group)")
	case err != nil:
		return Finding{State: Unknown, What: what, Said: err.Error()}
	}
	d := result.ConsumerGroupDescriptions[0]
	offsets, err := admin.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group}},
		kafka.SetAdminRequestTimeout(left(ctx)))
	committed := 0
	if err == nil {
		for _, g := range offsets.ConsumerGroupsTopicPartitions {
			for _, p := range g.Partitions {
				if p.Error == nil && p.Offset >= 0 {
					committed++
				}
			}
		}
	}
	said := fmt.Sprintf("%d members, %s; offsets of %d partitions", len(d.Members), d.State, committed)
	if len(d.Members) == 0 {
		return Finding{State: Warning, What: what, Said: said,
			Remedy: "start the bridge, or see in its log why it does not join"}
	}
	return ok(what, "%s", said)
}

package kafka

import (
	"fmt"
	"slices"
	"strings"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
)

// internalTopics are Kafka's own, which a regular expression must not take: the bridge
// would publish its own commits.
const internalTopics = "^__"

// ConfigMap is the configuration of the Kafka consumer: the bridge's
// defaults, what the operator has set over them, and what is fixed over that.
func ConfigMap(c *bridge.Config) *kafka.ConfigMap {
	m := kafka.ConfigMap{
		// Duplicates after a crash are what was acknowledged since the last commit.
		"auto.commit.interval.ms": "1000",
		// The default of a second is the bottleneck of a consumer that keeps up.
		"fetch.queue.backoff.ms": "10",
		// Records wait for a batch anyway: that a broker waits a moment until it has some spares
		// it, and us, hundreds of requests a second. Measured: test/docs/scale.md.
		"fetch.min.bytes":   "100000",
		"fetch.wait.max.ms": "100",
		// Prefetched records are bounded by half of what may be in flight, and one
		// answer of a broker adds at most an eighth.
		"queued.max.messages.kbytes": fmt.Sprint(min(2_097_151, max(1024, c.MaxInflightBytes/2/1024))),
		"fetch.max.bytes":            fmt.Sprint(min(50<<20, max(2<<20, c.MaxInflightBytes/8))),
		// Where idle partitions stand, see bridge.Member.
		"statistics.interval.ms": "5000",
	}
	// Who names such a topic wants it.
	if !slices.ContainsFunc(c.Subscription(), func(t string) bool { return strings.HasPrefix(t, "__") }) {
		m["topic.blacklist"] = internalTopics
	}
	for name, value := range c.Connection().ConfigMap() {
		m[name] = value
	}
	m["group.id"] = c.Group
	m["auto.offset.reset"] = c.OffsetReset
	m["enable.auto.offset.store"] = "false"
	m["enable.auto.commit"] = "true"
	m["partition.assignment.strategy"] = "cooperative-sticky"
	m["go.logs.channel.enable"] = true
	return &m
}

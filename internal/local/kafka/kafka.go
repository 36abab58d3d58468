// Package kafka is a Kafka cluster for one process: franz-go's kfake, with the
// project's topics and what tests ask of it.
//
//	k, err := kafka.Start(kafka.Config{Topics: map[string]int32{"clickstream": 6}})
//	defer k.Close()
//	// clients: bootstrap.servers = k.Brokers(), enable.metrics.push = false
//
//	ends := k.EndOffsets("clickstream")                           // per partition
//	done := k.Committed("clickstream-to-bigquery", "clickstream") // per partition, -1: never
//
//	fault := k.Cluster().Fault(kfake.Fault{Keys: …, Err: kerr.NotLeaderForPartition, Count: 3})
//	k.Down(); k.Up()                                              // all brokers unreachable and back
//	err = k.MoveLeaders("clickstream")                                  // every partition elects another broker
//	k.Cut("bridge-1")                                             // one client is gone, as by kill -9
//
// With a Dir, topics, records and committed offsets survive, also an end without
// Close; without it they are in memory.
package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/internal/local/listener"
)

// Config says what the cluster holds. The zero value is one broker without topics.
type Config struct {
	Brokers int              // default 1
	Topics  map[string]int32 // partitions by topic; created if missing
	Dir     string           // keeps everything here; empty: in memory
	Ports   []int            // one per broker; default: chosen
	// MaxMessageBytes is the largest produce batch that brokers take; default
	// 32 MiB, so that records larger than Pub/Sub takes can be tested.
	MaxMessageBytes int
	// Options are further options of kfake: SASL, TLS, session timeouts.
	Options []kfake.Opt
}

// Cluster is a running cluster.
type Cluster struct {
	fake    *kfake.Cluster
	once    sync.Once
	clients clients
	unstuck atomic.Int64

	mu        sync.Mutex
	listeners []*listener.Listener
}

// Start starts the brokers and creates the missing topics.
func Start(c Config) (*Cluster, error) {
	k := &Cluster{clients: clients{open: map[string]map[net.Conn]bool{}, cut: map[string]bool{}}}
	options := []kfake.Opt{
		kfake.NumBrokers(max(c.Brokers, 1)),
		kfake.BrokerConfigs(map[string]string{
			"message.max.bytes": strconv.Itoa(cmp.Or(c.MaxMessageBytes, 32<<20)),
			// Brokers want 6 s; tests that kill members need not wait so long.
			"group.min.session.timeout.ms": "1000",
		}),
		kfake.ListenFn(k.listen),
	}
	if len(c.Ports) > 0 {
		options = append(options, kfake.Ports(c.Ports...))
	}
	if c.Dir != "" {
		options = append(options, kfake.DataDir(c.Dir))
	}
	fake, err := kfake.NewCluster(append(options, c.Options...)...)
	if err != nil && c.Dir != "" {
		return nil, fmt.Errorf("kafka: %w: if the folder %s is damaged, move it away or bring a copy back", err, c.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k.fake = fake
	for _, topic := range slices.Sorted(maps.Keys(c.Topics)) {
		if fake.TopicInfo(topic) != nil {
			continue // kept in Dir
		}
		if err := fake.CreateTopic(topic, c.Topics[topic], nil); err != nil {
			k.Close()
			return nil, fmt.Errorf("kafka: topic %s: %w", topic, err)
		}
	}
	return k, nil
}

func (k *Cluster) listen(_, address string) (net.Listener, error) {
	l, err := listener.Listen(address)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listeners = append(k.listeners, l)
	return watched{l, &k.clients}, nil
}

// Brokers are the brokers' addresses as bootstrap.servers wants them.
func (k *Cluster) Brokers() string { return strings.Join(k.fake.ListenAddrs(), ",") }

// Cluster is the fake itself: faults, controls, topics, groups.
func (k *Cluster) Cluster() *kfake.Cluster { return k.fake }

// EndOffsets are the offsets of the next records of a topic (the high
// watermarks), by partition; nil if there is no such topic. Without transactions
// and deletions their sum is the number of records produced.
func (k *Cluster) EndOffsets(topic string) []int64 {
	var ends []int64
	for _, p := range k.fake.PartitionInfos(topic) {
		ends = append(ends, p.HighWatermark)
	}
	return ends
}

// Committed are a group's committed offsets in a topic, by partition: -1 where it
// has none.
func (k *Cluster) Committed(group, topic string) []int64 {
	offsets := make([]int64, len(k.fake.PartitionInfos(topic)))
	info := k.fake.GroupInfo(group)
	for p := range offsets {
		offsets[p] = -1
		if info == nil {
			continue
		}
		if commit, ok := info.Commits[topic][int32(p)]; ok {
			offsets[p] = commit.Offset
		}
	}
	return offsets
}

// Lag is the number of records of a topic that a group has not committed.
func (k *Cluster) Lag(group, topic string) int64 {
	var lag int64
	committed := k.Committed(group, topic)
	for _, p := range k.fake.PartitionInfos(topic) {
		from := p.LogStartOffset
		if int(p.Partition) < len(committed) {
			from = max(from, committed[p.Partition])
		}
		lag += p.HighWatermark - from
	}
	return lag
}

// MoveLeaders moves every partition of every given topic to the next broker.
func (k *Cluster) MoveLeaders(topics ...string) error {
	brokers := int32(len(k.fake.ListenAddrs()))
	for _, topic := range topics {
		for _, p := range k.fake.PartitionInfos(topic) {
			if err := k.fake.MoveTopicPartition(topic, p.Partition, (p.Leader+1)%brokers); err != nil {
				return fmt.Errorf("kafka: move %s/%d: %w", topic, p.Partition, err)
			}
		}
	}
	return nil
}

// Members are the ids of a group's members, which begin with their client.id.
func (k *Cluster) Members(group string) []string {
	var ids []string
	if info := k.fake.GroupInfo(group); info != nil {
		for _, m := range info.Members {
			ids = append(ids, m.MemberID)
		}
	}
	return ids
}

// Evict removes a member from a group, as brokers do when its session has timed
// out. kfake never does if the member's connection broke while it waited for the
// answer to a join or a sync: such a member keeps its partitions for ever.
//
// While the group waits in a sync Evict refuses, and is to be tried again: what
// happens otherwise, Unstick tells.
func (k *Cluster) Evict(ctx context.Context, group, member string) error {
	if info := k.fake.GroupInfo(group); info != nil && info.State == "CompletingRebalance" {
		return fmt.Errorf("kafka: evict %s: the group waits in a sync", member)
	}
	return k.leave(ctx, group, member)
}

// leave leaves the group on a member's behalf.
func (k *Cluster) leave(ctx context.Context, group, member string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.fake.ListenAddrs()...))
	if err != nil {
		return fmt.Errorf("kafka: evict: %w", err)
	}
	defer client.Close()
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = group
	request.Members = []kmsg.LeaveGroupRequestMember{{MemberID: member}}
	if _, err := request.RequestWith(ctx, client); err != nil {
		return fmt.Errorf("kafka: evict %s: %w", member, err)
	}
	return nil
}

// Down makes all brokers unreachable: connections break, new ones are refused.
func (k *Cluster) Down() error { return k.each((*listener.Listener).Down) }

// Up makes the brokers reachable again on the same addresses.
func (k *Cluster) Up() error { return k.each((*listener.Listener).Up) }

func (k *Cluster) each(f func(*listener.Listener) error) error {
	k.mu.Lock()
	listeners := slices.Clone(k.listeners)
	k.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, f(l))
	}
	return errors.Join(errs...)
}

// Close stops the brokers.
func (k *Cluster) Close() error {
	k.once.Do(k.fake.Close)
	return nil
}

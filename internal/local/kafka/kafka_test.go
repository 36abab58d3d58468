package kafka_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/local/kafka"
)

func start(t *testing.T, c kafka.Config) *kafka.Cluster {
	t.Helper()
	k, err := kafka.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func produce(t *testing.T, k *kafka.Cluster, topic string, partition int32, values ...string) {
	t.Helper()
	p, err := client.NewProducer(&client.ConfigMap{"bootstrap.servers": k.Brokers(), "enable.metrics.push": false,
		"compression.type": "zstd", "message.max.bytes": 20 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	reports := make(chan client.Event, len(values))
	for _, v := range values {
		if err := p.Produce(&client.Message{TopicPartition: client.TopicPartition{Topic: &topic, Partition: partition},
			Value: []byte(v)}, reports); err != nil {
			t.Fatal(err)
		}
	}
	for range values {
		if m := (<-reports).(*client.Message); m.TopicPartition.Error != nil {
			t.Fatal(m.TopicPartition.Error)
		}
	}
}

// consume reads n records with the bridge's client and commits them.
func consume(t *testing.T, k *kafka.Cluster, topic string, n int) []string {
	t.Helper()
	c, err := client.NewConsumer(&client.ConfigMap{
		"bootstrap.servers": k.Brokers(), "group.id": "g", "auto.offset.reset": "earliest", "enable.metrics.push": false,
		"enable.auto.commit": false, "partition.assignment.strategy": "cooperative-sticky", "fetch.message.max.bytes": 20 << 20, "fetch.max.bytes": 40 << 20, "receive.message.max.bytes": 50 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Subscribe(topic, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	for end := time.Now().Add(2 * time.Minute); len(got) < n; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d records", len(got), n)
		}
		m, err := c.ReadMessage(time.Second)
		if err != nil {
			continue
		}
		got = append(got, string(m.Value))
	}
	if _, err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	return got
}

// Protects the figures that say whether anything is missing: end offsets, commits
// and lag, and that they survive a restart with a Dir.
func TestOffsetsSurviveARestart(t *testing.T) {
	config := kafka.Config{Topics: map[string]int32{"clickstream": 3}, Dir: t.TempDir()}
	k := start(t, config)
	produce(t, k, "clickstream", 1, "a", "b", "c")
	if got := k.Committed("g", "clickstream"); !slices.Equal(got, []int64{-1, -1, -1}) {
		t.Errorf("committed %v before any commit", got)
	}
	if got := k.Lag("g", "clickstream"); got != 3 {
		t.Errorf("lag %d, want 3", got)
	}
	if got := consume(t, k, "clickstream", 3); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("consumed %v", got)
	}
	k.Close()

	k = start(t, config)
	if got := k.EndOffsets("clickstream"); !slices.Equal(got, []int64{0, 3, 0}) {
		t.Errorf("end offsets %v", got)
	}
	if got := k.Committed("g", "clickstream"); got[1] != 3 {
		t.Errorf("committed %v, want 3 in partition 1", got)
	}
	if got := k.Lag("g", "clickstream"); got != 0 {
		t.Errorf("lag %d, want 0", got)
	}
	if k.EndOffsets("absent") != nil {
		t.Error("an absent topic has end offsets")
	}
}

// Protects oversize tests: the cluster takes what Pub/Sub cannot.
func TestLargeRecords(t *testing.T) {
	k := start(t, kafka.Config{Topics: map[string]int32{"clickstream": 1}})
	large := make([]byte, 12<<20)
	for i := range large {
		large[i] = byte(i * 7 >> 3)
	}
	produce(t, k, "clickstream", 0, string(large))
	if got := consume(t, k, "clickstream", 1); got[0] != string(large) {
		t.Errorf("%d bytes came back", len(got[0]))
	}
}

// Protects the outage tests: clients find the brokers again after all of them
// were unreachable, and after partitions have moved.
func TestDownUpAndMovedLeaders(t *testing.T) {
	k := start(t, kafka.Config{Brokers: 3, Topics: map[string]int32{"clickstream": 2}})
	produce(t, k, "clickstream", 0, "before")
	address := k.Brokers()
	if err := k.Down(); err != nil {
		t.Fatal(err)
	}
	if err := k.Up(); err != nil {
		t.Fatal(err)
	}
	if k.Brokers() != address {
		t.Errorf("brokers at %s, were at %s", k.Brokers(), address)
	}
	before := k.Cluster().PartitionInfos("clickstream")
	if err := k.MoveLeaders("clickstream"); err != nil {
		t.Fatal(err)
	}
	for i, p := range k.Cluster().PartitionInfos("clickstream") {
		if p.Leader == before[i].Leader {
			t.Errorf("partition %d is still led by broker %d", p.Partition, p.Leader)
		}
	}
	produce(t, k, "clickstream", 0, "after")
	if got := fmt.Sprint(consume(t, k, "clickstream", 2)); got != "[before after]" {
		t.Errorf("consumed %s", got)
	}
}

//go:build thirdparty

package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/test/thirdparty/kafka"
)

func start(t *testing.T, c kafka.Config) (context.Context, *kafka.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	c.Dir = t.TempDir()
	k, err := kafka.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return ctx, k
}

func produce(t *testing.T, k *kafka.Cluster, topic string, value string) {
	t.Helper()
	p, err := client.NewProducer(k.Client())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	report := make(chan client.Event, 1)
	if err := p.Produce(&client.Message{TopicPartition: client.TopicPartition{Topic: &topic, Partition: 0},
		Value: []byte(value)}, report); err != nil {
		t.Fatal(err)
	}
	if m := (<-report).(*client.Message); m.TopicPartition.Error != nil {
		t.Fatal(m.TopicPartition.Error)
	}
}

// read reads n records of partition 0.
func read(t *testing.T, k *kafka.Cluster, topic string, n int) []string {
	t.Helper()
	config := k.Client()
	for name, value := range map[string]client.ConfigValue{"group.id": "g", "enable.auto.commit": false} {
		(*config)[name] = value
	}
	c, err := client.NewConsumer(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Assign([]client.TopicPartition{{Topic: &topic, Partition: 0, Offset: 0}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for end := time.Now().Add(time.Minute); len(got) < n; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d records", len(got), n)
		}
		if m, err := c.ReadMessage(time.Second); err == nil {
			got = append(got, string(m.Value))
		}
	}
	return got
}

// Protects what the other tests stand on: records survive a broker's death and
// its orderly restart, and the Java console producer reaches the broker.
func TestOneBroker(t *testing.T) {
	ctx, k := start(t, kafka.Config{})
	if err := k.CreateTopic(ctx, "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, k, "t", "a")
	if err := k.Kill(0); err != nil {
		t.Fatal(err)
	}
	if err := k.StartBroker(ctx, 0); err != nil {
		t.Fatal(err)
	}
	produce(t, k, "t", "b")
	if err := k.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := k.StartBroker(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := k.Tool(ctx, "org.apache.kafka.tools.ConsoleProducer", strings.NewReader("c\nd\n"), "--topic",
		"t"); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, k, "t", 4), []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

// Protects the failover tests: a partition's leader dies, another leads, nothing
// acknowledged is gone, and the dead one comes back.
func TestThreeBrokers(t *testing.T) {
	ctx, k := start(t, kafka.Config{Brokers: 3})
	if err := k.CreateTopic(ctx, "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, k, "t", "a")
	leader, err := k.Leader("t", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Kill(leader); err != nil {
		t.Fatal(err)
	}
	produce(t, k, "t", "b")
	if now, err := k.Leader("t", 0); err != nil || now == leader {
		t.Errorf("the leader is %d, %v; it was %d", now, err, leader)
	}
	if err := k.StartBroker(ctx, leader); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(read(t, k, "t", 2)); got != "[a b]" {
		t.Errorf("read %s", got)
	}
}

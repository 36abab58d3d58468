// Command floor reads a topic and discards it: what reading Kafka costs by itself, with librdkafka as Sluice's bridge
// has it or with franz-go. It reports on standard output when it has read as many records as it was told.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	brokers := flag.String("brokers", "", "Kafka's bootstrap servers")
	topic := flag.String("topic", "", "topic")
	group := flag.String("group", "", "consumer group")
	records := flag.Int("records", 0, "how many to read")
	franz := flag.Bool("franz", false, "with franz-go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	read := withConfluent
	if *franz {
		read = withFranz
	}
	if err := read(ctx, *brokers, *topic, *group, *records); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
	fmt.Println("read")
	<-ctx.Done()
}

func withConfluent(ctx context.Context, brokers, topic, group string, records int) error {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": brokers, "group.id": group,
		"auto.offset.reset": "earliest"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Subscribe(topic, nil); err != nil {
		return err
	}
	for n := 0; n < records && ctx.Err() == nil; {
		_, err := c.ReadMessage(time.Second)
		if e, ok := err.(kafka.Error); ok && e.IsTimeout() {
			continue
		}
		if err != nil {
			return err
		}
		n++
	}
	return nil
}

func withFranz(ctx context.Context, brokers, topic, group string, records int) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer c.Close()
	for n := 0; n < records && ctx.Err() == nil; {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			return err
		}
		n += f.NumRecords()
	}
	return nil
}

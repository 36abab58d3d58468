// Command day is what a good engineer writes in a day: confluent-kafka-go, encoding/json and BigQuery's managedwriter,
// batches of 500, offsets committed when BigQuery has answered. It is what Sluice is measured beside.
//
//	day -brokers B -topic T -group G -bigquery HOST:PORT          a struct: members that it does not name are lost
//	day -map …                                                    a map: they go into a JSON column
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os/signal"
	"syscall"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"cloud.google.com/go/bigquery/storage/managedwriter/adapt"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

const perBatch = 500

var schema = bigquery.Schema{
	{Name: "event_id", Type: bigquery.StringFieldType, Required: true},
	{Name: "event_timestamp", Type: bigquery.TimestampFieldType, Required: true},
	{Name: "event_type", Type: bigquery.StringFieldType, Required: true},
	{Name: "user_id", Type: bigquery.StringFieldType, Required: true},
	{Name: "page_url", Type: bigquery.StringFieldType},
	{Name: "product_id", Type: bigquery.StringFieldType},
	{Name: "properties", Type: bigquery.JSONFieldType},
	{Name: "kafka_topic", Type: bigquery.StringFieldType},
	{Name: "kafka_partition", Type: bigquery.IntegerFieldType},
	{Name: "kafka_offset", Type: bigquery.IntegerFieldType},
}

type event struct {
	ID        string  `json:"event_id"`
	Timestamp string  `json:"event_timestamp"`
	Type      string  `json:"event_type"`
	User      string  `json:"user_id"`
	Page      *string `json:"page_url"`
	Product   *string `json:"product_id"`
}

func main() {
	brokers := flag.String("brokers", "", "Kafka's bootstrap servers")
	topic := flag.String("topic", "", "topic")
	group := flag.String("group", "", "consumer group")
	address := flag.String("bigquery", "", "host:port of the Storage Write API")
	keep := flag.Bool("map", false, "decode into a map, and keep all members")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *brokers, *topic, *group, *address, *keep); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, brokers, topic, group, address string, keep bool) error {
	client, err := managedwriter.NewClient(ctx, "p", option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return err
	}
	defer client.Close()
	table, err := adapt.BQSchemaToStorageTableSchema(schema)
	if err != nil {
		return err
	}
	built, err := adapt.StorageSchemaToProto2Descriptor(table, "root")
	if err != nil {
		return err
	}
	of := built.(protoreflect.MessageDescriptor)
	normal, err := adapt.NormalizeDescriptor(of)
	if err != nil {
		return err
	}
	stream, err := client.NewManagedStream(ctx, managedwriter.WithDestinationTable("projects/p/datasets/clickstream/tables/fact_events"),
		managedwriter.WithType(managedwriter.DefaultStream), managedwriter.WithSchemaDescriptor(normal))
	if err != nil {
		return err
	}
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": false,
	})
	if err != nil {
		return err
	}
	defer consumer.Close()
	if err := consumer.Subscribe(topic, nil); err != nil {
		return err
	}
	var rows [][]byte
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		result, err := stream.AppendRows(ctx, rows)
		if err != nil {
			return err
		}
		if _, err := result.GetResult(ctx); err != nil {
			return err
		}
		rows = rows[:0]
		_, err = consumer.Commit()
		return err
	}
	for ctx.Err() == nil {
		m, err := consumer.ReadMessage(200 * time.Millisecond)
		if e, ok := err.(kafka.Error); ok && e.IsTimeout() {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		row, err := rowOf(of, m, keep)
		if err != nil {
			return err
		}
		if rows = append(rows, row); len(rows) == perBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func rowOf(of protoreflect.MessageDescriptor, m *kafka.Message, keep bool) ([]byte, error) {
	row := dynamicpb.NewMessage(of)
	set := func(name string, v any) {
		row.Set(of.Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
	}
	when := ""
	if keep {
		var e map[string]any
		if err := json.Unmarshal(m.Value, &e); err != nil {
			return nil, err
		}
		when, _ = e["event_timestamp"].(string)
		delete(e, "event_timestamp")
		for _, name := range []string{"event_id", "event_type", "user_id", "page_url", "product_id"} {
			if v, ok := e[name].(string); ok {
				set(name, v)
			}
			delete(e, name)
		}
		rest, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		set("properties", string(rest))
	} else {
		var e event
		if err := json.Unmarshal(m.Value, &e); err != nil {
			return nil, err
		}
		when = e.Timestamp
		set("event_id", e.ID)
		set("event_type", e.Type)
		set("user_id", e.User)
		if e.Page != nil {
			set("page_url", *e.Page)
		}
		if e.Product != nil {
			set("product_id", *e.Product)
		}
	}
	at, err := time.Parse(time.RFC3339, when)
	if err != nil {
		return nil, err
	}
	set("event_timestamp", at.UnixMicro())
	set("kafka_topic", *m.TopicPartition.Topic)
	set("kafka_partition", int64(m.TopicPartition.Partition))
	set("kafka_offset", int64(m.TopicPartition.Offset))
	return proto.Marshal(row)
}

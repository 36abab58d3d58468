package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/avrov2"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/jsonschema"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/protobuf"

	"sluice/functions/service"
	"sluice/internal/batch"
	"sluice/internal/reference/referencepb"
)

// packRecords is pack for records of one's own.
func packRecords(t *testing.T, records ...batch.Record) []byte {
	t.Helper()
	e := batch.NewEncoder(batch.Header{})
	for i := range records {
		r := &records[i]
		r.Topic, r.Offset, r.Timestamp = "clicks", int64(i), kafkaTime.UnixMilli()
		e.Append(r)
	}
	p, err := e.Payload(nil)
	check(t, err)
	return p
}

// record is what a producer sends of a serializer's work.
func record(t *testing.T, headers []kafka.Header, value []byte, err error) batch.Record {
	t.Helper()
	check(t, err)
	r := batch.Record{Value: value}
	for _, h := range headers {
		r.Headers = append(r.Headers, batch.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	return r
}

// Protects what Confluent's own serializers write, Avro and Protobuf, with the schema's id before the value and in a
// header: each becomes its row.
func TestConfluentsSerializers(t *testing.T) {
	t.Parallel()
	type Order struct {
		ID     string    `avro:"id"`
		Amount *float64  `avro:"amount"`
		At     time.Time `avro:"at"`
		Tags   []string  `avro:"tags"`
	}
	const orderSchema = `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},{"name":"amount","type":["null","double"]},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"tags","type":{"type":"array","items":"string"}}]}`
	amount, at := 12.5, time.Date(2026, 1, 31, 10, 0, 0, 250_000_000, time.UTC)
	for _, header := range []bool{false, true} {
		more := options{contracts: nil}
		if header {
			more.config = func(c *service.Config) {
				for _, of := range c.Read {
					of.IDHeader = serde.ValueSchemaIDHeader
				}
			}
		}
		columns := "- {name: id, type: STRING, mode: REQUIRED}\n- {name: amount, type: FLOAT64}\n- {name: at, type: TIMESTAMP}\n- {name: tags, type: STRING, mode: REPEATED}\n"
		w := startWrittenWith(t, "avro", columns, more)
		client, err := schemaregistry.NewClient(schemaregistry.NewConfig(w.registry.URL()))
		check(t, err)
		_, err = client.Register("clicks-value", schemaregistry.SchemaInfo{Schema: orderSchema}, false)
		check(t, err)
		config := avrov2.NewSerializerConfig()
		config.AutoRegisterSchemas, config.UseLatestVersion = false, true
		avro, err := avrov2.NewSerializer(client, serde.ValueSerde, config)
		check(t, err)
		if header {
			avro.SchemaIDSerializer = serde.HeaderSchemaIDSerializer
		}
		headers, value, err := avro.SerializeWithHeaders("clicks", &Order{ID: "a", Amount: &amount, At: at,
			Tags: []string{"x", "y"}})
		w.publish(packRecords(t, record(t, headers, value, err)))
		if n := w.count(`SELECT COUNT(*) FROM orders WHERE id = 'a' AND amount = 12.5 AND epoch_ms("at") = 1769853600250 AND tags = ['x', 'y']`); n != 1 || header != (len(headers) > 0) {
			t.Errorf("header %v: %d rows, letters %+v", header, n, w.letters())
		}

		p := startWrittenWith(t, "protobuf", "- {name: object, type: STRING, mode: REQUIRED}\n- {name: size, type: INT64}\n", more)
		client, err = schemaregistry.NewClient(schemaregistry.NewConfig(p.registry.URL()))
		check(t, err)
		proto, err := protobuf.NewSerializer(client, serde.ValueSerde, protobuf.NewSerializerConfig())
		check(t, err)
		if header { // which needs the GUID that only a registered schema has
			_, err = proto.Serialize("clicks", &referencepb.Reference{})
			check(t, err)
			config := protobuf.NewSerializerConfig()
			config.AutoRegisterSchemas, config.UseLatestVersion = false, true
			proto, err = protobuf.NewSerializer(client, serde.ValueSerde, config)
			check(t, err)
			proto.SchemaIDSerializer = serde.HeaderSchemaIDSerializer
		}
		headers, value, err = proto.SerializeWithHeaders("clicks", &referencepb.Reference{Object: "b", Size: 7})
		p.publish(packRecords(t, record(t, headers, value, err)))
		if n := p.count(`SELECT COUNT(*) FROM orders WHERE object = 'b' AND size = 7`); n != 1 {
			t.Errorf("header %v: %d rows, letters %+v", header, n, p.letters())
		}
	}
}

// Protects the third of Confluent's serializers, and that an event is held against the schema that it names before it
// is held against its contract.
func TestConfluentsJSONSchema(t *testing.T) {
	t.Parallel()
	w := startWrittenWith(t, "json_schema", "- {name: id, type: STRING, mode: REQUIRED}\n- {name: n, type: INT64}\n",
		options{})
	client, err := schemaregistry.NewClient(schemaregistry.NewConfig(w.registry.URL()))
	check(t, err)
	id, err := client.Register("clicks-value", schemaregistry.SchemaInfo{SchemaType: "JSON",
		Schema: `{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"integer","maximum":10}},"required":["id"]}`}, false)
	check(t, err)
	config := jsonschema.NewSerializerConfig()
	config.AutoRegisterSchemas, config.UseLatestVersion = false, true
	s, err := jsonschema.NewSerializer(client, serde.ValueSerde, config)
	check(t, err)
	headers, value, err := s.SerializeWithHeaders("clicks", map[string]any{"id": "a", "n": 7})
	w.publish(packRecords(t,
		record(t, headers, value, err),
		batch.Record{Value: []byte(framed(id, []byte(`{"id":"b","n":11}`)...))},
		batch.Record{Value: []byte(framed(id, []byte(`{"id":"c"`)...))}))
	if n := w.count("SELECT COUNT(*) FROM orders WHERE id = 'a' AND n = 7"); n != 1 {
		t.Errorf("%d rows", n)
	}
	letters := w.letters()
	if len(letters) != 2 || letters[0].Code != "schema_violation" || letters[0].Field != "n" ||
		!strings.Contains(letters[0].Error, "want at most 10; it was written with clicks-value version 1") ||
		letters[1].Code != "invalid_json" {
		t.Errorf("%+v", letters)
	}
}

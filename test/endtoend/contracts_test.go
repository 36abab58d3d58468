package endtoend

import (
	"fmt"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/go-cmp/cmp"

	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

// read reads a contract whose text begins after its version.
func read(t *testing.T, text string) *contract.Contract {
	t.Helper()
	c, err := contract.Read("test.yaml", []byte("contract: 1\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// streams returns contracts of tables a, b and c, with a topic each.
func streams(t *testing.T) []*contract.Contract {
	t.Helper()
	var all []*contract.Contract
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, read(t, "name: "+name+"\ntopics: topic."+name+"\nrest: drop\nevent: {id: id}\ncolumns: [{name: id, type: STRING, mode: REQUIRED}]\n"))
	}
	return all
}

// produce sends a record to a topic.
func produce(t *testing.T, p *local.Producer, topic string, key, value []byte, headers ...kafka.Header) {
	t.Helper()
	err := p.ProduceMessage(t.Context(), &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: 0}, Key: key, Value: value, Headers: headers,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// soon waits until the statement answers want.
func soon(t *testing.T, s *local.Stack, want [][]string, statement string, args ...any) {
	t.Helper()
	var diff string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if diff = cmp.Diff(want, query(t, s, statement, args...)); diff == "" {
			return
		}
	}
	t.Fatalf("%s (-want, +got):\n%s", statement, diff)
}

// Protects the promise that streams share a deployment and nothing else: with the table of one
// gone, the events of the others land, its own wait, and land when it is back.
func TestAMissingTableHoldsUpItsOwnEventsOnly(t *testing.T) {
	all := streams(t)
	s := start(t, pipeline.Config{Config: local.Config{Contracts: all, Partitions: 1}})
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := s.Warehouse.DropTable(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	const each = 200
	for i := range each {
		for _, c := range all {
			produce(t, p, c.SampleTopic(), nil, fmt.Appendf(nil, `{"id":"%d"}`, i))
		}
		if i%50 == 49 { // batches of their own
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, table := range []string{"a", "c"} {
		soon(t, s, [][]string{{"200"}}, "SELECT COUNT(DISTINCT id) FROM "+table)
	}
	if n := one(t, s, "SELECT COUNT(*) FROM events_dlq"); n[0] != "0" {
		t.Errorf("%s events were given up although their table may come back", n[0])
	}
	if err := s.Warehouse.CreateTable(t.Context(), all[1].Table); err != nil {
		t.Fatal(err)
	}
	soon(t, s, [][]string{{"200"}}, "SELECT COUNT(DISTINCT id) FROM b")
}

// Protects what a contract says of a record that is no event's member: its key, its headers and
// its place arrive in the columns, and in the dead letter, with the contract's name and table.
func TestKeyAndHeadersArrive(t *testing.T) {
	c := read(t, `name: shop
topics: {pattern: 'shop\.(web|app)'}
rest: reject
columns:
- {name: id, type: INT64, mode: REQUIRED}
- {name: tenant, type: STRING, header: tenant}
- {name: record_key, type: BYTES, kafka: key}
drop: {tenant: test}
`)
	s := start(t, pipeline.Config{Config: local.Config{Contracts: []*contract.Contract{c}, Topic: "shop.web",
		Partitions: 1}})
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tenant := func(name string) kafka.Header { return kafka.Header{Key: "tenant", Value: []byte(name)} }
	from := s.Kafka.EndOffsets(s.Topic())
	produce(t, p, "shop.web", []byte("k1"), []byte(`{"id":1}`), tenant("acme"), tenant("newer"))
	produce(t, p, "shop.web", []byte("k2"), []byte(`{"id":2}`), tenant("test"))
	produce(t, p, "shop.web", []byte("k3"), []byte(`{"id":3,"new":{"a":1}}`), tenant("acme"), kafka.Header{Key: "bin",
		Value: []byte{0xff}})
	account := await(t, s, p, from)
	if want := (local.Account{Landed: 1, DeadLettered: 1, LeftOut: 1}); account != want {
		t.Errorf("%+v, want %+v", account, want)
	}
	if diff := cmp.Diff([][]string{{"1", "newer", "k1", "shop.web", "0", "0"}},
		query(t, s, "SELECT id, tenant, record_key, kafka_topic, kafka_partition, kafka_offset FROM shop_once")); diff != "" {
		t.Errorf("rows (-want, +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{{"unknown_member", "NULL", "shop", "shop", "k3",
		`[{"key":"tenant","value":"acme"},{"key":"bin","value":null,"value_base64":"/w=="}]`}},
		query(t, s, "SELECT error_code, error_field, contract, target_table, kafka_key, CAST(kafka_headers AS VARCHAR) FROM events_dlq")); diff != "" {
		t.Errorf("dead letters (-want, +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{{"shop", "drop", "shop.web", "0", "1"}},
		query(t, s, "SELECT contract, rule, kafka_topic, kafka_partition, kafka_offset FROM events_left_out")); diff != "" {
		t.Errorf("records left out (-want, +got):\n%s", diff)
	}
	report, err := s.Audit(t.Context())
	if err != nil || report.Totals.Missing != 0 || report.Totals.LeftOut != 1 || report.Totals.Consumed != 3 {
		t.Errorf("audit %+v, %v", report.Totals, err)
	}
}

// Protects events of a topic that no contract takes: they are kept, with a reason that says
// what to do.
func TestATopicWithoutContract(t *testing.T) {
	s := start(t, pipeline.Config{Config: local.Config{Contracts: streams(t), Topic: "other", Partitions: 1}})
	send(t, s, record{value: []byte(`{"id":"1"}`)})
	got := one(t, s, "SELECT error_code, error, original_event, contract FROM events_dlq")
	want := []string{"no_contract", `No contract takes the topic "other": add it to the topics of one, deploy that, and replay.`, `{"id":"1"}`, "NULL"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letter (-want, +got):\n%s", diff)
	}
}

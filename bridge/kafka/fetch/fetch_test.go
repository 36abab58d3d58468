package fetch_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"

	"sluice/bridge/kafka/fetch"
	"sluice/internal/batch"
)

// consumer starts a broker and a consumer of topic "events", whose partitions go
// to the returned Fetcher.
func consumer(t *testing.T) (*kafka.Consumer, *fetch.Fetcher, *kafka.Producer) {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	brokers := broker.ListenAddrs()[0]
	c, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": brokers, "group.id": "g", "auto.offset.reset": "earliest",
		"enable.metrics.push": false, "partition.assignment.strategy": "cooperative-sticky",
		"enable.auto.offset.store": false, "statistics.interval.ms": 50,
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := fetch.New(c, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	err = c.SubscribeTopics([]string{"events"}, func(c *kafka.Consumer, e kafka.Event) error {
		switch e := e.(type) {
		case kafka.AssignedPartitions:
			for _, p := range e.Partitions {
				if err := f.Forward(*p.Topic, p.Partition); err != nil {
					t.Error(err)
				}
			}
			return c.IncrementalAssign(e.Partitions)
		case kafka.RevokedPartitions:
			return c.IncrementalUnassign(e.Partitions)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": brokers, "enable.metrics.push": false})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return c, f, p
}

func produce(t *testing.T, p *kafka.Producer, m *kafka.Message) {
	t.Helper()
	topic := "events"
	m.TopicPartition.Topic = &topic
	done := make(chan kafka.Event, 1)
	if err := p.Produce(m, done); err != nil {
		t.Fatal(err)
	}
	if m := (<-done).(*kafka.Message); m.TopicPartition.Error != nil {
		t.Fatal(m.TopicPartition.Error)
	}
}

// collect fetches until at least n records came, as copies, and fails when they do
// not.
func collect(t *testing.T, c *kafka.Consumer, f *fetch.Fetcher, n int) []string {
	t.Helper()
	var got []string
	var r batch.Record
	for deadline := time.Now().Add(time.Minute); len(got) < n && time.Now().Before(deadline); {
		if ev := c.Poll(0); ev != nil {
			if _, ok := ev.(*kafka.Message); ok {
				t.Fatal("a record came through Poll: its partition was not forwarded")
			}
		}
		for i := range f.Fetch(20 * time.Millisecond) {
			if f.Err(i) != 0 {
				t.Fatal(f.Err(i))
			}
			f.Record(i, &r)
			s := fmt.Sprintf("%s[%d]@%d key %s value %s", f.TopicName(i), f.Source(i).Partition, r.Offset, quote(r.Key),
				quote(r.Value))
			for _, h := range r.Headers {
				s += fmt.Sprintf(" %q=%s", h.Key, quote(h.Value))
			}
			if r.Timestamp != 0 {
				s += fmt.Sprint(" ", r.Timestamp)
			}
			got = append(got, s)
		}
		f.Release()
	}
	if len(got) < n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	return got
}

func quote(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

// A fetched record is what was produced: null is not empty, keys, values and
// header values are any bytes, and the coordinates and time are Kafka's.
func TestRecordsAsProduced(t *testing.T) {
	c, f, p := consumer(t)
	at := time.UnixMilli(1_700_000_000_123)
	for _, m := range []*kafka.Message{
		{Key: []byte("k\x00\xff"), Value: []byte("v\x00\xfe"), Timestamp: at},
		{Value: []byte{}, Key: []byte{}, Timestamp: at},
		{Value: nil, Key: nil, Timestamp: at},
		{Value: []byte("h"), Timestamp: at, Headers: []kafka.Header{
			{Key: "a", Value: []byte("\x00\x01")}, {Key: "a", Value: nil}, {Key: "\xff\xfe", Value: []byte{}},
		}},
		{Value: []byte("none after headers"), Timestamp: at},
	} {
		m.TopicPartition.Partition = 1
		produce(t, p, m)
	}
	want := []string{
		`events[1]@0 key "k\x00\xff" value "v\x00\xfe" 1700000000123`,
		`events[1]@1 key "" value "" 1700000000123`,
		`events[1]@2 key null value null 1700000000123`,
		`events[1]@3 key null value "h" "a"="\x00\x01" "a"=null "\xff\xfe"="" 1700000000123`,
		`events[1]@4 key null value "none after headers" 1700000000123`,
	}
	for i, got := range collect(t, c, f, len(want)) {
		if got != want[i] {
			t.Errorf("record %d is\n%s\nwant\n%s", i, got, want[i])
		}
	}
}

// More records than one Fetch holds come in order, all of them.
func TestOrder(t *testing.T) {
	c, f, p := consumer(t)
	const n = 1234
	topic := "events"
	for i := range n {
		err := p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic}, Value: fmt.Append(nil, i)},
			nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	go func() { // delivery reports must be read for Flush to end
		for range p.Events() {
		}
	}()
	p.Flush(10_000)
	for i, got := range collect(t, c, f, n) {
		if want := fmt.Sprintf("events[0]@%d key null value %q", i, fmt.Sprint(i)); !strings.HasPrefix(got, want) {
			t.Fatalf("record %d is %s, want %s", i, got, want)
		}
	}
}

// Not fetching for a while, but polling, costs nothing: what librdkafka has
// prefetched is still there, and no record crosses the network twice.
func TestWaitingKeepsThePrefetch(t *testing.T) {
	c, f, p := consumer(t)
	const n, part = 5000, 1000
	topic := "events"
	go func() {
		for range p.Events() {
		}
	}()
	for range n {
		if err := p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic},
			Value: make([]byte, 100)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.Flush(10_000)
	first := len(collect(t, c, f, part))
	received := func() (records, dropped int64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			stats, ok := c.Poll(100).(*kafka.Stats)
			if !ok {
				continue
			}
			var s struct {
				Topics map[string]struct {
					Partitions map[string]struct {
						Received int64 `json:"rxmsgs"`
						Dropped  int64 `json:"rx_ver_drops"`
					}
				}
			}
			if err := json.Unmarshal([]byte(stats.String()), &s); err != nil {
				t.Fatal(err)
			}
			partition := s.Topics[topic].Partitions["0"]
			return partition.Received, partition.Dropped
		}
		t.Fatal("no statistics")
		return 0, 0
	}
	for range 10 {
		received() // polling, and nothing else
	}
	collect(t, c, f, n-first)
	records, dropped := received()
	for records < n { // these figures are from before the last records came
		records, dropped = received()
	}
	if records != n || dropped != 0 {
		t.Errorf("librdkafka received %d records and dropped %d, want %d and none", records, dropped, n)
	}
}

// Reading a record allocates nothing, with headers or without.
func TestRecordAllocatesNothing(t *testing.T) {
	c, f, p := consumer(t)
	produce(t, p, &kafka.Message{Key: []byte("k"), Value: []byte("v"),
		Headers: []kafka.Header{{Key: "a", Value: []byte("b")}, {Key: "c"}}})
	for deadline := time.Now().Add(time.Minute); f.Fetch(20*time.Millisecond) == 0; c.Poll(0) {
		if time.Now().After(deadline) {
			t.Fatal("no record came")
		}
	}
	defer f.Release()
	var r batch.Record
	f.Record(0, &r) // makes room for headers
	if n := testing.AllocsPerRun(100, func() { f.Record(0, &r); f.Source(0) }); n != 0 {
		t.Errorf("%.0f allocations a record", n)
	}
	if len(r.Headers) != 2 {
		t.Errorf("%d headers, want 2", len(r.Headers))
	}
}

// A record may have any number of headers.
func TestManyHeaders(t *testing.T) {
	c, f, p := consumer(t)
	var headers []kafka.Header
	for i := range 1000 {
		headers = append(headers, kafka.Header{Key: "h", Value: fmt.Append(nil, i)})
	}
	produce(t, p, &kafka.Message{Value: []byte("v"), Headers: headers})
	for deadline := time.Now().Add(time.Minute); f.Fetch(20*time.Millisecond) == 0; c.Poll(0) {
		if time.Now().After(deadline) {
			t.Fatal("no record came")
		}
	}
	defer f.Release()
	var r batch.Record
	f.Record(0, &r)
	if len(r.Headers) != len(headers) {
		t.Fatalf("%d headers, want %d", len(r.Headers), len(headers))
	}
	for i, h := range r.Headers {
		if string(h.Value) != fmt.Sprint(i) {
			t.Fatalf("header %d has the value %q", i, h.Value)
		}
	}
}

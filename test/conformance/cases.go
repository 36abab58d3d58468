package conformance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/go-cmp/cmp"

	"sluice/internal/audit"
	"sluice/internal/contract"
	"sluice/internal/local"
)

// events protects the main path: columns as sent, extras to the byte, and a bad
// event in the dead-letter table with its reason while its neighbours land.
func events(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "events")
	p.create(1, nil)
	at := time.Now().UTC().Truncate(time.Millisecond).Add(-time.Hour)
	stamp := at.Format(time.RFC3339Nano)
	kafkaTime := at.Add(time.Minute)
	record := func(value string) kafka.Message {
		return kafka.Message{Value: []byte(value), Key: []byte("k"), Timestamp: kafkaTime}
	}
	p.produce(nil,
		record(`{"event_id":"a","event_timestamp":"`+stamp+`","event_type":"page_view","user_id":"ü","page_url":"/x?a=1","product_id":null,"price":1.5,"nested":{"a":[1,2,{"b":null}]},"emoji":"😀\n"}`),
		record(`{"event_id":"b","event_timestamp":"`+stamp+`","event_type":"page_view"}`),
		record(`{"event_id":"c","event_timestamp":"`+stamp+`","event_type":"dance","user_id":"u"}`),
		record(`{"event_id":"d"`),
		record("\xff\xfe"),
		record(`{"event_id":"f","event_timestamp":"yesterday","event_type":"page_view","user_id":"u"}`),
		record(`{"event_id":"g","event_timestamp":"`+stamp+`","event_type":"purchase","user_id":"u"}`),
	)
	p.bridge()
	want := []string{
		fmt.Sprintf(`a | %s | page_view | ü | /x?a=1 | null | 0 | 0 | %s | 1.5 | 😀`+"\n", at.Format(time.RFC3339Nano),
			kafkaTime.Format(time.RFC3339Nano)),
		fmt.Sprintf(`g | %s | purchase | u | null | null | 0 | 6 | %s | null | null`, at.Format(time.RFC3339Nano),
			kafkaTime.Format(time.RFC3339Nano)),
	}
	got := p.await(2, `SELECT event_id, event_timestamp, event_type, user_id, page_url, product_id, kafka_partition, kafka_offset, kafka_timestamp,
		JSON_VALUE(properties, '$.price'), JSON_VALUE(properties, '$.emoji') FROM clickstream.fact_events WHERE kafka_topic = '%s' ORDER BY kafka_offset`, p.topic)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fact_events (-want, +got):\n%s", diff)
	}
	want = []string{
		`1 | missing_field | user_id | {"event_id":"b","event_timestamp":"` + stamp +
			`","event_type":"page_view"} | null | 6b`,
		`2 | invalid_event_type | event_type | {"event_id":"c","event_timestamp":"` + stamp +
			`","event_type":"dance","user_id":"u"} | null | 6b`,
		`3 | invalid_json | null | {"event_id":"d" | null | 6b`,
		`4 | invalid_utf8 | null | null | fffe | 6b`,
		`5 | invalid_timestamp | event_timestamp | {"event_id":"f","event_timestamp":"yesterday","event_type":"page_view","user_id":"u"} | null | 6b`,
	}
	got = p.deadLettered(5, "kafka_offset, error_code, error_field, original_event, original_event_bytes, kafka_key")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events_dlq (-want, +got):\n%s", diff)
	}
}

// ownContract protects streams of other shapes: columns from paths, exact numbers, a RECORD and an array in the table
// that the contract asks for, and dead letters that name what is wrong by its path.
func ownContract(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "orders")
	p.create(1, nil)
	var err error
	p.contract, err = contract.Read("orders.yaml", fmt.Appendf(nil, `contract: 1
name: orders
topics: [%s]
table: {name: conformance_orders}
columns:
- {name: id, type: INT64, mode: REQUIRED, from: order.id}
- {name: total, type: NUMERIC, from: order.total, accept: [number, string]}
- {name: day, type: DATE}
- {name: tags, type: STRING, mode: REPEATED}
- name: address
  type: RECORD
  columns:
  - {name: city, type: STRING, mode: REQUIRED}
- {name: others, type: JSON, rest: true}
`, p.topic))
	if err != nil {
		t.Fatal(err)
	}
	p.produce(nil,
		kafka.Message{Value: []byte(`{"order":{"id":1,"total":"12345678901234567890.123456789"},"day":"2026-11-29","tags":["a","b"],"address":{"city":"Bern"},"x":{"y":"z"}}`)},
		kafka.Message{Value: []byte(`{"order":{"id":2},"address":{}}`)},
		kafka.Message{Value: []byte(`{"order":{"id":"3"}}`)},
		kafka.Message{Value: []byte(`{"order":{"id":4},"day":null,"tags":[]}`)},
	)
	p.bridge()
	want := []string{`0 | 1 | 2026-11-29 | [a b] | Bern | z`, `3 | 4 | null | [] | null | null`}
	got := p.await(2, `SELECT kafka_offset, id, CAST(day AS STRING), tags, address.city, JSON_VALUE(others, '$.x.y')
		FROM clickstream.conformance_orders WHERE kafka_topic = '%s' ORDER BY kafka_offset`, p.topic)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want, +got):\n%s", diff)
	}
	if s.By.BigQueryREST == "" { // goccy's emulator reads every NUMERIC as 0
		got := p.rows("SELECT CAST(total AS STRING) FROM clickstream.conformance_orders WHERE kafka_offset = 0 AND kafka_topic = '%s'", p.topic)
		if diff := cmp.Diff([]string{"12345678901234567890.123456789"}, got); diff != "" {
			t.Errorf("total (-want, +got):\n%s", diff)
		}
	}
	want = []string{`1 | missing_field | address.city | orders`, `2 | wrong_type | order.id | orders`}
	got = p.deadLettered(2, "kafka_offset, error_code, error_field, contract")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events_dlq (-want, +got):\n%s", diff)
	}
}

// compressions protects the choice of Kafka's producers: all five codecs arrive.
func compressions(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "compressions")
	p.create(1, nil)
	p.bridge()
	codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	for _, codec := range codecs {
		p.produce(map[string]kafka.ConfigValue{"compression.type": codec, "linger.ms": 50}, several(codec, 20)...)
	}
	if got := p.landed(20 * len(codecs)); len(got) != 20*len(codecs) {
		t.Errorf("%d rows, want %d", len(got), 20*len(codecs))
	}
}

// shapes protects what Kafka allows around a value: no key, empty key, repeated
// and null headers, no value (a tombstone), an empty value.
func shapes(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "shapes")
	p.create(1, nil)
	good := event("good")
	good.Headers = []kafka.Header{{Key: "trace", Value: []byte("1")}, {Key: "trace", Value: nil},
		{Key: "", Value: []byte{0xff}}}
	emptyKey := event("empty key")
	emptyKey.Key = []byte{}
	p.produce(nil, good, emptyKey, kafka.Message{Key: []byte("gone")}, kafka.Message{Key: []byte{0xff, 0},
		Value: []byte{}})
	p.bridge()
	if diff := cmp.Diff([]string{"0 | 0", "0 | 1"}, p.landed(2)); diff != "" {
		t.Error(diff)
	}
	want := []string{"2 | invalid_json | 676f6e65", "3 | invalid_json | ff00"}
	if diff := cmp.Diff(want, p.deadLettered(2, "kafka_offset, error_code, kafka_key")); diff != "" {
		t.Error(diff)
	}
}

// transactions protects exactly-once producers: what they abort is forwarded by
// nobody, and the offsets that transactions take for themselves are gaps.
func transactions(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "transactions")
	p.create(1, nil)
	p.bridge()
	producer, err := kafka.NewProducer(p.client(map[string]kafka.ConfigValue{"transactional.id": p.topic}))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.InitTransactions(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, commit := range []bool{true, false, true} {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		offsets := p.send(producer, several(fmt.Sprint("t", i, "-"), 3)...)
		end := producer.AbortTransaction
		if commit {
			end = producer.CommitTransaction
			for _, o := range offsets {
				want = append(want, fmt.Sprint("0 | ", o))
			}
		}
		if err := end(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := p.landed(6)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("offsets (-want, +got):\n%s", diff)
	}
	if want[3] != "0 | 8" { // 3 records, a marker, 3 aborted records, a marker
		t.Errorf("the third transaction begins at %s, want 8: markers take offsets", want[3])
	}
	// The group gets behind the last marker, so that nobody sees a lag. To the audit they
	// are no records that are missing: 3 markers and 3 aborted records.
	p.committed(12)
	k, err := audit.OpenKafka(t.Context(), *p.client(nil), p.topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	report, err := audit.Run(t.Context(), p.stack.Engine(), k, audit.Config{Dataset: local.Dataset, Topics: []string{p.topic}})
	if err != nil {
		t.Fatal(err)
	}
	if c := report.Totals; c.Missing != 0 || c.Landed != 6 || c.NotInKafka != 6 {
		t.Errorf("the audit says %+v, gaps %+v", c, report.Gaps)
	}
}

// large protects both sides of what a Pub/Sub message and an append can carry.
func large(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "large")
	p.create(1, nil)
	p.bridge()
	size := min(s.MaxAppend, 8_000_000) - 200_000
	random := make([]byte, 12<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(random)
	event := fmt.Sprintf(`{"event_id":"large","event_timestamp":%q,"event_type":"search","user_id":"u","page_url":%q}`,
		time.Now().UTC().Format(time.RFC3339), strings.Repeat("x", size))
	p.produce(map[string]kafka.ConfigValue{"compression.type": "none"}, kafka.Message{Value: []byte(event)},
		kafka.Message{Value: random})
	if got := p.await(1, "SELECT LENGTH(page_url) FROM clickstream.fact_events WHERE kafka_topic = '%s'",
		p.topic); got[0] != fmt.Sprint(size) {
		t.Errorf("page_url of %s characters, want %d", got[0], size)
	}
	sum := sha256.Sum256(random)
	want := []string{fmt.Sprintf("1 | %d | %x", len(random), sum)}
	if diff := cmp.Diff(want, p.deadLettered(1, "kafka_offset, original_event_size, original_event_sha256")); diff != "" {
		t.Error(diff)
	}
}

// between protects against records that Pub/Sub carries, compressed, and that no
// append to BigQuery can hold: neither as an event nor whole as a dead letter.
func between(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "between")
	p.create(1, nil)
	p.bridge()
	if s.MaxAppend < 9_000_000 {
		// The dead letter's head is cut to what BigQuery takes, not to less: it would
		// be refused here for ever. The records beside it are all that is tested.
		p.produce(nil, event("before"), event("after"))
		p.landed(2)
		return
	}
	long := fmt.Appendf(nil, `{"event_id":"long","event_timestamp":%q,"event_type":"search","user_id":"u","page_url":%q}`, time.Now().UTC().Format(time.RFC3339), strings.Repeat("x", 9_600_000))
	p.produce(map[string]kafka.ConfigValue{"compression.type": "lz4"}, event("before"), kafka.Message{Value: long},
		event("after"))
	want := []string{fmt.Sprintf("1 | too_large | %d | %x", len(long), sha256.Sum256(long))}
	if diff := cmp.Diff(want, p.deadLettered(1, "kafka_offset, error_code, original_event_size, original_event_sha256")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0 | 0", "0 | 2"}, p.landed(2)); diff != "" {
		t.Error(diff)
	}
}

// partitionsAdded protects topics that grow: the bridge finds new partitions.
func partitionsAdded(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "growing")
	p.create(1, nil)
	p.bridge()
	p.produce(nil, event("first"))
	p.landed(1)
	result, err := p.admin.CreatePartitions(t.Context(), []kafka.PartitionsSpecification{{Topic: p.topic,
		IncreaseTo: 3}}, kafka.SetAdminOperationTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if e := result[0].Error; e.Code() != kafka.ErrNoError {
		t.Fatal(e)
	}
	for partition := range int32(3) {
		m := event(fmt.Sprint("later", partition))
		m.TopicPartition.Partition = partition
		// A new producer knows the new partitions; metadata may take a moment.
		p.produceWhenThere(m)
	}
	if diff := cmp.Diff([]string{"0 | 0", "0 | 1", "1 | 0", "2 | 0"}, p.landed(4)); diff != "" {
		t.Error(diff)
	}
}

// produceWhenThere produces to a partition or topic that may just have been made.
func (p *pipeline) produceWhenThere(m kafka.Message) {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		metadata, err := p.admin.GetMetadata(&p.topic, false, 5000)
		if err == nil {
			partitions := metadata.Topics[p.topic].Partitions
			if int(m.TopicPartition.Partition) < len(partitions) && partitions[m.TopicPartition.Partition].Leader >= 0 {
				break
			}
		}
		if time.Now().After(end) {
			p.t.Fatalf("partition %d does not appear: %v", m.TopicPartition.Partition, err)
		}
	}
	p.produce(nil, m)
}

// topicRecreated protects an operator's reset: records of the new topic of the
// same name land although the group had gone further in the old one.
func topicRecreated(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "recreated")
	p.create(1, nil)
	p.bridge()
	p.produce(nil, several("old", 10)...)
	p.landed(10)
	// Let the group commit what it has done.
	p.committed(10)
	if _, err := p.admin.DeleteTopics(t.Context(), []string{p.topic},
		kafka.SetAdminOperationTimeout(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		metadata, err := p.admin.GetMetadata(nil, true, 5000)
		if err == nil {
			if _, there := metadata.Topics[p.topic]; !there {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the topic is not gone")
		}
	}
	p.create(1, nil)
	for _, m := range several("new", 3) {
		p.produceWhenThere(m)
	}
	got := p.await(3, "SELECT event_id FROM clickstream.fact_events WHERE kafka_topic = '%s' AND event_id LIKE 'new%%' "+
		"GROUP BY event_id ORDER BY event_id", p.topic)
	if diff := cmp.Diff([]string{"new0", "new1", "new2"}, got); diff != "" {
		t.Error(diff)
	}
}

// committed waits until the group has committed an offset in partition 0.
func (p *pipeline) committed(offset kafka.Offset) {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		result, err := p.admin.ListConsumerGroupOffsets(p.t.Context(),
			[]kafka.ConsumerGroupTopicPartitions{{Group: p.topic, Partitions: []kafka.TopicPartition{{Topic: &p.topic,
				Partition: 0}}}})
		at := kafka.Offset(-1)
		if err == nil && len(result.ConsumerGroupsTopicPartitions) == 1 &&
			len(result.ConsumerGroupsTopicPartitions[0].Partitions) == 1 {
			at = result.ConsumerGroupsTopicPartitions[0].Partitions[0].Offset
		}
		if at >= offset {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("the group has committed %v, want %v (%v)", at, offset, err)
		}
	}
}

// groupReset protects a deliberate replay from Kafka: rows come twice, events once.
func groupReset(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "reset")
	p.create(1, nil)
	stop := p.bridge()
	p.produce(nil, several("e", 10)...)
	p.landed(10)
	p.committed(10)
	stop()
	back := []kafka.ConsumerGroupTopicPartitions{{Group: p.topic, Partitions: []kafka.TopicPartition{{Topic: &p.topic,
		Partition: 0, Offset: 4}}}}
	for end := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		// The broker refuses while it still believes in the member that left.
		result, err := p.admin.AlterConsumerGroupOffsets(t.Context(), back)
		if err == nil && result.ConsumerGroupsTopicPartitions[0].Partitions[0].Error == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("reset: %v %v", result, err)
		}
	}
	p.bridge()
	got := p.await(6, "SELECT kafka_offset, COUNT(*) FROM clickstream.fact_events WHERE kafka_topic = '%s' GROUP BY "+
		"kafka_offset HAVING COUNT(*) = 2 ORDER BY kafka_offset", p.topic)
	if diff := cmp.Diff([]string{"4 | 2", "5 | 2", "6 | 2", "7 | 2", "8 | 2", "9 | 2"}, got); diff != "" {
		t.Error(diff)
	}
	if got := p.rows("SELECT COUNT(*) FROM clickstream.events WHERE kafka_topic = '%s'", p.topic); got[0] != "10" {
		t.Errorf("%s events in the view, want 10", got[0])
	}
}

// compacted protects topics from which Kafka takes records away: what is there
// lands, and the gaps stop nothing.
func compacted(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "compacted")
	p.create(1, map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01",
		"min.compaction.lag.ms": "0", "delete.retention.ms": "0"})
	for round := range 5 {
		records := several(fmt.Sprint("r", round, "-"), 4)
		for i := range records {
			records[i].Key = fmt.Append(nil, "key", i)
		}
		p.produce(nil, records...)
		time.Sleep(300 * time.Millisecond) // a segment of its own
	}
	var there []string
	for end := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		if s.Compact != nil {
			s.Compact()
		}
		if there = p.available(); len(there) < 20 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the topic was not compacted")
		}
	}
	p.bridge()
	last := there[len(there)-4:] // of each key
	got := p.landed(1)
	landed := func(offset string) bool { return slices.Contains(got, offset) }
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = p.landed(1); !slices.ContainsFunc(last, func(o string) bool { return !landed(o) }) {
			break
		}
	}
	// Compaction may go on between the two looks: what landed is part of what was
	// there, and the latest record of each key is always there.
	for _, offset := range got {
		if !slices.Contains(there, offset) {
			t.Errorf("%s landed, and was not there", offset)
		}
	}
	for _, offset := range last {
		if !landed(offset) {
			t.Errorf("%s has not landed", offset)
		}
	}
}

// available are the offsets that a consumer finds in partition 0.
func (p *pipeline) available() []string {
	p.t.Helper()
	c, err := kafka.NewConsumer(p.client(map[string]kafka.ConfigValue{"group.id": p.topic + "-look",
		"enable.auto.commit": false, "enable.partition.eof": true}))
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Assign([]kafka.TopicPartition{{Topic: &p.topic, Partition: 0,
		Offset: kafka.OffsetBeginning}}); err != nil {
		p.t.Fatal(err)
	}
	var there []string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		switch e := c.Poll(1000).(type) {
		case *kafka.Message:
			there = append(there, fmt.Sprint("0 | ", e.TopicPartition.Offset))
		case kafka.PartitionEOF:
			return there
		}
	}
	p.t.Fatal("the end of the partition does not come")
	return nil
}

// load produces so many events in the background, over some seconds and over the
// topic's four partitions; the channel is closed when Kafka has them all.
func (p *pipeline) load(records int) <-chan struct{} {
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		producer, err := kafka.NewProducer(p.client(map[string]kafka.ConfigValue{"linger.ms": 20, "acks": "all",
			"enable.idempotence": true, "go.delivery.reports": false}))
		if err != nil {
			p.t.Error(err)
			return
		}
		defer producer.Close()
		go func() { // Flush waits for errors to be read, too
			for range producer.Events() {
			}
		}()
		for i := range records {
			m := event(fmt.Sprint("e", i))
			m.TopicPartition = kafka.TopicPartition{Topic: &p.topic, Partition: int32(i % 4)}
			if err := producer.Produce(&m, nil); err != nil {
				p.t.Error(err)
			}
			if i%100 == 0 {
				time.Sleep(200 * time.Millisecond)
			}
		}
		if left := producer.Flush(int(patience.Milliseconds())); left > 0 {
			p.t.Errorf("%d records not flushed", left)
		}
	}()
	return produced
}

// rebalance protects scaling: bridges join and leave under load, nothing is lost.
func rebalance(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "rebalance")
	p.create(4, nil)
	const records = 2000
	produced := p.load(records)
	first := p.bridge()
	time.Sleep(time.Second)
	second := p.bridge()
	time.Sleep(time.Second)
	first()
	third := p.bridge()
	<-produced
	got := p.landed(records)
	if len(got) != records {
		t.Errorf("%d records landed, want %d", len(got), records)
	}
	second()
	third()
}

// brokerRestarted protects against a broker's orderly restart in mid-stream.
func brokerRestarted(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "restart")
	p.create(4, nil)
	p.bridge()
	const records = 2000
	produced := p.load(records)
	time.Sleep(time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.RestartBroker(ctx); err != nil {
		t.Fatal(err)
	}
	<-produced
	if got := p.landed(records); len(got) != records {
		t.Errorf("%d records landed, want %d", len(got), records)
	}
}

// leaderLost protects against a leader that is gone without a word, and comes back.
func leaderLost(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "failover")
	p.create(4, nil)
	p.bridge()
	const records = 2000
	produced := p.load(records)
	time.Sleep(time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	back, err := s.Failover(ctx, p.topic)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := back(ctx); err != nil {
			t.Error(err)
		}
	}()
	<-produced
	got := p.rows("SELECT COUNT(*) FROM (SELECT event_id FROM clickstream.fact_events WHERE kafka_topic = '%s' GROUP "+
		"BY event_id) AS ids", p.topic)
	for end := time.Now().Add(patience); got[0] != fmt.Sprint(records) &&
		time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		got = p.rows("SELECT COUNT(*) FROM (SELECT event_id FROM clickstream.fact_events WHERE kafka_topic = '%s' GROUP "+
			"BY event_id) AS ids", p.topic)
	}
	if got[0] != fmt.Sprint(records) {
		t.Errorf("%s events landed, want %d", got[0], records)
	}
}

// otherProducers protects against producers that are not librdkafka's Go client:
// other batches, timestamps, keys.
func otherProducers(t *testing.T, s *Servers) {
	p := newPipeline(t, s, "producers")
	p.create(1, nil)
	p.bridge()
	const each = 10
	for name, produce := range s.Producers {
		var lines strings.Builder
		for _, m := range several(name, each) {
			lines.Write(m.Value)
			lines.WriteByte('\n')
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := produce(ctx, p.topic, lines.String())
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if got := p.landed(each * len(s.Producers)); len(got) != each*len(s.Producers) {
		t.Errorf("%d records landed, want %d", len(got), each*len(s.Producers))
	}
}

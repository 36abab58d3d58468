package audit_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/audit"
	"sluice/internal/contract"
	embedded "sluice/internal/local/kafka"
	"sluice/internal/local/objects"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
	"sluice/internal/reference"
)

const group = "clickstream-to-bigquery"

// at is a time that the tests' records lie around. Kafka stamps transaction markers
// with its own clock, and looks at them too when asked for a time: they come before.
var at = time.Now().Add(time.Hour).Truncate(time.Second).UTC()

// tables is a warehouse to be filled by hand.
func tables(t *testing.T) query.Engine {
	t.Helper()
	w, err := warehouse.Start(warehouse.Config{Tables: []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return query.Database{DB: w.DB()}
}

// insert inserts rows, given as text: the emulator of BigQuery mixes up the integer
// parameters of a statement that it has seen before.
func insert(t *testing.T, w query.Engine, table, columns string, rows ...string) {
	t.Helper()
	if _, err := query.All(t.Context(), w, "INSERT INTO clickstream."+table+" ("+columns+") VALUES "+strings.Join(rows,
		", ")); err != nil {
		t.Fatal(err)
	}
}

// stamp is the time of an offset as text.
func stamp(offset int64) string {
	return at.Add(time.Duration(offset) * time.Second).Format("TIMESTAMP '2006-01-02 15:04:05'")
}

// land inserts a row of fact_events for each offset, a second apart; the event_id is
// that of the offset unless ids say otherwise.
func land(t *testing.T, w query.Engine, topic string, partition int, offsets []int64, ids map[int64]string) {
	t.Helper()
	var rows []string
	for _, o := range offsets {
		id, ok := ids[o]
		if !ok {
			id = fmt.Sprintf("%s-%d-%d", topic, partition, o)
		}
		rows = append(rows, fmt.Sprintf("('%s', %s, 'search', 'u', %s, '%s', %d, %d, %s)", id, stamp(0), stamp(0),
			topic, partition, o, stamp(o)))
	}
	insert(t, w, "fact_events", "event_id, event_timestamp, event_type, user_id, ingested_at, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp", rows...)
}

// bury inserts a row of events_dlq for each offset.
func bury(t *testing.T, w query.Engine, topic string, partition int, offsets ...int64) {
	t.Helper()
	var rows []string
	for _, o := range offsets {
		rows = append(rows, fmt.Sprintf("('missing_field', 'user_id is missing', %s, '%s', %d, %d, %s)", stamp(0),
			topic, partition, o, stamp(o)))
	}
	insert(t, w, "events_dlq", "error_code, error, failed_at, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp", rows...)
}

// to is the offsets from first to last without some.
func to(first, last int64, without ...int64) (offsets []int64) {
	for o := first; o <= last; o++ {
		if !slices.Contains(without, o) {
			offsets = append(offsets, o)
		}
	}
	return offsets
}

func run(t *testing.T, w query.Engine, k *audit.Kafka, c audit.Config) *audit.Report {
	t.Helper()
	c.Dataset = "clickstream"
	r, err := audit.Run(t.Context(), w, k, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// gaps writes a report's gaps as text.
func gaps(r *audit.Report) string {
	var all []string
	for _, g := range r.Gaps {
		s := fmt.Sprintf("%s/%d %d-%d missing %d", g.Topic, g.Partition, g.First, g.Last, g.Missing)
		if g.NotInKafka > 0 {
			s += fmt.Sprintf(" not in Kafka %d", g.NotInKafka)
		}
		if g.InFlight > 0 {
			s += fmt.Sprintf(" in flight %d", g.InFlight)
		}
		if g.Expired {
			s += " expired"
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

// Protects every figure of the audit that needs no Kafka: it must find what is
// missing to the offset, and take nothing else for missing.
func TestFromWhatHasLanded(t *testing.T) { testFromWhatHasLanded(t, tables(t)) }

func testFromWhatHasLanded(t *testing.T, w query.Engine) {
	land(t, w, "a", 0, to(10, 99, 20, 21, 22, 50, 60), map[int64]string{70: "same", 71: "same", 72: "same", 80: "other",
		81: "other"})
	land(t, w, "a", 0, []int64{30, 30, 31}, nil) // delivered again
	bury(t, w, "a", 0, 50, 50, 40)               // 50 twice, 40 has landed after all
	land(t, w, "a", 1, to(0, 9), nil)
	bury(t, w, "b", 0, 5, 7)
	insert(t, w, "events_dlq", "error_code, error, failed_at",
		"('undecodable_payload', 'cannot be read', "+stamp(0)+")")
	r := run(t, w, nil, audit.Config{})

	want := []audit.Partition{
		{Topic: "a", Partition: 0, FirstOffset: 10, LastOffset: 99, Counts: audit.Counts{
			Consumed: 90, Landed: 84, DeadLettered: 1, Both: 1, Missing: 4, DuplicateRows: 4, QualityPercent: 98.837}},
		{Topic: "a", Partition: 1, FirstOffset: 0, LastOffset: 9, Counts: audit.Counts{Consumed: 10, Landed: 10, QualityPercent: 100}},
		{Topic: "b", Partition: 0, FirstOffset: 5, LastOffset: 7, Counts: audit.Counts{Consumed: 3, DeadLettered: 2, Missing: 1}},
	}
	if !slices.Equal(r.Partitions, want) {
		t.Errorf("partitions are\n%+v, want\n%+v", r.Partitions, want)
	}
	if got, want := gaps(r), "a/0 20-22 missing 3; a/0 60-60 missing 1; b/0 6-6 missing 1"; got != want {
		t.Errorf("gaps are %s, want %s", got, want)
	}
	if want := []audit.Topic{{"a", 2, 3}, {"b", 0, 0}}; !slices.Equal(r.Topics, want) {
		t.Errorf("topics are %+v, want %+v", r.Topics, want)
	}
	if want := (audit.Counts{Consumed: 103, Landed: 94, DeadLettered: 3, Both: 1, Missing: 5, DuplicateRows: 4,
		QualityPercent: 96.939}); r.Totals != want {
		t.Errorf("totals are %+v, want %+v", r.Totals, want)
	}
	if r.WithoutKafka != (audit.WithoutKafka{DeadLettered: 1}) || len(r.Notes) != 1 {
		t.Errorf("without Kafka %+v, notes %q", r.WithoutKafka, r.Notes)
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil || !strings.Contains(out.String(), "5 records are missing.") {
		t.Errorf("printed %s, %v", out.String(), err)
	}

	// A window is a range of offsets, and all that is missing within it.
	r = run(t, w, nil, audit.Config{Topics: []string{"a"}, Since: at.Add(21 * time.Second),
		Until: at.Add(61 * time.Second)})
	if p := r.Partitions[0]; len(r.Partitions) != 1 || p.FirstOffset != 23 || p.LastOffset != 59 || p.Missing != 0 {
		t.Errorf("the window is %+v, want offsets 23 to 59 of one partition without a gap", r.Partitions)
	}
	if c, err := audit.Count(t.Context(), w, contract.Query{Dataset: "clickstream"}, []audit.Span{{"a", 0, 0, 25},
		{"a", 1, 5, 5}}); err != nil || c.Landed != 12 || c.Missing != 13 {
		t.Errorf("counted %+v, %v", c, err)
	}
	testEventsSince(t, w)
}

// Protects the audit that reads less: what it does not read it calls missing, and
// says so, in every figure.
func testEventsSince(t *testing.T, w query.Engine) {
	land(t, w, "c", 0, to(0, 9, 5, 6), nil)
	insert(t, w, "fact_events", "event_id, event_timestamp, event_type, user_id, ingested_at, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp",
		"('late', "+stamp(-86400)+", 'search', 'u', "+stamp(0)+", 'c', 0, 5, "+stamp(5)+")",
		"('late', "+stamp(-86400)+", 'search', 'u', "+stamp(0)+", 'c', 0, 10, "+stamp(10)+")")
	insert(t, w, "events_dlq", "error_code, error, failed_at, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp",
		"('missing_field', 'user_id is missing', "+stamp(-86400)+", 'c', 0, 6, "+stamp(6)+")")
	c := audit.Config{Topics: []string{"c"}}
	if r := run(t, w, nil, c); r.Totals.Missing != 0 || r.Totals.Consumed != 11 ||
		r.Topics[0].ProducerDuplicates != 1 || len(r.Notes) != 0 {
		t.Errorf("all that has happened: %+v, topics %+v, notes %q", r.Totals, r.Topics, r.Notes)
	}
	c.EventsSince = at.Add(-time.Hour)
	r := run(t, w, nil, c)
	if got, want := gaps(r), "c/0 5-6 missing 2"; got != want || r.Totals.Landed != 8 || r.Totals.DeadLettered != 0 ||
		r.Topics[0].ProducerDuplicates != 0 {
		t.Errorf("what has happened since: gaps %s, want %s; %+v, topics %+v", got, want, r.Totals, r.Topics)
	}
	if !strings.Contains(strings.Join(r.Notes, " "), "were not read") {
		t.Errorf("notes are %q", r.Notes)
	}
}

// Protects the audit of a warehouse that holds nothing yet.
func TestNothing(t *testing.T) {
	r := run(t, tables(t), nil, audit.Config{})
	if r.Totals != (audit.Counts{QualityPercent: 100}) || len(r.Partitions)+len(r.Gaps)+len(r.Notes) != 0 {
		t.Errorf("%+v", r)
	}
}

// cluster is a Kafka with n records in partition 0 of the topic, a second apart.
func cluster(t *testing.T, topic string, n int) (*embedded.Cluster, *kafka.Producer) {
	t.Helper()
	k, err := embedded.Start(embedded.Config{Topics: map[string]int32{topic: 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": k.Brokers(), "transactional.id": t.Name(),
		"go.delivery.reports": false, "enable.metrics.push": false})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.InitTransactions(t.Context()); err != nil {
		t.Fatal(err)
	}
	transact(t, p, topic, 0, n, true)
	return k, p
}

// transact produces n records in a transaction, which takes one more offset for its
// marker.
func transact(t *testing.T, p *kafka.Producer, topic string, first, n int, commit bool) {
	t.Helper()
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic}, Value: []byte("v"),
			Timestamp: at.Add(time.Duration(first+i) * time.Second)}
		if err := p.Produce(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.Flush(10_000)
	end := p.AbortTransaction
	if commit {
		end = p.CommitTransaction
	}
	if err := end(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// commit sets the group's offset in partition 0.
func commit(t *testing.T, k *embedded.Cluster, topic string, offset int64) {
	t.Helper()
	admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": k.Brokers(), "enable.metrics.push": false})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.AlterConsumerGroupOffsets(t.Context(), []kafka.ConsumerGroupTopicPartitions{{
		Group: group, Partitions: []kafka.TopicPartition{{Topic: &topic, Offset: kafka.Offset(offset)}}}}); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, k *embedded.Cluster, group string) *audit.Kafka {
	t.Helper()
	a, err := audit.OpenKafka(t.Context(), kafka.ConfigMap{"bootstrap.servers": k.Brokers()}, group, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// Protects what only Kafka can tell: records lost before the first and after the last
// that arrived; markers and aborted transactions, which are no records; and what is
// in flight, which is not lost.
func TestWithKafka(t *testing.T) {
	const topic = "clickstream"
	w := tables(t)
	k, p := cluster(t, topic, 20)           // records 0-19, marker 20
	transact(t, p, topic, 21, 9, false)     // aborted 21-29, marker 30
	transact(t, p, topic, 31, 19, true)     // records 31-49, marker 50
	transact(t, p, topic, 51, 9, true)      // records 51-59, marker 60
	commit(t, k, topic, 55)                 // and 55-60 are lag
	land(t, w, topic, 0, to(3, 19, 7), nil) // 0-2 and 7 are lost
	land(t, w, topic, 0, to(31, 45, 40, 41), nil)
	land(t, w, topic, 0, []int64{58}, nil) // has overtaken 55-57

	r := run(t, w, open(t, k, group), audit.Config{})
	want := "clickstream/0 0-2 missing 3; clickstream/0 7-7 missing 1; clickstream/0 20-30 missing 0 not in Kafka 11; " +
		"clickstream/0 40-41 missing 2; clickstream/0 46-57 missing 8 not in Kafka 1 in flight 3"
	if got := gaps(r); got != want {
		t.Errorf("gaps are\n%s, want\n%s", got, want)
	}
	if c := r.Totals; c.Missing != 14 || c.NotInKafka != 12 || c.InFlight != 3 || c.Landed != 30 || c.Consumed != 44 {
		t.Errorf("totals are %+v", c)
	}
	leading := func(r *audit.Report) bool {
		return slices.ContainsFunc(r.Notes, func(n string) bool {
			return strings.Contains(n,
				"KAFKA_OFFSET_RESET=latest")
		})
	}
	if !leading(r) || !r.Gaps[0].Leading || r.Gaps[1].Leading {
		t.Errorf("0-2 are the first records that Kafka keeps: gaps %+v, notes %q", r.Gaps, r.Notes)
	}
	if p := r.Partitions[0]; *p.Committed != 55 || *p.Lag != 6 {
		t.Errorf("committed %d, lag %d, want 55 and 6", *p.Committed, *p.Lag)
	}

	// By Kafka's clock: from record 5 up to record 40, though 40 has not landed.
	r = run(t, w, open(t, k, group), audit.Config{Since: at.Add(5 * time.Second), Until: at.Add(41 * time.Second)})
	if got, want := gaps(r), "clickstream/0 7-7 missing 1; clickstream/0 20-30 missing 0 not in Kafka 11; clickstream/0 40-40 missing 1"; got != want {
		t.Errorf("gaps are\n%s, want\n%s", got, want)
	}

	if leading(r) {
		t.Errorf("the window begins later: %q", r.Notes)
	}

	// What is not read from Kafka, because it is too much, counts as missing.
	r = run(t, w, open(t, k, group), audit.Config{MaxRead: 2})
	if got, want := gaps(r), "clickstream/0 0-2 missing 3; clickstream/0 7-7 missing 1; clickstream/0 20-30 missing 11; "+
		"clickstream/0 40-41 missing 2; clickstream/0 46-57 missing 9 in flight 3"; got != want ||
		r.Totals.Missing != 26 || len(r.Notes) != 3 {
		t.Errorf("gaps are\n%s, want\n%s\ntotals %+v, notes %q", got, want, r.Totals, r.Notes)
	}

	// Kafka has let go of the first 10 records: nobody knows what they were.
	admin, err := kafka.NewAdminClientFromProducer(p)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	name := topic
	if _, err := admin.DeleteRecords(t.Context(), []kafka.TopicPartition{{Topic: &name, Offset: 10}}); err != nil {
		t.Fatal(err)
	}
	r = run(t, w, open(t, k, group), audit.Config{Until: at.Add(30 * time.Second)})
	if got, want := gaps(r), "clickstream/0 7-7 missing 1 expired; clickstream/0 20-30 missing 0 not in Kafka 11"; got != want {
		t.Errorf("gaps are\n%s, want\n%s", got, want)
	}

	if _, err := audit.Run(t.Context(), w, open(t, k, "misspelt"), audit.Config{Dataset: "clickstream"}); err == nil ||
		!strings.Contains(err.Error(), "check its name") {
		t.Errorf("a group that does not exist: %v", err)
	}
}

// Protects the audit from rows that whoever may publish can make: the largest offset there
// is, in two partitions, does not hide that a record is missing below it, and a topic that
// Kafka would not take does not end the audit of the others.
func TestForgedRows(t *testing.T) {
	w := tables(t)
	land(t, w, "clicks", 0, []int64{0, 1, 3}, nil) // 2 is missing
	land(t, w, "clicks", 1, []int64{0, 1}, nil)
	const columns = "event_id, event_timestamp, event_type, user_id, ingested_at, kafka_topic, kafka_partition, kafka_offset"
	forged := func(topic string, partition int, offset int64) string {
		return fmt.Sprintf("('forged', %s, 'search', 'u', %[1]s, '%s', %d, %d)", stamp(0), topic, partition, offset)
	}
	insert(t, w, "fact_events", columns,
		forged("clicks", 0, math.MaxInt64), forged("clicks", 1, math.MaxInt64),
		forged("it''s none", 0, 5), forged("clicks", -1, 5), forged("clicks", 2, -7))
	r, err := audit.Run(t.Context(), w, nil, audit.Config{Dataset: "clickstream"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Partitions) != 2 {
		t.Fatalf("%d partitions, want the two real ones: %+v", len(r.Partitions), r.Partitions)
	}
	if r.Totals.Missing <= 0 || r.Partitions[0].Missing <= 0 {
		t.Errorf("missing %d, in partition 0 %d: the record 2 is not there", r.Totals.Missing, r.Partitions[0].Missing)
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "Kafka cannot have") }) {
		t.Errorf("nothing is said of the forged rows: %q", r.Notes)
	}
	if _, err := audit.Run(t.Context(), w, nil, audit.Config{Dataset: "clickstream",
		Topics: []string{"clicks"}}); err != nil {
		t.Errorf("one topic: %v", err)
	}
}

// Protects the same with Kafka, which knows how far it has come: a forged offset changes
// neither what is missing nor what is in flight, and the report says that there is one.
func TestForgedRowWithKafka(t *testing.T) {
	const topic = "clickstream"
	w := tables(t)
	k, _ := cluster(t, topic, 20) // records 0-19, marker 20
	commit(t, k, topic, 21)
	land(t, w, topic, 0, to(0, 19, 7, 11), nil)
	const columns = "event_id, event_timestamp, event_type, user_id, ingested_at, kafka_topic, kafka_partition, kafka_offset"
	insert(t, w, "fact_events", columns,
		fmt.Sprintf("('forged', %s, 'search', 'u', %[1]s, '%s', 0, %d)", stamp(0), topic, int64(math.MaxInt64)))
	r := run(t, w, open(t, k, group), audit.Config{})
	if c := r.Totals; c.Missing != 2 || c.Landed != 18 || c.InFlight != 0 || c.NotInKafka != 1 || c.Consumed != 20 {
		t.Errorf("totals are %+v, want 18 landed and 2 missing", c)
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "not reached") }) {
		t.Errorf("nothing is said of the forged row: %q", r.Notes)
	}
}

// Protects the count of what nobody has fetched: old objects only.
func TestOrphans(t *testing.T) {
	s, err := objects.Start("127.0.0.1:0", "payloads")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := reference.Open(t.Context(), "payloads", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Put(t.Context(), []byte("payload")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		later time.Duration
		want  audit.Orphans
	}{
		{0, audit.Orphans{OlderThan: "1h0m0s"}},
		{2 * audit.OrphanAge, audit.Orphans{OlderThan: "1h0m0s", Objects: 1, Bytes: 7}},
	} {
		var r audit.Report
		if err := r.CountOrphans(t.Context(), b, time.Now().Add(c.later)); err != nil || *r.Orphans != c.want {
			t.Errorf("%v later: %+v, %v", c.later, r.Orphans, err)
		}
		var text bytes.Buffer
		if err := r.Print(&text); err != nil || !strings.Contains(text.String(),
			fmt.Sprintf("fetched for 1h0m0s: %d, of %d bytes", c.want.Objects, c.want.Bytes)) {
			t.Errorf("%s, %v", text.String(), err)
		}
	}
}

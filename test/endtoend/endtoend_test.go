// Package endtoend drives the whole pipeline through its outer edges: what goes
// into Kafka or Pub/Sub, and what stands in the tables at the end.
package endtoend

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/grpc/codes"

	"sluice/bridge"
	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/internal/local/warehouse"
	"sluice/internal/telemetry"
	"sluice/scripts/pipeline"
)

// patience is how long nothing may arrive before records count as missing. It is
// long because the machine may be busy, and never waited for when all is well.
const patience = 2 * time.Minute

// start starts a pipeline that is stopped, and must stop cleanly, with the test.
func start(t *testing.T, c pipeline.Config) *local.Stack {
	t.Helper()
	c.Log = telemetry.NewLogger(t.Output(), slog.LevelWarn)
	s, err := pipeline.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// record is what a test sends; all go to one partition, so that they share a batch.
type record struct {
	key, value []byte
	headers    []kafka.Header
}

// send produces the records to partition 0 and waits until all have arrived.
func send(t *testing.T, s *local.Stack, records ...record) local.Account {
	t.Helper()
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	from := s.Kafka.EndOffsets(s.Topic())
	for _, r := range records {
		m := &kafka.Message{Key: r.key, Value: r.value, Headers: r.headers, Timestamp: kafkaTime}
		m.TopicPartition.Partition = 0
		if err := p.ProduceMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	return await(t, s, p, from)
}

// await waits until all that p was given has arrived, and is content only if
// nothing is missing.
func await(t *testing.T, s *local.Stack, p *local.Producer, from local.Offsets) local.Account {
	t.Helper()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	account, err := s.AwaitAll(t.Context(), from, s.Kafka.EndOffsets(s.Topic()), patience)
	if err != nil {
		t.Fatal(err)
	}
	if account.Missing != 0 {
		t.Fatalf("%d records are missing: %+v", account.Missing, account)
	}
	return account
}

// kafkaTime is the records' Kafka timestamp.
var kafkaTime = time.Now().Add(-time.Second).Truncate(time.Millisecond).UTC()

// query returns the rows of a statement as text, NULL for null.
func query(t *testing.T, s *local.Stack, statement string, args ...any) [][]string {
	t.Helper()
	rows, err := s.Warehouse.DB().QueryContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var table [][]string
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		line := make([]string, len(columns))
		for i, c := range cells {
			if line[i] = c.String; !c.Valid {
				line[i] = "NULL"
			}
		}
		table = append(table, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return table
}

// one returns the only row of a statement.
func one(t *testing.T, s *local.Stack, statement string, args ...any) []string {
	t.Helper()
	rows := query(t, s, statement, args...)
	if len(rows) != 1 {
		t.Fatalf("%d rows, want one: %s %v", len(rows), statement, args)
	}
	return rows[0]
}

// transports are the two forms of a push.
var transports = []struct {
	name    string
	wrapped bool
}{{"unwrapped push", false}, {"wrapped push", true}}

// A good event must stand in its row exactly as it was sent, extras to the byte,
// whichever way it is pushed.
func TestGoodEventsLandExactlyAsSent(t *testing.T) {
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1).Format("2006-01-02")
	cases := []struct {
		name, event string
		// what must stand in the row; NULL is null
		id, at, kind, user, url, product, properties string
	}{
		{"only the required fields",
			`{"event_id":"e-0","event_timestamp":"` + day + `T10:11:12Z","event_type":"page_view","user_id":"u"}`,
			"e-0", day + " 10:11:12+00", "page_view", "u", "NULL", "NULL", "NULL"},
		{"every field, and microseconds with an offset",
			`{"event_id":"e-1","event_timestamp":"` + day +
				`T10:11:12.123456+01:00","event_type":"purchase","user_id":"u-1","page_url":"https://shop.example/p?x=1&y=2","product_id":"sku-1"}`,
			"e-1", day + " 09:11:12.123456+00", "purchase", "u-1", "https://shop.example/p?x=1&y=2", "sku-1", "NULL"},
		{"nulls are absent, a space in the time, no offset is UTC",
			`{"event_id":"e-2","event_timestamp":"` + day +
				` 10:11:12.5","event_type":"search","user_id":"u","page_url":null,"product_id":null}`,
			"e-2", day + " 10:11:12.5+00", "search", "u", "NULL", "NULL", "NULL"},
		{"extras as they stood, in their order, numbers to the digit",
			` { "z" : [1, 2.50, -0, 1e-7, 12345678901234567890 ],"event_id":"e-3", "a":{"deep":{"er":[null,true,false,{}]}} ,"event_timestamp":"` + day + `T00:00:00.1234567Z","event_type":"add_to_cart","user_id":"u","properties":{"own":"name"},"ingested_at":"mine","kafka_offset":-7 } `,
			"e-3", day + " 00:00:00.123456+00", "add_to_cart", "u", "NULL", "NULL",
			`{"z":[1, 2.50, -0, 1e-7, 12345678901234567890 ],"a":{"deep":{"er":[null,true,false,{}]}},"properties":{"own":"name"},"ingested_at":"mine","kafka_offset":-7}`},
		{"escapes are decoded in columns and kept in extras",
			`{"event_id":"e-4\u00fc\n\"\\\/","event_timestamp":"` + day +
				`T23:59:59Z","event_type":"page\u005fview","user_id":"日本\ud83d\ude00","q\u00fcery":"gr\u00fcn 😀 \/ \ud83d\ude00"}`,
			"e-4ü\n\"\\/", day + " 23:59:59+00", "page_view", "日本😀", "NULL", "NULL",
			`{"q\u00fcery":"gr\u00fcn 😀 \/ \ud83d\ude00"}`},
		{"optional fields may be empty",
			`{"event_id":"e-5","event_timestamp":"` + day +
				`T01:02:03Z","event_type":"search","user_id":".","page_url":"","product_id":"","":""}`,
			"e-5", day + " 01:02:03+00", "search", ".", "", "", `{"":""}`},
	}
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			s := start(t, pipeline.Config{Config: local.Config{Partitions: 1, Wrapped: transport.wrapped}})
			var records []record
			for _, c := range cases {
				records = append(records, record{key: []byte("k"), value: []byte(c.event)})
			}
			before := time.Now().Truncate(time.Millisecond)
			account := send(t, s, records...)
			if account.Landed != int64(len(cases)) || account.DeadLettered != 0 {
				for _, r := range query(t, s, "SELECT kafka_offset, error_code, error_field, error FROM events_dlq") {
					t.Errorf("rejected: %s", r)
				}
				t.Fatalf("%+v", account)
			}
			for offset, c := range cases {
				got := one(t, s, `SELECT event_id, CAST(event_timestamp AS VARCHAR), event_type, user_id, page_url, product_id,
					CAST(properties AS VARCHAR), kafka_topic, CAST(kafka_partition AS VARCHAR), CAST(epoch_us(kafka_timestamp) AS VARCHAR),
					CAST(ingested_at BETWEEN ? AND ? AS VARCHAR) FROM fact_events WHERE kafka_offset = ?`, before, time.Now(), offset)
				want := []string{c.id, c.at, c.kind, c.user, c.url, c.product, c.properties, "clickstream", "0",
					fmt.Sprint(kafkaTime.UnixMicro()), "true"}
				for i, column := range []string{"event_id", "event_timestamp", "event_type", "user_id", "page_url",
					"product_id",
					"properties", "kafka_topic", "kafka_partition", "kafka_timestamp", "ingested_at is the time of the run"} {
					if got[i] != want[i] {
						t.Errorf("%s: %s is %s, want %s", c.name, column, got[i], want[i])
					}
				}
			}
		})
	}
}

// One bad event never hurts its neighbours: in one batch, each kind of bad event
// between good ones lands in events_dlq with everything needed to explain and to
// replay it, and every good one lands.
func TestBadEventsAreDeadLetteredAndTheirNeighboursLand(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			g := generate.New(generate.Config{Seed: 11})
			var records []record
			good := func() {
				e := g.Next()
				records = append(records, record{key: bytes.Clone(e.Key), value: bytes.Clone(e.Value)})
			}
			faults := generate.Faults()
			good()
			for i := range faults {
				key, value := g.Spoil(&faults[i])
				records = append(records, record{key: bytes.Clone(key), value: bytes.Clone(value)})
				good()
			}
			// The batch leaves when all of them are in it, however long that takes.
			oneBatch := func(c *bridge.Config) { c.BatchRecords, c.Linger = len(records), time.Hour }
			s := start(t, pipeline.Config{Config: local.Config{Partitions: 1, Wrapped: transport.wrapped},
				TuneBridge: oneBatch})
			account := send(t, s, records...)
			if account.Landed != int64(len(faults))+1 || account.DeadLettered != int64(len(faults)) ||
				account.DuplicateRows != 0 {
				t.Errorf("%+v, want %d landed and %d dead-lettered", account, len(faults)+1, len(faults))
			}
			if n := one(t, s, "SELECT CAST(COUNT(DISTINCT pubsub_message_id) AS VARCHAR) FROM events_dlq")[0]; n != "1" {
				t.Fatalf("the events travelled in %s messages, want one: the test proves nothing about neighbours", n)
			}
			for i, f := range faults {
				bad := records[2*i+1]
				r := one(t, s, `SELECT error_code, COALESCE(original_event, ''), COALESCE(hex(original_event_bytes), ''), error, consumer, hex(kafka_key),
					CAST(epoch_us(kafka_timestamp) AS VARCHAR), kafka_topic, CAST(kafka_partition AS VARCHAR), pubsub_message_id,
					CAST(failed_at > now() - INTERVAL 10 MINUTE AND failed_at <= now() AS VARCHAR), COALESCE(error_field, '')
					FROM events_dlq WHERE kafka_offset = ?`, 2*i+1)
				if r[0] != f.Code {
					t.Errorf("%s: code %s, want %s (%s)", f.Name, r[0], f.Code, r[3])
				}
				if r[1] != string(bad.value) && r[2] != fmt.Sprintf("%X", bad.value) {
					t.Errorf("%s: the original bytes are not in the row", f.Name)
				}
				if len(r[3]) < 10 || !strings.Contains(r[3], " ") {
					t.Errorf("%s: %q is not a sentence", f.Name, r[3])
				}
				if r[4] == "NULL" || r[5] != fmt.Sprintf("%X", bad.key) || r[6] != fmt.Sprint(kafkaTime.UnixMicro()) ||
					r[7] != "clickstream" || r[8] != "0" || r[9] == "NULL" || r[10] != "true" {
					t.Errorf("%s: where it came from is wrong: %q", f.Name, r)
				}
				for _, field := range []string{"event_id", "user_id", "event_timestamp", "event_type", "page_url"} {
					about := strings.Contains(f.Name, field)
					if about && r[11] != field {
						t.Errorf("%s: field %q, want %s", f.Name, r[11], field)
					}
				}
			}
		})
	}
}

// Anybody may publish an event straight to the topic, without Kafka and without
// knowing the wire format; a bad one is dead-lettered like any other.
func TestBareEventPublishedToTheTopic(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			s := start(t, pipeline.Config{Config: local.Config{Partitions: 1, Bridges: -1, Wrapped: transport.wrapped}})
			client, err := pubsub.NewClient(t.Context(), local.Project, s.PubSub.ClientOptions()...)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			publisher := client.Publisher(local.Topic)
			defer publisher.Stop()
			good := `{"event_id":"bare","event_timestamp":"` + time.Now().UTC().Format(time.RFC3339) +
				`","event_type":"search","user_id":"u","q":1}`
			bad := `{"event_id":"bare-bad","event_type":"search","user_id":"u"}`
			for _, event := range []string{good, bad} {
				if _, err := publisher.Publish(t.Context(), &pubsub.Message{Data: []byte(event),
					Attributes: map[string]string{"source": "curl"}}).Get(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := s.PubSub.WaitIdle(ctx); err != nil {
				t.Fatal(err)
			}
			r := one(t, s, "SELECT event_id, CAST(properties AS VARCHAR), kafka_topic, kafka_partition, kafka_offset, kafka_timestamp FROM fact_events")
			if strings.Join(r, "|") != `bare|{"q":1}|NULL|NULL|NULL|NULL` {
				t.Errorf("the row is %q", r)
			}
			r = one(t, s, "SELECT error_code, error_field, original_event, kafka_topic, kafka_offset FROM events_dlq")
			if strings.Join(r, "|") != `missing_field|event_timestamp|`+bad+`|NULL|NULL` {
				t.Errorf("the dead letter is %q", r)
			}
		})
	}
}

// A message that keeps failing is dead-lettered by count, event by event, with its
// coordinates: what BigQuery refused for hours is not lost.
func TestMessageThatKeepsFailingEndsInTheDeadLetterTable(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			s := start(t, pipeline.Config{Config: local.Config{
				Partitions: 1, Wrapped: transport.wrapped,
				Push: local.PushConfig{MaxDeliveryAttempts: 5, BackoffScale: 0.0001},
			}})
			fault := s.Warehouse.Fail(warehouse.Fault{Table: "fact_events", Code: codes.Unavailable, Count: -1})
			defer fault.Remove()
			g := generate.New(generate.Config{Seed: 4})
			var records []record
			for range 3 {
				e := g.Next()
				records = append(records, record{key: bytes.Clone(e.Key), value: bytes.Clone(e.Value)})
			}
			if account := send(t, s, records...); account.DeadLettered != 3 {
				t.Fatalf("%+v", account)
			}
			for offset, r := range records {
				got := one(t, s, `SELECT error_code, original_event, hex(kafka_key), CAST(delivery_attempt AS VARCHAR), consumer FROM events_dlq WHERE kafka_offset = ?`, offset)
				want := []string{"delivery_attempts_exhausted", string(r.value), fmt.Sprintf("%X", r.key), "5"}
				if strings.Join(got[:4], "|") != strings.Join(want, "|") || !strings.Contains(got[4], local.Ingest) {
					t.Errorf("dead letter %d is %q, want %q", offset, got, want)
				}
			}
		})
	}
}

// Deployments and crashes in mid-stream lose nothing.
func TestRestartsInMidStreamLoseNothing(t *testing.T) {
	s := start(t, pipeline.Config{
		// many messages, so that restarts meet some in flight
		TuneBridge: func(c *bridge.Config) { c.BatchRecords = 50 },
	})
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	from := s.Kafka.EndOffsets(s.Topic())
	g := generate.New(generate.Config{Seed: 9, Bad: 2})
	const n = 20_000
	produced := make(chan error, 1)
	go func() {
		for i := range n {
			e := g.Next()
			if err := p.Produce(t.Context(), e.Key, e.Value, nil); err != nil {
				produced <- err
				return
			}
			if i%1000 == 999 { // long enough that every restart falls into the stream
				time.Sleep(100 * time.Millisecond)
			}
		}
		produced <- nil
	}()
	restarts := []struct {
		name string
		do   func() error
	}{
		{"functions killed", s.KillFunctions},
		{"functions started", func() error { return s.StartFunctions(t.Context()) }},
		{"bridge stopped", func() error { return s.StopBridge(t.Context(), s.Bridges()[0]) }},
		{"bridge started", func() error { _, err := s.StartBridge(t.Context()); return err }},
		{"functions stopped", func() error { return s.StopFunctions(t.Context()) }},
		{"functions started again", func() error { return s.StartFunctions(t.Context()) }},
	}
	for _, r := range restarts {
		time.Sleep(200 * time.Millisecond)
		if err := r.do(); err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
	}
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	account := await(t, s, p, from)
	t.Logf("%+v", account)
	if account.Landed+account.DeadLettered != n {
		t.Errorf("%+v, want %d records", account, n)
	}
	if distinct := one(t, s, "SELECT CAST(COUNT(*) AS VARCHAR) FROM events")[0]; distinct != fmt.Sprint(account.Landed) {
		t.Errorf("the view shows %s events, %d have landed", distinct, account.Landed)
	}
}

package service_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"

	"sluice/functions/service"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/internal/telemetry"
)

// world is Pub/Sub, the functions and the warehouse in one process, wired as they
// are deployed: clickstream → Ingest, clickstream-dead-letter → DeadLetter.
type world struct {
	t         *testing.T
	warehouse *warehouse.Server
	pubsub    *pubsub.Server
	service   *service.Service
	url       string
	topic     *client.Publisher
	dead      *client.Publisher
	log       *logLines
}

// options change a world before it starts.
type options struct {
	wrapped  bool
	attempts int // before Pub/Sub gives up
	config   func(*service.Config)
	// contracts of the streams, all of whose topics are clickstream's; nil: the built-in one.
	contracts []*contract.Contract
	before    func(*written) // the functions start, with their registry
}

func start(t *testing.T, o options) *world {
	t.Helper()
	w := &world{t: t, log: new(logLines)}
	var err error
	tables := warehouse.Config{Contracts: o.contracts}
	if o.contracts == nil {
		tables.Tables = []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}
	}
	w.warehouse, err = warehouse.Start(tables)
	check(t, err)
	t.Cleanup(func() { w.warehouse.Close() })
	w.pubsub, err = pubsub.Start(pubsub.Config{BackoffScale: 0.002})
	check(t, err)
	t.Cleanup(func() { w.pubsub.Close() })

	c := service.DefaultConfig()
	c.Project, c.Revision = "local", "ingest-00042-abc"
	c.BigQueryEmulator, c.PubSubEmulator = w.warehouse.Addr(), w.pubsub.Addr()
	c.HandlerTimeout, c.AppendTimeout, c.BreakerOpen = 8*time.Second, 4*time.Second, 20*time.Millisecond
	c.Read = o.contracts
	if o.config != nil {
		o.config(&c)
	}
	ctx := t.Context()
	w.service, err = service.New(ctx, c, telemetry.NewLogger(w.log, slog.LevelDebug))
	check(t, err)
	mux := http.NewServeMux()
	mux.Handle("/Ingest", w.service.Handler(service.Ingest))
	mux.Handle("/DeadLetter", w.service.Handler(service.DeadLetter))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.service.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	w.url = server.URL

	check(t, w.pubsub.CreateTopic(ctx, "clickstream"))
	check(t, w.pubsub.CreateTopic(ctx, "clickstream-dead-letter"))
	check(t, w.pubsub.CreatePushSubscription(ctx, pubsub.PushSubscription{
		Name: "ingest", Topic: "clickstream", Endpoint: w.url + "/Ingest", Unwrapped: !o.wrapped,
		AckDeadline: 10 * time.Second, MinBackoff: 10 * time.Second, MaxBackoff: 600 * time.Second,
		DeadLetterTopic: "clickstream-dead-letter", MaxDeliveryAttempts: max(o.attempts, 5),
	}))
	check(t, w.pubsub.CreatePushSubscription(ctx, pubsub.PushSubscription{
		Name: "dead-letter", Topic: "clickstream-dead-letter", Endpoint: w.url + "/DeadLetter", Unwrapped: !o.wrapped,
		AckDeadline: 10 * time.Second, MinBackoff: 10 * time.Second, MaxBackoff: 600 * time.Second,
	}))
	publisher, err := client.NewClient(ctx, "local", w.pubsub.ClientOptions()...)
	check(t, err)
	t.Cleanup(func() { publisher.Close() })
	w.topic = publisher.Publisher("clickstream")
	t.Cleanup(w.topic.Stop)
	w.dead = publisher.Publisher("clickstream-dead-letter")
	t.Cleanup(w.dead.Stop)
	return w
}

// publish publishes payloads to clickstream and waits until nothing is on its way.
func (w *world) publish(payloads ...[]byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	for _, p := range payloads {
		_, err := w.topic.Publish(ctx, &client.Message{Data: p}).Get(ctx)
		check(w.t, err)
	}
	check(w.t, w.pubsub.WaitIdle(ctx))
}

// deadLetter publishes straight to the dead-letter topic, and waits.
func (w *world) deadLetter(payload []byte, attributes map[string]string) {
	w.t.Helper()
	_, err := w.dead.Publish(w.t.Context(), &client.Message{Data: payload, Attributes: attributes}).Get(w.t.Context())
	check(w.t, err)
	check(w.t, w.pubsub.WaitIdle(w.t.Context()))
}

// count is the number that a query answers.
func (w *world) count(query string) int {
	w.t.Helper()
	var n int
	check(w.t, w.warehouse.DB().QueryRow(query).Scan(&n))
	return n
}

// letter is what the tests look at of a row of events_dlq.
type letter struct {
	Code, Field      string
	Event            string
	Bytes            []byte
	Topic            string
	Partition        int64
	Offset           int64
	Key              []byte
	Consumer         string
	MessageID, Error string
	Attempt, Size    int64
	SHA256           []byte
	KafkaTime        time.Time
	Trace            string
}

// letters returns events_dlq in the order of offsets.
func (w *world) letters() []letter {
	w.t.Helper()
	rows, err := w.warehouse.DB().Query(`SELECT error_code, error_field, original_event, original_event_bytes, kafka_topic, kafka_partition, kafka_offset, kafka_key,
		consumer, pubsub_message_id, error, delivery_attempt, original_event_size, original_event_sha256, kafka_timestamp, trace_id FROM events_dlq ORDER BY kafka_offset, error_code`)
	check(w.t, err)
	defer rows.Close()
	var letters []letter
	for rows.Next() {
		var field, event, topic, consumer, id, trace sql.NullString
		var partition, offset, attempt, size sql.NullInt64
		var at sql.NullTime
		var l letter
		check(w.t, rows.Scan(&l.Code, &field, &event, &l.Bytes, &topic, &partition, &offset, &l.Key, &consumer, &id,
			&l.Error, &attempt, &size, &l.SHA256, &at, &trace))
		l.Field, l.Event, l.Topic, l.Consumer, l.MessageID, l.Trace = field.String, event.String, topic.String, consumer.String, id.String, trace.String
		l.Partition, l.Offset, l.Attempt, l.Size, l.KafkaTime = partition.Int64, offset.Int64, attempt.Int64, size.Int64, at.Time
		if !offset.Valid {
			l.Offset = batch.NoOffset
		}
		letters = append(letters, l)
	}
	check(w.t, rows.Err())
	return letters
}

// pack encodes values as the records of a batch, with offsets from 100 on.
func pack(t *testing.T, values ...string) []byte {
	t.Helper()
	e := batch.NewEncoder(batch.Header{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
	for i, v := range values {
		r := batch.Record{Topic: "clicks", Partition: 3, Offset: int64(100 + i), Timestamp: kafkaTime.UnixMilli(),
			Key: []byte("key\xff"), Value: []byte(v)}
		if v == tombstone {
			r.Value = nil
		}
		e.Append(&r)
	}
	p, err := e.Payload(nil)
	check(t, err)
	return p
}

const tombstone = "tombstone"

var kafkaTime = time.Now().Add(-time.Second).UTC().Truncate(time.Millisecond)

// good is an event that becomes a row.
func good(id string) string {
	b, _ := json.Marshal(map[string]any{
		"event_id": id, "event_timestamp": time.Now().UTC().Format(time.RFC3339Nano), "event_type": "page_view", "user_id": "u1",
		"page_url": "/a", "referrer": "söme",
	})
	return string(b)
}

// logLines collects the log.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		os.Stderr.Write(p)
	}
	return l.buf.Write(p)
}

// has reports whether the log has a text.
func (l *logLines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

// pushes returns the lines of requests.
func (l *logLines) pushes(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []map[string]any
	for s := range strings.Lines(l.buf.String()) {
		line := map[string]any{}
		check(t, json.Unmarshal([]byte(s), &line))
		if line["message"] == "push" {
			lines = append(lines, line)
		}
	}
	return lines
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

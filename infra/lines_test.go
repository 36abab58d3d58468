package infra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/grpc/codes"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/functions/push"
	"sluice/functions/service"
	"sluice/internal/batch"
	"sluice/internal/contract"
	embeddedkafka "sluice/internal/local/kafka"
	"sluice/internal/local/objects"
	embeddedpubsub "sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/internal/reference"
	"sluice/internal/telemetry"
)

var lines struct {
	sync.Mutex
	entries []map[string]any
}

// written returns the log entries that the bridge and the functions write when
// each thing that the metrics count happens once.
func written(t *testing.T) []map[string]any {
	t.Helper()
	lines.Lock()
	defer lines.Unlock()
	if lines.entries == nil {
		functions, b := new(buffer), new(buffer)
		serve(t, functions)
		runBridge(t, b)
		lines.entries = append(functions.entries(t, "cloud_run_revision"), b.entries(t, "cloud_run_worker_pool")...)
	}
	return lines.entries
}

// buffer is a log.
type buffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) entries(t *testing.T, resource string) []map[string]any {
	t.Helper()
	b.Lock()
	defer b.Unlock()
	var all []map[string]any
	for text := range strings.Lines(b.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		all = append(all, entry(resource, line))
	}
	return all
}

// world is the functions as they are deployed, over the in-process servers.
type world struct {
	warehouse *warehouse.Server
	pubsub    *embeddedpubsub.Server
	objects   *objects.Server
	bucket    *reference.Bucket
	ingest    http.Handler
	log       *slog.Logger
}

func start(t *testing.T, log *buffer) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{log: telemetry.NewLogger(log, slog.LevelInfo)}
	preset, err := contract.Preset("clickstream")
	check(t, err)
	// The built-in contract, but that it leaves events out, and has every topic.
	dropping, err := contract.Read("dropping.yaml", []byte(preset.Text+"drop: {page_url: /left-out}\n"))
	check(t, err)
	contracts := []*contract.Contract{dropping}
	w.warehouse, err = warehouse.Start(warehouse.Config{Contracts: contracts})
	check(t, err)
	t.Cleanup(func() { w.warehouse.Close() })
	w.objects, err = objects.Start("127.0.0.1:0", "payloads")
	check(t, err)
	t.Cleanup(func() { w.objects.Close() })
	w.bucket, err = reference.Open(ctx, "payloads", w.objects.Addr())
	check(t, err)
	t.Cleanup(func() { w.bucket.Close() })
	w.pubsub, err = embeddedpubsub.Start(embeddedpubsub.Config{})
	check(t, err)
	t.Cleanup(func() { w.pubsub.Close() })

	c := service.DefaultConfig()
	c.Read = contracts
	c.PayloadBucket, c.StorageEmulator = "payloads", w.objects.Addr()
	c.Project, c.BigQueryEmulator, c.PubSubEmulator = "local", w.warehouse.Addr(), w.pubsub.Addr()
	s, err := service.New(ctx, c, w.log)
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	w.ingest = s.Handler(service.Ingest)
	deadLetter := httptest.NewServer(s.Handler(service.DeadLetter))
	t.Cleanup(deadLetter.Close)
	check(t, w.pubsub.CreateTopic(ctx, "clickstream-dead-letter"))
	check(t, w.pubsub.CreatePushSubscription(ctx, embeddedpubsub.PushSubscription{
		Name: "clickstream-dead-letter", Topic: "clickstream-dead-letter", Endpoint: deadLetter.URL, Unwrapped: true,
	}))
	return w
}

// good is an event that lands.
func good(id, more string) string {
	return fmt.Sprintf(`{"event_id":%q,"event_timestamp":%q,"event_type":"page_view","user_id":"u"%s}`, id,
		time.Now().UTC().Format(time.RFC3339), more)
}

// everything pushes one good event and, of what the contract refuses, one of each,
// and waits until all are in their tables.
func (w *world) everything(t *testing.T) {
	t.Helper()
	deep := strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)
	e := batch.NewEncoder(batch.Header{})
	for i, value := range []string{
		good("1", `,"referrer":"r"`),
		good("poison", ""),
		good("2", `,"user_id":"again"`), // duplicate_name
		good("", ""),                    // empty_field
		strings.Replace(good("3", ""), "page_view", "unknown", 1), // invalid_event_type
		"{", // invalid_json
		`{"event_id":"4","event_timestamp":"yesterday"}`, // invalid_timestamp
		"\xff", // invalid_utf8
		`{"event_id":"5","event_timestamp":"2026-01-01T00:00:00Z"}`, // missing_field
		`{"event_id":"6","event_timestamp":"1970-01-01T00:00:00Z"}`, // timestamp_out_of_range
		good("7", `,"x":`+deep),                             // too_deep
		good("8", `,"x":"`+strings.Repeat("x", 11<<20)+`"`), // too_large
		`{"event_id":9}`,                                    // wrong_type
		good("10", `,"page_url":"/left-out"`),               // left out
	} {
		e.Append(&batch.Record{Topic: "clickstream", Offset: int64(i),
			Timestamp: time.Now().Add(-time.Second).UnixMilli(), Value: []byte(value)})
	}
	payload, err := e.Payload(nil)
	check(t, err)
	fault := w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Count: -1,
		BadRow: func(row []byte) bool { return bytes.Contains(row, []byte("poison")) }})
	pushTo(w.ingest, payload) // and row_rejected
	fault.Remove()
	pushTo(w.ingest, payload[:len(payload)-9]) // undecodable_payload
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	check(t, w.pubsub.WaitIdle(ctx))
}

// serve has the functions write each line that the metrics look for.
func serve(t *testing.T, log *buffer) {
	w := start(t, log)
	w.everything(t)

	// An object that cannot be deleted, and one that is gone when its message comes again.
	undeletable := w.objects.Fail(objects.Fault{Operation: objects.Delete, Status: http.StatusForbidden})
	r, err := w.bucket.Put(t.Context(), []byte(good("11", "")))
	check(t, err)
	pushTo(w.ingest, r.Append(nil))
	undeletable()
	for range 2 {
		pushTo(w.ingest, r.Append(nil))
	}

	// A quota that is used up until the circuit breaker opens.
	fault := w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Count: -1, Code: codes.ResourceExhausted,
		InResponse: true})
	for range 20 {
		pushTo(w.ingest, []byte(good("10", "")))
	}
	fault.Remove()

	// Reasons that only a contract of one's own can give: fact_events has no column of
	// such a type, and no rule of such a kind.
	gate := push.NewGate(w.log)
	h := gate.Handler(push.Config{Function: service.Ingest}, func(_ context.Context, m *push.Message) error {
		push.NoteRejected(m, map[string]int{
			"invalid_base64": 1, "out_of_range": 2, "not_allowed": 1,
			"invalid_value": 1, "invalid_length": 1, "unknown_member": 1, "unknown_schema": 1, "undecodable_value": 1, "schema_violation": 1, "no_contract": 1,
			"decoder_failed": 1,
		})
		return nil
	})
	pushTo(h, []byte("{}"))
}

// pushTo makes a request as Pub/Sub makes it.
func pushTo(h http.Handler, payload []byte) {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(payload))
	r.Header.Set("x-goog-pubsub-message-id", "1")
	r.Header.Set("x-goog-pubsub-subscription-name", "projects/local/subscriptions/clickstream-ingest")
	r.Header.Set("x-goog-pubsub-publish-time", time.Now().UTC().Format(time.RFC3339))
	h.ServeHTTP(httptest.NewRecorder(), r)
}

// runBridge has a bridge find records that Kafka has deleted before it read them, and
// write its line; and one meet a partition that it cannot read.
func runBridge(t *testing.T, log *buffer) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p, err := embeddedpubsub.Start(embeddedpubsub.Config{})
	check(t, err)
	defer p.Close()
	check(t, p.CreateTopic(ctx, "clickstream"))
	client, err := pubsub.NewClient(ctx, "local", p.ClientOptions()...)
	check(t, err)
	defer client.Close()
	k, err := embeddedkafka.Start(embeddedkafka.Config{Topics: map[string]int32{"clickstream": 1}})
	check(t, err)
	defer k.Close()
	c := bridge.DefaultConfig()
	c.Brokers, c.Project = k.Brokers(), "local"

	topic := "clickstream"
	producer, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": k.Brokers(), "enable.metrics.push": false,
		"go.delivery.reports": false})
	check(t, err)
	defer producer.Close()
	for range 3 {
		check(t, producer.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: 0},
			Value: []byte("{}")}, nil))
	}
	if left := producer.Flush(30_000); left > 0 {
		t.Fatalf("%d records were not produced", left)
	}
	admin, err := kafka.NewAdminClientFromProducer(producer)
	check(t, err)
	defer admin.Close()
	_, err = admin.AlterConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: c.Group,
		Partitions: []kafka.TopicPartition{{Topic: &topic, Offset: 1}}}})
	check(t, err)
	_, err = admin.DeleteRecords(ctx, []kafka.TopicPartition{{Topic: &topic, Offset: 2}})
	check(t, err)

	until := func(done func(bridge.Stats) bool) {
		b, err := connect.New(c, client, nil, telemetry.NewLogger(log, slog.LevelInfo))
		check(t, err)
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- b.Run(running) }()
		for !done(b.Stats()) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		check(t, <-ended)
		b.LogStats(running, time.Hour)
		check(t, ctx.Err())
	}
	until(func(s bridge.Stats) bool { return s.RecordsIn > 0 })
	c.Group, c.OffsetReset = "without-offsets", "error"
	until(func(s bridge.Stats) bool { return s.KafkaErrors > 0 })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

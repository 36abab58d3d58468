package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/grpc/codes"

	"sluice/functions/event"
	"sluice/internal/contract"
	"sluice/internal/local"
	fakepubsub "sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
	"sluice/internal/replay"
	"sluice/internal/telemetry"
	"sluice/scripts/pipeline"
)

// start starts a pipeline that ends with the test.
func start(t *testing.T) *local.Stack {
	t.Helper()
	s, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{
		Partitions: 2, Log: telemetry.NewLogger(t.Output(), slog.LevelWarn),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// produce sends the events to Kafka and waits until each has arrived somewhere.
func produce(t *testing.T, s *local.Stack, events ...string) {
	t.Helper()
	p, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i, e := range events {
		if err := p.Produce(t.Context(), fmt.Appendf(nil, "key-%d", i), []byte(e), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, err := s.AwaitAll(t.Context(), nil, s.Kafka.EndOffsets(s.Topic()), 2*time.Minute); err != nil || a.Missing > 0 {
		t.Fatalf("%+v, %v", a, err)
	}
}

func engine(s *local.Stack) query.Engine { return query.Database{DB: s.Warehouse.DB()} }

// throughPubSub is the target of replays through Pub/Sub.
func throughPubSub(t *testing.T, s *local.Stack) replay.PubSub {
	t.Helper()
	client, err := pubsub.NewClient(t.Context(), local.Project, s.PubSub.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	publisher := client.Publisher(local.Topic)
	t.Cleanup(func() { publisher.Stop(); client.Close() })
	return replay.PubSub{Publisher: publisher}
}

// settle waits until Pub/Sub has nothing left, and audits.
func settle(t *testing.T, s *local.Stack) {
	t.Helper()
	if err := s.PubSub.WaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Audit(t.Context()); err != nil || r.Totals.Missing > 0 {
		t.Errorf("the audit after the replay: %+v, %v", r, err)
	}
}

// ask returns the rows of a statement, columns by |.
func ask(t *testing.T, e query.Engine, statement string) string {
	t.Helper()
	rows, err := query.All(t.Context(), e, statement)
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	var lines []string
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = fmt.Sprint(v)
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	return strings.Join(lines, "\n")
}

// insert runs a statement without an answer.
func insert(t *testing.T, e query.Engine, statement string, args ...any) {
	t.Helper()
	if _, err := query.All(t.Context(), e, statement, args...); err != nil {
		t.Fatal(err)
	}
}

// misspelt is an event that a jq expression can repair; its extras must come through
// to the digit.
func misspelt(id string) string {
	return fmt.Sprintf(`{"event_id":%q,"event_timestamp":%q,"event_type":"page_veiw","user_id":"u","price":2.50,"big":12345678901234567890}`,
		id, time.Now().UTC().Format(time.RFC3339))
}

// Protects the whole of a replay through Pub/Sub: repaired letters land where they came
// from, with the replay's id; those that were left alone stay; a second replay finds
// nothing to do, and one that is forced shows in no view.
func TestThroughPubSub(t *testing.T) {
	s := start(t)
	good := strings.Replace(misspelt("good"), "veiw", "view", 1)
	produce(t, s, misspelt("one"), good, misspelt("two"), "no event", misspelt("three"))
	before := ask(t, engine(s), "SELECT kafka_partition, kafka_offset, epoch_us(kafka_timestamp) FROM events_dlq WHERE error_code = 'invalid_event_type' ORDER BY 1, 2")

	r := replay.New(local.Dataset, replay.Filter{Codes: []string{"invalid_event_type"}})
	r.Transform = `if $code == "invalid_event_type" and $field == "event_type" then .event_type = "page_view" else empty end`
	if err := replay.Execute(t.Context(), engine(s), r, throughPubSub(t, s), replay.Options{}); err != nil ||
		r.Sent != 3 || !r.Done {
		t.Fatalf("%+v, %v", r, err)
	}
	settle(t, s)
	after := ask(t, engine(s), "SELECT kafka_partition, kafka_offset, epoch_us(kafka_timestamp) FROM fact_events WHERE replay_id = '"+r.ID+"' ORDER BY 1, 2")
	if after != before || strings.Count(after, "\n") != 2 {
		t.Errorf("replayed rows are of the records\n%s, want\n%s", after, before)
	}
	if got := ask(t, engine(s), "SELECT DISTINCT CAST(properties AS VARCHAR), event_type FROM fact_events WHERE replay_id IS NOT NULL"); !strings.Contains(got, "2.50") || !strings.Contains(got, "12345678901234567890") || !strings.HasSuffix(got, "|page_view") {
		t.Errorf("the repaired event is %s", got)
	}
	outcomes, err := replay.Outcomes(t.Context(), engine(s), s.Query())
	if err != nil || len(outcomes) != 1 || outcomes[0].ID != r.ID || outcomes[0].Landed != 3 ||
		outcomes[0].Rejected != 0 {
		t.Errorf("outcomes are %+v, %v", outcomes, err)
	}

	again := replay.New(local.Dataset, r.Filter)
	again.Transform = r.Transform
	if err := replay.Execute(t.Context(), engine(s), again, throughPubSub(t, s), replay.Options{}); err != nil ||
		again.Sent != 0 {
		t.Errorf("a second replay sends %d letters, %v", again.Sent, err)
	}
	again.Filter.Landed, again.Done = true, false
	if err := replay.Execute(t.Context(), engine(s), again, throughPubSub(t, s), replay.Options{}); err != nil ||
		again.Sent != 3 {
		t.Errorf("a forced replay sends %d letters, %v", again.Sent, err)
	}
	settle(t, s)
	if got := ask(t, engine(s), "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events"); got != "4|4" {
		t.Errorf("the view shows %s events and ids, want 4 and 4", got)
	}

	// What is not repaired is rejected again, and its row says by which replay.
	rest := replay.New(local.Dataset, replay.Filter{})
	if err := replay.Execute(t.Context(), engine(s), rest, throughPubSub(t, s), replay.Options{}); err != nil ||
		rest.Sent != 1 {
		t.Errorf("the rest is %d letters, %v", rest.Sent, err)
	}
	settle(t, s)
	if got := ask(t, engine(s), "SELECT original_event, hex(kafka_key) FROM events_dlq WHERE replay_id = '"+rest.ID+"'"); got != "no event|6B65792D33" {
		t.Errorf("rejected again: %s", got)
	}
}

// Protects resuming: a replay that was cut off goes on behind the last step that was
// saved, and every letter lands.
func TestResumeAfterFailure(t *testing.T) {
	s := start(t)
	const n = 2500
	var events []string
	for i := range n {
		events = append(events, misspelt(fmt.Sprint("e", i)))
	}
	produce(t, s, events...)
	file := filepath.Join(t.TempDir(), "kept", "replay.json")
	r := replay.New(local.Dataset, replay.Filter{})
	r.Transform = `.event_type = "search"`

	// Pub/Sub refuses for good from some message on.
	fault := s.PubSub.FailPublish(fakepubsub.PublishFault{Topic: local.Topic, Skip: 2, Count: -1,
		Code: codes.PermissionDenied})
	var steps []int64
	err := replay.Execute(t.Context(), engine(s), r, throughPubSub(t, s), replay.Options{File: file,
		Progress: func(r *replay.Replay) { steps = append(steps, r.Sent) }})
	fault.Remove()
	if err == nil {
		t.Fatal("no error from a topic that may not be published to")
	}
	kept := r
	if len(steps) > 0 {
		if kept, err = replay.Load(file); err != nil {
			t.Fatal(err)
		}
		if kept.Sent != steps[len(steps)-1] || kept.ID != r.ID || kept.Transform != r.Transform || kept.Done {
			t.Errorf("kept is %+v after the steps %d", kept, steps)
		}
	}
	var shares []float64
	if err := replay.Execute(t.Context(), engine(s), kept, throughPubSub(t, s), replay.Options{File: file,
		Rate: 1e6, Progress: func(r *replay.Replay) { shares = append(shares, r.Progress()) }}); err != nil {
		t.Fatal(err)
	}
	if len(shares) == 0 || !slices.IsSorted(shares) || shares[0] <= 0 || shares[len(shares)-1] != 1 {
		t.Errorf("the shares that were done are %v, want them to grow to 1", shares)
	}
	settle(t, s)
	if got := ask(t, engine(s), "SELECT COUNT(*), COUNT(DISTINCT replay_id) FROM events"); got != fmt.Sprintf("%d|1",
		n) {
		t.Errorf("the view shows %s events and replays, want %d and 1", got, n)
	}
	if done, err := replay.Load(file); err != nil || !done.Done {
		t.Errorf("at the end the file holds %+v, %v", done, err)
	}
}

// Protects the way through Kafka: new coordinates, the replay's id all the same, and
// nothing missing.
func TestThroughKafka(t *testing.T) {
	s := start(t)
	produce(t, s, misspelt("one"), misspelt("two"))
	r := replay.New(local.Dataset, replay.Filter{})
	r.Transform, r.Via = `.event_type = "search"`, replay.ViaKafka
	for s.Kafka.Lag(s.Group(), local.Topic) > 0 { // the bridge commits each second
		time.Sleep(20 * time.Millisecond)
	}
	target, err := replay.OpenKafka(t.Context(), replay.KafkaConfig{Properties: kafka.ConfigMap{"bootstrap.servers": s.Kafka.Brokers()}, Group: s.Group()})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := replay.Execute(t.Context(), engine(s), r, target, replay.Options{}); err != nil || r.Sent != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if a, err := s.AwaitAll(t.Context(), nil, s.Kafka.EndOffsets(s.Topic()), 2*time.Minute); err != nil || a.Landed != 2 ||
		a.DeadLettered != 2 || a.Missing != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	settle(t, s)
	if got := ask(t, engine(s), "SELECT event_id FROM fact_events WHERE replay_id = '"+r.ID+"' ORDER BY 1"); got != "one\ntwo" {
		t.Errorf("replayed events are %q", got)
	}

	// A letter that somebody has made up goes nowhere, and neither do those beside it.
	insert(t, engine(s), `INSERT INTO clickstream.events_dlq (error_code, error, failed_at, original_event, kafka_topic, kafka_partition, kafka_offset) VALUES
		('made_up', 'because', ?, '{}', 'payments', 0, 0)`, time.Now())
	foreign := replay.New(local.Dataset, replay.Filter{Codes: []string{"made_up"}})
	foreign.Via = replay.ViaKafka
	if err := replay.Execute(t.Context(), engine(s), foreign, target, replay.Options{}); err == nil ||
		!strings.Contains(err.Error(), `the topic "payments"`) || foreign.Sent != 0 {
		t.Errorf("to a topic that the bridge does not read: %d sent, %v", foreign.Sent, err)
	}
	insert(t, engine(s), `DELETE FROM clickstream.events_dlq WHERE error_code = 'made_up'`)

	// Nobody can tell that they have landed: a second replay sends them again, and no view
	// shows it. What is no record is not sent.
	insert(t, engine(s), `INSERT INTO clickstream.events_dlq (error_code, error, failed_at, original_event) VALUES
		('undecodable_payload', 'because', ?, 'payload'), ('invalid_json', 'because', ?, 'bare')`, time.Now(), time.Now())
	again := replay.New(local.Dataset, replay.Filter{})
	again.Transform, again.Via = r.Transform, replay.ViaKafka
	if err := replay.Execute(t.Context(), engine(s), again, target, replay.Options{}); err != nil || again.Sent != 2 ||
		!maps.Equal(again.Skipped, map[string]int64{replay.SkipPayload: 1, replay.SkipNoRecord: 1}) {
		t.Errorf("a second replay: %+v, %v", again, err)
	}
	if _, err := s.AwaitAll(t.Context(), nil, s.Kafka.EndOffsets(s.Topic()), time.Minute); err != nil {
		t.Error(err)
	}
	settle(t, s)
	if got := ask(t, engine(s), "SELECT COUNT(*) FROM events"); got != "2" {
		t.Errorf("the view shows %s events, want 2", got)
	}
}

// steps is a target that notes how many letters came at a time, and cancels at will.
type steps struct {
	sizes []int
	after func()
}

func (s *steps) Send(_ context.Context, letters []*replay.Letter) error {
	s.sizes = append(s.sizes, len(letters))
	if s.after != nil {
		s.after()
	}
	return nil
}

// Protects the memory of a replay of large events, and that a step never ends between
// letters that a resumed replay could not tell apart; that one which is interrupted
// takes nothing for skipped; and that its file is there from the beginning.
func TestSteps(t *testing.T) {
	e := tables(t)
	at := time.Now().Add(-time.Hour)
	for i := range 12 { // letters of 2 MiB: three messages, of which the second holds six of them
		insert(t, e, "INSERT INTO clickstream.events_dlq (error_code, error, failed_at, pubsub_message_id, original_event) VALUES ('row_rejected', 'because', ?, ?, ?)",
			at, []string{"a", "b", "b", "c"}[i/3], fmt.Sprintf("%d%s", i, strings.Repeat(" ", 2<<20)))
	}
	file := filepath.Join(t.TempDir(), "replay.json")
	target := &steps{}
	r := replay.New("clickstream", replay.Filter{})
	if err := replay.Execute(t.Context(), e, r, target, replay.Options{File: file}); err != nil ||
		!slices.Equal(target.sizes, []int{9, 3}) {
		t.Errorf("steps of %d letters, %v", target.sizes, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	target = &steps{after: cancel}
	r = replay.New("clickstream", replay.Filter{})
	if err := replay.Execute(ctx, e, r, target, replay.Options{File: file}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	kept, err := replay.Load(file)
	if err != nil || kept.ID != r.ID || kept.Sent != 9 || kept.Done || len(kept.Skipped) != 0 {
		t.Errorf("kept is %+v, %v", kept, err)
	}
	target = &steps{}
	if err := replay.Execute(t.Context(), e, kept, target, replay.Options{}); err != nil || !slices.Equal(target.sizes,
		[]int{3}) || !kept.Done {
		t.Errorf("resumed: %d letters, %+v, %v", target.sizes, kept, err)
	}

	cancel()
	r = replay.New("clickstream", replay.Filter{})
	if err := replay.Execute(ctx, e, r, target, replay.Options{File: file}); err == nil {
		t.Error("a replay that is interrupted at once is no error")
	}
	if kept, err := replay.Load(file); err != nil || kept.ID != r.ID || kept.Done || kept.Sent != 0 {
		t.Errorf("interrupted at once it keeps %+v, %v", kept, err)
	}
}

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

// fill inserts dead letters of every kind that a filter or a replay tells apart, failed
// a second apart from the time on that it returns.
func fill(t *testing.T, e query.Engine) time.Time {
	t.Helper()
	day := time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Second)
	for i, l := range []map[string]any{
		{"error_code": "missing_field", "error_field": "user_id", "kafka_topic": "a", "kafka_partition": 0, "kafka_offset": 1, "original_event": `{"event_id":"x"}`},
		{"error_code": "missing_field", "error_field": "event_id", "kafka_topic": "a", "kafka_partition": 0, "kafka_offset": 2, "original_event": `{"id":"x"}`},
		{"error_code": "invalid_json", "kafka_topic": "a", "kafka_partition": 1, "kafka_offset": 2, "original_event": `{"event_id":"x"`},
		{"error_code": "invalid_json", "kafka_topic": "b", "kafka_partition": 0, "kafka_offset": 3, "original_event": `{"event_id":"y"}`},
		{"error_code": "invalid_utf8", "kafka_topic": "b", "kafka_partition": 0, "kafka_offset": 4, "original_event_bytes": []byte("{\xff}")},
		{"error_code": "too_large", "kafka_topic": "b", "kafka_partition": 0, "kafka_offset": 5, "original_event": "{", "original_event_size": 9 << 20},
		// a tombstone
		{"error_code": "invalid_json", "kafka_topic": "b", "kafka_partition": 0, "kafka_offset": 6},
		// has landed
		{"error_code": "invalid_json", "kafka_topic": "b", "kafka_partition": 0, "kafka_offset": 7, "original_event": ""},
		// delivered again
		{"error_code": "invalid_json", "kafka_topic": "b", "kafka_partition": 0, "kafka_offset": 3, "original_event": `{"event_id":"y"}`},
		// not from Kafka
		{"error_code": "row_rejected", "pubsub_message_id": "m1", "original_event": "bare"},
		// another one of its message
		{"error_code": "row_rejected", "pubsub_message_id": "m1", "original_event": "bare too"},
		// the first, brought back by a replay
		{"error_code": "row_rejected", "pubsub_message_id": "m2", "original_event": "bare", "replay_id": "r"},
		// of later
		{"error_code": "row_rejected", "pubsub_message_id": "m3", "original_event": "future", "failed_at": time.Now().Add(time.Hour)},
		// an older reason
		{"error_code": "missing_field", "error_field": "user_id", "kafka_topic": "a", "kafka_partition": 0, "kafka_offset": 1, "original_event": `{"event_id":"x"}`, "failed_at": day.Add(-time.Hour)},
	} {
		l["error"] = "because"
		if l["failed_at"] == nil {
			l["failed_at"] = day.Add(time.Duration(i) * time.Second)
		}
		names := slices.Sorted(maps.Keys(l))
		args := make([]any, len(names))
		for i, n := range names {
			args[i] = l[n]
		}
		insert(t, e, "INSERT INTO clickstream.events_dlq ("+strings.Join(names,
			", ")+") VALUES ("+strings.TrimSuffix(strings.Repeat("?, ", len(names)), ", ")+")", args...)
	}
	insert(t, e, `INSERT INTO clickstream.fact_events (event_id, event_timestamp, event_type, user_id, ingested_at, kafka_topic, kafka_partition, kafka_offset)
		VALUES ('z', ?, 'search', 'u', ?, 'b', 0, 7)`, day, day)
	return day
}

// Protects what each filter chooses, that a letter counts once, and that what cannot be
// sent is said and not sent.
func TestFilters(t *testing.T) { testFilters(t, tables(t)) }

func testFilters(t *testing.T, e query.Engine) {
	day := fill(t, e)
	j, err := event.NewJudge(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	zero, two, three := int64(0), int64(2), int64(3)
	for _, c := range []struct {
		name    string
		filter  replay.Filter
		letters int64
	}{
		{"everything that can be sent", replay.Filter{}, 7},
		{"and what has landed", replay.Filter{Landed: true}, 8},
		{"a code", replay.Filter{Codes: []string{"invalid_json"}}, 2},
		{"two codes", replay.Filter{Codes: []string{"invalid_json", "invalid_utf8"}}, 3},
		{"a field", replay.Filter{Field: "user_id"}, 1},
		{"a topic", replay.Filter{Topic: "a"}, 3},
		{"a partition", replay.Filter{Topic: "a", Partition: &zero}, 2},
		{"offsets", replay.Filter{FirstOffset: &two, LastOffset: &three}, 3},
		{"an event id, also in what is no JSON", replay.Filter{EventID: "x"}, 2},
		{"a time", replay.Filter{Since: day.Add(3 * time.Second), Until: day.Add(9 * time.Second)}, 2},
		{"none", replay.Filter{Codes: []string{"'; DROP TABLE events_dlq; --"}}, 0},
	} {
		p, err := replay.Look(t.Context(), e, replay.New("clickstream", c.filter), j.Judge)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if p.Letters != c.letters {
			t.Errorf("%s: %d letters, want %d: %q", c.name, p.Letters, c.letters, p.Sample)
		}
	}
	r := replay.New("clickstream", replay.Filter{})
	r.Limit = 3
	p, err := replay.Look(t.Context(), e, r, j.Judge)
	if err != nil || p.Letters != 3 {
		t.Errorf("with a limit of 3: %+v, %v", p, err)
	}
	r.Limit = 0
	p, err = replay.Look(t.Context(), e, r, j.Judge)
	if err != nil {
		t.Fatal(err)
	}
	if want := []replay.PlanSkipped{{replay.SkipCut, 1}, {replay.SkipTombstone, 1}}; !slices.Equal(p.Skipped, want) {
		t.Errorf("skipped are %+v, want %+v", p.Skipped, want)
	}
	if sample := strings.Join(p.Sample, "\n"); strings.Contains(sample, "event_id\"") || !strings.Contains(sample,
		"a/1 offset 2  invalid_json") {
		t.Errorf("the sample is\n%s", sample)
	}
}

// Protects against expressions that are none, and against a file that is no replay's.
func TestMistakes(t *testing.T) {
	r := replay.New("clickstream", replay.Filter{})
	r.Transform = ".event_type ="
	if _, err := replay.Look(t.Context(), nil, r, nil); err == nil || !strings.Contains(err.Error(),
		"no jq expression") {
		t.Errorf("a broken expression: %v", err)
	}
	r.Transform = "env.HOME, input, $ENV"
	if _, err := replay.Look(t.Context(), nil, r, nil); err != nil && !strings.Contains(err.Error(), "jq") {
		t.Errorf("an expression that looks around: %v", err)
	}
	if _, err := replay.Load(filepath.Join(t.TempDir(), "none.json")); err == nil {
		t.Error("a file that is not there is no error")
	}
	file := filepath.Join(t.TempDir(), "replay.json")
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	got, err := replay.Load(file)
	if err != nil || got.ID != r.ID || !got.Started.Equal(r.Started) || !bytes.Equal([]byte(got.Transform),
		[]byte(r.Transform)) {
		t.Errorf("loaded %+v, %v", got, err)
	}
}

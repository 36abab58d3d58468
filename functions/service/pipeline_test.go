package service_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	client "cloud.google.com/go/pubsub/v2"

	"sluice/functions/event"
	"sluice/functions/service"
	"sluice/internal/batch"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
)

// Protects the main promise in both forms of a push: every good record is a row, and
// every bad one a dead letter with its reason, its bytes and its place in Kafka.
func TestEveryRecordEndsInOneTable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		wrapped bool
		decoder string
	}{{false, event.Fast}, {true, event.Fast}, {false, event.Strict}} {
		t.Run(fmt.Sprintf("wrapped %v, %s", test.wrapped, test.decoder), func(t *testing.T) {
			w := start(t, options{wrapped: test.wrapped,
				config: func(c *service.Config) { c.EventDecoder = test.decoder }})
			missing := `{"event_id":"x","event_timestamp":"2026-11-22T10:00:00Z","event_type":"page_view"}`
			w.publish(pack(t, good("a"), missing, good("b"), "not json", "\xff\xfe", tombstone, good("c")))

			if n := w.count("SELECT COUNT(*) FROM fact_events WHERE event_id IN ('a','b','c') AND kafka_topic = 'clicks' AND kafka_partition = 3"); n != 3 {
				t.Errorf("%d rows, want 3", n)
			}
			var got []string
			for _, l := range w.letters() {
				got = append(got, fmt.Sprintf("%s|%s|%s|%x|%s/%d/%d|%x|%s", l.Code, l.Field, l.Event, l.Bytes, l.Topic,
					l.Partition, l.Offset, l.Key, l.Trace))
				if l.Error == "" || l.MessageID == "" || l.Consumer != "ingest-00042-abc" ||
					!l.KafkaTime.Equal(kafkaTime) {
					t.Errorf("incomplete: %+v", l)
				}
			}
			const at, trace = "|6b6579ff|", "0af7651916cd43dd8448eb211c80319c"
			if diff := cmp.Diff([]string{
				"missing_field|user_id|" + missing + "||clicks/3/101" + at + trace,
				"invalid_json||not json||clicks/3/103" + at + trace,
				"invalid_utf8|||fffe|clicks/3/104" + at + trace,
				"invalid_json||||clicks/3/105" + at + trace,
			}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Protects events that somebody publishes without the bridge: no Kafka columns.
func TestBareEvents(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	w.publish([]byte(good("bare")), []byte(`{"event_id":1}`))
	if n := w.count("SELECT COUNT(*) FROM fact_events WHERE event_id = 'bare' AND kafka_topic IS NULL AND kafka_offset IS NULL"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	if n := w.count(`SELECT COUNT(*) FROM events_dlq WHERE original_event = '{"event_id":1}' AND error_code = 'wrong_type'
		AND kafka_topic IS NULL AND kafka_partition IS NULL AND kafka_offset IS NULL AND kafka_key IS NULL AND kafka_timestamp IS NULL`); n != 1 {
		t.Errorf("%d letters, want 1: %+v", n, w.letters())
	}
}

// Protects the neighbours of rows that BigQuery refuses, and its words.
func TestRowsThatBigQueryRefuses(t *testing.T) {
	t.Parallel()
	for _, naming := range []warehouse.Naming{warehouse.NameAll, warehouse.NameFirst, warehouse.NameNone} {
		t.Run(fmt.Sprint(naming), func(t *testing.T) {
			w := start(t, options{})
			w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Count: -1, Naming: naming,
				BadRow: func(row []byte) bool { return bytes.Contains(row, []byte("poison")) }})
			var values []string
			for i := range 20 {
				id := fmt.Sprintf("good-%d", i)
				if i == 3 || i == 17 {
					id = "poison"
				}
				values = append(values, good(id))
			}
			w.publish(pack(t, values...))
			if n := w.count("SELECT COUNT(DISTINCT event_id) FROM fact_events"); n != 18 {
				t.Errorf("%d rows, want 18", n)
			}
			if n := w.count("SELECT COUNT(*) FROM fact_events"); n != 18 {
				t.Errorf("%d rows with copies, want 18", n)
			}
			got := w.letters()
			if len(got) != 2 || got[0].Offset != 103 || got[1].Offset != 117 || got[0].Code != "row_rejected" ||
				got[0].Error == "" {
				t.Errorf("letters %+v", got)
			}
		})
	}
}

// Protects good data from faults that are not the rows': all of it waits in Pub/Sub
// and lands when the fault is over, none is dead-lettered.
func TestFaultsThatWait(t *testing.T) {
	for name, fault := range map[string]warehouse.Fault{
		"unavailable":          {Code: codes.Unavailable},
		"quota in the answer":  {Code: codes.ResourceExhausted, InResponse: true},
		"permission denied":    {Code: codes.PermissionDenied},
		"schema mismatch":      {Code: codes.InvalidArgument, Storage: 7, InResponse: true},
		"refused as a whole":   {Code: codes.InvalidArgument, InResponse: true},
		"stream refused":       {Code: codes.InvalidArgument},
		"answer lost":          {Code: codes.Unavailable, StoreFirst: true},
		"internal, after rows": {Code: codes.Internal, StoreFirst: true, InResponse: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{attempts: 100})
			fault.Count = 3
			w.warehouse.Fail(fault)
			w.publish(pack(t, good("a"), good("b")))
			if n := w.count("SELECT COUNT(DISTINCT event_id) FROM fact_events"); n != 2 {
				t.Errorf("%d events, want 2", n)
			}
			if n := w.count("SELECT COUNT(*) FROM events_dlq"); n != 0 {
				t.Errorf("%d letters, want none: %+v", n, w.letters())
			}
		})
	}
}

// Protects rejects whose publication fails: the message comes again until Pub/Sub
// has them.
func TestRejectsThatCannotBePublished(t *testing.T) {
	t.Parallel()
	w := start(t, options{attempts: 100})
	w.pubsub.FailPublish(pubsub.PublishFault{Topic: "clickstream-dead-letter", Code: codes.PermissionDenied, Count: 2})
	w.publish(pack(t, good("a"), "bad"))
	if n := w.count("SELECT COUNT(DISTINCT event_id) FROM fact_events"); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if got := w.letters(); len(got) != 1 || got[0].Event != "bad" {
		t.Errorf("letters %+v", got)
	}
	lines := w.log.pushes(t)
	if o := lines[0]["outcome"]; o != "retry" {
		t.Errorf("the first delivery ended with %v, want retry", o)
	}
}

// Protects against dead letters twice: the client library's own retries end before the request is answered, because
// Pub/Sub then delivers the message again.
func TestNoDeadLetterIsSentBehindTheAnswer(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: func(c *service.Config) {
		c.HandlerTimeout, c.AppendTimeout = time.Second,
			300*time.Millisecond
	}})
	refused := w.pubsub.FailPublish(pubsub.PublishFault{Topic: "clickstream-dead-letter", Code: codes.Unavailable,
		Count: 1_000_000})
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/Ingest", bytes.NewReader(pack(t, "bad")))
	check(t, err)
	r.Header.Set("x-goog-pubsub-subscription-name", "projects/local/subscriptions/ingest")
	r.Header.Set("x-goog-pubsub-message-id", "1")
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || refused.Hits() == 0 {
		t.Fatalf("%s, and %d publish requests were refused", answer.Status, refused.Hits())
	}
	// The library waits for less than a second before it tries again.
	before := refused.Hits()
	time.Sleep(2 * time.Second)
	if n := refused.Hits() - before; n > 0 {
		t.Errorf("%d more requests after the answer", n)
	}
}

// Protects messages that Pub/Sub gives up: a row per record, which names the
// subscription and how often it tried.
func TestMessagesThatPubSubGivesUp(t *testing.T) {
	t.Parallel()
	for _, wrapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wrapped %v", wrapped), func(t *testing.T) {
			w := start(t, options{wrapped: wrapped})
			w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Code: codes.Unavailable, Count: -1})
			w.publish(pack(t, good("a"), good("b")), []byte(good("bare")))
			got := w.letters()
			if len(got) != 3 {
				t.Fatalf("letters %+v", got)
			}
			for _, l := range got {
				if l.Code != "delivery_attempts_exhausted" || l.Attempt != 5 || !strings.Contains(l.Error,
					"projects/local/subscriptions/ingest") ||
					l.Consumer != "projects/local/subscriptions/ingest" || !strings.HasPrefix(l.Event, "{") {
					t.Errorf("letter %+v", l)
				}
			}
			if got[0].Offset != 100 || got[1].Offset != 101 || got[2].Offset != batch.NoOffset {
				t.Errorf("offsets %d %d %d", got[0].Offset, got[1].Offset, got[2].Offset)
			}
		})
	}
}

// Protects payloads that nobody can read: one row with the bytes as they were.
func TestUndecodablePayload(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	damaged := pack(t, good("a"))
	damaged = damaged[:len(damaged)-4]
	w.publish(damaged)
	got := w.letters()
	if len(got) != 1 || got[0].Code != "undecodable_payload" || !bytes.Equal(got[0].Bytes, damaged) ||
		got[0].Offset != batch.NoOffset {
		t.Errorf("letters %+v", got)
	}
}

// Protects a payload of a version to come: it waits for the functions that know it.
func TestPayloadOfAVersionToCome(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	newer := pack(t, good("a"))
	newer[4] = 3
	w.publish(newer)
	lines := w.log.pushes(t)
	if lines[0]["outcome"] != "retry" {
		t.Errorf("the first delivery ended with %v, want retry", lines[0]["outcome"])
	}
	if got := w.letters(); len(got) != 1 || !bytes.Equal(got[0].Bytes, newer) {
		t.Errorf("letters %+v", got)
	}
}

// Protects events that are larger than a row of events_dlq: their head is kept, with
// the length and the hash of the whole.
func TestOversizeOriginals(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	huge := `{"event_id":"` + strings.Repeat("é", 5<<20) + `"}`
	w.publish(pack(t, huge, good("a")))
	if n := w.count("SELECT COUNT(*) FROM fact_events"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	got := w.letters()
	sum := sha256.Sum256([]byte(huge))
	if len(got) != 1 || got[0].Code != "too_large" || got[0].Size != int64(len(huge)) || !bytes.Equal(got[0].SHA256,
		sum[:]) {
		t.Fatalf("%d letters, code %s, size %d", len(got), got[0].Code, got[0].Size)
	}
	if e := got[0].Event; len(e) < 1<<20 || !strings.HasPrefix(huge, e) {
		t.Errorf("%d bytes kept", len(e))
	}
}

// Protects dead letters from BigQuery's refusal: the row is reduced until it is taken.
func TestLettersThatBigQueryRefuses(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	w.warehouse.Fail(warehouse.Fault{Table: "events_dlq", Count: -1,
		BadRow: func(row []byte) bool { return bytes.Contains(row, []byte("poison")) }})
	w.publish(pack(t, "poison", "harmless"))
	got := w.letters()
	if len(got) != 2 || got[0].Size != int64(len("poison")) || got[0].Event != "" || !strings.Contains(got[0].Error,
		"BigQuery refused") || got[1].Event != "harmless" {
		t.Errorf("letters %+v", got)
	}
}

// Protects DeadLetter's place as the last: while the table is away the message
// stays with Pub/Sub, however often it is tried.
func TestDeadLetterNeverGivesUp(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	w.warehouse.Fail(warehouse.Fault{Table: "events_dlq", Code: codes.NotFound, Count: 7})
	w.publish(pack(t, "bad"))
	if got := w.letters(); len(got) != 1 {
		t.Errorf("letters %+v", got)
	}
	if s := w.pubsub.Stats("dead-letter"); s.Failed < 3 || s.DeadLettered != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Protects the interface of the log-based metrics, and that no value of an event
// is in a line.
func TestLogLine(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	w.publish(pack(t, good("secret-id"), `{"event_id":"secret-id"}`, "secret-text"))
	lines := w.log.pushes(t)
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one per request", len(lines))
	}
	// The dead letters may be done before their reject is acknowledged.
	slices.SortFunc(lines, func(a, b map[string]any) int {
		return -strings.Compare(a["function"].(string),
			b["function"].(string))
	})
	line := lines[0]
	for name, want := range map[string]any{
		"severity": "INFO", "function": "Ingest", "outcome": "ack", "status": 204.0, "subscription": "projects/local/subscriptions/ingest",
		"topic": "clicks", "partitions": 1.0, "offsets": []any{"clicks/3:100-102"}, "records": 3.0, "landed": 1.0,
		"rejected": map[string]any{"missing_field": 1.0,
			"invalid_json": 1.0}, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		if diff := cmp.Diff(want, line[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, name := range []string{"message_id", "body_bytes", "decode_ms", "append_ms", "publish_ms", "total_ms",
		"age_ms", "time"} {
		if line[name] == nil || line[name] == 0.0 {
			t.Errorf("%s is %v", name, line[name])
		}
	}
	if lines[1]["function"] != "DeadLetter" || lines[1]["records"] != 2.0 {
		t.Errorf("the second line is %v", lines[1])
	}
	if text := w.log.buf.String(); strings.Contains(text, "secret") {
		t.Errorf("the log holds values of events:\n%s", text)
	}
}

// Protects memory: what does not fit beside what is in flight is answered 429, and
// done when there is room again. Each message alone is more than the budget, whatever
// it is made of.
func TestBusy(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 100 {
		many = append(many, good(fmt.Sprint(i)))
	}
	for name, payload := range map[string][]byte{
		"many records":  pack(t, many...),
		"a bare event":  []byte(good(strings.Repeat("long", 1500))),
		"empty records": pack(t, append([]string{good("a")}, slices.Repeat([]string{tombstone}, 50)...)...),
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, options{attempts: 100, config: func(c *service.Config) { c.MaxInFlight = 20_000 }})
			hang := w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Hang: true})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range 2 {
				_, err := w.topic.Publish(ctx, &client.Message{Data: payload}).Get(ctx)
				check(t, err)
			}
			for {
				busy := false
				for _, line := range w.log.pushes(t) {
					busy = busy || line["function"] == "Ingest" && line["outcome"] == "busy" && line["status"] == 429.0
				}
				if busy {
					break
				}
				check(t, ctx.Err())
				time.Sleep(time.Millisecond)
			}
			hang.Remove()
			check(t, w.pubsub.WaitIdle(ctx))
			if n := w.count("SELECT COUNT(*) / COUNT(DISTINCT event_id) FROM fact_events"); n != 2 {
				t.Errorf("%d copies of each event, want one of each message", n)
			}
		})
	}
}

// Protects the ack deadline: a push to a function whose BigQuery is silent is
// answered before Pub/Sub takes it for lost, and its message lands later.
func TestSilentBigQuery(t *testing.T) {
	t.Parallel()
	w := start(t, options{attempts: 100, config: func(c *service.Config) {
		c.HandlerTimeout, c.AppendTimeout = 200*time.Millisecond, 100*time.Millisecond
	}})
	w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Hang: true, Count: 2})
	w.publish(pack(t, good("a")))
	if n := w.count("SELECT COUNT(DISTINCT event_id) FROM fact_events"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	if line := w.log.pushes(t)[0]; line["outcome"] != "retry" || line["status"] != 503.0 {
		t.Errorf("line %v", line)
	}
}

// Protects the memory of rows: a request that was given up while it was being sent is
// sent as it was, however busy the function is with others.
func TestRowsOfAbandonedRequestsAreNotReused(t *testing.T) {
	t.Parallel()
	w := start(t, options{attempts: 100, config: func(c *service.Config) {
		c.HandlerTimeout, c.AppendTimeout = 2*time.Second, 200*time.Millisecond
	}})
	w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Wait: 250 * time.Millisecond, Count: 10})
	var payloads [][]byte
	for i := range 30 {
		payloads = append(payloads, pack(t, good(fmt.Sprint("a-", i)), good(strings.Repeat("b", i)+"-"), "bad"))
	}
	w.publish(payloads...)
	if n := w.count("SELECT COUNT(DISTINCT event_id) FROM fact_events"); n != 60 {
		t.Errorf("%d events, want 60", n)
	}
	if n := w.count("SELECT COUNT(*) FROM events_dlq WHERE original_event <> 'bad'"); n != 0 {
		t.Errorf("%d good events were dead-lettered", n)
	}
}

// Protects the price of bad producers: rejects of one message travel together, as
// far as they fit into one.
func TestRejectsAreBundled(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	many := make([]string, 2000)
	for i := range many {
		many[i] = "bad " + fmt.Sprint(i)
	}
	w.publish(pack(t, many...))
	if s := w.pubsub.Stats("dead-letter"); s.Published != 1 {
		t.Errorf("2,000 rejects in %d messages, want 1", s.Published)
	}
	for i := range many {
		many[i] = strings.Repeat("x", 4000)
	}
	w.publish(pack(t, many...))
	if s := w.pubsub.Stats("dead-letter"); s.Published < 3 || s.Published > 5 {
		t.Errorf("8 MB of rejects in %d messages, want about 3", s.Published-1)
	}
	if n := w.count("SELECT COUNT(*) FROM events_dlq"); n != 4000 {
		t.Errorf("%d letters, want 4,000", n)
	}
}

// Protects rejects that no Pub/Sub message can hold: their head is kept.
func TestRejectLargerThanAMessage(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	huge := make([]byte, 12<<20)
	rand.NewChaCha8([32]byte{}).Read(huge)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/Ingest",
		bytes.NewReader(pack(t, good("a"), string(huge), "bad")))
	check(t, err)
	r.Header.Set("X-Goog-Pubsub-Message-Id", "1")
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	response.Body.Close()
	if response.StatusCode != 204 {
		t.Fatalf("answered %d", response.StatusCode)
	}
	check(t, w.pubsub.WaitIdle(t.Context()))
	got := w.letters()
	sum := sha256.Sum256(huge)
	if len(got) != 2 || got[0].Offset != 101 || got[0].Size != int64(len(huge)) || !bytes.Equal(got[0].SHA256,
		sum[:]) || !bytes.HasPrefix(huge, got[0].Bytes) || len(got[0].Bytes) < 1<<19 {
		t.Errorf("%d letters, the first of %d bytes", len(got), got[0].Size)
	}
}

// Protects the word about a dead letter that was cut to its head and is published once
// more as it is: it is rejected for being half an event, and the row still says half.
func TestHeadsThatComeAgain(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	e := batch.NewEncoder(batch.Header{})
	sum := sha256.Sum256([]byte("the whole"))
	e.Append(&batch.Record{Topic: "clicks", Partition: 3, Offset: 7, Value: []byte(`{"event_id":"x`), Rejection: batch.Rejection{Code: "too_large", Size: 9_000_000, SHA256: sum[:]}})
	payload, err := e.Payload(nil)
	check(t, err)
	w.publish(payload)
	if got := w.letters(); len(got) != 1 || got[0].Code != "invalid_json" || got[0].Size != 9_000_000 || !bytes.Equal(got[0].SHA256, sum[:]) {
		t.Errorf("letters %+v", got)
	}
}

// Protects what somebody publishes to the dead-letter topic by hand: it is kept, and
// the row says that nobody has said why.
func TestLettersWithoutAReason(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	w.deadLetter([]byte("found on the street"), nil)
	w.deadLetter([]byte("forwarded"), map[string]string{"CloudPubSubDeadLetterSourceSubscription": "projects/p/subscriptions/s"})
	got := w.letters()
	if len(got) != 2 {
		t.Fatalf("letters %+v", got)
	}
	for _, l := range got {
		want := "somebody published it there"
		if l.Event == "forwarded" {
			want = "projects/p/subscriptions/s"
		}
		if l.Code != "delivery_attempts_exhausted" || !strings.Contains(l.Error, want) || l.MessageID == "" || l.Offset != batch.NoOffset {
			t.Errorf("letter %+v, want %q", l, want)
		}
	}
}

// Protects instances and the dead-letter table from a batch of a few kilobytes that says a
// megabyte of itself, which would be copied into every row: it becomes one dead letter, from
// whichever function meets it, and its message is acknowledged.
func TestBatchThatSaysTooMuchOfItself(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	e := batch.NewEncoder(batch.Header{})
	for i := range 1000 {
		e.Append(&batch.Record{Topic: strings.Repeat("t", 1<<20), Offset: int64(i), Value: []byte(good(fmt.Sprint(i)))})
	}
	payload, err := e.Payload(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(payload)
	if n := w.count("SELECT COUNT(*) FROM fact_events"); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
	letters := w.letters()
	if len(letters) != 1 || letters[0].Code != "undecodable_payload" || !strings.Contains(letters[0].Error, "topic") {
		t.Errorf("%d letters, want one undecodable_payload that names the topic: %+v", len(letters), letters)
	}
}

// Protects personal data from whoever may publish: what a forged batch has for a topic and a trace context is not logged as it stands.
func TestForgedNamesAreNotLogged(t *testing.T) {
	t.Parallel()
	w := start(t, options{})
	for _, trace := range []string{"jane@example.com", "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-jane@example.com"} {
		e := batch.NewEncoder(batch.Header{Traceparent: trace})
		e.Append(&batch.Record{Topic: "jane@example.com", Offset: 1, Value: []byte(good("a"))})
		p, err := e.Payload(nil)
		check(t, err)
		w.publish(p)
	}
	if w.log.has("jane") {
		t.Error("the log shows what is no topic and no trace context")
	}
	if !w.log.has("(no name that Kafka takes)/0:1-1") {
		t.Error("the log does not tell where the records were")
	}
}

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/internal/contract"
	"sluice/internal/kafkaclient"
	"sluice/internal/local/kafka"
	local "sluice/internal/local/pubsub"
)

// has reports whether a finding of that state has all the texts in what it says of what.
func has(t *testing.T, found []Finding, state State, texts ...string) {
	t.Helper()
	for _, f := range found {
		line := f.What + ": " + f.Said + " " + f.Remedy
		all := f.State == state
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			return
		}
	}
	t.Errorf("no finding is %s with %q:\n%+v", state, texts, found)
}

// Protects the verdict on tables: what BigQuery tells of them is held against the contract as the rows will be.
func TestTables(t *testing.T) {
	c, err := contract.Read("orders.yaml", []byte("contract: 1\ntopics: orders\ncolumns:\n- {name: id, type: STRING, mode: REQUIRED}\n"+
		"- {name: amount, type: NUMERIC}\n- {name: items, type: RECORD, mode: REPEATED, columns: [{name: sku, type: STRING}]}\nrest: drop\n"))
	if err != nil {
		t.Fatal(err)
	}
	var orders string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/events_dlq") {
			fmt.Fprintf(w, `{"schema":{"fields":%s}}`, contract.EventsDLQ().Schema())
			return
		}
		w.WriteHeader(status)
		if status != http.StatusOK {
			fmt.Fprintf(w, `{"error":{"code":%d,"message":"no"}}`, status)
			return
		}
		fmt.Fprintf(w, `{"numRows":"7","schema":{"fields":%s}}`, orders)
	}))
	defer server.Close()
	client, err := bigquery.NewClient(t.Context(), "p", option.WithEndpoint(server.URL), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	look := func() []Finding { return Tables(t.Context(), client, "d", []*contract.Contract{c}) }
	whole := string(c.Table.Schema())

	orders = whole
	has(t, look(), OK, "d.orders", "7 rows")
	has(t, look(), OK, "d.events_dlq")
	for what, change := range map[string]func(fields []map[string]any) []map[string]any{
		"lacks amount":                     func(f []map[string]any) []map[string]any { return append(f[:1:1], f[2:]...) },
		"id is missing, and cannot be add": func(f []map[string]any) []map[string]any { return f[1:] },
		"amount is FLOAT64":                func(f []map[string]any) []map[string]any { f[1]["type"] = "FLOAT"; return f },
		"amount is REPEATED":               func(f []map[string]any) []map[string]any { f[1]["mode"] = "REPEATED"; return f },
		"amount is REQUIRED":               func(f []map[string]any) []map[string]any { f[1]["mode"] = "REQUIRED"; return f },
		"more is REQUIRED and the contract has no such": func(f []map[string]any) []map[string]any {
			return append(f, map[string]any{"name": "more", "type": "STRING", "mode": "REQUIRED"})
		},
		"items.sku is INT64": func(f []map[string]any) []map[string]any {
			f[2]["fields"].([]any)[0].(map[string]any)["type"] = "INTEGER"
			return f
		},
	} {
		var fields []map[string]any
		if err := json.Unmarshal([]byte(whole), &fields); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(change(fields))
		if err != nil {
			t.Fatal(err)
		}
		orders = string(text)
		has(t, look(), Failed, "d.orders", what)
	}
	var fields []map[string]any
	_ = json.Unmarshal([]byte(whole), &fields)
	text, _ := json.Marshal(append(fields, map[string]any{"name": "more", "type": "STRING"}))
	orders = string(text)
	has(t, look(), OK, "d.orders") // somebody's own column hurts nobody
	status = http.StatusNotFound
	has(t, look(), Failed, "not there", "./scripts/deploy")
	status = http.StatusForbidden
	has(t, look(), Failed, "may not be read", "metadataViewer")
}

// Protects the verdict on topics and subscriptions: each way to wire them that loses messages or repeats them is told.
func TestMessages(t *testing.T) {
	server, err := local.Start(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := pubsub.NewClient(t.Context(), "local", server.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topics := Topics{Project: "local", Batches: "events", DeadLetters: "dead"}
	look := func() []Finding { return Messages(t.Context(), client, topics) }
	has(t, look(), Failed, "topic events", "not there")
	for _, name := range []string{"events", "dead", "other"} {
		if err := server.CreateTopic(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	has(t, look(), Failed, "subscriptions of events", "none pushes")
	whole := local.PushSubscription{Name: "ingest", Topic: "events", Endpoint: "http://127.0.0.1:1/", Unwrapped: true,
		AckDeadline: time.Minute,
		MinBackoff:  time.Second, MaxBackoff: time.Minute, DeadLetterTopic: "dead"}
	if err := server.CreatePushSubscription(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	if err := server.CreatePushSubscription(t.Context(), local.PushSubscription{Name: "letters", Topic: "dead",
		Endpoint:  "http://127.0.0.1:1/",
		Unwrapped: true, AckDeadline: time.Minute, MinBackoff: time.Second, MaxBackoff: time.Minute}); err != nil {
		t.Fatal(err)
	}
	found := look()
	has(t, found, OK, "subscription ingest", "pushes to")
	has(t, found, OK, "subscription letters")
	for _, f := range found {
		if f.State != OK {
			t.Errorf("%+v", f)
		}
	}
	again := whole
	again.Name = "again"
	if err := server.CreatePushSubscription(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	has(t, look(), Warning, "subscriptions of events", "2 push")

	good := func() *pubsubpb.Subscription {
		return &pubsubpb.Subscription{Name: "projects/local/subscriptions/s", AckDeadlineSeconds: 60,
			RetryPolicy:      new(pubsubpb.RetryPolicy),
			DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: "projects/local/topics/dead"}, PushConfig: &pubsubpb.PushConfig{
				PushEndpoint: "https://x", Wrapper: &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}}}
	}
	if f := subscription(good(), true, "projects/local/topics/dead"); f.State != OK {
		t.Errorf("%+v", f)
	}
	for said, change := range map[string]func(s *pubsubpb.Subscription){
		"detached":              func(s *pubsubpb.Subscription) { s.Detached = true },
		"cannot push":           func(s *pubsubpb.Subscription) { s.State = pubsubpb.Subscription_RESOURCE_ERROR },
		"without metadata":      func(s *pubsubpb.Subscription) { s.PushConfig.GetNoWrapper().WriteMetadata = false },
		"deadline of 10 s":      func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds = 10 },
		"no dead-letter topic":  func(s *pubsubpb.Subscription) { s.DeadLetterPolicy = nil },
		"go to other, not dead": func(s *pubsubpb.Subscription) { s.DeadLetterPolicy.DeadLetterTopic = "projects/local/topics/other" },
		"no retry policy":       func(s *pubsubpb.Subscription) { s.RetryPolicy = nil },
		"it expires when nothing": func(s *pubsubpb.Subscription) {
			s.ExpirationPolicy = &pubsubpb.ExpirationPolicy{Ttl: durationpb.New(time.Hour)}
		},
	} {
		s := good()
		change(s)
		has(t, []Finding{subscription(s, true, "projects/local/topics/dead")}, Failed, said)
	}
	has(t, []Finding{subscription(good(), false, "projects/local/topics/dead")}, Failed, "lost there")
}

// Protects the verdict on Kafka: what is not there, and whether the bridge is in its group.
func TestKafka(t *testing.T) {
	k, err := kafka.Start(kafka.Config{Topics: map[string]int32{"orders": 3, "orders-eu": 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	found := Kafka(t.Context(), &kafkaclient.Connection{Brokers: k.Brokers(), ClientID: "test"}, "g", []string{"orders",
		"^orders", "absent"})
	has(t, found, OK, "Kafka", "answers")
	has(t, found, OK, "Kafka topic orders", "3 partitions")
	has(t, found, OK, "Kafka topic ^orders", "5 partitions")
	has(t, found, Failed, "Kafka topic absent", "not there")
	has(t, found, Warning, "consumer group g", "0 members")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	found = Kafka(ctx, &kafkaclient.Connection{Brokers: l.Addr().String(), ClientID: "test"}, "g", nil)
	has(t, found, Failed, "does not answer")
}

// Protects what is said of this machine.
func TestMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	has(t, []Finding{Port(l.Addr().String(), "the live page", "--listen")}, Failed, "--listen")
	dir := t.TempDir()
	has(t, Folder(dir), OK, "can be written")
	has(t, Folder(filepath.Join(dir, "new")), OK, "not there yet")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, Folder(file), Failed, "is a file")
	has(t, Tools(context.Background()), OK, "tool go", "go1.")
	t.Setenv("PATH", dir)
	has(t, Tools(context.Background()), Failed, "tool go", "go.dev")
	has(t, Tools(context.Background()), Warning, "tool mvn", "apt-get")

	var out bytes.Buffer
	if !Print(&out, []Finding{ok("a", "b"), failed("long name", "said", "do")}) || !strings.Contains(out.String(),
		"→ do") {
		t.Errorf("printed %q", out.String())
	}
}

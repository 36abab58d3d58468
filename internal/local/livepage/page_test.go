package livepage

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/local"
)

// call sends a request to the page and decodes what it answers into v.
func call(t *testing.T, method, url, body string, v any) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
	}
	return response.StatusCode
}

// await asks for a record's story until it has come to rest.
func await(t *testing.T, url string, c Coordinates) Story {
	t.Helper()
	for {
		var s Story
		if status := call(t, "GET", fmt.Sprintf("%s/api/record?topic=%s&partition=%d&offset=%d", url, c.Topic,
			c.Partition, c.Offset), "", &s); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		if n := len(s.Steps); s.Outcome != "waiting" && n > 0 {
			for _, step := range s.Steps {
				if step.Kind == "end" {
					return s
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The SQL box reads the tables and nothing else, whatever is typed into it: it must
// not write, open files, or run for ever, even on a page that others can reach.
func TestStatementsOnlyRead(t *testing.T) {
	url := startPipeline(t) + "/api/sql"
	for _, good := range []string{
		"SELECT COUNT(*) AS n FROM events",
		"select 1 -- a comment at the end",
		"WITH a AS (SELECT 1 AS x) SELECT x FROM a;",
		"DESCRIBE fact_events",
		"SELECT 'inf'::DOUBLE, NULL, '{\"a\": 1}'::JSON, DATE '2026-11-22', [1, 2], 170141183460469231731687303715884105727",
	} {
		var a Answer
		if status := call(t, "POST", url, good, &a); status != http.StatusOK || len(a.Rows) == 0 {
			t.Errorf("%s: status %d, %d rows", good, status, len(a.Rows))
		}
	}
	for _, bad := range []string{
		"DROP TABLE fact_events",
		"DELETE FROM fact_events",
		"INSERT INTO events_dlq SELECT * FROM events_dlq",
		"SELECT 1; DROP TABLE fact_events",
		"SELECT 1) ; DROP TABLE fact_events --",
		"COPY fact_events TO 'stolen.csv'",
		"ATTACH 'other.duckdb'",
		"INSTALL httpfs",
		"SET enable_external_access = true",
		"SELECT * FROM read_text('/etc/passwd')",
		"SELECT * FROM '/etc/passwd'",
		"FROM read_csv('http://127.0.0.1:1/')",
		"SELECT * FROM enable_logging(storage_path = '/tmp/nobody')",
		"SELECT * FROM (SELECT 1 FROM duckdb_logs())",
		"SELECT * FROM duckdb_logs",
		"SELECT * FROM duckdb_settings()",
		"SELECT (SELECT REPEAT('x', 50000000)) FROM range(100)",
		"SELECT lpad('x', 50000000, 'x') FROM range(100)",
		"DESCRIBE SELECT * FROM enable_logging()",
		"",
		"SELECT",
	} {
		var refusal struct{ Error string }
		if status := call(t, "POST", url, bad, &refusal); status != http.StatusBadRequest || refusal.Error == "" {
			t.Errorf("%s: status %d, %q", bad, status, refusal.Error)
		}
	}
	var many Answer
	call(t, "POST", url, "SELECT * FROM range(100000)", &many)
	if len(many.Rows) != maxRows || !many.More {
		t.Errorf("%d rows of 100,000, more: %v; want %d, true", len(many.Rows), many.More, maxRows)
	}
	var large struct{ Error string }
	if status := call(t, "POST", url, "SELECT string_agg(a.i || 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', '') FROM range(1000000) a(i)", &large); status != http.StatusBadRequest || !strings.Contains(large.Error, "too large") {
		t.Errorf("an answer of 45 MB: %d, %s", status, large.Error)
	}
	// The connections go back to the pool as they came.
	var n Answer
	if call(t, "POST", url, "SELECT COUNT(*) FROM fact_events", &n); len(n.Rows) != 1 {
		t.Error("the table is gone")
	}
}

// Where others can reach the page they may ask what it offers; statements of their own, and plans of
// replays, could take the machine's memory.
func TestViewersAskWhatIsOffered(t *testing.T) {
	_, url := withStack(t, "0.0.0.0:0")
	url = strings.Replace(url, "[::]", "127.0.0.1", 1)
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"/api/sql", queries[0].SQL, http.StatusOK},
		{"/api/sql", "SELECT COUNT(*) FROM fact_events", http.StatusForbidden},
		{"/api/sql", queries[0].SQL + " -- and more", http.StatusForbidden},
		{"/api/replay/plan", `{"transform":"[range(1e9)]"}`, http.StatusForbidden},
		{"/api/replay", "{}", http.StatusForbidden},
		{"/api/events", "{}", http.StatusForbidden},
	} {
		if got := call(t, "POST", url+c.path, c.body, nil); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.path, c.body, got, c.want)
		}
	}
}

// A record's story tells every station, in order, for what lands and for what is rejected.
func TestStories(t *testing.T) {
	url := startPipeline(t)
	var examples []Example
	call(t, "GET", url+"/api/examples", "", &examples)
	codes := map[string]bool{}
	for _, e := range examples {
		if codes[e.Code] {
			continue
		}
		codes[e.Code] = true
		t.Run(e.Name, func(t *testing.T) {
			var at Coordinates
			if status := call(t, "POST", url+"/api/events", e.Event, &at); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			s := await(t, url, at)
			if s.Code != e.Code || !s.Sent {
				t.Errorf("code %q, want %q; sent %v", s.Code, e.Code, s.Sent)
			}
			stations := []string{"You pressed Publish", "Pub/Sub pushed the message to Ingest",
				"BigQuery acknowledged the row"}
			if e.Code != "" {
				stations = []string{"You pressed Publish", "Pub/Sub pushed the message to Ingest",
					"Ingest rejected the event", "Pub/Sub pushed the message to DeadLetter",
					"BigQuery acknowledged the row in events_dlq"}
			}
			for i, step := range s.Steps {
				if len(stations) > 0 && strings.HasPrefix(step.What, stations[0]) {
					stations = stations[1:]
				}
				if i > 0 && step.At < s.Steps[i-1].At {
					t.Errorf("step %d, %q, comes before the step above it", i, step.What)
				}
			}
			if len(stations) > 0 {
				t.Errorf("the story lacks %q:\n%+v", stations, s.Steps)
			}
		})
	}
	if len(codes) < 8 {
		t.Errorf("examples for %d codes: %v", len(codes), codes)
	}
	var refusal struct{ Error string }
	if status := call(t, "GET", url+"/api/record?partition=0&offset=999999999", "",
		&refusal); status != http.StatusNotFound || refusal.Error == "" {
		t.Errorf("a record that is not there: status %d, %q", status, refusal.Error)
	}
}

// Every switch breaks something and can be turned off again; what was published
// meanwhile lands. Afterwards nothing is missing.
func TestSwitchesMend(t *testing.T) {
	url := startPipeline(t)
	var switches []Switch
	call(t, "POST", url+"/api/switches/kafka-down", `{"on": false}`, &switches)
	for _, s := range switches {
		s := s.ID
		t.Run(s, func(t *testing.T) {
			if status := call(t, "POST", url+"/api/switches/"+s, `{"on": true}`, nil); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			time.Sleep(300 * time.Millisecond) // let traffic run into it
			var all []Switch
			if status := call(t, "POST", url+"/api/switches/"+s, `{"on": false}`, &all); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			for _, other := range all {
				if other.On {
					t.Errorf("%s is on", other.ID)
				}
			}
			var at Coordinates
			event := fmt.Sprintf(`{"event_id":"after-%s","event_timestamp":%q,"event_type":"search","user_id":"u"}`, s,
				time.Now().UTC().Format(time.RFC3339))
			if status := call(t, "POST", url+"/api/events", event, &at); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			if story := await(t, url, at); story.Outcome != "landed" {
				t.Errorf("%s: %s", story.Outcome, story.Error)
			}
		})
	}
	if status := call(t, "POST", url+"/api/switches/other", `{"on": true}`, nil); status != http.StatusNotFound {
		t.Errorf("an unknown switch: status %d", status)
	}
	if status := call(t, "POST", url+"/api/switches/kafka-down", `on`, nil); status != http.StatusBadRequest {
		t.Errorf("a body that is none: status %d", status)
	}
}

// The switch kills its bridge as kill -9 does: not even what Pub/Sub has acknowledged
// is committed once it is dead, and still nothing is missing after its successor has
// taken over.
func TestKilledBridgeCommitsNothing(t *testing.T) {
	s, url := withStack(t, "127.0.0.1:0")
	committed := func() []int64 { return s.Kafka.Committed("clickstream-to-bigquery", local.Topic) }
	until := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			if t.Context().Err() != nil {
				t.Fatalf("waiting for %s", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	until("commits", func() bool { return slices.Min(committed()) > 0 })
	killed := s.Bridges()[0]
	if status := call(t, "POST", url+"/api/switches/bridge-killed", `{"on": true}`, nil); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	at := committed()
	until("its end", func() bool { return !killed.Stats().Joined }) // the last step of a shutdown
	if after := committed(); !slices.Equal(after, at) {
		t.Errorf("committed %v when the bridge was killed, and %v after its end", at, after)
	}
	if taken := killed.Stats().RecordsOut; taken <= sum(at) {
		t.Errorf("%d records were committed of %d that were sent: nothing was left to lose", sum(at), taken)
	}
	if status := call(t, "POST", url+"/api/switches/bridge-killed", `{"on": false}`, nil); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	until("the successor", func() bool { return sum(committed()) > killed.Stats().RecordsOut })
	var v struct{ Missing, Consumed int64 }
	if status := call(t, "POST", url+"/api/audit", "", &v); status != http.StatusOK || v.Missing != 0 ||
		v.Consumed == 0 {
		t.Errorf("status %d, %d missing of %d", status, v.Missing, v.Consumed)
	}
}

func sum(offsets []int64) (n int64) {
	for _, o := range offsets {
		n += o
	}
	return n
}

// The runbook's queries in the SQL box are the runbook's: who learned them here
// finds them there.
func TestQueriesAreTheRunbooks(t *testing.T) {
	text, err := os.ReadFile("../../../infra/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	url := startPipeline(t) + "/api/sql"
	runbook := 0
	for _, q := range queries {
		if strings.Contains(string(text), q.SQL) {
			runbook++
		} else if strings.Contains(q.SQL, "clickstream.") {
			t.Errorf("%s: not in infra/RUNBOOK.md as it stands", q.Name)
		}
		var refusal struct{ Error string }
		if status := call(t, "POST", url, q.SQL, &refusal); status != http.StatusOK {
			t.Errorf("%s: status %d: %s", q.Name, status, refusal.Error)
		}
	}
	if runbook < 5 {
		t.Errorf("%d queries of the runbook are offered", runbook)
	}
}

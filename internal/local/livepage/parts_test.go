package livepage

import (
	"math"
	"strings"
	"testing"
	"time"

	"sluice/internal/contract"
)

// The picture blames the part that is at fault, from what is seen and not from what
// was switched.
func TestStatesFollowSymptoms(t *testing.T) {
	well := func() symptoms {
		s := symptoms{kafkaUp: true, warehouseUp: true, functionsUp: true, bridges: 1, joined: true, arriving: 1000,
			lag: 200}
		s.ingest.add(&Delivery{Outcome: "ack", AppendMS: 5})
		return s
	}
	for _, c := range []struct {
		name string
		ill  func(*symptoms)
		want map[string]State // of those that are not good
	}{
		{"all is well", func(*symptoms) {}, nil},
		{"nothing flows", func(s *symptoms) {
			*s = symptoms{kafkaUp: true, warehouseUp: true, functionsUp: true, bridges: 1, joined: true}
		}, nil},
		{"Kafka is down", func(s *symptoms) { s.kafkaUp = false }, map[string]State{"kafka": Bad, "bridge": Busy}},
		{"no bridge runs", func(s *symptoms) { s.bridges = 0 }, map[string]State{"bridge": Bad}},
		{"a new bridge catches up", func(s *symptoms) { s.lag = 50_000 }, map[string]State{"bridge": Busy}},
		{"Pub/Sub refuses", func(s *symptoms) { s.failing = true }, map[string]State{"bridge": Busy, "pubsub": Bad}},
		{"no function runs", func(s *symptoms) { s.functionsUp = false; s.backlog = 500; s.ingest = recent{} }, map[string]State{"pubsub": Busy, "ingest": Bad}},
		{"BigQuery is down", func(s *symptoms) {
			s.warehouseUp = false
			s.ingest = recent{}
			s.ingest.add(&Delivery{Outcome: "retry", Error: "append to …: unavailable"})
		}, map[string]State{"ingest": Busy, "warehouse": Bad}},
		{"BigQuery refuses every append", func(s *symptoms) {
			s.ingest = recent{}
			s.ingest.add(&Delivery{Outcome: "retry", Error: "append to …: permission denied"})
		}, map[string]State{"ingest": Busy, "warehouse": Bad}},
		{"BigQuery is slow", func(s *symptoms) { s.ingest = recent{}; s.ingest.add(&Delivery{Outcome: "ack", AppendMS: 3000}) }, map[string]State{"warehouse": Busy}},
		{"BigQuery refuses single rows", func(s *symptoms) { s.ingest.add(&Delivery{Outcome: "ack", Refused: 3}) }, map[string]State{"warehouse": Busy}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := well()
			c.ill(&s)
			got := map[string]State{}
			note := func(part string, state State, says string) {
				if says == "" {
					t.Errorf("%s says nothing", part)
				}
				if state != Good {
					got[part] = state
				}
			}
			state, says := s.kafka()
			note("kafka", state, says)
			state, says = s.bridge()
			note("bridge", state, says)
			state, says = s.pubsub()
			note("pubsub", state, says)
			state, says = function(s.functionsUp, &s.ingest)
			note("ingest", state, says)
			state, says = table(s.warehouseUp, s.functionsUp, &s.ingest)
			note("warehouse", state, says)
			if len(got) != len(c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
			for part, state := range c.want {
				if got[part] != state {
					t.Errorf("%s is %q, want %q", part, got[part], state)
				}
			}
		})
	}
}

// The price of a million events, computed by hand once: 1,000 messages of 100 kB
// with 1,000 events each.
func TestCostPerMillion(t *testing.T) {
	u := usage{events: 1_000_000, messages: 1000, messageBytes: 100_000_000, requests: 1000, busy: 100 * time.Second,
		rowBytes: 400_000_000,
		written:  1000, fetched: 2000}
	// 2 × 1e8 B at $40/TiB, 1,000 requests at $0.40/M, 100 s at $0.0000265, 4e8 B at $0.025/GiB,
	// 1,000 objects written at $5/M and 2,000 read at $0.40/M
	want := 0.0072760 + 0.0004 + 0.00265 + 0.0093132 + 0.005 + 0.0008
	if got, ok := u.perMillion(); !ok || math.Abs(got-want) > 1e-6 {
		t.Errorf("%g, want %g", got, want)
	}
	if _, ok := (usage{}).perMillion(); ok {
		t.Error("nothing has a price")
	}
	small := usage{events: 1, messages: 1, messageBytes: 10}
	least := usage{events: 1, messages: 1, messageBytes: 1000}
	if a, _ := small.perMillion(); true {
		if b, _ := least.perMillion(); a != b {
			t.Errorf("a message of 10 bytes costs %g, one of 1,000 %g: Pub/Sub bills 1,000 at least", a, b)
		}
	}
}

// Protects every reader's connection: rows of megabytes are lines of a list.
func TestListsAreBounded(t *testing.T) {
	s, _ := withStack(t, "127.0.0.1:0")
	long := strings.Repeat("ä", 1<<20)
	db := s.Warehouse.DB()
	if _, err := db.Exec(`INSERT INTO fact_events (event_id, event_timestamp, event_type, user_id, page_url, ingested_at) VALUES (?, now(), 'search', ?, ?, now())`, long, long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO events_dlq (error_code, error_field, error, failed_at) VALUES ('made_up', ?, ?, now())`, long, long); err != nil {
		t.Fatal(err)
	}
	events, rejected, err := newFeed(s, builtInStreams(t)).latest(t.Context())
	if err != nil || len(events) != 1 || len(rejected) != 1 {
		t.Fatalf("%d events, %d rejected, %v", len(events), len(rejected), err)
	}
	for _, text := range []string{events[0].ID, events[0].About, rejected[0].Field, rejected[0].Error} {
		if len(text) > 1000 || !strings.HasSuffix(text, "ä…") {
			t.Errorf("a line of %d bytes", len(text))
		}
	}
}

// builtInStreams are those of a pipeline without contracts of its own.
func builtInStreams(t *testing.T) []listed {
	t.Helper()
	c, err := contract.Preset("clickstream")
	if err != nil {
		t.Fatal(err)
	}
	return newStreams([]*contract.Contract{c})
}

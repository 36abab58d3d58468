package livepage

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/batch"
	"sluice/internal/local"
)

// A story takes the push requests that brought its record and no others: messages of
// the dead-letter topic and of replays have some of a partition's records only, in any
// order, and a record that lies between them is none of theirs.
func TestStoryTakesItsOwnRequests(t *testing.T) {
	request := func(function, id string, first, last, records, received, answered int64) Delivery {
		return Delivery{Function: function, MessageID: id, Outcome: "ack", Topic: "t", Records: records,
			Parts: 2, Ranges: []batch.Range{{Topic: "t", Partition: 0, First: 7, Last: 6}, {Topic: "t", Partition: 1, First: first, Last: last}},
			Published: time.UnixMilli(received / 1000), Received: time.UnixMicro(received), Answered: time.UnixMicro(answered)}
	}
	refused := request("Ingest", "7", 10, 30, 21, 900_000, 950_000)
	refused.Outcome = "retry"
	all := []Delivery{
		refused,
		request("DeadLetter", "5", 3, 9, 4, 980_000, 985_000),        // of the batch before
		request("Ingest", "7", 10, 30, 21, 1_000_000, 1_100_000),     // rejects 12, 20 and 28
		request("DeadLetter", "8", 12, 28, 3, 1_110_000, 1_115_000),  // they
		request("Ingest", "9", 31, 40, 10, 1_200_000, 1_300_000),     // another batch, which rejects 33 and 35
		request("DeadLetter", "10", 33, 35, 2, 1_310_000, 1_315_000), // they
		// a replay of 28, 20 and 12: the last is rejected again
		request("Ingest", "11", 12, 28, 3, 2_000_000, 2_100_000),
		request("DeadLetter", "13", 12, 12, 1, 2_110_000, 2_115_000), // it
	}
	other := request("Ingest", "14", 10, 30, 21, 1_000_000, 1_100_000)
	other.Ranges[1].Partition = 2
	many := request("Ingest", "15", 0, 0, 50, 3_000_000, 3_100_000) // so many partitions that the line names none
	many.Parts, many.Ranges = 100, nil
	all = append(all, other, many)

	failed := mark{at: 1_050_000, message: "7", code: "invalid_json"}
	again := mark{at: 2_050_000, message: "11", code: "invalid_json", replay: "r"}
	for _, c := range []struct {
		name   string
		offset int64
		landed []mark
		failed []mark
		want   string
	}{
		{"landed between the rejected", 15, []mark{{at: 1_000_100}}, nil, "7 7"},
		{"rejected, then replayed", 20, []mark{{at: 2_000_100, replay: "r"}}, []mark{failed}, "7 7 8 11"},
		{"rejected twice", 12, nil, []mark{failed, again}, "7 7 8 11 13"},
		{"on its way to DeadLetter", 28, nil, nil, "7 7 8"},
		{"landed in another batch", 34, []mark{{at: 1_200_100}}, nil, "9"},
		{"landed with many partitions", 60, []mark{{at: 3_000_100}}, nil, "15"},
		{"seen by nobody", 41, nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Story{Coordinates: Coordinates{"t", 1, c.offset}, Outcome: "waiting", landed: c.landed,
				failed: c.failed}
			if len(c.landed)+len(c.failed) > 0 {
				s.Outcome = "some"
			}
			var may []Delivery
			for _, d := range all {
				if s.mayBring(&d) {
					may = append(may, d)
				}
			}
			var got []string
			for _, d := range s.own(may) {
				got = append(got, d.MessageID)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("messages %q, want %q", got, c.want)
			}
		})
	}
}

// Of a record whose requests are no longer remembered the rows tell, and the page says
// so; of one whose request is still being answered it does not.
func TestStoryOfARecordFromBefore(t *testing.T) {
	for _, c := range []struct {
		at   int64
		kind string
		note bool
	}{{at: 5, kind: "end", note: true}, {at: 15}} {
		s := Story{landed: []mark{{at: c.at}, {at: c.at, told: true}}, failed: []mark{{at: c.at, code: "too_large"}}}
		s.rest(10)
		var told []string
		for _, step := range s.Steps {
			told = append(told, step.What)
			if step.Kind != c.kind {
				t.Errorf("at %d: %s is of kind %q, want %q", c.at, step.What, step.Kind, c.kind)
			}
		}
		if got := strings.Join(told, ", "); got != "Ingest made the row, Rejected: too_large" ||
			len(s.Notes) > 0 != c.note {
			t.Errorf("at %d: %s, with the notes %q", c.at, got, s.Notes)
		}
	}
}

// The story of a rejected record that a replay brings home tells both ways in order, and
// its neighbours in the batch, which landed at once, know nothing of either.
func TestStoryOfAReplayedRecord(t *testing.T) {
	s, url := withStack(t, "127.0.0.1:0")
	producer, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	topic := local.Topic
	for i := range 30 {
		event := fmt.Sprintf(`{"event_id":"row-%d","event_timestamp":%q,"event_type":%q,"user_id":"u"}`,
			i, time.Now().UTC().Format(time.RFC3339), []string{"none of ours", "search"}[i%2])
		if err := producer.ProduceMessage(t.Context(),
			&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: 2},
				Value: []byte(event)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// where finds the records by what was sent, once they are in the tables.
	where := func(query string, want int) (at []Coordinates) {
		for len(at) < want { // the test's own limit is the alarm
			at = nil
			rows, err := s.Warehouse.DB().QueryContext(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				c := Coordinates{Topic: topic, Partition: 2}
				if err := rows.Scan(&c.Offset); err != nil {
					t.Fatal(err)
				}
				at = append(at, c)
			}
			if err := rows.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		return at
	}
	good := where(`SELECT kafka_offset FROM fact_events WHERE event_id LIKE 'row-%'`, 15)
	bad := where(`SELECT kafka_offset FROM events_dlq WHERE original_event LIKE '%none of ours%'`, 15)

	var outcome replayed
	if status := call(t, "POST", url+"/api/replay",
		`{"code": "invalid_event_type", "transform": ".event_type = \"search\""}`, &outcome); status != http.StatusOK ||
		outcome.Landed < 15 {
		t.Fatalf("status %d, %+v", status, outcome)
	}
	// tells returns the story, and which of the words it tells of, in its order.
	tells := func(c Coordinates, words ...string) (Story, string) {
		s := await(t, url, c)
		// Its request may still be being answered: then only the row tells of it.
		for slices.ContainsFunc(s.Steps, func(step Step) bool { return step.What == "Ingest made the row" }) {
			time.Sleep(20 * time.Millisecond)
			s = await(t, url, c)
		}
		var told []string
		for _, step := range s.Steps {
			for _, word := range words {
				if strings.HasPrefix(step.What, word) {
					told = append(told, word)
				}
			}
		}
		return s, strings.Join(told, ", ")
	}
	for _, c := range bad {
		want := "Ingest rejected, BigQuery acknowledged the row in events_dlq, Replay " + outcome.ID +
			", Ingest began to make"
		if s, told := tells(c, "Ingest rejected", "BigQuery acknowledged the row in events_dlq", "Replay "+outcome.ID,
			"Ingest began to make"); told != want || s.Outcome != "both" || s.Replay != outcome.ID {
			t.Errorf("offset %d, %s by replay %q: %s", c.Offset, s.Outcome, s.Replay, told)
		}
	}
	for _, c := range good {
		if s, told := tells(c, "Ingest rejected", "Ingest published", "Pub/Sub pushed the message to DeadLetter",
			"Replay"); told != "" || s.Outcome != "landed" {
			t.Errorf("offset %d %s, but its story tells: %s", c.Offset, s.Outcome, told)
		}
	}
}

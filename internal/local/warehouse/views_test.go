package warehouse_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/google/go-cmp/cmp"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
)

// table runs a query and renders its rows, one line each, columns by " | ".
func table(t *testing.T, w *warehouse.Server, query string) string {
	t.Helper()
	rows, err := w.DB().Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i, v := range row {
			if i > 0 {
				out.WriteString(" | ")
			}
			if at, ok := v.(time.Time); ok {
				v = at.UTC().Format("15:04:05.999999")
			}
			fmt.Fprint(&out, v)
		}
		out.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// at is a time of the day that the views' test data lies in.
func at(clock string) int64 {
	parsed, err := time.Parse("15:04:05", clock)
	if err != nil {
		panic(err)
	}
	return now.Truncate(24 * time.Hour).Add(-24 * time.Hour).Add(parsed.Sub(parsed.Truncate(24 * time.Hour))).UnixMicro()
}

// small is a warehouse with a handful of rows: e1 twice by redelivery, e2 twice by
// its producer, another event with e1's id at another time, three dead letters.
func small(t *testing.T) *warehouse.Server {
	t.Helper()
	w := start(t, warehouse.Config{})
	stream := open(t, dial(t, w))
	fact, dlq := contract.FactEvents(), contract.EventsDLQ()
	var events, letters [][]byte
	for _, e := range []struct {
		id, event, ingested, kafka string
		offset                     int64
	}{
		{"e1", "10:00:00", "10:00:03", "10:00:02", 1},
		{"e1", "10:00:00", "10:00:09", "10:00:02", 1},
		{"e2", "10:00:01", "10:00:04", "10:00:02", 2},
		{"e2", "10:00:01", "10:01:05", "10:01:01", 3},
		{"e1", "11:00:00", "10:01:10", "10:01:08", 4},
		{"e3", "10:00:00", "10:00:04", "", 0},
	} {
		v := event(e.id, values{"event_timestamp": at(e.event), "ingested_at": at(e.ingested),
			"kafka_offset": e.offset})
		if e.kafka == "" {
			for _, name := range []string{"kafka_timestamp", "kafka_topic", "kafka_partition", "kafka_offset"} {
				delete(v, name)
			}
		} else {
			v["kafka_timestamp"] = at(e.kafka)
		}
		events = append(events, encode(fact, v))
	}
	for _, l := range []values{
		{"error_code": "missing_field", "error_field": "user_id", "error": "user_id is missing", "failed_at": at("10:01:00"), "original_event": "{}"},
		{"error_code": "missing_field", "error_field": "user_id", "error": "user_id is missing", "failed_at": at("10:02:30")},
		{"error_code": "invalid_json", "error": "the value is not JSON", "failed_at": at("10:02:00"), "original_event_bytes": []byte{0xff}},
	} {
		letters = append(letters, encode(dlq, l))
	}
	if a := exchange(t, stream, request(w, "fact_events", fact.Descriptor(), events...)); a.GetError() != nil {
		t.Fatal(a)
	}
	if a := exchange(t, stream, request(w, "events_dlq", dlq.Descriptor(), letters...)); a.GetError() != nil {
		t.Fatal(a)
	}
	return w
}

// Protects the bill for the health view: it reads the partitions of 30 days, by the
// columns that the tables are partitioned by.
func TestHealthWindow(t *testing.T) {
	w := small(t)
	const health = "SELECT * FROM pipeline_health_per_minute ORDER BY minute"
	before := table(t, w, health)
	old := now.Add(-31 * 24 * time.Hour).UnixMicro()
	stream, fact, dlq := open(t, dial(t, w)), contract.FactEvents(), contract.EventsDLQ()
	late := encode(fact, event("late", values{"event_timestamp": old, "ingested_at": at("10:00:00")}))
	letter := encode(dlq, values{"error_code": "x", "error": "x", "failed_at": old})
	for _, r := range []*storagepb.AppendRowsRequest{request(w, "fact_events", fact.Descriptor(), late),
		request(w, "events_dlq", dlq.Descriptor(), letter)} {
		if a := exchange(t, stream, r); a.GetError() != nil {
			t.Fatal(a)
		}
	}
	if diff := cmp.Diff(before, table(t, w, health)); diff != "" {
		t.Error(diff)
	}
}

// Protects the results of the views and of what operators type by hand: the same
// texts run in BigQuery.
func TestQueries(t *testing.T) {
	w := small(t)
	day := now.Truncate(24 * time.Hour).Add(-24 * time.Hour).Format(time.DateOnly)
	for _, test := range []struct{ name, query, want string }{
		{"events: each once, the first ingested",
			"SELECT event_id, event_timestamp, ingested_at, kafka_offset FROM clickstream.events ORDER BY event_id, event_timestamp", `
e1 | 10:00:00 | 10:00:03 | 1
e1 | 11:00:00 | 10:01:10 | 4
e2 | 10:00:01 | 10:00:04 | 2
e3 | 10:00:00 | 10:00:04 | <nil>
`},
		{"dead letters by code",
			"SELECT error_code, error_field, dead_letters, first_failed_at, last_failed_at, example FROM dead_letters_by_code ORDER BY dead_letters DESC", `
missing_field | user_id | 2 | 10:01:00 | 10:02:30 | user_id is missing
invalid_json | <nil> | 1 | 10:02:00 | 10:02:00 | the value is not JSON
`},
		{"health per minute",
			"SELECT * FROM pipeline_health_per_minute ORDER BY minute", `
10:00:00 | 4 | 0 | 100 | 2 | 7 | 7
10:01:00 | 2 | 1 | 66.667 | 2 | 4 | 4
10:02:00 | 0 | 2 | 0 | <nil> | <nil> | <nil>
`},
		{"dead letters by message, typed by hand",
			"SELECT error, COUNT(*) FROM events_dlq WHERE failed_at >= TIMESTAMP '" + day + " 10:02:00' GROUP BY error ORDER BY error", `
the value is not JSON | 1
user_id is missing | 1
`},
		{"a timestamp with its zone",
			"SELECT COUNT(*) FROM fact_events WHERE ingested_at < TIMESTAMP '" + day + " 10:01:00+00'", "\n4\n"},
		{"rows of the last minutes, typed by hand",
			"SELECT COUNT(*) FROM fact_events WHERE ingested_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 10 MINUTE)", "\n0\n"},
		{"rows of the last days",
			"SELECT COUNT(*) FROM fact_events WHERE ingested_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 3 DAY)", "\n6\n"},
		{"conditional counts",
			"SELECT COUNTIF(kafka_offset IS NULL), SAFE_DIVIDE(COUNT(*), 0) FROM fact_events", "\n1 | <nil>\n"},
		{"conditional counts of nothing, and in a window",
			"SELECT (SELECT COUNTIF(kafka_offset > 0) FROM fact_events WHERE event_id = 'none'), COUNTIF(kafka_offset > 3) OVER () FROM fact_events LIMIT 1", "\n0 | 1\n"},
		{"whole minutes",
			"SELECT TIMESTAMP_SECONDS(DIV(UNIX_SECONDS(ingested_at), 60) * 60) AS minute, COUNT(*) FROM fact_events GROUP BY minute ORDER BY minute", `
10:00:00 | 4
10:01:00 | 2
`},
		{"extras by path",
			`SELECT JSON_VALUE('{"utm": {"source": "x"}, "n": 5}', '$.utm.source'), JSON_VALUE('{"n": 5}', '$.n')`, "\nx | 5\n"},
		{"types by BigQuery's names",
			"SELECT CAST('1' AS INT64) + 1, CAST('1.5' AS FLOAT64), CAST(1 AS STRING), CAST('a' AS BYTES)", "\n2 | 1.5 | 1 | [97]\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, "\n"+table(t, w, test.query)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Protects the promise that a filter on event_timestamp reaches the table below
// the view of distinct events: in BigQuery it prunes partitions, here the plan
// shows the filter beneath the window.
func TestEventsPushesTheTimeFilterDown(t *testing.T) {
	w := small(t)
	var kind, plan string
	if err := w.DB().QueryRow("EXPLAIN SELECT COUNT(*) FROM events WHERE event_timestamp >= TIMESTAMP '"+time.UnixMicro(at("10:30:00")).UTC().Format(time.DateTime)+"'").Scan(&kind, &plan); err != nil {
		t.Fatal(err)
	}
	window, filter := strings.Index(plan, "WINDOW"), strings.LastIndex(plan, "event_timestamp>")
	if window < 0 || filter < window {
		t.Errorf("the filter is not below the window:\n%s", plan)
	}
}

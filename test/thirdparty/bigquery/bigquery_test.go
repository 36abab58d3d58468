//go:build thirdparty

package bigquery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	appender "sluice/functions/warehouse"
	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
	"sluice/test/conformance"
	"sluice/test/thirdparty/bigquery"
)

// engines are the two warehouses, with the same rows.
type engines struct {
	emulator *bigquery.Emulator
	local    *warehouse.Server
}

const (
	project = "sluice-test"
	dataset = "clickstream"
)

func start(t *testing.T) (context.Context, engines) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	t.Cleanup(cancel)
	tables := []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}
	var e engines
	var err error
	if e.emulator, err = bigquery.Start(ctx, bigquery.Config{Dir: t.TempDir(), Project: project,
		Dataset: dataset}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.emulator.Close() })
	if e.local, err = warehouse.Start(warehouse.Config{Project: project, Dataset: dataset,
		Tables: tables}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.local.Close() })
	if err := e.emulator.CreateTables(ctx); err != nil {
		t.Fatal(err)
	}
	for _, view := range contract.Views() {
		text, err := contract.SQL(view, dataset)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.emulator.CreateView(ctx, view, text); err != nil {
			t.Fatal(err)
		}
	}
	return ctx, e
}

// write appends the rows to both with the product's appender.
func (e engines) write(ctx context.Context, t *testing.T, table *contract.Table, rows [][]byte) {
	t.Helper()
	for name, address := range map[string]string{"emulator": e.emulator.Addr(), "local": e.local.Addr()} {
		client, err := storage.NewBigQueryWriteClient(ctx, option.WithEndpoint(address), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		config := appender.DefaultAppenderConfig()
		config.Table = e.local.TableName(table.Name)
		a := appender.NewAppender(client, table, config, slog.New(slog.NewTextHandler(io.Discard, nil)))
		rejected, err := a.Write(ctx, rows)
		if err != nil || len(rejected) > 0 {
			t.Fatalf("%s: %v, rejected %v", name, err, rejected)
		}
		if err := a.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// values are a row's columns by name.
type values map[string]any

func encode(t *contract.Table, v values) []byte {
	var b []byte
	for _, c := range t.Columns {
		value, ok := v[c.Name]
		if !ok {
			continue
		}
		b = protowire.AppendTag(b, c.Number, c.WireType())
		switch value := value.(type) {
		case string:
			b = protowire.AppendString(b, value)
		case []byte:
			b = protowire.AppendBytes(b, value)
		case int64:
			b = protowire.AppendVarint(b, uint64(value))
		}
	}
	return b
}

// ask runs a query on both and returns the rows as text, one line each.
func (e engines) ask(ctx context.Context, t *testing.T, statement string) (emulator, local []string) {
	t.Helper()
	rows, err := e.emulator.Query(ctx, statement)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		emulator = append(emulator, conformance.Text(row))
	}
	if local, err = conformance.Rows(ctx, query.Database{DB: e.local.DB()}, statement); err != nil {
		t.Fatal(err)
	}
	return emulator, local
}

// Protects the promise of one SQL text for both engines: views and queries typed
// by hand give the same rows in BigQuery's dialect and in the local warehouse.
func TestQueriesAgree(t *testing.T) {
	ctx, e := start(t)
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)
	at := func(d time.Duration) int64 { return now.Add(d).UnixMicro() }
	fact, dlq := contract.FactEvents(), contract.EventsDLQ()
	var rows [][]byte
	for i, c := range []struct {
		id              string
		event, ingested time.Duration
		kafka           time.Duration // -1: not through Kafka
		offset          int64
		properties      string
	}{
		{"e1", 0, 3 * time.Second, 2 * time.Second, 1, `{"price":  1.5, "name": "é"}`},
		{"e1", 0, 9 * time.Second, 2 * time.Second, 1, `{"price":  1.5, "name": "é"}`},
		{"e2", time.Second, 4 * time.Second, 2 * time.Second, 2, ""},
		{"e2", time.Second, 65 * time.Second, 61 * time.Second, 3, ""},
		{"e1", time.Hour, 70 * time.Second, 68 * time.Second, 4, `{}`},
		{"e3", 0, 4 * time.Second, -1, 0, `{"n": [1, 2, {"deep": null}]}`},
	} {
		v := values{"event_id": c.id, "event_timestamp": at(c.event), "event_type": []string{"page_view",
			"search"}[i%2], "user_id": "u", "page_url": "/ä", "ingested_at": at(c.ingested)}
		if i == 2 {
			v["replay_id"] = "r1"
		}
		if c.properties != "" {
			v["properties"] = c.properties
		}
		if c.kafka >= 0 {
			v["kafka_topic"], v["kafka_partition"], v["kafka_offset"], v["kafka_timestamp"] = "clickstream", int64(0), c.offset, at(c.kafka)
		}
		rows = append(rows, encode(fact, v))
	}
	e.write(ctx, t, fact, rows)
	rows = nil
	for _, v := range []values{
		{"error_code": "missing_field", "error_field": "user_id", "error": "user_id is missing", "failed_at": at(time.Minute), "original_event": "{}", "kafka_topic": "clickstream", "kafka_partition": int64(0), "kafka_offset": int64(7)},
		{"error_code": "missing_field", "error_field": "user_id", "error": "user_id is missing", "failed_at": at(150 * time.Second)},
		{"error_code": "invalid_json", "error": "the value is not JSON", "failed_at": at(2 * time.Minute), "original_event_bytes": []byte{0xff, 0}},
	} {
		rows = append(rows, encode(dlq, v))
	}
	e.write(ctx, t, dlq, rows)

	time10 := now.Add(2 * time.Minute).Format(time.DateTime)
	for name, query := range map[string]string{
		"events": "SELECT event_id, event_timestamp, event_type, user_id, page_url, product_id, ingested_at, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp FROM clickstream.events ORDER BY event_id, event_timestamp",
		"events in a window of time": "SELECT event_id, kafka_offset FROM events WHERE event_timestamp >= TIMESTAMP '" +
			now.Add(time.Minute).Format(time.DateTime) + "' ORDER BY event_id",
		"dead_letters_by_code": "SELECT * FROM clickstream.dead_letters_by_code ORDER BY error_code",
		// The emulator's APPROX_QUANTILES neither sorts nor leaves out nulls, as
		// BigQuery's does: the latencies are compared only in being there.
		"health without latencies": "SELECT minute, landed, rejected, quality_percent, latency_p50_seconds IS NULL FROM clickstream.pipeline_health_per_minute ORDER BY minute",
		"dead letters by hand": "SELECT error, COUNT(*) FROM events_dlq WHERE failed_at >= TIMESTAMP '" + time10 +
			"' GROUP BY error ORDER BY error",
		"landed by hand":        "SELECT COUNT(*) FROM fact_events WHERE ingested_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 3 DAY)",
		"recent by hand":        "SELECT COUNT(*) FROM fact_events WHERE ingested_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 10 MINUTE)",
		"bytes":                 "SELECT original_event_bytes FROM events_dlq WHERE error_code = 'invalid_json'",
		"extras by path":        "SELECT event_id, JSON_VALUE(properties, '$.name'), JSON_VALUE(properties, '$.price') FROM fact_events ORDER BY event_id, kafka_offset, ingested_at",
		"aggregates of nothing": "SELECT COUNTIF(kafka_offset > 0), COUNT(*), SUM(kafka_offset), MAX(event_id) FROM fact_events WHERE event_id = 'none'",
		"functions":             "SELECT SAFE_DIVIDE(1, 0), DIV(7, 2), UNIX_MICROS(TIMESTAMP '2026-01-02 03:04:05'), TIMESTAMP_MILLIS(1500)",
	} {
		t.Run(name, func(t *testing.T) {
			emulator, local := e.ask(ctx, t, query)
			if diff := cmp.Diff(emulator, local); diff != "" {
				t.Errorf("BigQuery's dialect (-), the local warehouse (+):\n%s", diff)
			}
			if len(emulator) == 0 {
				t.Error("no rows: nothing is compared")
			}
		})
	}

	// What people are told to ask.
	cookbook, err := os.ReadFile("../../../internal/contract/COOKBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(cookbook), -1) {
		t.Run(fmt.Sprintf("cookbook %d", i+1), func(t *testing.T) {
			// Latencies: see above. The rows here are of yesterday.
			question := strings.NewReplacer(", latency_p50_seconds, latency_p99_seconds", "", "INTERVAL 1 HOUR",
				"INTERVAL 7 DAY").Replace(m[1])
			emulator, local := e.ask(ctx, t, question)
			for i := range local { // DuckDB's driver answers a DATE as the time of its midnight
				local[i] = strings.ReplaceAll(local[i], "T00:00:00Z", "")
			}
			if diff := cmp.Diff(emulator, local); diff != "" {
				t.Errorf("BigQuery's dialect (-), the local warehouse (+):\n%s", diff)
			}
			if len(emulator) == 0 {
				t.Error("no rows: nothing is compared")
			}
		})
	}

	// Every text of the project, as it stands; in any order, since some have none.
	for _, name := range contract.Queries() {
		t.Run("file "+name, func(t *testing.T) {
			text, err := contract.SQL(name, dataset)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "pipeline_health_per_minute": // see above
				text = "SELECT minute, landed, rejected, quality_percent FROM (" + text + ") AS health"
			case "events": // DuckDB's driver answers JSON as Go values
				text = "SELECT event_id, event_timestamp, ingested_at, kafka_offset, replay_id FROM (" + text + ") AS e"
			}
			emulator, local := e.ask(ctx, t, text)
			slices.Sort(emulator)
			slices.Sort(local)
			if diff := cmp.Diff(emulator, local); diff != "" {
				t.Errorf("BigQuery's dialect (-), the local warehouse (+):\n%s", diff)
			}
			if len(emulator) == 0 {
				t.Error("no rows: nothing is compared")
			}
		})
	}
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const samples = "../../../internal/contract/presets/samples"

// Protects the README's quickstart: a contract that is inferred from events takes those very
// events, of whatever shape that is published, without a hand on it; and they are in their columns.
func TestInferredContractsLand(t *testing.T) {
	for sample, query := range map[string]string{
		"segment":     "SELECT COUNT(DISTINCT message_id) FROM segment_once WHERE timestamp > TIMESTAMP '2026-01-01 00:00:00' AND user_id IS NOT NULL",
		"rudderstack": "SELECT COUNT(DISTINCT message_id) FROM rudderstack_once WHERE original_timestamp > TIMESTAMP '2026-01-01 00:00:00'",
		"snowplow":    "SELECT COUNT(DISTINCT event_id) FROM snowplow_once WHERE collector_tstamp > TIMESTAMP '2026-01-01 00:00:00'",
		"ga4":         "SELECT COUNT(*) FROM ga4_once WHERE event_timestamp > TIMESTAMP '2026-01-01 00:00:00' AND event_name IS NOT NULL",
		"posthog":     "SELECT COUNT(DISTINCT uuid) FROM posthog_once WHERE timestamp > TIMESTAMP '2026-01-01 00:00:00'",
		"matomo":      "SELECT COUNT(*) FROM matomo_once WHERE idsite = 1",
	} {
		t.Run(sample, func(t *testing.T) {
			dir := t.TempDir()
			events := filepath.Join(samples, sample+".ndjson")
			text, err := os.ReadFile(events)
			if err != nil {
				t.Fatal(err)
			}
			count := strings.Count(string(text), "\n")
			inferred, report, status := program(t, nil, "contract", "infer", events)
			if status != 0 || !strings.Contains(report, " 0 would be rejected") {
				t.Fatalf("status %d\n%s\n%s", status, report, inferred)
			}
			file := filepath.Join(dir, sample+".yaml")
			if err := os.WriteFile(file, []byte(inferred), 0o600); err != nil {
				t.Fatal(err)
			}
			s := summarize(t, nil, "--contract", file, "--input", events, "--data", filepath.Join(dir, "data"))
			if s.Landed != int64(count) || s.DeadLettered != 0 || s.Missing != 0 {
				t.Errorf("%+v of %d events, by the contract\n%s", s, count, inferred)
			}
			out, errs, status := program(t, nil, "query", "--data", filepath.Join(dir, "data"), "--json", query)
			var row map[string]int
			if err := json.Unmarshal([]byte(out), &row); err != nil || status != 0 {
				t.Fatalf("%v, status %d: %s%s", err, status, out, errs)
			}
			for _, n := range row {
				if n != count {
					t.Errorf("%s counts %d, want %d; the contract is\n%s", query, n, count, inferred)
				}
			}
		})
	}
}

// writer returns what writes files into a folder, and returns their paths.
func writer(t *testing.T, dir string) func(name, text string) string {
	return func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// Protects CI pipelines that hold contracts and events against each other: statuses and words.
func TestContractTools(t *testing.T) {
	dir := t.TempDir()
	file := writer(t, dir)
	good := file("good.yaml", "contract: 1\ntopics: t\nrest: reject\ncolumns:\n- {name: a, type: INT64, mode: REQUIRED}\n- {name: b, type: DATE, default: 2026-01-31}\n")
	wider := file("wider.yaml", "contract: 1\nname: good\ntopics: t\nrest: reject\ncolumns:\n- {name: a, type: NUMERIC, mode: REQUIRED}\n- {name: c, type: STRING}\n- {name: b, type: DATE}\n")
	bad := file("bad.yaml", "contract: 1\ntopics: t\nrest: keep\ncolumns:\n- {name: a, type: TEXT}\n- {name: A, type: INT64, default: many}\n")
	badValues := file("default.yaml", "contract: 1\ntopics: t2\nrest: drop\ncolumns:\n- {name: a, type: INT64, default: many, range: {min: x}}\n")
	events := file("events.ndjson", `{"a":1}`+"\n"+`{"a":"1"}`+"\n\n"+`{"a":2,"new":1}`+"\n"+`{"a":3`+"\n")
	for _, test := range []struct {
		args   []string
		status int
		want   []string // on either stream
		not    string
	}{
		{[]string{"check", good}, 0, []string{"8 columns of the table good, no mistakes"}, ""},
		{[]string{"check", "segment", good}, 0, []string{"no mistakes"}, ""},
		{[]string{"check", bad}, 1, []string{"bad.yaml:3:7: ", "bad.yaml:5:", "bad.yaml:6:"}, ""},
		{[]string{"check", badValues}, 1, []string{"default.yaml:5: column a: its range has the bound", "its default is no number"}, ""},
		{[]string{"check", events, "--contract", good}, 1, []string{"4 events: 1 would land, 0 would be left out, 3 would be rejected.", "wrong_type", "unknown_member", "invalid_json"}, `"1"`},
		{[]string{"check", "--json", good, events}, 1, []string{`"would_land":1`, `"first_line":2`}, ""},
		{[]string{"check"}, 2, []string{"name a contract"}, ""},
		{[]string{"check", filepath.Join(dir, "none.yaml")}, 1, []string{"no such file"}, ""},
		{[]string{"diff", good, wider}, 0, []string{"additive: column a widens from INT64 to NUMERIC", "additive: column c is new"}, "BREAKING"},
		{[]string{"diff", wider, good}, 1, []string{"BREAKING: column a changes from NUMERIC to INT64", "additive: column c is gone"}, ""},
		{[]string{"tables", good}, 0, []string{`"name": "a"`, `"type": "INT64"`, `"mode": "REQUIRED"`}, ""},
		{[]string{"tables", "--ddl", "--dataset", "p.d", good}, 0, []string{"CREATE TABLE `p.d.good` (", "a INT64 NOT NULL,", "CREATE VIEW `p.d.good_once`"}, ""},
		{[]string{"show", "segment"}, 0, []string{"name: segment"}, ""},
		{[]string{"infer", filepath.Join(dir, "none")}, 1, []string{"no such file"}, ""},
		{[]string{"infer", events}, 1, []string{"event 4"}, ""},
		{[]string{"dance"}, 2, []string{"name a tool: check, deploy, diff, infer, promote, show, tables"}, ""},
	} {
		out, errs, status := program(t, nil, append([]string{"contract"}, test.args...)...)
		both := out + errs
		if status != test.status {
			t.Errorf("%v: status %d, want %d\n%s", test.args, status, test.status, both)
		}
		for _, want := range test.want {
			if !strings.Contains(both, want) {
				t.Errorf("%v lacks %q:\n%s", test.args, want, both)
			}
		}
		if test.not != "" && strings.Contains(both, test.not) {
			t.Errorf("%v has %q:\n%s", test.args, test.not, both)
		}
	}
}

// Protects runs with several contracts, and the tools behind them: what --data keeps is what
// audit, replay and promote take.
func TestSeveralContracts(t *testing.T) {
	dir := t.TempDir()
	contracts, data := filepath.Join(dir, "contracts"), filepath.Join(dir, "data")
	if err := os.Mkdir(contracts, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(contracts, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("orders.yaml", "contract: 1\ntopics: orders\nevent: {id: id}\ncolumns:\n- {name: id, type: STRING, mode: REQUIRED}\n- {name: total, type: NUMERIC}\n- {name: other, type: JSON, rest: true}\n")
	write("clicks.yaml", "contract: 1\ntopics: clicks\nrest: drop\ncolumns:\n- {name: url, type: STRING, mode: REQUIRED}\n")
	if _, errs, status := program(t, nil, "run", "--once", "--contracts", contracts, "--input", "-"); status != 2 ||
		!strings.Contains(errs, "say with --topic") {
		t.Errorf("two contracts without a topic: status %d, %s", status, errs)
	}
	orders := `{"id":"1","total":9.5,"coupon":"X"}` + "\n" + `{"id":"2","total":"nine","coupon":"Y"}` + "\n"
	s := summarize(t, []byte(orders), "--contracts", contracts, "--topic", "orders", "--input", "-", "--data", data)
	if s.Landed != 1 || s.DeadLettered != 1 {
		t.Errorf("orders: %+v", s)
	}
	// The folder knows its contracts by now.
	s = summarize(t, []byte(`{"url":"/"}`+"\n"), "--topic", "clicks", "--input", "-", "--data", data)
	if s.Landed != 1 {
		t.Errorf("clicks: %+v", s)
	}
	out, errs, status := program(t, nil, "audit", "--data", data, "--json")
	var report struct {
		Totals struct{ Consumed, Landed, Missing int64 }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 || report.Totals.Consumed != 3 ||
		report.Totals.Landed != 2 || report.Totals.Missing != 0 {
		t.Errorf("audit: %v, status %d: %s%s", err, status, out, errs)
	}
	out, errs, status = program(t, nil, "replay", "--data", data, "--transform", `.total = 9`, "--execute", "--json")
	if status != 0 || !strings.Contains(out, `"landed_rows":1`) {
		t.Errorf("replay: status %d: %s%s", status, out, errs)
	}
	out, errs, status = program(t, nil, "contract", "promote", filepath.Join(contracts, "orders.yaml"), "--data", data)
	if status != 0 || !strings.Contains(out, "- {name: coupon, type: STRING} # in all") || !strings.Contains(out,
		`SET coupon = JSON_VALUE(other, '$."coupon"')`) {
		t.Errorf("promote: status %d: %s%s", status, out, errs)
	}
}

// Protects deployments: what Terraform and the image are given follows from the contracts, a
// change that BigQuery cannot make fails before anything is changed, and nothing that holds
// rows is ever dropped, neither a column nor a table.
func TestDeployContracts(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	pack := func(files map[string]string) {
		text, err := json.Marshal(files)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path("packed.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path("contracts")); err != nil {
			t.Fatal(err)
		}
	}
	type made struct {
		Streams map[string]struct {
			Schema, View string
			Deployed     bool
			Partition    *struct {
				Column, Type string
				MS           *int64 `json:"expiration_ms"`
			}
		}
		Topics    string `json:"stream_topics"`
		Groups    string `json:"batch_groups"`
		LeavesOut bool   `json:"leaves_out"`
		Health    string `json:"health_query"`
	}
	deploy := func(want int, words ...string) (out made) {
		t.Helper()
		_, errs, status := program(t, nil, "contract", "deploy", "--packed", path("packed.json"), "--kept",
			path("kept.json"), "--dataset", "p.d",
			"--into", path("contracts"), "--terraform", path("auto.tfvars.json"))
		if status != want {
			t.Fatalf("status %d, want %d: %s", status, want, errs)
		}
		for _, word := range words {
			if !strings.Contains(errs, word) {
				t.Errorf("%q is not said:\n%s", word, errs)
			}
		}
		if want == 0 {
			text, err := os.ReadFile(path("auto.tfvars.json"))
			if err == nil {
				err = json.Unmarshal(text, &out)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	const orders = "contract: 1\ntopics: orders\nrest: drop\ntable: {partition_by: {column: at, every: month, expire: 90d}}\n" +
		"drop: {state: draft}\ncolumns:\n- {name: at, type: TIMESTAMP, range: {oldest: 80d}}\n- {name: state, type: STRING}\n"
	const clicks = "contract: 1\nname: web-clicks\ntopics: {pattern: 'web\\..*'}\nrest: drop\ncolumns:\n- {name: url, type: STRING}\n- {name: meta, type: RECORD, columns: [{name: a, type: INT64}]}\n"

	pack(map[string]string{"orders.yaml": orders, "clicks.yaml": clicks})
	first := deploy(0)
	if s := first.Streams["orders"]; !s.Deployed || s.View != "orders_once" || s.Partition == nil ||
		s.Partition.Column != "at" || s.Partition.Type != "MONTH" || *s.Partition.MS != 90*86400000 {
		t.Errorf("orders: %+v", s)
	}
	if s := first.Streams["web_clicks"]; !s.Deployed || s.Partition != nil || !strings.Contains(s.Schema,
		`"kafka_offset"`) {
		t.Errorf("web_clicks: %+v", s)
	}
	if first.Topics != `^((web\..*))$,orders` || first.Groups != `^((web\..*))$` || !first.LeavesOut ||
		!strings.Contains(first.Health, "FROM p.d.orders UNION ALL") && !strings.Contains(first.Health,
			"p.d.web_clicks") {
		t.Errorf("topics %s, leaves out %v, health %s", first.Topics, first.LeavesOut, first.Health)
	}
	for _, name := range []string{"orders", "web-clicks"} {
		if _, err := os.Stat(filepath.Join(path("contracts"), name+".yaml")); err != nil {
			t.Error(err)
		}
	}

	// Orders are gone, a column and a nested one are gone, others are new.
	pack(map[string]string{"clicks.yaml": "contract: 1\nname: web-clicks\ntopics: {pattern: 'web\\..*'}\nrest: drop\ncolumns:\n- {name: ref, type: STRING}\n- {name: meta, type: RECORD, columns: [{name: b, type: INT64}]}\n"})
	second := deploy(0)
	if s := second.Streams["orders"]; s.Deployed || !strings.Contains(s.Schema, `"state"`) {
		t.Errorf("the table of a contract that is gone: %+v", s)
	}
	for _, column := range []string{"url", "ref", "a", "b"} {
		if !strings.Contains(second.Streams["web_clicks"].Schema, `"name": "`+column+`"`) {
			t.Errorf("the table lost or lacks the column %s: %s", column, second.Streams["web_clicks"].Schema)
		}
	}
	if second.LeavesOut || second.Topics != `^((web\..*))$` {
		t.Errorf("%+v", second)
	}

	// Back, and both broken.
	pack(map[string]string{
		"orders.yaml": strings.Replace(orders, "every: month", "every: day", 1),
		"clicks.yaml": strings.Replace(clicks, "url, type: STRING", "url, type: JSON", 1),
	})
	deploy(1, "orders: the table's partitions change", "web-clicks: column url changes from STRING to JSON")
	pack(map[string]string{"orders.yaml": strings.Replace(orders, "every: month", "every: day", 1) +
		"name: orders-by-day\n"})
	if third := deploy(0); !third.Streams["orders_by_day"].Deployed || third.Streams["orders"].Deployed {
		t.Errorf("a new table: %+v", third)
	}

	pack(map[string]string{"orders.yaml": orders + "- {name: at, type: TEXT}\n", "clicks.yaml": clicks +
		"rest: keep\n"})
	deploy(1, "orders.yaml:", "clicks.yaml:")
	pack(map[string]string{})
	if none := deploy(0); none.Topics != "" || none.Streams["orders"].Deployed || none.Health != "" {
		t.Errorf("without contracts: %+v", none)
	}
}

package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Protects events that a schema registry's serializer for JSON Schema has written: they land, what is rejected keeps
// its prefix, and a replay repairs it behind the prefix.
func TestEventsBehindASchemaRegistrysPrefix(t *testing.T) {
	dir := t.TempDir()
	file := writer(t, dir)
	orders := file("orders.yaml", "contract: 1\ntopics: orders\nformat: json_schema\nrest: drop\ncolumns:\n- {name: id, type: STRING, mode: REQUIRED}\n- {name: n, type: INT64}\n")
	events := file("orders.ndjson", "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":\"two\"}\n")
	data := filepath.Join(dir, "data")
	if s := summarize(t, nil, "--contract", orders, "--input", events, "--data", data); s.Landed != 1 ||
		s.DeadLettered != 1 || s.Missing != 0 {
		t.Fatalf("%+v", s)
	}
	query := func(sql string) string {
		t.Helper()
		out, errs, status := program(t, nil, "query", "--data", data, "--json", sql)
		if status != 0 {
			t.Fatalf("%s%s", out, errs)
		}
		return strings.TrimSpace(out)
	}
	if got := query("SELECT error_code, length(original_event) - strpos(original_event, '{') AS body, strpos(original_event, '{') AS prefix FROM events_dlq"); got !=
		`{"error_code":"wrong_type","body":19,"prefix":6}` {
		t.Errorf("the dead letter is %s", got)
	}
	out, errs, status := program(t, nil, "replay", "--data", data, "--transform", ".n = 2", "--execute")
	if status != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	if got := query("SELECT id, n FROM orders ORDER BY id"); got != `{"id":"a","n":1}`+"\n"+`{"id":"b","n":2}` {
		t.Errorf("the rows are %s", got)
	}
	out, errs, status = program(t, nil, "contract", "check", events, "--contract", orders)
	if status != 1 || !strings.Contains(out+errs, "wrong_type") || strings.Contains(out+errs, "prefix") {
		t.Errorf("check of a file without prefixes: status %d, %s%s", status, out, errs)
	}
}

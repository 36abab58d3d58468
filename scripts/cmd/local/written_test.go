package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Protects events in Avro and in Protobuf on their whole way: written with the schema, through Kafka, into a table
// whose columns are the schema's; one that the contract refuses is repaired by a replay, which sees it as JSON and
// writes it with the same schema again.
func TestWrittenEvents(t *testing.T) {
	for name, c := range map[string]struct{ file, schema, contract string }{
		"avro with a registry": {"order.avsc", `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},
			{"name":"amount","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
			{"name":"tags","type":{"type":"array","items":"string"}},{"name":"more","type":{"type":"map","values":"int"}}]}`,
			"format: avro\nregistry: {url: https://registry.example.com, subject: orders-value, version: 1}\nschema: order.avsc\n"},
		"avro without": {"order.avsc", `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},
			{"name":"amount","type":"double"},{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
			{"name":"tags","type":{"type":"array","items":"string"}},{"name":"more","type":{"type":"map","values":"int"}}]}`,
			"format: avro\nschema: order.avsc\n"},
		"avro with AWS Glue's ids": {"order.avsc", `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},
			{"name":"amount","type":"float"},{"name":"at","type":{"type":"long","logicalType":"timestamp-nanos"}},
			{"name":"tags","type":{"type":"array","items":"string"}},{"name":"more","type":["null",{"type":"map","values":"long"}]}]}`,
			"format: avro\nschema: {file: order.avsc, ids: {3f2504e0-4f89-11d3-9a0c-0305e82c3301: order.avsc}}\n"},
		"protobuf with a registry": {"shop/order.proto",
			"syntax = \"proto3\";\nimport \"google/protobuf/timestamp.proto\";\nmessage None {}\nmessage Shop { message Order { string id = 1; optional double amount = 2; google.protobuf.Timestamp at = 3; repeated string tags = 4; map<string, int32> more = 5; } }",
			"format: protobuf\nregistry: https://registry.example.com\nschema: {file: shop/order.proto, message: Shop.Order}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
			write := func(name, text string) string {
				file := filepath.Join(dir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return file
			}
			write(c.file, c.schema)
			file := write("orders.yaml", "contract: 1\ntopics: orders\n"+c.contract+`event: {id: id, time: at}
rest: drop
columns:
- {name: id, type: STRING, mode: REQUIRED}
- {name: amount, type: NUMERIC, range: {max: 100}, accept: [number, round]}
- {name: at, type: TIMESTAMP}
- {name: tags, type: STRING, mode: REPEATED}
- {name: more, type: RECORD, mode: REPEATED, accept: entries, columns: [{name: key, type: STRING}, {name: value, type: INT64}]}
`)
			events := write("events.ndjson", `{"id":"a","amount":12.50,"at":"2026-01-31T10:00:00.250Z","tags":["x","y"],"more":{"k":7}}
{"id":"b","amount":500,"at":"2026-01-31T10:00:00Z","tags":[],"more":{}}
{"id":"c","amount":0.25,"at":"2026-01-31T10:00:00Z","tags":["z"],"more":{}}
`)
			s := summarize(t, nil, "--contract", file, "--input", events, "--data", data)
			if s.Landed != 2 || s.DeadLettered != 1 || s.Missing != 0 {
				t.Fatalf("%+v", s)
			}
			ask := func(sql string) string {
				out, errs, status := program(t, nil, "query", "--data", data, sql)
				if status != 0 {
					t.Fatalf("%s: %s", sql, errs)
				}
				return out
			}
			if got := ask(`SELECT concat_ws(' ', id, amount, epoch_ms("at"), array_to_string(tags, '+'), more[1].key, more[1].value) FROM orders WHERE id = 'a'`); !strings.Contains(got, "a 12.500000000 1769853600250 x+y k 7") {
				t.Errorf("the row is %s", got)
			}
			repair := []string{"replay", "--data", data, "--transform", ".amount = 99.5", "--json"}
			var plan struct {
				Letters int64
				Codes   []struct{ Letters, Fails int64 }
			}
			out, errs, status := program(t, nil, repair...)
			if err := json.Unmarshal([]byte(out), &plan); err != nil || status != 0 || plan.Letters != 1 ||
				plan.Codes[0].Fails != 0 {
				t.Fatalf("replay: status %d, %v\n%s%s", status, err, out, errs)
			}
			out, errs, status = program(t, nil, "replay", "--data", data, "--json")
			if err := json.Unmarshal([]byte(out), &plan); err != nil || status != 0 || plan.Letters != 1 ||
				plan.Codes[0].Fails != 1 {
				t.Fatalf("replay without a repair: status %d, %v\n%s%s", status, err, out, errs)
			}
			out, errs, status = program(t, nil, "replay", "--data", data, "--transform", ".unknown = 1", "--json")
			if status != 0 || !strings.Contains(out, "its schema cannot write what --transform made of it") {
				t.Errorf("replay that cannot be written: status %d\n%s%s", status, out, errs)
			}
			if out, errs, status = program(t, nil, append(repair, "--execute")...); status != 0 {
				t.Fatalf("replay --execute: status %d\n%s%s", status, out, errs)
			}
			if got := ask("SELECT amount FROM orders WHERE id = 'b'"); !strings.Contains(got, "99.5") {
				t.Errorf("the repaired row has %s", got)
			}
		})
	}
}

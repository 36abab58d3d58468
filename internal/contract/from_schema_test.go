package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// show writes columns in a line each.
func showColumns(columns []Column, fields []Field, indent string) string {
	var b strings.Builder
	for i, c := range columns {
		if fields[i].Source > FromKafkaKey && fields[i].Source != FromRest {
			continue // a system column
		}
		fmt.Fprintf(&b, "%s%s %s", indent, c.Name, c.Type)
		if c.Precision > 0 {
			fmt.Fprintf(&b, "(%d,%d)", c.Precision, c.Scale)
		}
		if c.Repeated {
			b.WriteString(" REPEATED")
		}
		if c.Required {
			b.WriteString(" REQUIRED")
		}
		var paths []string
		for _, p := range fields[i].Paths {
			paths = append(paths, p.String())
		}
		if from := strings.Join(paths, ","); from != "" && from != c.Name {
			fmt.Fprintf(&b, " from %s", from)
		}
		if d := fields[i].Default; d != nil {
			fmt.Fprintf(&b, " default %q", *d)
		}
		if c.Description != "" {
			fmt.Fprintf(&b, " %q", c.Description)
		}
		b.WriteByte('\n')
		b.WriteString(showColumns(c.Columns, fields[i].Fields, indent+"  "))
	}
	return b.String()
}

func readWith(t *testing.T, file, schema, text string) (*Contract, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{file: schema, "orders.yaml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ReadFile(filepath.Join(dir, "orders.yaml"))
}

// Protects columns that are those of a schema: each type's column, names that BigQuery does not take or that are taken,
// aliases and defaults as Avro's resolution has them, and a column for what later versions add.
func TestColumnsFromAvro(t *testing.T) {
	c, err := readWith(t, "order.avsc", `{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"id","type":"string","doc":"Which order."},
		{"name":"ID","type":"int"},
		{"name":"_partition_key","type":"bytes"},
		{"name":"kafka_topic","type":"string"},
		{"name":"nothing","type":"null"},
		{"name":"b","type":"boolean","default":true},
		{"name":"l","type":["null","long"],"default":null,"aliases":["older","oldest"]},
		{"name":"f","type":"float","default":1.5},
		{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]},"default":"B"},
		{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
		{"name":"wide","type":{"type":"bytes","logicalType":"decimal","precision":60,"scale":30}},
		{"name":"wider","type":{"type":"bytes","logicalType":"decimal","precision":90,"scale":2}},
		{"name":"day","type":{"type":"int","logicalType":"date"},"default":0},
		{"name":"clock","type":{"type":"long","logicalType":"time-micros"}},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
		{"name":"local","type":{"type":"long","logicalType":"local-timestamp-micros"}},
		{"name":"uuid","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}},
		{"name":"took","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}},
		{"name":"either","type":["string","long"]},
		{"name":"map","type":{"type":"map","values":"string"}},
		{"name":"tags","type":{"type":"array","items":["null","string"]}},
		{"name":"matrix","type":{"type":"array","items":{"type":"array","items":"int"}}},
		{"name":"address","type":["null",{"type":"record","name":"Address","fields":[{"name":"city","type":"string"},{"name":"kind","type":"Kind"}]}]},
		{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"at","type":"Address"},{"name":"n","type":"int"}]}}},
		{"name":"empty","type":{"type":"record","name":"Empty","fields":[]}},
		{"name":"rest","type":"string"}]}`,
		"contract: 1\ntopics: orders\nformat: avro\nregistry: https://registry\nschema: order.avsc\ncolumns: from schema\nevent: {id: id, time: at}\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = `id STRING "Which order."
ID_2 INT64 from ID
event_partition_key BYTES from _partition_key
kafka_topic_2 STRING from kafka_topic
b BOOL default "true"
l INT64 from l,older,oldest
f FLOAT64 default "1.5"
kind STRING default "B"
amount NUMERIC(12,2)
wide BIGNUMERIC(60,30)
wider STRING
day DATE
clock TIME
at TIMESTAMP
local DATETIME
uuid STRING
took INTERVAL
either JSON
map JSON
tags STRING REPEATED
matrix JSON
address RECORD
  city STRING
  kind STRING
lines RECORD REPEATED
  at RECORD
    city STRING
    kind STRING
  n INT64
empty JSON
rest STRING
rest_2 JSON
`
	if got := showColumns(c.Table.Columns, c.Fields, ""); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Protects the same of Protobuf.
func TestColumnsFromProtobuf(t *testing.T) {
	c, err := readWith(t, "order.proto", `syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message Order {
  // Which order.
  string id = 1;
  uint64 big = 2;
  sint32 small = 3;
  enum Kind { UNKNOWN = 0; A = 1; }
  Kind kind = 4;
  google.protobuf.Timestamp at = 5;
  google.protobuf.Duration took = 6;
  google.protobuf.DoubleValue price = 7;
  google.protobuf.Struct more = 8;
  repeated string tags = 9;
  map<string, int32> counts = 10;
  message Line { int32 n = 1; repeated Line2 inner = 2; }
  message Line2 { bytes b = 1; }
  repeated Line lines = 11;
  oneof payment { string card = 12; bool cash = 13; }
  message None {}
  repeated None nones = 14;
}
`, "contract: 1\ntopics: orders\nformat: protobuf\nschema: order.proto\ncolumns: from schema\nrest: drop\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = `id STRING "Which order."
big NUMERIC
small INT64
kind STRING
at TIMESTAMP
took INTERVAL
price FLOAT64
more JSON
tags STRING REPEATED
counts JSON
lines RECORD REPEATED
  n INT64
  inner RECORD REPEATED
    b BYTES
card STRING
cash BOOL
nones JSON
`
	if got := showColumns(c.Table.Columns, c.Fields, ""); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Protects from a table that cannot be: schemas that hold themselves are refused with the path, and so are those that
// are missing.
func TestColumnsFromSchemaMistakes(t *testing.T) {
	const avro = "contract: 1\ntopics: orders\nformat: avro\nschema: s\ncolumns: from schema\n"
	for _, c := range []struct{ schema, text, want string }{
		{`{"type":"record","name":"L","fields":[{"name":"v","type":"int"},{"name":"a","type":{"type":"record","name":"A","fields":[{"name":"next","type":["null","L"]}]}}]}`, avro, "a.next holds a type that it is within"},
		{`{"type":"record","name":"L","fields":[{"name":"all","type":{"type":"array","items":"L"}}]}`, avro, "all[] holds a type that it is within"},
		{`{"type":"map","values":"string"}`, avro, "columns can be made of a record"},
		{`{`, avro, "the schema's file s: read the Avro schema"},
		{"syntax = \"proto3\";\nmessage L { message In { L next = 1; } In in = 1; }", strings.ReplaceAll(avro, "avro", "protobuf"), "in.next holds a type that it is within"},
		{"", "contract: 1\ntopics: orders\nformat: avro\nregistry: https://registry\ncolumns: from schema\n", "the contract has none: name the file of one with schema"},
	} {
		if _, err := readWith(t, "s", c.schema, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

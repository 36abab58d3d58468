package contract

import (
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

//go:embed testdata
var testdata embed.FS

// Protects every key of the language: what each says arrives in the contract.
func TestRead(t *testing.T) {
	text, _ := testdata.ReadFile("testdata/shop_events.yaml")
	c, err := Read("shop_events.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	zero, million, web, eur := "0", "1000000", "web", "EUR"
	member := func(names ...string) (p Path) {
		for _, name := range names {
			p = append(p, Step{Name: name})
		}
		return p
	}
	want := []Field{
		{Paths: []Path{member("messageId")}, NotEmpty: true},
		{Paths: []Path{member("timestamp"), member("originalTimestamp")}, Accept: FormRFC3339 | FormEpochMillis, Range: &Range{Oldest: 399 * 24 * time.Hour, Newest: 365 * 24 * time.Hour}},
		{Paths: []Path{member("event")}, Allowed: []string{"Order Completed", "Product Viewed"}},
		{Paths: []Path{member("userId"), member("anonymousId")}, Accept: FormString | FormNumber, SkipEmpty: true},
		{Paths: []Path{member("properties", "order_id")}, MinLength: 1, MaxLength: 64, RequiredWhen: []Condition{{2, []string{"Order Completed"}}}},
		{Paths: []Path{member("properties", "revenue")}, Accept: FormNumber | FormString, Range: &Range{Min: &zero, Max: &million}},
		{Paths: []Path{member("properties", "products")}, Rest: RestDrop, Fields: []Field{{Paths: []Path{member("sku")}}, {Paths: []Path{member("price")}}}},
		{Paths: []Path{append(append(member("event_params"), Step{Kind: Select, Name: "key", Value: "ga_session_id"}), member("value", "int_value")...)}, Accept: FormNumber | FormString},
		{Paths: []Path{append(member("tags"), Step{Kind: Index})}},
		{Paths: []Path{member("a", "b.c", "d")}},
		{Paths: []Path{member("day")}, Accept: FormISO | FormPattern, Layouts: []Layout{{"%d.%m.%Y", "02.01.2006"}}},
		{Paths: []Path{member("validity")}},
		{Source: FromHeader, Header: "tenant"},
		{Source: FromKafkaKey},
		{Source: FromIngestionTime},
		{Source: FromConstant, Constant: &web},
		{Paths: []Path{member("properties", "currency")}, Default: &eur},
		{Source: FromSection},
		{Source: FromRest},
		{Source: FromKafkaTopic}, {Source: FromKafkaPartition}, {Source: FromKafkaOffset}, {Source: FromKafkaTimestamp}, {Source: FromReplayID},
	}
	if len(c.Fields) != len(want) {
		t.Fatalf("%d fields, want %d", len(c.Fields), len(want))
	}
	var unline func([]Field)
	unline = func(fields []Field) {
		for i := range fields {
			fields[i].Line = 0
			unline(fields[i].Fields)
		}
	}
	unline(c.Fields)
	for i := range want {
		if !reflect.DeepEqual(c.Fields[i], want[i]) {
			t.Errorf("%s: %+v, want %+v", c.Table.Columns[i].Name, c.Fields[i], want[i])
		}
	}
	columns := c.Table.Columns
	if columns[0].MaxLength != 64 || columns[5].Precision != 10 || columns[5].Scale != 2 ||
		columns[11].Element != Date || columns[6].Columns[1].Type != Numeric {
		t.Errorf("columns %+v", columns)
	}
	c.Table, c.Fields, c.Text = nil, nil, ""
	if rest := (Contract{
		Name: "shop_events", Description: "What the shop sends.", File: "shop_events.yaml", Format: FormatJSON,
		Topics: []string{"shop.events", "shop.events.v2"}, Pattern: regexp.MustCompile(`^(?:(?:shop\.(web|app)\.[a-z]+))$`), Bare: true,
		Partition: Partition{"occurred_at", Month, 400 * 24 * time.Hour}, Cluster: []string{"event_name", "user_id"},
		ID: []string{"event_id"}, Time: "occurred_at", EventType: "event_name", Rest: RestColumn,
		Sections: []Section{{17, member("context", "traits")}},
		Drop:     []Condition{{2, []string{"heartbeat", "ping"}}, {7, []string{"0"}}},
		Sample:   &Sample{3, 0.1}, MaxBytes: 1000000, MaxDepth: 50,
	}); !reflect.DeepEqual(*c, rest) {
		t.Errorf("the contract is\n%+v, want\n%+v", *c, rest)
	}
}

// Protects the promise that mistakes are found before anything listens: each is refused with
// its line, and with words that say what is wrong.
func TestReadMistakes(t *testing.T) {
	const head = "contract: 1\nname: c\ntopics: t\nrest: drop\n"
	one := func(column string) string { return head + "columns:\n- " + column + "\n" }
	for _, test := range []struct{ text, want string }{
		{"", "c.yaml: is empty"},
		{"# nothing\n", "c.yaml: is empty"},
		{"a: [", "is no YAML"},
		{"a\tb: 'x", "is no YAML"},
		{"- 1", "c.yaml:1:1: the contract is a list"},
		{head + "columns: [{name: a, type: STRING}]\n---\nb: 1", "second document"},
		{"name: c\ntopics: t\nrest: drop\ncolumns: [{name: a, type: STRING}]", "c.yaml:1:1: the contract does not say the version"},
		{"contract: 2\nname: c\ntopics: t\nrest: drop\ncolumns: [{name: a, type: STRING}]", `c.yaml:1:11: contract is "2"`},
		{"contract: 1\nname: C d\ntopics: t\nrest: drop\ncolumns: [{name: a, type: STRING}]", `c.yaml:2:7: the contract's name is "C d"`},
		{"contract: 1\ntopics: t\nrest: drop\n", "the contract has no columns"},
		{"contract: 1\nrest: drop\ncolumns: [{name: a, type: STRING}]", "takes no events"},
		{"contract: 1\ntopics: t\ncolumns: [{name: a, type: STRING}]", "what becomes of members that no column takes"},
		{head + "columns: []", "want a list of some columns"},
		{head + "columns: {name: a}", "columns is a mapping"},
		{head + "colums: 1\ncolumns: [{name: a, type: STRING}]", `c.yaml:5:1: the contract has the key "colums", which is not known`},
		{head + "rest: drop\ncolumns: [{name: a, type: STRING}]", "c.yaml:5:1: the contract has the key rest twice, first in line 4"},
		{head + "description:\ncolumns: [{name: a, type: STRING}]", "c.yaml:5:1: the contract has the key description without a value"},
		{head + "description: [a]\ncolumns: [{name: a, type: STRING}]", "description is a list: want one text"},
		{head + "bare: maybe\ncolumns: [{name: a, type: STRING}]", "bare is neither true nor false"},
		{"contract: 1\nrest: drop\ntopics: [a, a]\ncolumns: [{name: a, type: STRING}]", `c.yaml:3:13: topics has a twice`},
		{"contract: 1\nrest: drop\ntopics: 'a b'\ncolumns: [{name: a, type: STRING}]", `"a b", which is no name of a topic`},
		{"contract: 1\nrest: drop\ntopics: {pattern: '('}\ncolumns: [{name: a, type: STRING}]", "cannot be read"},
		{"contract: 1\nrest: drop\ntopics: {pattern: '^a$'}\ncolumns: [{name: a, type: STRING}]", "leave them out"},
		{"contract: 1\nrest: drop\ntopics: {pattern: '(?i)a'}\ncolumns: [{name: a, type: STRING}]", "write both letters"},
		{"contract: 1\nrest: drop\ntopics: {pattern: 'a b'}\ncolumns: [{name: a, type: STRING}]", "matches no name"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\ncolumns: [{name: a, type: STRING}]", "the format is avro, and the contract does not say where the schema is"},
		{"contract: 1\nrest: drop\nbare: true\nformat: xml\ncolumns: [{name: a, type: STRING}]", "want json, avro, protobuf, or json_schema for JSON behind a schema registry's prefix"},
		{"contract: 1\nrest: drop\nbare: true\nregistry: https://r\ncolumns: [{name: a, type: STRING}]", "registry goes with format: avro, protobuf or json_schema, and the format is json"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nregistry: r:8081\ncolumns: [{name: a, type: STRING}]", "the registry's url is no address of one"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nregistry: https://me:secret@r\ncolumns: [{name: a, type: STRING}]", "the registry's url has a user or a password in it"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nregistry: {url: http://r, auth: basic}\ncolumns: [{name: a, type: STRING}]", "credentials go over https only"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nregistry: {auth: basic}\ncolumns: [{name: a, type: STRING}]", "registry does not say url"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nregistry: {url: https://r, auth: kerberos}\ncolumns: [{name: a, type: STRING}]", "want none, basic, bearer, mtls or google"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nschema: ../a.avsc\ncolumns: [{name: a, type: STRING}]", "name a file in the contract's folder, or below"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nschema: missing.avsc\ncolumns: [{name: a, type: STRING}]", "the schema's file cannot be read"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nschema: {file: a.avsc, ids: x}\ncolumns: [{name: a, type: STRING}]", "ids is a single value: want a mapping from ids"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nschema: {file: a.avsc, ids: {seven: b.avsc}}\ncolumns: [{name: a, type: STRING}]", `ids has "seven": want a number, or the UUID`},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nschema: {file: a.avsc, ids: {7: b.avsc}}\ncolumns: [{name: a, type: STRING}]", "open b.avsc"},
		{"contract: 1\nrest: drop\nbare: true\nformat: avro\nschema: {file: a.avsc, message: b}\ncolumns: [{name: a, type: STRING}]", "message goes with format: protobuf"},
		{"contract: 1\nrest: drop\nbare: true\ncolumns: [{name: a, type: STRING, mode: REPEATED, accept: entries}]", "make its type RECORD"},
		{"contract: 1\nrest: drop\ntopics: {pattern: 'a|b;c'}\ncolumns: [{name: a, type: STRING}]", "no topic's name has"},
		{"contract: 1\nrest: drop\ntopics: []\ncolumns: [{name: a, type: STRING}]", "topics is a list: want one value or a list of some"},
		{head + "columns: [{name: a, type: STRING}]\ntable: {name: a-b}", `the table's name is "a-b"`},
		{head + "columns: [{name: a, type: STRING}]\ntable: {partition_by: a}", "a single TIMESTAMP, DATE or DATETIME"},
		{head + "columns: [{name: a, type: DATE}]\ntable: {partition_by: {column: a, every: hour}}", "it has no hours"},
		{head + "columns: [{name: a, type: DATE, mode: REPEATED}]\ntable: {partition_by: a}", "REPEATED DATE"},
		{head + "columns: [{name: a, type: DATE}]\ntable: {partition_by: {column: a, every: week}}", `every is "week"`},
		{head + "columns: [{name: a, type: DATE}]\ntable: {partition_by: {column: a, expire: 1}}", "want hours or days"},
		{head + "columns: [{name: a, type: DATE}]\ntable: {partition_by: {column: a, expire: 9d}}", "BigQuery would take such rows and delete them"},
		{head + "columns: [{name: a, type: DATE}]\ntable: {partition_by: {every: day}}", "does not say column"},
		{head + "columns: [{name: a, type: DATE}]\ntable: {partition_by: A}", `names the column "A", which the table does not have`},
		{head + "columns: [{name: a, type: JSON}]\ntable: {cluster_by: a}", "cluster_by names a, which is JSON"},
		{head + "columns: [{name: a, type: INT64}]\ntable: {cluster_by: [a, a]}", "twice"},
		{head + "columns: [{name: a, type: INT64}, {name: b, type: INT64}, {name: d, type: INT64}, {name: e, type: INT64}, {name: f, type: INT64}]\ntable: {cluster_by: [a, b, d, e, f]}", "at most four"},
		{head + "columns: [{name: a, type: JSON}]\nevent: {id: a}", "id names a, which is JSON"},
		{head + "columns: [{name: a, type: DATE}]\nevent: {time: a}", "time names a, which is DATE: name a column of type TIMESTAMP"},
		{head + "columns: [{name: a, type: INT64}]\nevent: {type: a}", "type names a, which is INT64"},
		{head + "columns: [{name: a, type: FLOAT64}]\ndrop: {a: 1}", "can look at a single STRING, INT64 or BOOL"},
		{head + "columns: [{name: a, type: INT64}]\ndrop: {a: 01}", "is no INT64"},
		{head + "columns: [{name: a, type: BOOL}]\ndrop: {a: yes}", "use true or false"},
		{head + "columns: [{name: a, type: BOOL}]\ndrop: {a: true, b: true}", "one column to its values"},
		{head + "columns: [{name: a, type: STRING}]\ndrop: {kafka_topic: t}", "not of the event"},
		{head + "columns: [{name: a, type: STRING}]\nsample: {by: a}", "sample is not whole"},
		{head + "columns: [{name: a, type: STRING}]\nsample: {by: a, keep: 100%}", "below 100%"},
		{head + "columns: [{name: a, type: STRING}]\nsample: {by: a, keep: NaN}", "below 100%"},
		{head + "columns: [{name: a, type: STRING}]\nlimits: {max_depth: 501}", "from 1 to 500"},
		{head + "columns: [{name: a, type: STRING}]\nlimits: {max_bytes: 9000000}", "from 1 to 8388608"},

		{one("{type: STRING}"), "c.yaml:6:3: the column has no name"},
		{one("{name: a}"), "column a has no type"},
		{one("{name: a, type: TEXT}"), `type "TEXT": want one of STRING`},
		{one("{name: a, type: ARRAY<STRING>}"), "an ARRAY is mode: REPEATED"},
		{one("{name: a, type: 'STRUCT<a INT64>'}"), "a STRUCT is RECORD"},
		{one("{name: a, type: INT64(3)}"), "INT64 has no parameter"},
		{one("{name: a, type: STRING(0)}"), "at least 1"},
		{one("{name: a, type: 'NUMERIC(40, 2)'}"), "BigQuery takes a scale up to 9"},
		{one("{name: a, type: 'NUMERIC(3, 4)'}"), "BigQuery takes a scale up to 9"},
		{one("{name: a, type: RANGE<INT64>}"), "RANGE<DATE>"},
		{one("{name: a, type: RANGE}"), "RANGE<DATE>"},
		{one("{name: a, type: STRING, mode: OPTIONAL}"), "want NULLABLE, REQUIRED or REPEATED"},
		{one("{name: a-b, type: STRING}"), `the column's name is "a-b"`},
		{one("{name: 1a, type: STRING}"), `the column's name is "1a"`},
		{one("{name: _PARTITIONTIME, type: STRING}"), "BigQuery's own"},
		{one("{name: _table_suffix, type: STRING}"), "BigQuery's own"},
		{one("{name: a, type: STRING}\n- {name: A, type: STRING, from: b}"), "c.yaml:7:10: column A: a column of this name stands in line 6"},
		{one("{name: a, type: STRING, from: b, header: c}"), "from and header: a value comes from one of them"},
		{one("{name: a, type: STRING, from: 'b..c'}"), "lacks a name"},
		{one("{name: a, type: STRING, from: ''}"), "lacks a name"},
		{one("{name: a, type: STRING, from: 'b c'}"), "in double quotes"},
		{one("{name: a, type: STRING, from: 'b[x]'}"), "bracket that cannot be read"},
		{one("{name: a, type: STRING, from: 'b[0]c'}"), "where a dot must stand"},
		{one("{name: a, type: STRING, from: '[0]'}"), "lacks a name"},
		{one("{name: a, type: STRING, from: [b, b]}"), "twice"},
		{one("{name: a, type: STRING}\n- {name: b, type: STRING, from: a.b}"), "column b takes a.b, which lies within column a"},
		{one("{name: a, type: STRING, mode: REPEATED}\n- {name: b, type: STRING, from: a.b}"), "within column a"},
		{one("{name: a, type: STRING, from: [x, x.y]}"), "a STRING has no members"},
		{one("{name: a, type: STRING}\n- {name: b, type: RECORD, from: a, columns: [{name: d, type: STRING}]}"), "an object has one RECORD"},
		{one("{name: a, type: RECORD, columns: [{name: d, type: STRING}]}\n- {name: b, type: RECORD, from: a, columns: [{name: d, type: STRING}]}"), "an object has one RECORD"},
		{one("{name: a, type: RECORD}"), "RECORD without columns"},
		{one("{name: a, type: STRING, columns: [{name: d, type: STRING}]}"), "only a RECORD has them"},
		{one("{name: a, type: RECORD, columns: [{name: d, type: STRING, header: h}]}"), "within a RECORD"},
		{one("{name: a, type: RECORD, columns: [{name: d, type: STRING, required_when: {e: x}}]}\n- {name: e, type: STRING}"), "required_when is for columns of the table"},
		{one("{name: a, type: RECORD, rest: keep, columns: [{name: d, type: STRING}]}"), `column a has rest: keep`},
		{one("{name: a, type: JSON, rest: true}"), "said with rest: drop or reject as well"},
		{one("{name: a, type: JSON, rest: false}"), "rest: false: remove it"},
		{"contract: 1\ntopics: t\ncolumns: [{name: a, type: JSON, rest: true}, {name: b, type: JSON, rest: true}]", "so does the column in line 3"},
		{"contract: 1\ntopics: t\ncolumns: [{name: a, type: STRING, rest: true}]", "make it NULLABLE JSON"},
		{"contract: 1\ntopics: t\ncolumns: [{name: a, type: JSON, mode: REQUIRED, rest: true}]", "make it NULLABLE JSON"},
		{one("{name: a, type: JSON, rest_of: x}\n- {name: b, type: JSON, from: x}"), "nothing is left"},
		{one("{name: a, type: JSON, rest_of: x}\n- {name: b, type: JSON, rest_of: x}"), "one column can"},
		{one("{name: a, type: JSON, rest_of: 'x[0]'}"), "the rest of an element"},
		{one("{name: a, type: STRING, kafka: size}"), "want one of key, offset, partition, timestamp, topic"},
		{one("{name: a, type: STRING, kafka: topic}"), "has the column kafka_topic in every table"},
		{one("{name: kafka_topic, type: INT64, kafka: topic}"), "it is STRING in every table"},
		{one("{name: kafka_topic, type: STRING, mode: REQUIRED, kafka: topic}"), "make it NULLABLE"},
		{one("{name: ingested_at, type: TIMESTAMP, ingest: time}"), "make it REQUIRED"},
		{one("{name: replay_id, type: STRING}"), "give it ingest: replay_id, or leave it out"},
		{one("{name: a, type: JSON, header: h}"), "takes one text and is JSON"},
		{one("{name: a, type: STRING, mode: REPEATED, header: h}"), "takes one text and is REPEATED STRING"},
		{one("{name: a, type: STRING, accept: text}"), `accepts "text", which is not known for STRING: use boolean, number, string`},
		{one("{name: a, type: TIMESTAMP, accept: text}"), "{pattern: …}"},
		{one("{name: a, type: TIMESTAMP, accept: [rfc3339, rfc3339]}"), "twice"},
		{one("{name: a, type: TIMESTAMP, accept: [epoch_seconds, epoch_millis]}"), "epoch_millis and epoch_seconds: a value could be read as each"},
		{one("{name: a, type: BYTES, accept: [base64, hex]}"), "base64 and hex: a value could be read as each"},
		{one("{name: a, type: DATE, accept: [{pattern: '%d/%m/%Y'}, {pattern: '%m/%d/%Y'}]}"), "another time by each"},
		{one("{name: a, type: DATE, accept: [iso8601, {pattern: '%Y-%d-%m'}]}"), "than by ISO 8601"},
		{one("{name: a, type: TIMESTAMP, accept: [epoch_seconds, {pattern: '%Y%m%d'}]}"), "is a number, and accepts an epoch"},
		{one("{name: a, type: DATE, accept: {pattern: '%Y-%m'}}"), "no whole date"},
		{one("{name: a, type: DATE, accept: {pattern: '%Y-%m-%d %H'}}"), "which a DATE cannot hold"},
		{one("{name: a, type: TIMESTAMP, accept: {pattern: '%Y-%m-%d %Z'}}"), "has %Z"},
		{one("{name: a, type: TIMESTAMP, accept: {pattern: '%Y-%m-%d 15h'}}"), "plain text that cannot be told"},
		{one("{name: a, type: TIMESTAMP, accept: {pattern: '%Y-%m-%d %I:%M'}}"), "mixes the clocks"},
		{one("{name: a, type: TIME, accept: {pattern: '%d %H:%M'}}"), "which a TIME cannot hold"},
		{one("{name: a, type: INT64, accept: {pattern: '%d'}}"), "a pattern is for"},
		{one("{name: a, type: STRING, accept: single}"), "for columns of mode REPEATED"},
		{one("{name: a, type: STRING, constant: x, accept: number}"), "does not come from outside"},
		{one("{name: a, type: STRING, constant: x, default: y}"), "does not come from outside"},
		{one("{name: a, type: JSON, default: y}"), "only a single value has a default"},
		{one("{name: a, type: INT64, not_empty: true}"), "not_empty is for STRING and BYTES"},
		{one("{name: a, type: STRING, not_empty: true, skip_empty: true}"), "choose one"},
		{one("{name: a, type: INT64, allowed: [1]}"), "allowed is for STRING"},
		{one("{name: a, type: STRING, allowed: [a, a]}"), `has "a" twice`},
		{one("{name: a, type: STRING, allowed: []}"), "want one value or a list of some"},
		{one("{name: a, type: INT64, length: {min: 1}}"), "length is for STRING"},
		{one("{name: a, type: STRING, length: {min: 3, max: 2}}"), "turn them round"},
		{one("{name: a, type: STRING(2), length: {min: 3}}"), "its type takes at most 2"},
		{one("{name: a, type: STRING, range: {min: 1}}"), "range is for numbers and times"},
		{one("{name: a, type: INT64, range: {oldest: 1d}}"), "for TIMESTAMP, DATE and DATETIME"},
		{one("{name: a, type: INT64, range: {}}"), "has no bound"},
		{one("{name: a, type: STRING, mode: REQUIRED, required_when: {b: x}}\n- {name: b, type: STRING}"), "REQUIRED anyway"},
		{one("{name: a, type: STRING, required_when: {b: x}}"), `names the column "b"`},
		{head + "columns:\n- &a {name: a, type: STRING}\n- *a", "a column of this name"},
		{head + "columns:\n- &a {name: a, type: RECORD, columns: [*a]}", ""},
	} {
		c, err := Read("c.yaml", []byte(test.text))
		if err == nil {
			t.Errorf("%s\nis read: %+v", test.text, c)
			continue
		}
		mistakes, ok := err.(Mistakes)
		if !ok || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\n%v\nwant %s", test.text, err, test.want)
		}
		for _, m := range mistakes {
			if m.File != "c.yaml" || m.What == "" {
				t.Errorf("%s\n%+v lacks its place", test.text, m)
			}
		}
	}
}

// Protects that all mistakes of a file are told at once, in the order of its lines.
func TestReadAllMistakes(t *testing.T) {
	_, err := Read("c.yaml", []byte("contract: 1\ntopics: 'a b'\nrest: drop\ncolumns:\n- {name: a, type: TEXT}\n- {name: b, type: INT64, not_empty: true}\n- {nam: c}\n"))
	var lines []int
	for _, m := range err.(Mistakes) {
		lines = append(lines, m.Line)
	}
	if want := []int{2, 5, 6, 7, 7}; !reflect.DeepEqual(lines, want) {
		t.Errorf("mistakes in lines %v, want %v:\n%v", lines, want, err)
	}
}

// Protects that contracts of one folder cannot take each other's events or tables.
func TestReadDir(t *testing.T) {
	file := func(name, table, topics string) string {
		return "contract: 1\nname: " + name + "\ntopics: " + topics + "\ntable: {name: " + table +
			"}\nrest: drop\ncolumns: [{name: a, type: STRING}]\n"
	}
	for _, test := range []struct{ one, two, want string }{
		{file("a", "ta", "x"), file("b", "tb", "y"), ""},
		{file("a", "ta", "x"), file("a", "tb", "y"), "has the name a"},
		{file("a", "t", "x"), file("b", "T", "y"), "has the table T"},
		{file("a", "ta", "[x, y]"), file("b", "tb", "y"), "takes the topic y"},
		{file("a", "ta", "{pattern: 'x.*'}"), file("b", "tb", "[y, xy]"), "takes the topic xy"},
		{file("a", "ta", "{pattern: 'shop\\..*'}"), file("b", "tb", "{pattern: '.*\\.web'}"), "takes the topic shop.web"},
		{file("a", "ta", "{pattern: 'shop\\.[a-m]+'}"), file("b", "tb", "{pattern: 'shop\\.[n-z]+'}"), ""},
		{file("a", "ta", "{pattern: 'a*'}"), file("b", "tb", "{pattern: '(aa)*|b'}"), "takes the topic aa"},
		{file("a", "ta", "{pattern: 'X\\d{2}'}"), file("b", "tb", "{pattern: 'X..'}"), "takes the topic X00"},
		{file("a", "ta", "x\nbare: true"), file("b", "tb", "y\nbare: true"), "only one contract can take events without a Kafka topic"},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"one.yaml": test.one, "two.yml": test.two, "README.md": "x"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		all, err := ReadDir(dir)
		if test.want == "" {
			if err != nil || len(all) != 2 {
				t.Errorf("%s\n%s\n%v", test.one, test.two, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\n%s\n%v, want %s", test.one, test.two, err, test.want)
		}
	}
	if _, err := ReadDir(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has no contract") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := ReadDir(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing folder is read")
	}
}

// Protects the subscription: Kafka's client reads other regular expressions than contracts have.
func TestKafkaPattern(t *testing.T) {
	for _, pattern := range []string{`shop\.(web|app)\.[a-z]+`, `x\d{2,3}`, `a|b.*?`, `(?:a.)+`, `[^a-c]+`, `[^,;]b`,
		`[!-~]+`, `[.-]b`, `[-]+`, `[\w-]+\.c`, `\w{2,4}`} {
		c, err := Read("c.yaml", []byte("contract: 1\nrest: drop\ntopics: {pattern: '"+pattern+"'}\ncolumns: [{name: a, type: STRING}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := KafkaTopics([]*Contract{c})[0]
		if strings.ContainsAny(got, ",;") || strings.Contains(got, "(?") {
			t.Errorf("%s becomes %s", pattern, got)
			continue
		}
		posix, err := regexp.CompilePOSIX(got)
		if err != nil {
			t.Errorf("%s becomes %s: %v", pattern, got, err)
			continue
		}
		for _, topic := range []string{
			"shop.web.a", "shop.x.a", "shopxweb.a", "x1", "x12", "x123", "x1234", "a", "b", "bcd", "ab", "aXaY", "aX", "-b", ".b", "a-b.c", "a-", "--",
		} {
			if posix.MatchString(topic) != c.Takes(topic) {
				t.Errorf("%s, as %s, differs on %q", pattern, got, topic)
			}
			// grep asks the C library, which is whom Kafka's client asks.
			grep := exec.Command("grep", "-qE", got)
			grep.Stdin = strings.NewReader(topic + "\n")
			if err := grep.Run(); grep.ProcessState == nil || grep.ProcessState.ExitCode() > 1 ||
				(err == nil) != c.Takes(topic) {
				t.Errorf("%s, as %s, differs on %q in the C library: %v", pattern, got, topic, err)
			}
		}
	}
}

// Protects what shares batches: the topics of a contract, and no others.
func TestBatchGroups(t *testing.T) {
	read := func(topics string) *Contract {
		c, err := Read("c.yaml", []byte("contract: 1\nrest: drop\ntopics: "+topics+"\ncolumns: [{name: a, type: STRING}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	got := BatchGroups([]*Contract{read("one"), read("[a, b]"), read(`{pattern: 'x\.[^;]'}`), read("[d, e]")})
	if want := `a,b;^(x\.([\.0-9A-Z_a-z]|-))$;d,e`; got != want {
		t.Errorf("groups %s, want %s", got, want)
	}
}

// Protects that the built-in contract is what its file says, and the other way round.
func TestClickstreamIsItsPreset(t *testing.T) {
	fromFile, err := Preset("clickstream")
	if err != nil {
		t.Fatal(err)
	}
	builtIn, err := Clickstream(FactEvents(), []string{"page_view", "add_to_cart", "purchase", "search"},
		5*365*24*time.Hour, 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range fromFile.Fields {
		fromFile.Fields[i].Line = 0
		if fromFile.Fields[i].Source != FromEvent { // no paths are looked at
			builtIn.Fields[i].Paths = nil
		}
	}
	if !reflect.DeepEqual(fromFile.Table, builtIn.Table) {
		t.Errorf("the file's table\n%+v, the built-in one\n%+v", fromFile.Table, builtIn.Table)
	}
	builtIn.File, builtIn.Description, builtIn.Topics, builtIn.Pattern = fromFile.File, fromFile.Description, fromFile.Topics, nil
	fromFile.Table, fromFile.Text = builtIn.Table, ""
	for i := range builtIn.Fields {
		if !reflect.DeepEqual(fromFile.Fields[i], builtIn.Fields[i]) {
			t.Errorf("%s: the file has %+v, the built-in %+v", builtIn.Table.Columns[i].Name, fromFile.Fields[i],
				builtIn.Fields[i])
		}
	}
	fromFile.Fields, builtIn.Fields = nil, nil
	if !reflect.DeepEqual(fromFile, builtIn) {
		t.Errorf("the file\n%+v, the built-in\n%+v", fromFile, builtIn)
	}
}

// Protects the reader from files that hurt it: it answers, and never panics.
func FuzzRead(f *testing.F) {
	text, _ := testdata.ReadFile("testdata/shop_events.yaml")
	f.Add(text)
	for _, name := range Presets() {
		f.Add(presetText(name))
	}
	f.Add([]byte("contract: 1\ncolumns: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Read("c.yaml", text)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
	})
}

// Protects that paths survive being written and read.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"a", "context.page.url", "items[0].sku", "p[key=ga_session_id].v", `a."b.c".d`,
		`a[b="x]y"]`, `""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePath(text)
		if err != nil {
			return
		}
		again, err := ParsePath(p.String())
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%q is %v, and %q after that %v, %v", text, p, p.String(), again, err)
		}
	})
}

// A name is a preset's or a file's, and one that is neither is told which presets there are.
func TestNamed(t *testing.T) {
	for _, name := range Presets() {
		if c, err := Named(name); err != nil || c.Name == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "shop.yaml")
	text := "contract: 1\nname: shop\ntopics: shop\ncolumns: [{name: rest, type: JSON, rest: true}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Named(file); err != nil || c.Name != "shop" {
		t.Errorf("a file: %v", err)
	}
	if _, err := Named("segmnt"); err == nil || !strings.Contains(err.Error(), "rudderstack, segment") {
		t.Errorf("a name of nothing: %v", err)
	}
}

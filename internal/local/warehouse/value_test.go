package warehouse

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"sluice/internal/contract"
)

// Protects that the warehouse refuses what BigQuery refuses, so that a row which the pipeline
// encodes wrongly is seen here and not in production.
func TestRefusedValues(t *testing.T) {
	schema := `[
		{"name": "s", "type": "STRING", "maxLength": "2"}, {"name": "b", "type": "BYTES", "maxLength": "2"},
		{"name": "n", "type": "NUMERIC"}, {"name": "n2", "type": "NUMERIC", "precision": "5", "scale": "2"}, {"name": "bn", "type": "BIGNUMERIC"},
		{"name": "d", "type": "DATE"}, {"name": "t", "type": "TIME"}, {"name": "dt", "type": "DATETIME"}, {"name": "ts", "type": "TIMESTAMP"},
		{"name": "j", "type": "JSON"}, {"name": "g", "type": "GEOGRAPHY"}, {"name": "iv", "type": "INTERVAL"},
		{"name": "r", "type": "RANGE", "rangeElementType": {"type": "DATE"}},
		{"name": "rec", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "k", "type": "STRING", "mode": "REQUIRED"}, {"name": "v", "type": "INT64", "mode": "REPEATED"}]}
	]`
	table, err := contract.Parse("t", []byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(table.Descriptor(), newShape(table.Columns, 1), Partition{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	text := func(name, v string) []byte {
		c, _ := table.Column(name)
		return protowire.AppendString(protowire.AppendTag(nil, c.Number, protowire.BytesType), v)
	}
	number := func(name string, v int64) []byte {
		c, _ := table.Column(name)
		return protowire.AppendVarint(protowire.AppendTag(nil, c.Number, protowire.VarintType), uint64(v))
	}
	day := func(from, to int64) string {
		return string(protowire.AppendVarint(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1,
			protowire.VarintType), uint64(from)), 2, protowire.VarintType), uint64(to)))
	}
	ff := strings.Repeat("\xff", 15)
	for _, test := range []struct {
		name string
		row  []byte
		want string // empty: it is taken
	}{
		{"two characters", text("s", "éé"), ""},
		{"three characters", text("s", "abc"), "maximum of 2 characters"},
		{"no UTF-8", text("s", "\xff"), "not valid UTF-8"},
		{"three bytes", text("b", "abc"), "maximum of 2 bytes"},
		{"numeric", text("n", "\x01"), ""},
		{"numeric without bytes", text("n", ""), "want 1 to 16"},
		{"numeric of 17 bytes", text("n", strings.Repeat("\x00", 17)), "want 1 to 16"},
		{"numeric above 10^29", text("n", ff+"\x7f"), "out of the range of NUMERIC"},
		{"parameters", text("n2", "\x80\x96\x98\x00"), ""}, // 0.01
		{"below the scale", text("n2", "\x01"), "does not fit NUMERIC(5, 2)"},
		{"above the precision", text("n2", "\x00\x10\xa5\xd4\xe8\x00"), "does not fit NUMERIC(5, 2)"}, // 1000
		{"bignumeric of 33 bytes", text("bn", strings.Repeat("\x00", 33)), "want 1 to 32"},
		{"first date", number("d", -719162), ""},
		{"before the first date", number("d", -719163), "date out of range"},
		{"after the last date", number("d", 2932897), "date out of range"},
		{"last time", number("t", 23<<32|59<<26|59<<20|999999), ""},
		{"hour 24", number("t", 24<<32), "no encoded TIME"},
		{"a date in the time", number("t", 1<<37), "no encoded TIME"},
		{"datetime", number("dt", 2026<<46|2<<42|28<<37), ""},
		{"30 February", number("dt", 2026<<46|2<<42|30<<37), "no encoded DATETIME"},
		{"year 0", number("dt", 1<<42|1<<37), "no encoded DATETIME"},
		{"timestamp", number("ts", maxTimestamp+1), "timestamp out of range"},
		{"JSON", text("j", `{"a":1e308,"b":"1e999"}`), ""},
		{"JSON that is none", text("j", `{`), "not valid JSON"},
		{"JSON number", text("j", `[1e400]`), "FLOAT64 cannot hold"},
		{"long JSON number", text("j", "["+strings.Repeat("9", 310)+"]"), "FLOAT64 cannot hold"},
		{"geography", text("g", " "), "no geography"},
		{"interval", text("iv", "1-2 3 4:5:6.789"), ""},
		{"ISO interval", text("iv", "P1Y"), "no interval"},
		{"month 12", text("iv", "0-12 0 0:0:0"), "out of the range of INTERVAL"},
		{"range", text("r", day(1, 2)), ""},
		{"range that ends first", text("r", day(2, 1)), "ends before it begins"},
		{"empty range", text("r", day(1, 1)), "ends before it begins"},
		{"record", text("rec", "\x0a\x01k\x12\x02\x01\x02\x10\x03"), ""}, // packed values, and one more
		{"record without its required field", text("rec", ""), "Field rec.k: the required field is missing"},
		{"record that is damaged", text("rec", "\x0a\x05k"), malformed},
		{"unknown field of a record", text("rec", "\x0a\x01k\x18\x01"), "field number 3"},
	} {
		d := p.decode([][]byte{test.row})
		got := ""
		if len(d.errors) > 0 {
			got = d.errors[0].message
		}
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Protects that a descriptor which does not fit nested columns is refused by name, before rows.
func TestRefusedDescriptors(t *testing.T) {
	table, err := contract.Parse("t", []byte(`[{"name": "a", "type": "RECORD", "fields": [{"name": "b", "type": "STRING", "mode": "REPEATED"}, {"name": "c", "type": "INT64", "mode": "REQUIRED"}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(d *descriptorpb.DescriptorProto)
		want   string
	}{
		"unknown field": {func(d *descriptorpb.DescriptorProto) { d.NestedType[0].Field[0].Name = proto.String("x") }, "extra fields: 'a.x'"},
		"wrong mode": {func(d *descriptorpb.DescriptorProto) {
			d.NestedType[0].Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		}, "'a.b' does not match: proto field is OPTIONAL, BigQuery column is REPEATED"},
		"required":        {func(d *descriptorpb.DescriptorProto) { d.NestedType[0].Field = d.NestedType[0].Field[:1] }, "missing the required field 'a.c'"},
		"missing message": {func(d *descriptorpb.DescriptorProto) { d.NestedType = nil }, "which the descriptor does not have"},
	} {
		d := table.Descriptor()
		test.change(d)
		_, err := newPlan(d, newShape(table.Columns, 1), Partition{}, time.Now)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

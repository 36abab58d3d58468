package schema

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
)

var wide = Limits{Bytes: 1 << 20, Depth: 100}

// long is a number as Avro writes it.
func long(v int64) string { return string(binary.AppendVarint(nil, v)) }

// text is a string or bytes as Avro writes it.
func text(s string) string { return long(int64(len(s))) + s }

// of is a record of one field f of that type.
func of(fieldType string) string {
	return `{"type":"record","name":"r.E","fields":[{"name":"f","type":` + fieldType + `}]}`
}

// TestAvroTypes holds the table of the package's comment: what each type becomes, and what is said of values that are
// none.
func TestAvroTypes(t *testing.T) {
	double := func(f float64) string {
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)))
	}
	decimal := `{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}`
	for _, c := range []struct{ name, schema, value, want, fault string }{
		{"boolean", `"boolean"`, "\x01", "true", ""},
		{"boolean false", `"boolean"`, "\x00", "false", ""},
		{"boolean 2", `"boolean"`, "\x02", "", "f is a boolean that is neither 0 nor 1"},
		{"int", `"int"`, long(-42), "-42", ""},
		{"int of 33 bits", `"int"`, long(1 << 31), "", "f is a number of more than 32 bits: its schema says int"},
		{"int of six bytes", `"int"`, "\x80\x80\x80\x80\x80\x00", "", "f is a number of more than 32 bits: its schema says int"},
		{"int of five bytes", `"int"`, "\x81\x80\x80\x80\x00", "-1", ""},
		{"long of six bytes", `"long"`, "\x80\x80\x80\x80\x80\x00", "0", ""},
		{"long", `"long"`, long(math.MinInt64), "-9223372036854775808", ""},
		{"long of 11 bytes", `"long"`, strings.Repeat("\xff", 10) + "\x01", "", "f has a number of more than 64 bits"},
		{"long cut off", `"long"`, "\x80", "", "f ends too early, after 1 bytes of the value"},
		{"float", `"float"`, string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.1))), "0.10000000149011612", ""},
		{"double", `"double"`, double(-1.5e300), "-1.5e+300", ""},
		{"double small", `"double"`, double(5e-324), "5e-324", ""},
		{"NaN", `"double"`, double(math.NaN()), `"NaN"`, ""},
		{"infinity", `"double"`, double(math.Inf(-1)), `"-Infinity"`, ""},
		{"string", `"string"`, text("a\"\\\n\x01é\U0001F600"), `"a\"\\\n\u0001é😀"`, ""},
		{"string empty", `"string"`, text(""), `""`, ""},
		{"string no UTF-8", `"string"`, text("\xff"), "", "f is not valid UTF-8: encode it as UTF-8, or make it bytes in its schema"},
		{"string too long", `"string"`, long(5) + "abc", "", "f ends too early, after 4 bytes of the value"},
		{"string of negative length", `"string"`, long(-5) + "abc", "", "f has a negative length"},
		{"string of an absurd length", `"string"`, long(math.MaxInt64) + "abc", "", "f ends too early, after 13 bytes of the value"},
		{"bytes", `"bytes"`, text("\x00\xff\x10"), `"AP8Q"`, ""},
		{"fixed", `{"type":"fixed","name":"F","size":2}`, "\xca\xfe", `"yv4="`, ""},
		{"fixed cut off", `{"type":"fixed","name":"F","size":2}`, "\xca", "", "f ends too early, after 1 bytes of the value"},
		{"enum", `{"type":"enum","name":"S","symbols":["A","B"]}`, long(1), `"B"`, ""},
		{"enum of six bytes", `{"type":"enum","name":"S","symbols":["A","B"]}`, "\x80\x80\x80\x80\x80\x00", "",
			"f begins with a number of more than 32 bits where that of its enum stands"},
		{"enum beyond", `{"type":"enum","name":"S","symbols":["A","B"]}`, long(2), "", "f is symbol 2 of an enum of 2"},
		{"decimal", decimal, text("\x04\xd2"), "12.34", ""},
		{"decimal negative", decimal, text("\xff\xfb"), "-0.05", ""},
		{"decimal zero", decimal, text("\x00"), "0.00", ""},
		{"decimal without a byte", decimal, text(""), "0.00", ""},
		{"decimal of 8 bytes", decimal, text("\x80\x00\x00\x00\x00\x00\x00\x00"), "-92233720368547758.08", ""},
		{"decimal of 16 bytes", decimal, text("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), "184467440737095516.16", ""},
		{"decimal of 16 bytes, negative", decimal, text("\xff\xff\xff\xff\xff\xff\xff\xfe\x00\x00\x00\x00\x00\x00\x00\x00"), "-368934881474191032.32", ""},
		{"decimal of 16 bytes, small", decimal, text("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x9c"), "-1.00", ""},
		{"decimal fixed", `{"type":"fixed","name":"F","size":3,"logicalType":"decimal","precision":5,"scale":0}`, "\x00\x00\x07", "7", ""},
		{"big-decimal", `{"type":"bytes","logicalType":"big-decimal"}`, text(text("\x04\xd2") + long(3)), "1.234", ""},
		{"big-decimal of negative scale", `{"type":"bytes","logicalType":"big-decimal"}`, text(text("\x07") + long(-3)), "7000", ""},
		{"big-decimal of an absurd scale", `{"type":"bytes","logicalType":"big-decimal"}`, text(text("\x07") + long(1<<40)), "", "f is no big-decimal: its scale is beyond 1000, or something follows"},
		{"big-decimal cut off", `{"type":"bytes","logicalType":"big-decimal"}`, text("\x02"), "", "f is no big-decimal: it ends too early"},
		{"uuid", `{"type":"string","logicalType":"uuid"}`, text("x"), `"x"`, ""},
		{"uuid fixed", `{"type":"fixed","name":"F","size":16,"logicalType":"uuid"}`, "\x8f\x14\xe4\x5f\xce\xea\x46\x7f\xa0\xe6\x0f\x8d\x3b\x1c\x2a\x90", `"8f14e45f-ceea-467f-a0e6-0f8d3b1c2a90"`, ""},
		{"date", `{"type":"int","logicalType":"date"}`, long(20_604), `"2026-05-31"`, ""},
		{"date of a leap year", `{"type":"int","logicalType":"date"}`, long(-719_528 + 59), `"0000-02-29"`, ""},
		{"date before the year 0", `{"type":"int","logicalType":"date"}`, long(-719_529), `"-0001-12-31"`, ""},
		{"date beyond 9999", `{"type":"int","logicalType":"date"}`, long(2_932_897), `"+10000-01-01"`, ""},
		{"time-millis", `{"type":"int","logicalType":"time-millis"}`, long(86_399_999), `"23:59:59.999"`, ""},
		{"time-millis of 24 hours", `{"type":"int","logicalType":"time-millis"}`, long(86_400_000), `86400000`, ""},
		{"time-micros", `{"type":"long","logicalType":"time-micros"}`, long(1), `"00:00:00.000001"`, ""},
		{"time-micros negative", `{"type":"long","logicalType":"time-micros"}`, long(-1), `-1`, ""},
		{"timestamp-millis", `{"type":"long","logicalType":"timestamp-millis"}`, long(-1), `"1969-12-31T23:59:59.999Z"`, ""},
		{"timestamp-micros", `{"type":"long","logicalType":"timestamp-micros"}`, long(1_769_903_999_000_000), `"2026-01-31T23:59:59Z"`, ""},
		{"timestamp-micros far", `{"type":"long","logicalType":"timestamp-micros"}`, long(math.MaxInt64), `"+294247-01-10T04:00:54.775807Z"`, ""},
		{"timestamp-nanos", `{"type":"long","logicalType":"timestamp-nanos"}`, long(1_769_903_999_000_000_001), `"2026-01-31T23:59:59.000000001Z"`, ""},
		{"timestamp of an int is none", `{"type":"int","logicalType":"timestamp-millis"}`, long(5), `5`, ""},
		{"local-timestamp-micros", `{"type":"long","logicalType":"local-timestamp-micros"}`, long(1_769_903_999_500_000), `"2026-01-31T23:59:59.500"`, ""},
		{"duration", `{"type":"fixed","name":"F","size":12,"logicalType":"duration"}`, "\x01\x00\x00\x00\x02\x00\x00\x00\xac\x0d\x00\x00", `"P1M2DT3.500S"`, ""},
		{"unknown logical type", `{"type":"string","logicalType":"url"}`, text("x"), `"x"`, ""},
		{"array", `{"type":"array","items":"int"}`, long(2) + long(1) + long(2) + long(1) + long(3) + long(0), "[1,2,3]", ""},
		{"array with sizes", `{"type":"array","items":"int"}`, long(-2) + long(2) + long(1) + long(2) + long(0), "[1,2]", ""},
		{"array empty", `{"type":"array","items":"int"}`, long(0), "[]", ""},
		{"array of nulls", `{"type":"array","items":["null","int"]}`, long(2) + long(0) + long(1) + long(7) + long(0), "[null,7]", ""},
		{"array, an element at fault", `{"type":"array","items":"string"}`, long(2) + text("a") + text("\xff") + long(0), "", "f[1] is not valid UTF-8: encode it as UTF-8, or make it bytes in its schema"},
		{"array of more than there is", `{"type":"array","items":"int"}`, long(1000) + long(1), "", "f ends too early, after 3 bytes of the value"},
		{"array of the least number", `{"type":"array","items":"int"}`, long(math.MinInt64) + long(1), "", "f has a block of an impossible length"},
		{"array of very many nulls", `{"type":"array","items":"null"}`, long(1 << 50), "", "f makes the event larger than 1048576 bytes as JSON"},
		{"map", `{"type":"map","values":"int"}`, long(2) + text("a\"") + long(1) + text("b") + long(2) + long(0), `{"a\"":1,"b":2}`, ""},
		{"map, a value at fault", `{"type":"map","values":"boolean"}`, long(1) + text("secret") + "\x07" + long(0), "", "f.a value is a boolean that is neither 0 nor 1"},
		{"union, null", `["null","string"]`, long(0), "", ""},
		{"union, value", `["null","string"]`, long(1) + text("x"), `"x"`, ""},
		{"union of several", `["string","long",{"type":"record","name":"X","fields":[{"name":"y","type":"int"}]}]`, long(2) + long(1), `{"y":1}`, ""},
		{"union of six bytes", `["null","string"]`, "\x80\x80\x80\x80\x80\x00", "",
			"f begins with a number of more than 32 bits where that of its union stands"},
		{"union beyond", `["null","string"]`, long(2), "", "f is branch 2 of a union of 2"},
		{"record within", `{"type":"record","name":"X","fields":[{"name":"y","type":"int"},{"name":"z","type":"null"}]}`, long(1), `{"y":1}`, ""},
		{"record within, at fault", `{"type":"record","name":"X","fields":[{"name":"y","type":"int"}]}`, "", "", "f.y ends too early, after 0 bytes of the value"},
		{"something follows", `"int"`, long(1) + "more", "", "the event has 4 bytes more than its schema reads"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Avro(of(c.schema))
			if err != nil {
				t.Fatal(err)
			}
			var r Reader
			got, err := r.AppendJSON([]byte("before"), p, []byte(c.value), wide)
			if c.fault != "" {
				var fault *Error
				if !errors.As(err, &fault) || fault.Error() != c.fault || string(got) != "before" {
					t.Fatalf("%q, %v, want the fault %q", got, err, c.fault)
				}
				return
			}
			want := `before{"f":` + c.want + `}`
			if c.want == "" {
				want = "before{}"
			}
			if err != nil || string(got) != want {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
			if !json.Valid(got[len("before"):]) {
				t.Error("that is no JSON")
			}
		})
	}
}

// TestAvroDepth protects the stack of a function: a value of a schema that holds itself ends at the limit.
func TestAvroDepth(t *testing.T) {
	p, err := Avro(`{"type":"record","name":"L","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","L"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	list := func(n int) []byte { return []byte(strings.Repeat(long(7)+long(1), n-1) + long(7) + long(0)) }
	var r Reader
	if got, err := r.AppendJSON(nil, p, list(3), wide); err != nil ||
		string(got) != `{"v":7,"next":{"v":7,"next":{"v":7}}}` {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := r.AppendJSON(nil, p, list(100), wide); err != nil {
		t.Error(err)
	}
	var fault *Error
	if _, err := r.AppendJSON(nil, p, list(1_000_000), wide); !errors.As(err, &fault) || fault.Limit != TooDeep {
		t.Errorf("%v, want that it is too deep", err)
	}
}

// TestAvroSchemas says which schemas are refused, and that types are found by their full names, also in references.
func TestAvroSchemas(t *testing.T) {
	for _, c := range []struct {
		name, schema string
		references   []string
		want         string
	}{
		{"no JSON", `{`, nil, "read the Avro schema: "},
		{"no record", `"string"`, nil, "the Avro schema is of the type string: an event is a record"},
		{"union with no record", `["string","int"]`, nil, "the Avro schema is a union of which a branch is no record: an event is a record"},
		{"scale", of(`{"type":"bytes","logicalType":"decimal","precision":2000,"scale":1500}`), nil, "the Avro schema has a decimal of the scale 1500 at f: at most 1000 can be read"},
		{"name that is nowhere", of(`"a.Missing"`), nil, "read the Avro schema: "},
		{"reference at fault", of(`"int"`), []string{"{"}, "read the referenced Avro schema 1: "},
	} {
		if _, err := Avro(c.schema, c.references...); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	p, err := Avro(`{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"by","type":"people.Person"},{"name":"ship","type":"geo.Address"},{"name":"bill","type":["null","geo.Address"]},
		{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]}},{"name":"other","type":"Kind"}]}`,
		`{"type":"record","name":"Address","namespace":"geo","fields":[{"name":"city","type":"string"}]}`,
		`{"type":"record","name":"Person","namespace":"people","fields":[{"name":"home","type":"geo.Address"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "shop.Order" {
		t.Errorf("its name is %q", p.Name)
	}
	var r Reader
	got, err := r.AppendJSON(nil, p, []byte(text("a")+text("b")+long(1)+text("c")+long(0)+long(1)), wide)
	if want := `{"by":{"home":{"city":"a"}},"ship":{"city":"b"},"bill":{"city":"c"},"kind":"A","other":"B"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// generic is what the library's value v of the type n is as JSON, written a second time and another way.
func generic(n *avro.SchemaNode, named map[string]*avro.SchemaNode, v any) (any, error) {
	if t := named[n.Type]; t != nil {
		n = t
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool, int32, int64, string:
		if n.Type == "union" {
			break
		}
		return v, nil
	case float32:
		return special(float64(v)), nil
	case float64:
		return special(v), nil
	case []byte:
		if n.LogicalType == "" {
			return base64.StdEncoding.EncodeToString(v), nil
		}
	}
	switch n.Type {
	case "record":
		out := map[string]any{}
		for i, f := range n.Fields {
			member, err := generic(&n.Fields[i].Type, named, v.(map[string]any)[f.Name])
			if err != nil {
				return nil, err
			}
			if member != nil {
				out[f.Name] = member
			}
		}
		return out, nil
	case "array":
		out := []any{}
		for _, e := range v.([]any) {
			element, err := generic(n.Items, named, e)
			if err != nil {
				return nil, err
			}
			out = append(out, element)
		}
		return out, nil
	case "map":
		out := map[string]any{}
		for k, e := range v.(map[string]any) {
			var err error
			if out[k], err = generic(n.Values, named, e); err != nil {
				return nil, err
			}
		}
		return out, nil
	case "union": // those that are made here have null and one more
		return generic(&n.Branches[1], named, v)
	}
	switch v := v.(type) {
	case time.Time:
		layout := "2006-01-02T15:04:05.999999999"
		switch {
		case n.LogicalType == "date":
			layout = "2006-01-02"
		case strings.HasPrefix(n.LogicalType, "timestamp"):
			layout += "Z"
		}
		return v.UTC().Format(layout), nil
	case time.Duration:
		if v < 0 || v >= 24*time.Hour {
			if n.LogicalType == "time-millis" {
				return v.Milliseconds(), nil
			}
			return v.Microseconds(), nil
		}
		return time.Time{}.Add(v).Format("15:04:05.999999999"), nil
	case *big.Rat:
		return v.FloatString(n.Scale), nil
	case json.Number:
		return v.String(), nil
	case [16]byte:
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:]), nil
	case avro.Duration:
		return fmt.Sprintf("P%dM%dDT%sS", v.Months, v.Days, big.NewRat(int64(v.Milliseconds), 1000).FloatString(3)), nil
	}
	return nil, fmt.Errorf("the library gives %T for %s %s", v, n.Type, n.LogicalType)
}

func special(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strings.TrimPrefix(strings.ReplaceAll(fmt.Sprint(f), "Inf", "Infinity"), "+")
	}
	return f
}

// comparable brings both sides into one form: fractions of seconds without the zeros at their end, numbers as
// rationals.
func comparable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = comparable(e)
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, comparable(e))
		}
		return out
	case string:
		s := strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(v, "Z"), "S"), "+")
		if dot := strings.LastIndexByte(s, '.'); dot > 0 && strings.ContainsAny(s, ":P") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		if r, ok := new(big.Rat).SetString(s); ok {
			return r.String()
		}
		return s
	case nil, bool:
		return v
	}
	f, _ := new(big.Rat).SetString(fmt.Sprint(v))
	if f == nil {
		return fmt.Sprint(v)
	}
	return f.String()
}

// randomSchema writes a type of an Avro schema; names counts the named types.
func randomSchema(r *rand.Rand, depth int, names *int, defined *[]string) string {
	name := func() string {
		*names++
		return fmt.Sprintf(`"name":"N%d"`, *names)
	}
	scalars := []func() string{
		func() string { return `"boolean"` }, func() string { return `"int"` }, func() string { return `"long"` },
		func() string { return `"float"` }, func() string { return `"double"` }, func() string { return `"string"` }, func() string { return `"bytes"` },
		func() string { return `{"type":"bytes","logicalType":"decimal","precision":20,"scale":4}` },
		func() string { return `{"type":"int","logicalType":"date"}` },
		func() string { return `{"type":"int","logicalType":"time-millis"}` },
		func() string { return `{"type":"long","logicalType":"time-micros"}` },
		func() string { return `{"type":"long","logicalType":"timestamp-millis"}` },
		func() string { return `{"type":"long","logicalType":"timestamp-micros"}` },
		func() string { return `{"type":"long","logicalType":"timestamp-nanos"}` },
		func() string { return `{"type":"long","logicalType":"local-timestamp-micros"}` },
		func() string { return `{"type":"fixed",` + name() + `,"size":3}` },
		func() string { return `{"type":"fixed",` + name() + `,"size":12,"logicalType":"duration"}` },
		func() string { return `{"type":"enum",` + name() + `,"symbols":["A","B","C"]}` },
	}
	if depth > 0 {
		switch r.IntN(7) {
		case 0:
			return `{"type":"array","items":` + randomSchema(r, depth-1, names, defined) + `}`
		case 1:
			return `{"type":"map","values":` + randomSchema(r, depth-1, names, defined) + `}`
		case 2:
			inner := randomSchema(r, 0, names, defined)
			return `["null",` + inner + `]`
		case 3:
			if len(*defined) > 0 {
				return `["null","` + (*defined)[r.IntN(len(*defined))] + `"]`
			}
			fallthrough
		case 4:
			return randomRecord(r, depth, names, defined)
		}
	}
	return scalars[r.IntN(len(scalars))]()
}

func randomRecord(r *rand.Rand, depth int, names *int, defined *[]string) string {
	*names++
	name := fmt.Sprintf("N%d", *names)
	var fields []string
	*defined = append(*defined, name)
	for i := range 1 + r.IntN(4) {
		fields = append(fields, fmt.Sprintf(`{"name":"f%d","type":%s}`, i, randomSchema(r, depth-1, names, defined)))
	}
	return `{"type":"record","name":"` + name + `","fields":[` + strings.Join(fields, ",") + `]}`
}

// randomValue writes a value of the type n, wrong now and then.
func randomValue(r *rand.Rand, n *avro.SchemaNode, named map[string]*avro.SchemaNode, depth int, out []byte) []byte {
	if t := named[n.Type]; t != nil {
		n = t
	}
	if r.IntN(400) == 0 {
		return append(out, byte(r.IntN(256)))
	}
	count := func() int {
		if depth <= 0 {
			return 0
		}
		return r.IntN(3)
	}
	switch n.Type {
	case "boolean":
		return append(out, byte(r.IntN(2)))
	case "int", "long":
		v := int64(r.Uint64()) >> r.IntN(64)
		if n.Type == "int" {
			v = int64(int32(v))
		}
		switch n.LogicalType {
		case "date":
			v = v % 2_900_000
		case "time-millis":
			v = (v&math.MaxInt64)%86_400_000 + 0
		case "time-micros":
			v = (v & math.MaxInt64) % 86_400_000_000
		case "timestamp-millis":
			v %= 200_000_000_000_000
		case "timestamp-micros", "local-timestamp-micros":
			v %= 200_000_000_000_000_000
		}
		return binary.AppendVarint(out, v)
	case "float":
		return binary.LittleEndian.AppendUint32(out, r.Uint32())
	case "double":
		return binary.LittleEndian.AppendUint64(out, r.Uint64())
	case "string":
		words := []string{"", "plain", "with \"quotes\"", "back\\slash", "é😀", "\n\t\x00", "\u2028",
			strings.Repeat("x", 70)}
		return append(out, text(words[r.IntN(len(words))])...)
	case "bytes":
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return append(out, text(string(b))...)
	case "fixed":
		for range n.Size {
			out = append(out, byte(r.IntN(256)))
		}
		return out
	case "enum":
		return binary.AppendVarint(out, int64(r.IntN(len(n.Symbols))))
	case "union":
		i := 0
		if depth > 0 {
			i = r.IntN(len(n.Branches))
		}
		return randomValue(r, &n.Branches[i], named, depth-1, binary.AppendVarint(out, int64(i)))
	case "array", "map":
		for range count() {
			items := 1 + r.IntN(2)
			var block []byte
			for range items {
				if n.Type == "map" {
					block = append(block, text(fmt.Sprint("k", r.Uint32()))...)
					block = randomValue(r, n.Values, named, depth-1, block)
				} else {
					block = randomValue(r, n.Items, named, depth-1, block)
				}
			}
			if r.IntN(2) == 0 {
				out = binary.AppendVarint(binary.AppendVarint(out, int64(-items)), int64(len(block)))
			} else {
				out = binary.AppendVarint(out, int64(items))
			}
			out = append(out, block...)
		}
		return append(out, 0)
	case "record":
		for i := range n.Fields {
			out = randomValue(r, &n.Fields[i].Type, named, depth-1, out)
		}
	}
	return out
}

func namedTypes(n *avro.SchemaNode, into map[string]*avro.SchemaNode) map[string]*avro.SchemaNode {
	if n == nil {
		return into
	}
	if n.Name != "" && (n.Type == "record" || n.Type == "enum" || n.Type == "fixed") {
		into[n.Name] = n
	}
	for i := range n.Fields {
		namedTypes(&n.Fields[i].Type, into)
	}
	for i := range n.Branches {
		namedTypes(&n.Branches[i], into)
	}
	namedTypes(n.Items, into)
	namedTypes(n.Values, into)
	return into
}

// sameAsLibrary compares what a value is read as with what the library reads.
func sameAsLibrary(t *testing.T, text string, s *avro.Schema, p *Program, value []byte) (read bool) {
	t.Helper()
	var r Reader
	got, ours := r.AppendJSON(nil, p, value, wide)
	if ours == nil && !json.Valid(got) {
		t.Fatalf("schema %s\nvalue %x\nno JSON: %s", text, value, got)
	}
	var v any
	rest, theirs := s.Decode(value, &v)
	if ours != nil {
		var fault *Error
		if !errors.As(ours, &fault) {
			t.Fatal(ours)
		}
		strict := strings.Contains(fault.What, "is a boolean that") // the library takes any byte
		if fault.Limit == Undecodable && !strict && theirs == nil && len(rest) == 0 {
			t.Fatalf("schema %s\nvalue %x\nwe say %v, the library reads %v", text, value, ours, v)
		}
		return false
	}
	if theirs != nil && strings.Contains(theirs.Error(), "overflows time.Duration") {
		return false // what is no time of a day is a number here
	}
	if theirs != nil || len(rest) > 0 {
		t.Fatalf("schema %s\nvalue %x\nwe read %s, the library says %v and leaves %d bytes", text, value, got, theirs,
			len(rest))
	}
	root := s.Root()
	library, err := generic(root, namedTypes(root, map[string]*avro.SchemaNode{}), v)
	if err != nil {
		t.Fatalf("schema %s\nvalue %x\n%v", text, value, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(got))
	decoder.UseNumber()
	var own any
	if err := decoder.Decode(&own); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(comparable(library), comparable(own)); diff != "" {
		t.Fatalf("schema %s\nvalue %x\n%s\n(-library +own)\n%s", text, value, got, diff)
	}
	return true
}

// TestAvroAgainstLibrary protects that every value of every schema is read as the library reads it: random schemas,
// random values, some of them damaged.
func TestAvroAgainstLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	read, refused := 0, 0
	for range 3000 {
		names := 0
		text := randomRecord(r, 4, &names, new([]string))
		s, err := avro.Parse(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		p, err := Avro(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		root := s.Root()
		named := namedTypes(root, map[string]*avro.SchemaNode{})
		for range 10 {
			value := randomValue(r, root, named, 6, nil)
			if len(value) > 0 && r.IntN(10) == 0 {
				value = value[:r.IntN(len(value))]
			}
			if sameAsLibrary(t, text, s, p, value) {
				read++
			} else {
				refused++
			}
		}
	}
	t.Logf("%d values read, %d refused", read, refused)
	if read < 10_000 || refused < 500 {
		t.Error("the values are not what the test needs")
	}
}

// FuzzAvro protects the same for any bytes.
func FuzzAvro(f *testing.F) {
	var schemas []string
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		names := 0
		schemas = append(schemas, randomRecord(r, 4, &names, new([]string)))
	}
	var parsed []*avro.Schema
	var programs []*Program
	for i, text := range schemas {
		s, err := avro.Parse(text)
		if err != nil {
			f.Fatal(err)
		}
		p, err := Avro(text)
		if err != nil {
			f.Fatal(err)
		}
		parsed, programs = append(parsed, s), append(programs, p)
		root := s.Root()
		for range 3 {
			if value := randomValue(r, root, namedTypes(root, map[string]*avro.SchemaNode{}), 6, nil); len(value) > 0 {
				f.Add(byte(i), value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, value []byte) {
		i := int(which) % len(schemas)
		sameAsLibrary(t, schemas[i], parsed[i], programs[i], value)
	})
}

package event

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/schema"
)

// avroType is a random type of Avro and how to write a random value of it.
type avroType struct {
	text  string
	value func(r *random, out []byte) []byte
}

func long(out []byte, v int64) []byte { return binary.AppendVarint(out, v) }

func chars(out []byte, s string) []byte { return append(long(out, int64(len(s))), s...) }

// avroType makes a type that the columns of random contracts can take, some of the time.
func (r *random) avroType(depth int, names *int) avroType {
	number := func(text string, values ...int64) avroType {
		return avroType{text, func(r *random, out []byte) []byte { return long(out, values[r.IntN(len(values))]) }}
	}
	name := func() string {
		*names++
		return fmt.Sprintf(`"name":"T%d"`, *names)
	}
	kind := r.IntN(22)
	if depth <= 0 {
		kind %= 16
	}
	switch kind {
	case 0:
		return avroType{`"boolean"`, func(r *random, out []byte) []byte { return append(out, byte(r.IntN(2))) }}
	case 1:
		return number(`"int"`, 0, 1, -1, 7, math.MaxInt32)
	case 2:
		return number(`"long"`, 0, 1, -1, 7, 1e9, 1e15, math.MaxInt64, math.MinInt64)
	case 3:
		return avroType{`"float"`, func(r *random, out []byte) []byte {
			return binary.LittleEndian.AppendUint32(out,
				math.Float32bits([]float32{0, 1, -1.5, 0.1, float32(math.NaN())}[r.IntN(5)]))
		}}
	case 4:
		return avroType{`"double"`, func(r *random, out []byte) []byte {
			return binary.LittleEndian.AppendUint64(out, math.Float64bits([]float64{0, 1, -1.5, 0.1, 1e300,
				math.Inf(-1), math.NaN()}[r.IntN(7)]))
		}}
	case 5:
		return number(`{"type":"int","logicalType":"date"}`, 0, 20_000, -719_162, -719_163, 2_932_896, 2_932_897)
	case 6:
		return number(`{"type":"int","logicalType":"time-millis"}`, 0, 86_399_999, 86_400_000, -1)
	case 7:
		return number(`{"type":"long","logicalType":"time-micros"}`, 0, 86_399_999_999, 86_400_000_000)
	case 8:
		return number(`{"type":"long","logicalType":"timestamp-millis"}`, 0, -1, 1_769_903_999_123, minTimestamp/1000,
			minTimestamp/1000-1, math.MaxInt64)
	case 9:
		return number(`{"type":"long","logicalType":"timestamp-nanos"}`, 0, -1, 1_769_903_999_123_456_789,
			math.MinInt64)
	case 10:
		return number(`{"type":"long","logicalType":"local-timestamp-micros"}`, 0, -1, 1_769_903_999_123_456,
			minTimestamp, maxTimestamp, maxTimestamp+1)
	case 11:
		return avroType{`{"type":"bytes","logicalType":"decimal","precision":38,"scale":3}`,
			func(r *random, out []byte) []byte {
				return chars(out, r.one("", "\x00", "\x04\xd2", "\xff", strings.Repeat("\x70", 16),
					strings.Repeat("\x80",
						9)))
			}}
	case 12:
		return avroType{`{"type":"enum",` + name() + `,"symbols":["a","k","A"]}`,
			func(r *random, out []byte) []byte { return long(out, int64(r.IntN(3))) }}
	case 13:
		return avroType{`"bytes"`, func(r *random, out []byte) []byte {
			return chars(out, r.one("", "a", "\xff\x00",
				"abcdefghijkl"))
		}}
	case 14:
		return avroType{`{"type":"fixed",` + name() + `,"size":16,"logicalType":"uuid"}`,
			func(r *random, out []byte) []byte {
				return append(out, strings.Repeat("\xa5", 16)...)
			}}
	case 16, 17:
		inner := r.avroType(depth-1, names)
		for strings.HasPrefix(inner.text, "[") {
			inner = r.avroType(0, names)
		}
		return avroType{`["null",` + inner.text + `]`, func(r *random, out []byte) []byte {
			if r.oneIn(3) {
				return append(out, 0)
			}
			return inner.value(r, append(out, 2))
		}}
	case 18, 19:
		text, value := r.avroRecord(depth-1, names)
		return avroType{text, value}
	case 20:
		inner := r.avroType(depth-1, names)
		return avroType{`{"type":"array","items":` + inner.text + `}`, func(r *random, out []byte) []byte {
			for range r.IntN(3) {
				out = inner.value(r, long(out, 1))
			}
			return append(out, 0)
		}}
	case 21:
		inner := r.avroType(depth-1, names)
		return avroType{`{"type":"map","values":` + inner.text + `}`, func(r *random, out []byte) []byte {
			for _, key := range []string{"a", "x.y", "é"}[r.IntN(3):] {
				out = inner.value(r, chars(long(out, 1), key))
			}
			return append(out, 0)
		}}
	}
	return avroType{`"string"`, func(r *random, out []byte) []byte {
		return chars(out, r.one("", " ", "a", "k", "é", "1", "true", "NaN", "2026-01-31", "2026-01-31T00:00:00Z",
			`{"a":1}`, "\"\\\n", "\xff", "abcdefgh"))
	}}
}

func (r *random) avroRecord(depth int, names *int) (string, func(*random, []byte) []byte) {
	*names++
	head := fmt.Sprintf(`{"type":"record","name":"T%d","fields":[`, *names)
	var fields []string
	var types []avroType
	all := []string{"a", "b", "c", "d", "u", "v"}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, name := range all[:1+r.IntN(len(all))] {
		t := r.avroType(depth, names)
		types = append(types, t)
		fields = append(fields, `{"name":"`+name+`","type":`+t.text+`}`)
	}
	return head + strings.Join(fields, ",") + "]}", func(r *random, out []byte) []byte {
		for _, t := range types {
			out = t.value(r, out)
		}
		return out
	}
}

// suits is a column's type that takes values of a type of Avro, mostly.
func (r *random) suits(text string) contract.Type {
	if r.oneIn(20) {
		return allTypes[r.IntN(len(allTypes)-1)]
	}
	for _, pair := range []struct {
		part string
		of   contract.Type
	}{
		{`"fields"`, contract.JSON}, {`"array"`, contract.JSON}, {`"map"`, contract.JSON},
		{"local-timestamp", contract.DateTime}, {"timestamp", contract.Timestamp}, {"time-m", contract.Time}, {`"date"`, contract.Date},
		{"decimal", contract.BigNumeric}, {"uuid", contract.String}, {"enum", contract.String}, {`"bytes"`, contract.Bytes},
		{"boolean", contract.Bool}, {"float", contract.Float64}, {"double", contract.Float64}, {"int", contract.Int64}, {"long", contract.Int64},
	} {
		if strings.Contains(text, pair.part) {
			return pair.of
		}
	}
	return contract.String
}

// matching gives the contract a column for each field of the schema that suits it, or for one within.
func (r *random) matching(c *contract.Contract, text string) {
	type avroField struct {
		Name string
		Type json.RawMessage
	}
	c.Table.Columns, c.Fields, c.Sections, c.Drop, c.Sample = nil, nil, nil, nil, nil
	add := func(of json.RawMessage, path ...string) {
		column := contract.Column{Name: fmt.Sprintf("c%d", len(c.Fields)), Number: protowire.Number(len(c.Fields) + 1),
			Type: r.suits(string(of))}
		if column.Type == contract.RangeOf {
			column.Element = contract.Date
		}
		f := contract.Field{SkipEmpty: r.oneIn(12), NotEmpty: r.oneIn(12), Paths: []contract.Path{nil}}
		for _, name := range path {
			f.Paths[0] = append(f.Paths[0], contract.Step{Name: name})
		}
		if r.oneIn(8) {
			f.Accept = r.accept(column.Type)
		}
		column.Required = r.oneIn(12)
		if byDefault, ok := map[contract.Type]string{
			contract.String: "x", contract.Int64: "7", contract.Float64: "1.5", contract.Bool: "true", contract.Timestamp: "2026-01-31T00:00:00Z", contract.BigNumeric: "2",
		}[column.Type]; ok && r.oneIn(5) && f.Accept == 0 {
			f.Default = &byDefault
		}
		if least, most := "-1", "1000000000"; r.oneIn(6) && (column.Type == contract.Int64 ||
			column.Type == contract.Float64 || column.Type == contract.BigNumeric) {
			f.Range = &contract.Range{Min: &least, Max: &most}
		} else if r.oneIn(6) && column.Type == contract.Timestamp {
			f.Range = &contract.Range{Oldest: 24 * 365 * time.Hour}
		}
		c.Table.Columns, c.Fields = append(c.Table.Columns, column), append(c.Fields, f)
	}
	var record struct{ Fields []avroField }
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		panic(err)
	}
	for _, f := range record.Fields {
		var inner struct{ Fields []avroField }
		if json.Unmarshal(f.Type, &inner) == nil && len(inner.Fields) > 0 && !r.oneIn(4) {
			for _, g := range inner.Fields {
				add(g.Type, f.Name, g.Name)
			}
			continue
		}
		if !r.oneIn(6) {
			add(f.Type, f.Name)
		}
	}
	if len(c.Fields) == 0 {
		add(nil, "missing")
	}
	r.restColumn(&c.Table.Columns, &c.Fields, c.Rest)
}

// counting counts the fields that are taken.
func counting(choose schema.Choice, taken *int) schema.Choice {
	return func(name string, t schema.Type) (column int32, named bool, within schema.Choice) {
		if column, named, within = choose(name, t); column >= 0 {
			*taken++
		}
		if within != nil {
			within = counting(within, taken)
		}
		return column, named, within
	}
}

// sameVerdict compares what the decoders make of an event: rows that are the same but for the order of their columns,
// or one rejection; whose code is returned, empty if the event is accepted or left out.
func sameVerdict(t *testing.T, read reader, fast, strict *Decoder, event []byte,
	about func() string) (code contract.Code, accepted bool) {
	t.Helper()
	got, gotErr := fast.AppendRow([]byte("x"), event, meta)
	want, wantErr := strict.AppendRow([]byte("x"), event, meta)
	if got[0] != 'x' || want[0] != 'x' {
		t.Fatal("what was there before is gone")
	}
	if wantErr == nil && gotErr == nil {
		if g, w := normal(t, read, got[1:]), normal(t, read, want[1:]); g != w {
			t.Fatalf("%x\nfast   %s\nstrict %s\n%s", event, g, w, about())
		}
		return "", true
	}
	var w, g *Rejection
	if !errors.As(wantErr, &w) {
		if !errors.Is(gotErr, wantErr) {
			t.Fatalf("%x\nfast   %v\nstrict %v\n%s", event, gotErr, wantErr, about())
		}
		return "", false
	}
	if !errors.As(gotErr, &g) || g.Code != w.Code || g.Field != w.Field || g.Field != "" && g.Message != w.Message {
		t.Fatalf("%x\nfast   %v\nstrict %v\n%s", event, gotErr, wantErr, about())
	}
	return w.Code, false
}

// Protects that the shortcuts of the fast decoder change nothing: an event that was written with a schema gives the
// same row, or the same rejection, as the strict decoder makes of it as JSON; for random contracts, schemas and values.
func TestRandomWrittenEvents(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := &random{Rand: rand.New(rand.NewPCG(seed, 2))}
	accepted, taken, codes := 0, 0, map[contract.Code]int{}
	for i := range *contracts {
		what := fmt.Sprintf("seed %d, contract %d", seed, i)
		r.mild = r.oneIn(2)
		c := r.contract()
		c.Format, c.MaxBytes = contract.FormatAvro, 1<<16
		names := 0
		text, value := r.avroRecord(3, &names)
		if !r.oneIn(3) {
			r.matching(c, text)
		}
		var err error
		if c.Writer, err = schema.Avro(text); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		fast, err := New(c, Fast, time.Now)
		if err != nil {
			if strings.Contains(err.Error(), "of its paths some lie in an object") {
				continue
			}
			t.Fatalf("%s: %v", what, err)
		}
		strict, err := New(c, Strict, time.Now)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		read := newReader(t, c.Table)
		fast.written.fixed.Program = c.Writer.Choosing(counting(fast.fast.plan.choice(fast.fast.plan.scopes[0].roots,
			true), &taken))
		for range 60 {
			event := value(r, nil)
			if r.oneIn(20) {
				event = append(event, 0)
			} else if r.oneIn(20) && len(event) > 0 {
				event = event[:r.IntN(len(event))]
			}
			switch code, ok := sameVerdict(t, read, fast, strict, event, func() string {
				return what + "\n" + text +
					"\n" + show(c)
			}); {
			case ok:
				accepted++
			case code != "":
				codes[code]++
			}
		}
	}
	t.Logf("%d accepted, %d fields taken, %v, seed %d", accepted, taken, codes, seed)
	for _, code := range []contract.Code{contract.CodeUndecodableValue, contract.CodeInvalidUTF8,
		contract.CodeWrongType, contract.CodeOutOfRange} {
		if codes[code] == 0 {
			t.Errorf("no event was rejected with %s", code)
		}
	}
	if accepted < *contracts*10 || taken < *contracts/10 {
		t.Errorf("%d events of %d were accepted, %d fields taken: the test tries little", accepted, *contracts*60,
			taken)
	}
}

// known are Schemas that know some ids.
type known map[int64]*Program

func (k known) Program(id schema.ID) (*Program, error) {
	if p := k[id.Number]; p != nil {
		return p, nil
	}
	return nil, errors.New("not known")
}

// Protects events from being read with their neighbour's schema: ids stand before some values and in headers of others,
// and a value may begin as if it had a prefix.
func TestIDsBeforeValuesAndInHeaders(t *testing.T) {
	c, err := contract.Read("c.yaml", []byte("contract: 1\nbare: true\nrest: drop\nformat: avro\nregistry: {url: https://r, id_header: id}\ncolumns: [{name: a, type: STRING}, {name: n, type: INT64}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	schemas := known{}
	for id, text := range map[int64]string{
		7: `{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}`,
		8: `{"type":"record","name":"R","fields":[{"name":"n","type":"int"},{"name":"m","type":"int"},{"name":"o","type":"int"},{"name":"p","type":"int"},{"name":"q","type":"int"},{"name":"a","type":"string"}]}`,
	} {
		p, err := schema.Avro(text)
		if err != nil {
			t.Fatal(err)
		}
		if schemas[id], err = Compile(c, p, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, decoder := range []string{Fast, Strict} {
		d, err := New(c, decoder, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		d.Use(schemas)
		read := newReader(t, c.Table)
		for _, e := range []struct{ header, value, want string }{
			{"", "\x00\x00\x00\x00\x07\x02x", "x"},
			{"8", "\x00\x00\x00\x00\x07\x02y", "y"}, // five numbers, and a text
			{"", "\x00\x00\x00\x00\x07\x02z", "z"},
			{"7", "\x02v", "v"},
		} {
			m := Meta{IngestedAt: 1, Offset: -1}
			if e.header != "" {
				m.Headers = []batch.RecordHeader{{Key: []byte("id"), Value: []byte(e.header)}}
			}
			row, err := d.AppendRow(nil, []byte(e.value), m)
			if err != nil {
				t.Fatal(err)
			}
			got := read.read(t, row)
			if _, number := got["n"]; got["a"] != e.want || number != (e.header == "8") {
				t.Errorf("%s, header %q: %v, want %s", decoder, e.header, got, e.want)
			}
		}
		var r *Rejection
		if _, err := d.AppendRow(nil, make([]byte, c.MaxBytes+1), Meta{IngestedAt: 1, Offset: -1}); !errors.As(err,
			&r) || r.Code != contract.CodeTooLarge {
			t.Errorf("an event that is too large: %v", err)
		}
	}
}

// protoTexts have fields with the names of random contracts' paths.
var protoTexts = []string{
	`syntax = "proto3"; import "google/protobuf/timestamp.proto"; message E {
		string a = 1; int32 b = 2; uint64 c = 3; google.protobuf.Timestamp d = 4; double u = 5; bytes v = 6; }`,
	`syntax = "proto3"; import "google/protobuf/wrappers.proto"; message E {
		message I { string a = 1; I b = 2; repeated int32 c = 3; optional bool d = 4; }
		I a = 1; repeated I b = 2; map<string, I> c = 3; oneof x { string d = 4; int64 u = 5; } google.protobuf.StringValue v = 6; }`,
	`syntax = "proto3"; import "google/protobuf/struct.proto"; import "google/protobuf/duration.proto"; message E {
		enum K { k = 0; ka = 1; } K A = 1; google.protobuf.Struct a = 2; google.protobuf.Duration b = 3; repeated K c = 4; float d = 5; bool u = 6; sint64 v = 7; }`,
}

// randomProto writes a message, with zeros and repeats, wrong now and then.
func (r *random) randomProto(d protoreflect.MessageDescriptor, depth int) []byte {
	var b []byte
	for range r.IntN(8) {
		f := d.Fields().Get(r.IntN(d.Fields().Len()))
		kind := f.Kind()
		switch {
		case f.Message() != nil && depth > 0:
			b = protowire.AppendTag(b, f.Number(), protowire.BytesType)
			b = protowire.AppendBytes(b, r.randomProto(f.Message(), depth-1))
		case kind == protoreflect.StringKind || kind == protoreflect.BytesKind || f.Message() != nil:
			b = protowire.AppendTag(b, f.Number(), protowire.BytesType)
			b = protowire.AppendString(b, r.one("", "a", "k", "é", "1", "2026-01-31", "\xff", "NaN"))
		case kind == protoreflect.DoubleKind:
			b = protowire.AppendTag(b, f.Number(), protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, math.Float64bits([]float64{0, 1, -1.5, math.NaN(), math.Inf(1)}[r.IntN(5)]))
		case kind == protoreflect.FloatKind:
			b = protowire.AppendTag(b, f.Number(), protowire.Fixed32Type)
			b = protowire.AppendFixed32(b, math.Float32bits([]float32{0, 1, 0.1}[r.IntN(3)]))
		default:
			b = protowire.AppendTag(b, f.Number(), protowire.VarintType)
			b = protowire.AppendVarint(b, []uint64{0, 1, 2, 7, 1e9, math.MaxInt64, math.MaxUint64}[r.IntN(7)])
		}
	}
	return b
}

// Protects the same for Protobuf.
func TestRandomWrittenProtobuf(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := &random{Rand: rand.New(rand.NewPCG(seed, 3))}
	accepted, taken, codes := 0, 0, map[contract.Code]int{}
	for i := range *contracts {
		what := fmt.Sprintf("seed %d, contract %d", seed, i)
		text := protoTexts[i%len(protoTexts)]
		r.mild = r.oneIn(2)
		c := r.contract()
		c.Format, c.MaxBytes = contract.FormatProtobuf, 1<<16
		folder := fstest.MapFS{"e.proto": {Data: []byte(text)}}
		var err error
		if c.Writer, err = schema.ProtobufFile(folder, "e.proto", ""); err != nil {
			t.Fatal(err)
		}
		if !r.oneIn(3) {
			r.matchingProto(c)
		}
		fast, err := New(c, Fast, time.Now)
		if err != nil {
			if strings.Contains(err.Error(), "of its paths some lie in an object") {
				continue
			}
			t.Fatalf("%s: %v", what, err)
		}
		strict, err := New(c, Strict, time.Now)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		read := newReader(t, c.Table)
		c.Writer.Choosing(counting(fast.fast.plan.choice(fast.fast.plan.scopes[0].roots, true), &taken))
		for range 60 {
			event := r.randomProto(c.Writer.Descriptor(), 3)
			if r.oneIn(20) && len(event) > 0 {
				event = event[:r.IntN(len(event))]
			}
			switch code, ok := sameVerdict(t, read, fast, strict, event, func() string {
				return what + "\n" + text +
					"\n" + show(c)
			}); {
			case ok:
				accepted++
			case code != "":
				codes[code]++
			}
		}
	}
	t.Logf("%d accepted, %d fields taken, %v, seed %d", accepted, taken, codes, seed)
	if accepted < *contracts*8 || taken < *contracts/4 || codes[contract.CodeUndecodableValue] == 0 {
		t.Error("the test tries little")
	}
}

// matchingProto gives the contract the columns that the schema suggests.
func (r *random) matchingProto(c *contract.Contract) {
	fields, err := c.Writer.Fields()
	c.Table.Columns, c.Fields, c.Sections, c.Drop, c.Sample = nil, nil, nil, nil, nil
	for _, f := range fields {
		if err != nil || f.Type == "RECORD" || r.oneIn(8) {
			continue
		}
		column := contract.Column{Name: fmt.Sprintf("c%d", len(c.Fields)), Number: protowire.Number(len(c.Fields) + 1),
			Type:     contract.Type(f.Type),
			Repeated: f.Repeated, Required: !f.Repeated && r.oneIn(10)}
		c.Table.Columns = append(c.Table.Columns, column)
		c.Fields = append(c.Fields, contract.Field{Paths: []contract.Path{{{Name: f.Name}}}, SkipEmpty: r.oneIn(12),
			NotEmpty: r.oneIn(12)})
	}
	if len(c.Fields) == 0 {
		for i, name := range []string{"a", "d", "u", "v"} {
			c.Table.Columns = append(c.Table.Columns, contract.Column{Name: fmt.Sprintf("c%d", i),
				Number: protowire.Number(i + 1), Type: r.suits("")})
			c.Fields = append(c.Fields, contract.Field{Paths: []contract.Path{{{Name: name}}}})
		}
	}
	for i := range c.Table.Columns {
		if c.Table.Columns[i].Type == contract.RangeOf {
			c.Table.Columns[i].Element = contract.Date
		}
	}
	r.restColumn(&c.Table.Columns, &c.Fields, c.Rest)
}

package schema

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// everything has a field of each kind.
const everything = `
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/any.proto";
import "google/protobuf/empty.proto";
import "old.proto";
message Event {
  bool f_bool = 1;
  int32 f_int32 = 2;
  sint32 f_sint32 = 3;
  uint32 f_uint32 = 4;
  int64 f_int64 = 5;
  sint64 f_sint64 = 6;
  uint64 f_uint64 = 7;
  fixed32 f_fixed32 = 8;
  sfixed32 f_sfixed32 = 9;
  fixed64 f_fixed64 = 10;
  sfixed64 f_sfixed64 = 11;
  float f_float = 12;
  double f_double = 13;
  string f_string = 14;
  bytes f_bytes = 15;
  enum Kind { UNKNOWN = 0; A = 1; B = 2; }
  Kind f_enum = 16;
  optional int32 o_int32 = 17;
  optional string o_string = 18;
  repeated int32 r_int32 = 19;
  repeated string r_string = 20;
  repeated double r_double = 21 [packed = false];
  repeated Kind r_enum = 22;
  message Inner { string name = 1; Inner next = 2; repeated Inner all = 3; }
  Inner inner = 23;
  repeated Inner inners = 24;
  map<string, int32> m_string = 25;
  map<int32, Inner> m_int32 = 26;
  map<bool, string> m_bool = 27;
  oneof choice { string c_string = 28; int32 c_int32 = 29; Inner c_inner = 30; }
  google.protobuf.Timestamp at = 31;
  google.protobuf.Duration took = 32;
  google.protobuf.Struct struct = 33;
  google.protobuf.Value value = 34;
  google.protobuf.ListValue list = 35;
  google.protobuf.Int64Value w_int64 = 36;
  google.protobuf.StringValue w_string = 37;
  google.protobuf.FieldMask mask = 38;
  google.protobuf.Any any = 39;
  google.protobuf.Empty empty = 40;
  repeated google.protobuf.Timestamp ats = 41;
  old.Old old = 1000;
}
`

const oldProto = `
syntax = "proto2";
package old;
message Old {
  required int32 id = 1;
  optional string name = 2 [default = "x"];
  optional group Box = 3 { optional int32 width = 1; repeated int32 sizes = 2; }
  repeated int64 unpacked = 4;
  enum Closed { ONE = 1; TWO = 2; }
  optional Closed closed = 5;
}
`

func protoEvent(tb testing.TB) (*Program, protoreflect.MessageDescriptor) {
	tb.Helper()
	p, err := Protobuf(everything, map[string]string{"old.proto": oldProto}, []int{0})
	if err != nil {
		tb.Fatal(err)
	}
	file, err := compileProtobuf("schema.proto", func(path string) (rc io.ReadCloser, err error) {
		if text, ok := map[string]string{"schema.proto": everything, "old.proto": oldProto}[path]; ok {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return nil, errors.New("not there")
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p, file.Messages().Get(0)
}

// TestProtobufTypes holds the table of the package's comment. Each value is written in protojson, the library's, and
// read here.
func TestProtobufTypes(t *testing.T) {
	p, d := protoEvent(t)
	for _, c := range []struct{ given, want string }{
		{`{}`, `{}`},
		{`{"f_bool":true,"f_int32":-7,"f_sint32":-8,"f_uint32":4294967295}`, `{"f_bool":true,"f_int32":-7,"f_sint32":-8,"f_uint32":4294967295}`},
		{`{"f_int64":"-9223372036854775808","f_sint64":"9223372036854775807","f_uint64":"18446744073709551615"}`,
			`{"f_int64":-9223372036854775808,"f_sint64":9223372036854775807,"f_uint64":18446744073709551615}`},
		{`{"f_fixed32":4294967295,"f_sfixed32":-1,"f_fixed64":"18446744073709551615","f_sfixed64":"-1"}`,
			`{"f_fixed32":4294967295,"f_sfixed32":-1,"f_fixed64":18446744073709551615,"f_sfixed64":-1}`},
		{`{"f_float":0.1,"f_double":-1.5}`, `{"f_float":0.10000000149011612,"f_double":-1.5}`},
		{`{"f_float":"NaN","f_double":"-Infinity"}`, `{"f_float":"NaN","f_double":"-Infinity"}`},
		{`{"f_string":"é\"\n","f_bytes":"AP8="}`, `{"f_string":"é\"\n","f_bytes":"AP8="}`},
		{`{"f_enum":"B","r_enum":["A",7]}`, `{"f_enum":"B","r_enum":["A",7]}`},
		{`{"o_int32":0,"o_string":""}`, `{"o_int32":0,"o_string":""}`},
		{`{"r_int32":[1,-1],"r_string":["a",""],"r_double":[1,2.5]}`, `{"r_int32":[1,-1],"r_string":["a",""],"r_double":[1,2.5]}`},
		{`{"inner":{"name":"a","next":{"name":"b"}},"inners":[{},{"name":"c"}]}`, `{"inner":{"name":"a","next":{"name":"b"}},"inners":[{},{"name":"c"}]}`},
		{`{"m_string":{"k":1},"m_int32":{"-5":{"name":"a"}},"m_bool":{"true":"t"}}`, `{"m_string":{"k":1},"m_int32":{"-5":{"name":"a"}},"m_bool":{"true":"t"}}`},
		{`{"c_int32":0}`, `{"c_int32":0}`},
		{`{"at":"2026-01-31T23:59:59.123456789Z","took":"-1.5s"}`, `{"at":"2026-01-31T23:59:59.123456789Z","took":"PT-1.500S"}`},
		{`{"at":"0001-01-01T00:00:00Z","took":"-0.5s"}`, `{"at":"0001-01-01T00:00:00Z","took":"PT-0.500S"}`},
		{`{"struct":{"a":[1,null,{"b":"c"}],"d":true}}`, `{"struct":{"a":[1,null,{"b":"c"}],"d":true}}`},
		{`{"value":null,"list":[1,"a"]}`, `{"value":null,"list":[1,"a"]}`},
		{`{"w_int64":"7","w_string":""}`, `{"w_int64":7,"w_string":""}`},
		{`{"mask":"fA.b,c","empty":{}}`, `{"mask":"f_a.b,c","empty":{}}`},
		{`{"old":{"id":3,"name":"n","box":{"width":2,"sizes":[1]},"unpacked":["5"],"closed":"TWO"}}`,
			`{"old":{"id":3,"name":"n","box":{"width":2,"sizes":[1]},"unpacked":[5],"closed":"TWO"}}`},
	} {
		m := dynamicpb.NewMessage(d)
		if err := protojson.Unmarshal([]byte(c.given), m); err != nil {
			t.Fatalf("%s: %v", c.given, err)
		}
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var r Reader
		got, err := r.AppendJSON([]byte("before"), p, value, wide)
		if want := "before" + c.want; err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", c.given, got, err, want)
		}
	}
}

// TestProtobufWire protects what readers of Protobuf have to do with bytes that no serializer of today would write.
func TestProtobufWire(t *testing.T) {
	p, _ := protoEvent(t)
	tag := func(b []byte, n protowire.Number, w protowire.Type) []byte { return protowire.AppendTag(b, n, w) }
	str := func(b []byte, n protowire.Number, s string) []byte {
		return protowire.AppendString(tag(b, n, protowire.BytesType), s)
	}
	num := func(b []byte, n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(tag(b, n, protowire.VarintType), v)
	}
	inner := func(s string) string { return string(str(nil, 1, s)) }
	for _, c := range []struct {
		name  string
		value []byte
		want  string
		limit Limit
	}{
		{"the last of several values counts", str(str(nil, 14, "a"), 14, "b"), `{"f_string":"b"}`, 0},
		{"messages are merged", str(str(nil, 23, inner("a")), 23, string(str(nil, 2, inner("b")))), `{"inner":{"name":"a","next":{"name":"b"}}}`, 0},
		{"the last of a oneof counts", num(str(nil, 28, "a"), 29, 5), `{"c_int32":5}`, 0},
		{"unpacked where packed is usual", num(num(nil, 19, 1), 19, 2), `{"r_int32":[1,2]}`, 0},
		{"packed, unpacked, packed", str(num(str(nil, 19, "\x01\x02"), 19, 3), 19, "\x04"), `{"r_int32":[1,2,3,4]}`, 0},
		{"fields in between", num(str(num(nil, 19, 1), 14, "a"), 19, 2), `{"f_string":"a","r_int32":[1,2]}`, 0},
		{"fields that the schema does not know", num(str(nil, 14, "a"), 9999, 1), `{"f_string":"a"}`, 0},
		{"another wire type is a field that is not known", str(nil, 2, "a"), `{}`, 0},
		{"the last entry of a key counts", str(str(str(nil, 25, "\x0a\x01b\x10\x01"), 25, "\x0a\x01a\x10\x02"), 25, "\x0a\x01b\x10\x03"), `{"m_string":{"a":2,"b":3}}`, 0},
		{"an entry without key and value", str(nil, 25, ""), `{"m_string":{"":0}}`, 0},
		{"an int32 of more bits", num(nil, 2, 1<<40|5), `{"f_int32":5}`, 0},
		{"a group", protowire.AppendTag(num(tag(nil, 1000, protowire.BytesType), 0, 0), 1, protowire.VarintType), "", Undecodable},
		{"cut off", []byte{0x72, 5, 'a'}, "", Undecodable},
		{"no tag", []byte{0x80}, "", Undecodable},
		{"field number 0", []byte{0, 0}, "", Undecodable},
		{"a packed value cut off", str(nil, 19, "\x80"), "", Undecodable},
		{"no UTF-8", str(nil, 14, "\xff"), "", InvalidUTF8},
		{"an impossible timestamp", str(nil, 31, string(num(nil, 2, 2_000_000_000))), "", Undecodable},
		{"an impossible duration", str(nil, 32, string(num(num(nil, 1, 1), 2, 1<<64-1))), "", Undecodable},
		{"too deep", deepMessage(101), "", TooDeep},
		{"too large", bytes.Repeat(str(nil, 41, ""), 100_000), "", TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Reader
			got, err := r.AppendJSON(nil, p, c.value, wide)
			if c.want != "" {
				if err != nil || string(got) != c.want {
					t.Errorf("%s, %v, want %s", got, err, c.want)
				}
				return
			}
			var fault *Error
			if !errors.As(err, &fault) || fault.Limit != c.limit {
				t.Errorf("%s, %v, want %v", got, err, c.limit)
			}
		})
	}
}

// deepMessage is an Event with so many messages within each other.
func deepMessage(n int) []byte {
	var b []byte
	for range n - 1 {
		b = protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), b)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 23, protowire.BytesType), b)
}

// TestProtobufImplicit protects zeros: a field without presence, which no serializer writes if it is zero, is there if
// the contract names it.
func TestProtobufImplicit(t *testing.T) {
	p, _ := protoEvent(t)
	p = p.Choosing(func(name string, _ Type) (int32, bool, Choice) {
		named := strings.HasPrefix(name, "f_") || strings.HasPrefix(name, "o_") || strings.HasPrefix(name, "r_")
		return -1, named, nil
	})
	var r Reader
	got, err := r.AppendJSON(nil, p, nil, wide)
	want := `{"f_bool":false,"f_int32":0,"f_sint32":0,"f_uint32":0,"f_int64":0,"f_sint64":0,"f_uint64":0,"f_fixed32":0,"f_sfixed32":0,"f_fixed64":0,` +
		`"f_sfixed64":0,"f_float":0,"f_double":0,"f_string":"","f_bytes":"","f_enum":"UNKNOWN"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// TestProtobufSchemas says which schemas are refused, and how a message is named.
func TestProtobufSchemas(t *testing.T) {
	folder := fstest.MapFS{
		"one.proto":     {Data: []byte("syntax = \"proto3\";\npackage a;\nimport \"sub/two.proto\";\nmessage One { b.Two two = 1; }")},
		"sub/two.proto": {Data: []byte("syntax = \"proto3\";\npackage b;\nmessage Two { message In { int32 n = 1; } In in = 1; }\nmessage Three {}")},
		"bad.proto":     {Data: []byte("syntax = \"proto3\";\nmessage One { b.Two two = 1; }")},
	}
	for _, c := range []struct{ file, name, want, fault string }{
		{"one.proto", "", "a.One", ""},
		{"sub/two.proto", "b.Two.In", "b.Two.In", ""},
		{"sub/two.proto", "", "", "has 2 messages: say which one the events are, with message"},
		{"sub/two.proto", "Two", "", `has no message "Two": give its full name, with the package`},
		{"bad.proto", "", "", "read the Protobuf schema: "},
		{"missing.proto", "", "", "read the Protobuf schema: "},
	} {
		p, err := ProtobufFile(folder, c.file, c.name)
		if c.fault != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.fault) {
				t.Errorf("%s %s: %v, want %s", c.file, c.name, err, c.fault)
			}
			continue
		}
		if err != nil || p.Name != c.want {
			t.Errorf("%s %s: %+v, %v", c.file, c.name, p, err)
		}
	}
	for _, indexes := range [][]int{nil, {1}, {0, 9}, {-1}} {
		if _, err := Protobuf(everything, map[string]string{"old.proto": oldProto}, indexes); err == nil {
			t.Errorf("%v was found", indexes)
		}
	}
	if p, err := Protobuf(everything, map[string]string{"old.proto": oldProto}, []int{0, 0}); err != nil ||
		p.Name != "shop.Event.Inner" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := Protobuf(everything, nil, []int{0}); err == nil {
		t.Error("an import that is not there was not missed")
	}
}

// genericProto is what a message of the library's is as JSON, written a second time and another way.
func genericProto(m protoreflect.Message) (any, bool) {
	name := m.Descriptor().FullName()
	fields := m.Descriptor().Fields()
	switch known := wellKnowns[name]; known {
	case ordinary:
	case knownFieldMask: // protojson writes camel case, and refuses what it cannot read back
		var paths []string
		for i := range m.Get(fields.Get(0)).List().Len() {
			paths = append(paths, m.Get(fields.Get(0)).List().Get(i).String())
		}
		return strings.Join(paths, ","), true
	case knownTimestamp, knownDuration:
		out, err := protojson.Marshal(m.Interface())
		if err != nil {
			return nil, false
		}
		var s string
		if json.Unmarshal(out, &s) != nil {
			return nil, false
		}
		if known == knownDuration {
			return "PT" + strings.ToUpper(s), true
		}
		return s, true
	case knownWrapper:
		return genericValue(fields.Get(0), m.Get(fields.Get(0)))
	case knownList, knownStruct:
		return genericField(fields.Get(0), m.Get(fields.Get(0)))
	case knownValue:
		f := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
		if f == nil || f.Enum() != nil {
			return nil, true
		}
		return genericField(f, m.Get(f))
	case knownAny:
		return map[string]any{"@type": m.Get(fields.Get(0)).String(),
			"value": base64.StdEncoding.EncodeToString(m.Get(fields.Get(1)).Bytes())}, true
	}
	out, ok := map[string]any{}, true
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out[string(f.Name())], ok = genericField(f, v)
		return ok
	})
	return out, ok
}

func genericField(f protoreflect.FieldDescriptor, v protoreflect.Value) (any, bool) {
	ok := true
	switch {
	case f.IsMap():
		out := map[string]any{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			out[k.String()], ok = genericValue(f.MapValue(), v)
			return ok
		})
		return out, ok
	case f.IsList():
		out := []any{}
		for i := 0; i < v.List().Len() && ok; i++ {
			var e any
			e, ok = genericValue(f, v.List().Get(i))
			out = append(out, e)
		}
		return out, ok
	}
	return genericValue(f, v)
}

func genericValue(f protoreflect.FieldDescriptor, v protoreflect.Value) (any, bool) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return genericProto(v.Message())
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes()), true
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name()), true
		}
		return fmt.Sprint(int32(v.Enum())), true
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return special(v.Float()), true
	}
	return v.Interface(), true
}

// withoutZeros takes out what only presence tells apart: the library leaves fields without presence out, and the bytes
// may have them.
func withoutZeros(d protoreflect.MessageDescriptor, v any) {
	object, ok := v.(map[string]any)
	if !ok || wellKnowns[d.FullName()] != ordinary {
		return
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		name := string(f.Name())
		inner, there := object[name]
		if !there {
			continue
		}
		s := fmt.Sprint(inner)
		switch {
		case f.IsMap():
			if len(inner.(map[string]any)) == 0 {
				delete(object, name)
			}
			if f.MapValue().Message() != nil {
				for _, e := range inner.(map[string]any) {
					withoutZeros(f.MapValue().Message(), e)
				}
			}
		case f.IsList():
			if len(inner.([]any)) == 0 {
				delete(object, name)
			}
			if f.Message() != nil {
				for _, e := range inner.([]any) {
					withoutZeros(f.Message(), e)
				}
			}
		case f.Message() != nil:
			withoutZeros(f.Message(), inner)
		case !f.HasPresence() && (s == "0/1" || s == "" || s == "false" || s == "UNKNOWN"):
			delete(object, name)
		}
	}
}

// unmarshal is the library's, which panics on some damaged entries of maps.
func unmarshal(value []byte, m proto.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return proto.UnmarshalOptions{AllowPartial: true, RecursionLimit: 90}.Unmarshal(value, m)
}

// sameAsProtobuf compares what a value is read as with what the library reads.
//
// lenient says that the library alone refuses it: it also looks into values that a later one replaces, and into what a
// limit of its own forbids.
func sameAsProtobuf(t *testing.T, p *Program, d protoreflect.MessageDescriptor, value []byte) (read, lenient bool) {
	t.Helper()
	var r Reader
	got, ours := r.AppendJSON(nil, p, value, wide)
	m := dynamicpb.NewMessage(d)
	theirs := unmarshal(value, m)
	var fault *Error
	if ours != nil && !errors.As(ours, &fault) {
		t.Fatal(ours)
	}
	if theirs != nil {
		return false, ours == nil
	}
	library, ok := genericProto(m)
	if ours != nil {
		if ok && fault.Limit == Undecodable {
			t.Fatalf("value %x\nwe say %v, the library reads %v", value, ours, m)
		}
		return false, false
	}
	if !json.Valid(got) {
		t.Fatalf("value %x\nno JSON: %s", value, got)
	}
	if !ok {
		t.Fatalf("value %x\nwe read %s, and the library has no JSON for it", value, got)
	}
	decoder := json.NewDecoder(bytes.NewReader(got))
	decoder.UseNumber()
	var own any
	if err := decoder.Decode(&own); err != nil {
		t.Fatal(err)
	}
	own, library = comparable(own), comparable(library)
	withoutZeros(d, own)
	withoutZeros(d, library)
	if diff := cmp.Diff(library, own); diff != "" {
		t.Fatalf("value %x\n%s\n(-library +own)\n%s", value, got, diff)
	}
	return true, false
}

// randomMessage writes a message of the type d, with fields in any order and more than once, and wrong now and then.
func randomMessage(r *rand.Rand, d protoreflect.MessageDescriptor, depth int) []byte {
	var b []byte
	if d.Fields().Len() == 0 {
		return nil
	}
	for range r.IntN(6) {
		f := d.Fields().Get(r.IntN(d.Fields().Len()))
		if r.IntN(60) == 0 {
			b = append(b, byte(r.IntN(256)))
		}
		wire := wireType(f.Kind())
		if r.IntN(30) == 0 {
			wire = protowire.Type(r.IntN(6))
		}
		b = protowire.AppendTag(b, f.Number(), wire)
		switch wire {
		case protowire.VarintType:
			b = protowire.AppendVarint(b, r.Uint64()>>r.IntN(64))
		case protowire.Fixed32Type:
			b = protowire.AppendFixed32(b, r.Uint32())
		case protowire.Fixed64Type:
			b = protowire.AppendFixed64(b, r.Uint64())
		case protowire.StartGroupType:
			if f.Message() != nil && depth > 0 {
				b = append(b, randomMessage(r, f.Message(), depth-1)...)
			}
			b = protowire.AppendTag(b, f.Number(), protowire.EndGroupType)
		default:
			switch {
			case f.Message() != nil && depth > 0:
				b = protowire.AppendBytes(b, randomMessage(r, f.Message(), depth-1))
			default:
				b = protowire.AppendString(b, []string{"", "\x01", "\x05\x06", "a.b", "é", "\xff", "\"\\"}[r.IntN(7)])
			}
		}
	}
	return b
}

// TestProtobufAgainstLibrary protects that every value is read as the library reads it.
func TestProtobufAgainstLibrary(t *testing.T) {
	p, d := protoEvent(t)
	r := rand.New(rand.NewPCG(5, 6))
	read, refused, lenient := 0, 0, 0
	for range 60_000 {
		switch ok, alone := sameAsProtobuf(t, p, d, randomMessage(r, d, 4)); {
		case ok:
			read++
		case alone:
			lenient++
		default:
			refused++
		}
	}
	t.Logf("%d values read, %d refused, %d only by the library", read, refused, lenient)
	if read < 10_000 || refused < 500 || lenient > refused/4 {
		t.Error("the values are not what the test needs")
	}
}

// FuzzProtobuf protects the same for any bytes.
func FuzzProtobuf(f *testing.F) {
	p, d := protoEvent(f)
	r := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		f.Add(randomMessage(r, d, 4))
	}
	f.Fuzz(func(t *testing.T, value []byte) { sameAsProtobuf(t, p, d, value) })
}

package contract

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Protects the embedded files: they parse, and make descriptors that protobuf accepts.
func TestEmbeddedTables(t *testing.T) {
	for _, table := range []*Table{FactEvents(), EventsDLQ()} {
		if len(File(table.Name)) == 0 {
			t.Errorf("File(%q) is empty", table.Name)
		}
		file := &descriptorpb.FileDescriptorProto{
			Name:        proto.String("row.proto"),
			Syntax:      proto.String("proto2"),
			MessageType: []*descriptorpb.DescriptorProto{table.Descriptor()},
		}
		built, err := protodesc.NewFile(file, nil)
		if err != nil {
			t.Fatalf("%s: %v", table.Name, err)
		}
		fields := built.Messages().Get(0).Fields()
		for i, c := range table.Columns {
			f := fields.ByName(protoreflect.Name(c.Name))
			if f == nil || f.Number() != c.Number || int(c.Number) != i+1 {
				t.Errorf("%s.%s: field %v does not have the column's number %d", table.Name, c.Name, f, c.Number)
			}
			if c.Description == "" {
				t.Errorf("%s.%s has no description", table.Name, c.Name)
			}
		}
	}
	if File("other") != nil {
		t.Error("File of an unknown table is not nil")
	}
}

// Protects the type names, old and new, and how each type is encoded.
func TestTypes(t *testing.T) {
	table, err := Parse("t", []byte(`[
		{"name": "s", "type": "STRING", "mode": "REQUIRED"},
		{"name": "i", "type": "INTEGER"}, {"name": "i2", "type": "int64"},
		{"name": "f", "type": "FLOAT"}, {"name": "f2", "type": "FLOAT64"},
		{"name": "b", "type": "BOOLEAN", "mode": "NULLABLE"}, {"name": "b2", "type": "BOOL"},
		{"name": "t", "type": "TIMESTAMP"}, {"name": "j", "type": "JSON"}, {"name": "y", "type": "BYTES"}]`))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name  string
		typ   Type
		wire  protowire.Type
		proto descriptorpb.FieldDescriptorProto_Type
	}{
		{"s", String, protowire.BytesType, descriptorpb.FieldDescriptorProto_TYPE_STRING},
		{"i", Int64, protowire.VarintType, descriptorpb.FieldDescriptorProto_TYPE_INT64},
		{"i2", Int64, protowire.VarintType, descriptorpb.FieldDescriptorProto_TYPE_INT64},
		{"f", Float64, protowire.Fixed64Type, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE},
		{"f2", Float64, protowire.Fixed64Type, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE},
		{"b", Bool, protowire.VarintType, descriptorpb.FieldDescriptorProto_TYPE_BOOL},
		{"b2", Bool, protowire.VarintType, descriptorpb.FieldDescriptorProto_TYPE_BOOL},
		{"t", Timestamp, protowire.VarintType, descriptorpb.FieldDescriptorProto_TYPE_INT64},
		{"j", JSON, protowire.BytesType, descriptorpb.FieldDescriptorProto_TYPE_STRING},
		{"y", Bytes, protowire.BytesType, descriptorpb.FieldDescriptorProto_TYPE_BYTES},
	}
	descriptor := table.Descriptor()
	for i, w := range want {
		c, ok := table.Column(w.name)
		if !ok || c.Type != w.typ || c.WireType() != w.wire || descriptor.Field[i].GetType() != w.proto {
			t.Errorf("column %s is %+v (%v), want %+v", w.name, c, descriptor.Field[i].GetType(), w)
		}
		if c.Required != (w.name == "s") {
			t.Errorf("column %s: required is %v", w.name, c.Required)
		}
	}
	if _, ok := table.Column("S"); ok {
		t.Error("column names are compared without case")
	}
}

// Protects the start of the service: a wrong schema file is refused with the column named.
func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ what, text, message string }{
		{"no JSON", `{`, "want a JSON array"},
		{"no columns", `[]`, "0 columns"},
		{"a name with a space", `[{"name": "a b", "type": "STRING"}]`, `"a b"`},
		{"a name twice but for case", `[{"name": "a", "type": "STRING"}, {"name": "A", "type": "STRING"}]`, `"A" is taken`},
		{"a type that BigQuery has not", `[{"name": "a", "type": "UUID"}]`, `"UUID"`},
		{"a RECORD without columns", `[{"name": "a", "type": "RECORD"}]`, `column a has 0 columns`},
		{"a name twice in a RECORD", `[{"name": "a", "type": "RECORD", "fields": [{"name": "b", "type": "DATE"}, {"name": "B", "type": "DATE"}]}]`, `column a, column 2: name "B" is taken`},
		{"a RANGE of nothing", `[{"name": "a", "type": "RANGE"}]`, `want DATE, DATETIME or TIMESTAMP`},
		{"a mode that BigQuery has not", `[{"name": "a", "type": "STRING", "mode": "MANY"}]`, `"MANY"`},
	} {
		if _, err := Parse("t", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: error is %v, want one that contains %q", c.what, err, c.message)
		}
	}
	if _, err := Parse("a.b", []byte(`[{"name": "a", "type": "STRING"}]`)); err == nil {
		t.Error("a table name with a dot is accepted")
	}
}

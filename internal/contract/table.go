package contract

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Type is a column's type, by its name in GoogleSQL.
type Type string

// The types that a column can have. Parse also accepts the older names INTEGER,
// FLOAT and BOOLEAN, and answers these.
const (
	String    Type = "STRING"
	Int64     Type = "INT64"
	Float64   Type = "FLOAT64"
	Bool      Type = "BOOL"
	Timestamp Type = "TIMESTAMP"
	JSON      Type = "JSON"
	Bytes     Type = "BYTES"

	Numeric    Type = "NUMERIC"
	BigNumeric Type = "BIGNUMERIC"
	Date       Type = "DATE"
	Time       Type = "TIME"
	DateTime   Type = "DATETIME"
	Geography  Type = "GEOGRAPHY"
	Interval   Type = "INTERVAL"
	RangeOf    Type = "RANGE"  // its element is Column.Element
	Record     Type = "RECORD" // its columns are Column.Columns
)

// Column is one column of a table.
type Column struct {
	Name        string
	Type        Type
	Required    bool             // mode REQUIRED
	Repeated    bool             // mode REPEATED; neither: NULLABLE
	Number      protowire.Number // the field in the wire bytes: the column's position, from 1
	Description string

	Element          Type     // of a RANGE: DATE, DATETIME or TIMESTAMP
	MaxLength        int      // of STRING (characters) and BYTES; 0: BigQuery's
	Precision, Scale int      // of NUMERIC and BIGNUMERIC; 0: the type's own
	Columns          []Column // of a RECORD
}

// WireType is how the column's values are encoded in the wire bytes of a row.
func (c Column) WireType() protowire.Type {
	switch c.Type {
	case Int64, Bool, Timestamp:
		return protowire.VarintType
	case Float64:
		return protowire.Fixed64Type
	default:
		return protowire.BytesType
	}
}

// Table is a table's columns in their order.
type Table struct {
	Name    string
	Columns []Column
}

// Column returns the column of that name, which is compared byte for byte.
func (t *Table) Column(name string) (Column, bool) {
	for _, c := range t.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// maxColumns is BigQuery's limit, and keeps field numbers below protobuf's
// reserved range, which begins at 19000.
const maxColumns = 10_000

// Parse reads the columns of the table name from BigQuery's schema format: a JSON
// array of {"name", "type", "mode", "description"}. Modes are REQUIRED and
// NULLABLE (also if absent). It refuses REPEATED columns and types that an event
// cannot fill. Members that only BigQuery interprets (policyTags, maxLength, …)
// are left to it.
func Parse(name string, text []byte) (*Table, error) {
	if !identifier(name) {
		return nil, fmt.Errorf("contract: table name %q: want letters, digits and underscores", name)
	}
	var fields []struct {
		Name, Type, Mode, Description string
	}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("contract: table %s: want a JSON array of columns: %w", name, err)
	}
	if len(fields) == 0 || len(fields) > maxColumns {
		return nil, fmt.Errorf("contract: table %s has %d columns, want 1 to %d", name, len(fields), maxColumns)
	}
	t := &Table{Name: name, Columns: make([]Column, 0, len(fields))}
	seen := make(map[string]bool, len(fields))
	for i, f := range fields {
		if !identifier(f.Name) {
			return nil, fmt.Errorf("contract: table %s, column %d: name %q: want letters, digits and underscores, not beginning with a digit", name, i+1, f.Name)
		}
		// BigQuery's column names differ in more than case.
		if folded := strings.ToLower(f.Name); seen[folded] {
			return nil, fmt.Errorf("contract: table %s, column %d: name %q is taken", name, i+1, f.Name)
		} else {
			seen[folded] = true
		}
		c := Column{Name: f.Name, Number: protowire.Number(i + 1), Description: f.Description}
		switch typ := Type(strings.ToUpper(f.Type)); typ {
		case String, Int64, Float64, Bool, Timestamp, JSON, Bytes:
			c.Type = typ
		case "INTEGER":
			c.Type = Int64
		case "FLOAT":
			c.Type = Float64
		case "BOOLEAN":
			c.Type = Bool
		default:
			return nil, fmt.Errorf("contract: table %s, column %s: type %q: want STRING, INT64, FLOAT64, BOOL, TIMESTAMP, JSON or BYTES", name, f.Name, f.Type)
		}
		switch strings.ToUpper(f.Mode) {
		case "REQUIRED":
			c.Required = true
		case "NULLABLE", "":
		default:
			return nil, fmt.Errorf("contract: table %s, column %s: mode %q: want REQUIRED or NULLABLE", name, f.Name, f.Mode)
		}
		t.Columns = append(t.Columns, c)
	}
	return t, nil
}

// identifier reports whether s can name a column, and a protobuf field.
func identifier(s string) bool {
	if s == "" || len(s) > 300 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return true
}

// Descriptor returns the protobuf message that rows of the table are encoded as,
// self-contained as ProtoSchema.proto_descriptor wants it: proto2, field numbers
// by position, REQUIRED columns as required fields, the others optional.
func (t *Table) Descriptor() *descriptorpb.DescriptorProto {
	d := &descriptorpb.DescriptorProto{Name: proto.String(t.Name)}
	for _, c := range t.Columns {
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if c.Required {
			label = descriptorpb.FieldDescriptorProto_LABEL_REQUIRED
		}
		d.Field = append(d.Field, &descriptorpb.FieldDescriptorProto{
			Name:   proto.String(c.Name),
			Number: proto.Int32(int32(c.Number)),
			Label:  label.Enum(),
			Type:   c.protoType().Enum(),
		})
	}
	return d
}

func (c Column) protoType() descriptorpb.FieldDescriptorProto_Type {
	switch c.Type {
	case Int64, Timestamp:
		return descriptorpb.FieldDescriptorProto_TYPE_INT64
	case Float64:
		return descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
	case Bool:
		return descriptorpb.FieldDescriptorProto_TYPE_BOOL
	case Bytes:
		return descriptorpb.FieldDescriptorProto_TYPE_BYTES
	default:
		return descriptorpb.FieldDescriptorProto_TYPE_STRING
	}
}

//go:embed fact_events.json
var factEvents []byte

//go:embed events_dlq.json
var eventsDLQ []byte

// FactEvents returns the table of the events.
func FactEvents() *Table { return mustParse("fact_events", factEvents) }

// EventsDLQ returns the table of the dead letters.
func EventsDLQ() *Table { return mustParse("events_dlq", eventsDLQ) }

// File returns a copy of the embedded schema file of the table fact_events or
// events_dlq, nil for any other name.
func File(name string) []byte {
	switch name {
	case "fact_events":
		return append([]byte(nil), factEvents...)
	case "events_dlq":
		return append([]byte(nil), eventsDLQ...)
	}
	return nil
}

// mustParse panics if an embedded file is wrong, which the package's test rules out.
func mustParse(name string, text []byte) *Table {
	t, err := Parse(name, text)
	if err != nil {
		panic(err)
	}
	return t
}

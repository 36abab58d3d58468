package contract

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
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
	case Int64, Bool, Timestamp, Date, Time, DateTime:
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

// maxNesting is how deep BigQuery's RECORDs may stand in each other.
const maxNesting = 15

// Parse reads the columns of the table name from BigQuery's schema format: a JSON
// array of {"name", "type", "mode", "description", …}. It knows what says how values are
// stored: fields, rangeElementType, maxLength, precision and scale. Members that only
// BigQuery interprets (policyTags, collation, …) are left to it.
func Parse(name string, text []byte) (*Table, error) {
	if !identifier(name) {
		return nil, fmt.Errorf("contract: table name %q: want letters, digits and underscores", name)
	}
	var fields []fileColumn
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("contract: table %s: want a JSON array of columns: %w", name, err)
	}
	t := &Table{Name: name}
	total := 0
	var err error
	if t.Columns, err = parseColumns(fields, 0, &total); err != nil {
		return nil, fmt.Errorf("contract: table %s%w", name, err)
	}
	return t, nil
}

// fileColumn is a column in BigQuery's schema format, which has its numbers as strings.
type fileColumn struct {
	Name, Type, Mode, Description string
	Fields                        []fileColumn
	RangeElementType              struct{ Type string }
	MaxLength, Precision, Scale   fileNumber
}

// fileNumber is a number that is written as one or as a string.
type fileNumber int

func (n *fileNumber) UnmarshalJSON(text []byte) error {
	v, err := strconv.Atoi(strings.Trim(string(text), `"`))
	if err != nil {
		return fmt.Errorf("want a number, not %s", text)
	}
	*n = fileNumber(v)
	return nil
}

// parseColumns reads the columns of a table or of a RECORD. Its errors go on behind the
// table's name.
func parseColumns(fields []fileColumn, depth int, total *int) ([]Column, error) {
	if *total += len(fields); len(fields) == 0 || *total > maxColumns {
		return nil, fmt.Errorf(" has %d columns, want 1 to %d", len(fields), maxColumns)
	}
	if depth > maxNesting {
		return nil, fmt.Errorf(": RECORDs within each other more than %d times", maxNesting)
	}
	columns := make([]Column, 0, len(fields))
	seen := make(map[string]bool, len(fields))
	for i, f := range fields {
		if !identifier(f.Name) {
			return nil, fmt.Errorf(", column %d: name %q: want letters, digits and underscores, not beginning with a digit", i+1, f.Name)
		}
		// BigQuery's column names differ in more than case.
		if folded := strings.ToLower(f.Name); seen[folded] {
			return nil, fmt.Errorf(", column %d: name %q is taken", i+1, f.Name)
		} else {
			seen[folded] = true
		}
		c := Column{
			Name: f.Name, Number: protowire.Number(i + 1), Description: f.Description,
			MaxLength: int(f.MaxLength), Precision: int(f.Precision), Scale: int(f.Scale),
		}
		var err error
		if c.Type, err = ParseType(f.Type); err != nil {
			return nil, fmt.Errorf(", column %s: %w", f.Name, err)
		}
		switch strings.ToUpper(f.Mode) {
		case "REQUIRED":
			c.Required = true
		case "REPEATED":
			c.Repeated = true
		case "NULLABLE", "":
		default:
			return nil, fmt.Errorf(", column %s: mode %q: want REQUIRED, NULLABLE or REPEATED", f.Name, f.Mode)
		}
		switch c.Type {
		case Record:
			if c.Columns, err = parseColumns(f.Fields, depth+1, total); err != nil {
				return nil, fmt.Errorf(", column %s%w", f.Name, err)
			}
		case RangeOf:
			if c.Element, err = ParseType(f.RangeElementType.Type); err != nil || c.Element != Date &&
				c.Element != DateTime && c.Element != Timestamp {
				return nil, fmt.Errorf(", column %s: rangeElementType %q: want DATE, DATETIME or TIMESTAMP", f.Name,
					f.RangeElementType.Type)
			}
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// older has the types by their older and other names.
var older = map[string]Type{
	"INTEGER": Int64, "INT": Int64, "SMALLINT": Int64, "BIGINT": Int64, "TINYINT": Int64, "BYTEINT": Int64,
	"FLOAT": Float64, "BOOLEAN": Bool, "DECIMAL": Numeric, "BIGDECIMAL": BigNumeric, "STRUCT": Record,
}

var types = []Type{
	String, Bytes, Int64, Float64, Numeric, BigNumeric, Bool, Date, Time, DateTime, Timestamp, JSON, Geography, Interval, RangeOf, Record,
}

// ParseType returns the type of that name, in any case and also by another name that
// BigQuery has for it.
func ParseType(name string) (Type, error) {
	upper := strings.ToUpper(name)
	if t, ok := older[upper]; ok {
		return t, nil
	}
	if slices.Contains(types, Type(upper)) {
		return Type(upper), nil
	}
	return "", fmt.Errorf("type %q: want one of %s", name, joinTypes(types))
}

func joinTypes(types []Type) string {
	var b strings.Builder
	for i, t := range types {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(t))
	}
	return b.String()
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
// by position, REQUIRED columns as required fields, REPEATED ones as repeated, the others
// optional. RECORDs and RANGEs are messages within it.
func (t *Table) Descriptor() *descriptorpb.DescriptorProto {
	name := t.Name
	if !identifier(name) { // BigQuery's names of tables may have more than a message's
		name = "Row"
	}
	messages := 0
	return message(name, t.Columns, &messages)
}

// message is the descriptor of an object with these columns. messages counts those that
// have been named: each has a name of its own.
func message(name string, columns []Column, messages *int) *descriptorpb.DescriptorProto {
	d := &descriptorpb.DescriptorProto{Name: proto.String(name)}
	for _, c := range columns {
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		switch {
		case c.Required:
			label = descriptorpb.FieldDescriptorProto_LABEL_REQUIRED
		case c.Repeated:
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		f := &descriptorpb.FieldDescriptorProto{
			Name:   proto.String(c.Name),
			Number: proto.Int32(int32(c.Number)),
			Label:  label.Enum(),
			Type:   c.protoType().Enum(),
		}
		inner := c.Columns
		if c.Type == RangeOf {
			inner = []Column{{Name: "start", Type: c.Element, Number: 1}, {Name: "end", Type: c.Element, Number: 2}}
		}
		if len(inner) > 0 {
			*messages++
			f.TypeName = proto.String("T" + strconv.Itoa(*messages))
			d.NestedType = append(d.NestedType, message(f.GetTypeName(), inner, messages))
		}
		d.Field = append(d.Field, f)
	}
	return d
}

// protoType is the type of the column's field: see
// https://cloud.google.com/bigquery/docs/supported-data-types.
func (c Column) protoType() descriptorpb.FieldDescriptorProto_Type {
	switch c.Type {
	case Int64, Timestamp, Time, DateTime:
		return descriptorpb.FieldDescriptorProto_TYPE_INT64
	case Date:
		return descriptorpb.FieldDescriptorProto_TYPE_INT32
	case Float64:
		return descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
	case Bool:
		return descriptorpb.FieldDescriptorProto_TYPE_BOOL
	case Bytes, Numeric, BigNumeric:
		return descriptorpb.FieldDescriptorProto_TYPE_BYTES
	case Record, RangeOf:
		return descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	default:
		return descriptorpb.FieldDescriptorProto_TYPE_STRING
	}
}

//go:embed fact_events.json
var factEvents []byte

//go:embed events_dlq.json
var eventsDLQ []byte

//go:embed events_left_out.json
var eventsLeftOut []byte

// EventsLeftOut returns the table of the records that contracts leave out, so that the audit
// balances: see Contract.Drop and Contract.Sample.
func EventsLeftOut() *Table { return mustParse("events_left_out", eventsLeftOut) }

// FactEvents returns the table of the events.
func FactEvents() *Table { return mustParse("fact_events", factEvents) }

// EventsDLQ returns the table of the dead letters.
func EventsDLQ() *Table { return mustParse("events_dlq", eventsDLQ) }

// File returns a copy of the embedded schema file of the table fact_events, events_dlq or
// events_left_out, nil for any other name.
func File(name string) []byte {
	switch name {
	case "fact_events":
		return append([]byte(nil), factEvents...)
	case "events_dlq":
		return append([]byte(nil), eventsDLQ...)
	case "events_left_out":
		return append([]byte(nil), eventsLeftOut...)
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

package warehouse

import (
	"database/sql/driver"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"

	"sluice/internal/contract"
)

// plan turns the wire bytes of rows into the values of a table's columns: it
// joins a writer's descriptor with the table's columns, once per descriptor.
type plan struct {
	shape    *shape
	fields   map[protowire.Number]*field
	dense    []*field // the fields of small numbers, by number
	required []int    // columns that every row must have
	stamp    int      // the column kafka_timestamp, or -1

	partition      int // the partitioning column, or -1
	oldest, newest func() int64
}

// field is one field of the descriptor.
type field struct {
	name   string
	column int // index in the shape
	kind   contract.Type
	wire   protowire.Type
	typ    descriptorpb.FieldDescriptorProto_Type
}

// mismatch is a descriptor that does not fit the table.
type mismatch struct {
	text  string
	extra bool // the descriptor has fields that the table lacks
}

func (m *mismatch) Error() string { return m.text }

// kafkaTimestamp is the column that OnAppend reports.
const kafkaTimestamp = "kafka_timestamp"

func newPlan(d *descriptorpb.DescriptorProto, s *shape, p Partition, now func() time.Time) (*plan, error) {
	pl := &plan{shape: s, fields: make(map[protowire.Number]*field), stamp: -1, partition: -1}
	present := make([]bool, len(s.columns))
	var extra []string
	for _, f := range d.GetField() {
		column, ok := s.index[strings.ToLower(f.GetName())]
		if !ok {
			extra = append(extra, f.GetName())
			continue
		}
		c := s.columns[column]
		if f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED {
			return nil, &mismatch{text: fmt.Sprintf("The proto field mode for field '%s' does not match: proto field is REPEATED, BigQuery column is %s", f.GetName(), mode(c))}
		}
		wire, ok := compatible(f.GetType(), c.Type)
		if !ok {
			return nil, &mismatch{text: fmt.Sprintf("The proto field mismatched with BigQuery field at %s.%s, the proto field type %s, BigQuery field type %s",
				d.GetName(), f.GetName(), strings.ToLower(strings.TrimPrefix(f.GetType().String(), "TYPE_")), c.Type)}
		}
		if present[column] {
			return nil, &mismatch{text: fmt.Sprintf("The proto descriptor names column '%s' twice", c.Name)}
		}
		number := protowire.Number(f.GetNumber())
		if !number.IsValid() || pl.fields[number] != nil {
			return nil, &mismatch{text: fmt.Sprintf("Invalid proto schema: field '%s' has the number %d", f.GetName(), f.GetNumber())}
		}
		present[column] = true
		pl.fields[number] = &field{name: c.Name, column: column, kind: c.Type, wire: wire, typ: f.GetType()}
	}
	if len(extra) > 0 {
		return nil, &mismatch{extra: true, text: fmt.Sprintf("Input schema has more fields than BigQuery schema, extra fields: '%s'", strings.Join(extra, ","))}
	}
	if len(pl.fields) == 0 {
		return nil, &mismatch{text: "Invalid proto schema: the descriptor has no fields"}
	}
	for i, c := range s.columns {
		if c.Required {
			if !present[i] {
				return nil, &mismatch{text: fmt.Sprintf("Input schema is missing the required field '%s' of the BigQuery schema", c.Name)}
			}
			pl.required = append(pl.required, i)
		}
		if c.Name == kafkaTimestamp && c.Type == contract.Timestamp {
			pl.stamp = i
		}
		if p.Column != "" && strings.EqualFold(c.Name, p.Column) {
			pl.partition = i
			pl.oldest = func() int64 { return now().Add(-p.Back).UnixMicro() }
			pl.newest = func() int64 { return now().Add(p.Ahead).UnixMicro() }
		}
	}
	for number, f := range pl.fields {
		if number < 256 {
			for int(number) >= len(pl.dense) {
				pl.dense = append(pl.dense, nil)
			}
			pl.dense[number] = f
		}
	}
	return pl, nil
}

func mode(c contract.Column) string {
	if c.Required {
		return "REQUIRED"
	}
	return "NULLABLE"
}

// compatible reports whether BigQuery stores values of a protobuf type in a
// column of this type, and their wire type.
// https://cloud.google.com/bigquery/docs/supported-data-types
func compatible(p descriptorpb.FieldDescriptorProto_Type, c contract.Type) (protowire.Type, bool) {
	switch p {
	case descriptorpb.FieldDescriptorProto_TYPE_INT64, descriptorpb.FieldDescriptorProto_TYPE_INT32,
		descriptorpb.FieldDescriptorProto_TYPE_SINT64, descriptorpb.FieldDescriptorProto_TYPE_SINT32, descriptorpb.FieldDescriptorProto_TYPE_UINT32:
		return protowire.VarintType, c == contract.Int64 || c == contract.Timestamp && p == descriptorpb.FieldDescriptorProto_TYPE_INT64
	case descriptorpb.FieldDescriptorProto_TYPE_BOOL:
		return protowire.VarintType, c == contract.Bool
	case descriptorpb.FieldDescriptorProto_TYPE_DOUBLE:
		return protowire.Fixed64Type, c == contract.Float64
	case descriptorpb.FieldDescriptorProto_TYPE_FLOAT:
		return protowire.Fixed32Type, c == contract.Float64
	case descriptorpb.FieldDescriptorProto_TYPE_STRING:
		return protowire.BytesType, c == contract.String || c == contract.JSON
	case descriptorpb.FieldDescriptorProto_TYPE_BYTES:
		return protowire.BytesType, c == contract.Bytes
	default:
		return 0, false
	}
}

func (p *plan) field(number protowire.Number) *field {
	if int(number) < len(p.dense) {
		return p.dense[number]
	}
	return p.fields[number]
}

// rowError is a row that BigQuery would refuse.
type rowError struct {
	index   int
	message string
}

// decoded is the rows of a request as the writer takes them.
type decoded struct {
	values     []driver.Value // columns × rows
	timestamps []int64        // kafka_timestamp per row, 0: null
	errors     []rowError
}

// decode reads all rows. The values point into the rows' bytes.
func (p *plan) decode(rows [][]byte) decoded {
	columns := len(p.shape.columns)
	d := decoded{values: make([]driver.Value, columns*len(rows)), timestamps: make([]int64, len(rows))}
	var oldest, newest int64
	if p.partition >= 0 {
		oldest, newest = p.oldest(), p.newest()
	}
	for i, row := range rows {
		values := d.values[i*columns : (i+1)*columns]
		if message := p.row(values, row); message != "" {
			d.errors = append(d.errors, rowError{i, message})
			continue
		}
		if p.partition >= 0 {
			// A null partition is __NULL__, which takes everything.
			if us, ok := values[p.partition].(int64); ok && (us < oldest || us > newest) {
				d.errors = append(d.errors, rowError{i, fmt.Sprintf("The row's partition is out of range: column %s must lie between %s and %s",
					p.shape.columns[p.partition].Name, time.UnixMicro(oldest).UTC().Format(time.DateOnly), time.UnixMicro(newest).UTC().Format(time.DateOnly))})
				continue
			}
		}
		if p.stamp >= 0 {
			if us, ok := values[p.stamp].(int64); ok {
				d.timestamps[i] = us
			}
		}
	}
	return d
}

const malformed = "Failed to parse the row: malformed protocol buffer"

// BigQuery's TIMESTAMP spans the years 1 to 9999.
var (
	minTimestamp = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxTimestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

// row reads one row into values; what it answers is empty or what is wrong.
func (p *plan) row(values []driver.Value, row []byte) string {
	for len(row) > 0 {
		number, wire, n := protowire.ConsumeTag(row)
		if n < 0 {
			return malformed
		}
		row = row[n:]
		f := p.field(number)
		if f == nil {
			return fmt.Sprintf("Failed to parse the row: field number %d is not in the writer schema", number)
		}
		if f.wire != wire {
			return fmt.Sprintf("Failed to parse the row: field %s has wire type %d, the writer schema says %d", f.name, wire, f.wire)
		}
		var value driver.Value
		switch wire {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(row)
			if n < 0 {
				return malformed
			}
			row = row[n:]
			switch f.typ {
			case descriptorpb.FieldDescriptorProto_TYPE_BOOL:
				value = v != 0
			case descriptorpb.FieldDescriptorProto_TYPE_SINT64, descriptorpb.FieldDescriptorProto_TYPE_SINT32:
				value = protowire.DecodeZigZag(v)
			case descriptorpb.FieldDescriptorProto_TYPE_INT32:
				value = int64(int32(v))
			case descriptorpb.FieldDescriptorProto_TYPE_UINT32:
				value = int64(uint32(v))
			default:
				us := int64(v)
				if f.kind == contract.Timestamp && (us < minTimestamp || us > maxTimestamp) {
					return fmt.Sprintf("Field %s: timestamp out of range: want 0001-01-01 to 9999-12-31", f.name)
				}
				value = us
			}
		case protowire.Fixed64Type:
			v, n := protowire.ConsumeFixed64(row)
			if n < 0 {
				return malformed
			}
			row = row[n:]
			value = math.Float64frombits(v)
		case protowire.Fixed32Type:
			v, n := protowire.ConsumeFixed32(row)
			if n < 0 {
				return malformed
			}
			row = row[n:]
			value = float64(math.Float32frombits(v))
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(row)
			if n < 0 {
				return malformed
			}
			row = row[n:]
			switch f.kind {
			case contract.String:
				if !utf8.Valid(v) {
					return fmt.Sprintf("Field %s: the string is not valid UTF-8", f.name)
				}
			case contract.JSON:
				if !jsontext.Value(v).IsValid(jsontext.AllowDuplicateNames(true)) {
					return fmt.Sprintf("Field %s: the value is not valid JSON", f.name)
				}
			}
			value = v
		}
		values[f.column] = value
	}
	for _, column := range p.required {
		if values[column] == nil {
			return fmt.Sprintf("Field %s: the required field is missing", p.shape.columns[column].Name)
		}
	}
	return ""
}

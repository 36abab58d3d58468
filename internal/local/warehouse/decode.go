package warehouse

import (
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"

	"sluice/internal/contract"
)

// plan turns the wire bytes of rows into the values of a table's columns: it
// joins a writer's descriptor with the table's columns, once per descriptor.
type plan struct {
	*message
	shape *shape
	stamp int // the column kafka_timestamp, or -1

	partition      int // the partitioning column, or -1
	oldest, newest func() int64
}

// message is one message of the descriptor: a row, or a RECORD or RANGE within it.
type message struct {
	columns  []contract.Column
	fields   map[protowire.Number]*field
	dense    []*field // the fields of small numbers, by number
	required []int    // columns that it must have
	repeated []int    // columns that are empty arrays without a value
	prefix   string   // what stands before its columns' names in messages
}

// field is one field of the descriptor.
type field struct {
	name       string
	column     int // index in the message's columns
	columnType contract.Column
	kind       contract.Type
	wire       protowire.Type
	typ        descriptorpb.FieldDescriptorProto_Type
	nested     bool     // in a RECORD, a RANGE or an array
	inner      *message // of a RECORD or RANGE
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
	m, extra, err := newMessage(d, []*descriptorpb.DescriptorProto{d}, s.columns, "")
	if err != nil {
		return nil, err
	}
	if len(extra) > 0 {
		return nil, &mismatch{extra: true, text: fmt.Sprintf("Input schema has more fields than BigQuery schema, extra "+
			"fields: '%s'", strings.Join(extra, ","))}
	}
	pl := &plan{message: m, shape: s, stamp: -1, partition: -1}
	for i, c := range s.columns {
		if c.Name == kafkaTimestamp && c.Type == contract.Timestamp {
			pl.stamp = i
		}
		if p.Column != "" && strings.EqualFold(c.Name, p.Column) {
			pl.partition = i
			pl.oldest = func() int64 { return now().Add(-p.Back).UnixMicro() }
			pl.newest = func() int64 { return now().Add(p.Ahead).UnixMicro() }
		}
	}
	return pl, nil
}

// newMessage joins the descriptor d with columns. around are the descriptors that d stands in,
// itself last: they hold the messages of its fields. extra are the fields that no column has.
func newMessage(d *descriptorpb.DescriptorProto, around []*descriptorpb.DescriptorProto, columns []contract.Column,
	prefix string) (*message, []string, error) {
	m := &message{columns: columns, fields: make(map[protowire.Number]*field), prefix: prefix}
	present := make([]bool, len(columns))
	var extra []string
	for _, f := range d.GetField() {
		column := slices.IndexFunc(columns, func(c contract.Column) bool {
			return strings.EqualFold(c.Name,
				f.GetName())
		})
		if column < 0 {
			extra = append(extra, prefix+f.GetName())
			continue
		}
		c := columns[column]
		name := prefix + f.GetName()
		repeated := f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		if repeated != c.Repeated {
			want := "OPTIONAL"
			if repeated {
				want = "REPEATED"
			}
			return nil, nil, &mismatch{text: fmt.Sprintf("The proto field mode for field '%s' does not match: proto field is "+
				"%s, BigQuery column is %s", name, want, c.Mode())}
		}
		wire, ok := compatible(f.GetType(), c.Type)
		if !ok {
			return nil, nil, &mismatch{text: fmt.Sprintf("The proto field mismatched with BigQuery field at %s.%s, the proto "+
				"field type %s, BigQuery field type %s",
				d.GetName(), f.GetName(), strings.ToLower(strings.TrimPrefix(f.GetType().String(), "TYPE_")), c.Type)}
		}
		if present[column] {
			return nil, nil, &mismatch{text: fmt.Sprintf("The proto descriptor names column '%s' twice", name)}
		}
		number := protowire.Number(f.GetNumber())
		if !number.IsValid() || m.fields[number] != nil {
			return nil, nil, &mismatch{text: fmt.Sprintf("Invalid proto schema: field '%s' has the number %d", name,
				f.GetNumber())}
		}
		present[column] = true
		out := &field{name: prefix + c.Name, column: column, columnType: c, kind: c.Type, wire: wire, typ: f.GetType(),
			nested: prefix != "" || c.Repeated}
		if within := inner(c); within != nil {
			of := nestedType(around, f.GetTypeName())
			if of == nil {
				return nil, nil, &mismatch{text: fmt.Sprintf("Invalid proto schema: field '%s' has the type '%s', which the "+
					"descriptor does not have", name, f.GetTypeName())}
			}
			if len(around) > maxNesting {
				return nil, nil, &mismatch{text: fmt.Sprintf("Invalid proto schema: field '%s' is nested more than %d deep", name, maxNesting)}
			}
			var more []string
			var err error
			if out.inner, more, err = newMessage(of, append(slices.Clone(around), of), within, name+"."); err != nil {
				return nil, nil, err
			}
			extra = append(extra, more...)
		}
		m.fields[number] = out
	}
	if len(m.fields) == 0 && len(extra) == 0 {
		return nil, nil, &mismatch{text: "Invalid proto schema: the descriptor has no fields"}
	}
	for i, c := range columns {
		if c.Required {
			if !present[i] {
				return nil, nil, &mismatch{text: fmt.Sprintf("Input schema is missing the required field '%s' of the BigQuery schema", prefix+c.Name)}
			}
			m.required = append(m.required, i)
		}
		if c.Repeated {
			m.repeated = append(m.repeated, i)
		}
	}
	for number, f := range m.fields {
		if number < 256 {
			for int(number) >= len(m.dense) {
				m.dense = append(m.dense, nil)
			}
			m.dense[number] = f
		}
	}
	return m, extra, nil
}

// maxNesting is how deep BigQuery's RECORDs may stand in each other; a RANGE is one more here.
const maxNesting = 16

// nestedType finds the message of that name, whose last part counts, from the innermost
// descriptor outwards.
func nestedType(around []*descriptorpb.DescriptorProto, name string) *descriptorpb.DescriptorProto {
	name = name[strings.LastIndexByte(name, '.')+1:]
	for _, d := range slices.Backward(around) {
		for _, nested := range d.GetNestedType() {
			if nested.GetName() == name {
				return nested
			}
		}
	}
	return nil
}

// compatible reports whether BigQuery stores values of a protobuf type in a
// column of this type, and their wire type.
// https://cloud.google.com/bigquery/docs/supported-data-types
func compatible(p descriptorpb.FieldDescriptorProto_Type, c contract.Type) (protowire.Type, bool) {
	switch p {
	case descriptorpb.FieldDescriptorProto_TYPE_INT64, descriptorpb.FieldDescriptorProto_TYPE_INT32,
		descriptorpb.FieldDescriptorProto_TYPE_SINT64, descriptorpb.FieldDescriptorProto_TYPE_SINT32,
		descriptorpb.FieldDescriptorProto_TYPE_UINT32:
		switch c {
		case contract.Timestamp, contract.DateTime, contract.Time:
			return protowire.VarintType, p == descriptorpb.FieldDescriptorProto_TYPE_INT64
		case contract.Date:
			return protowire.VarintType, p == descriptorpb.FieldDescriptorProto_TYPE_INT32 ||
				p == descriptorpb.FieldDescriptorProto_TYPE_INT64
		}
		return protowire.VarintType, c == contract.Int64
	case descriptorpb.FieldDescriptorProto_TYPE_BOOL:
		return protowire.VarintType, c == contract.Bool
	case descriptorpb.FieldDescriptorProto_TYPE_DOUBLE:
		return protowire.Fixed64Type, c == contract.Float64
	case descriptorpb.FieldDescriptorProto_TYPE_FLOAT:
		return protowire.Fixed32Type, c == contract.Float64
	case descriptorpb.FieldDescriptorProto_TYPE_STRING:
		return protowire.BytesType, c == contract.String || c == contract.JSON || c == contract.Geography ||
			c == contract.Interval
	case descriptorpb.FieldDescriptorProto_TYPE_BYTES:
		return protowire.BytesType, c == contract.Bytes || c == contract.Numeric || c == contract.BigNumeric
	case descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
		return protowire.BytesType, c == contract.Record || c == contract.RangeOf
	default:
		return 0, false
	}
}

func (m *message) field(number protowire.Number) *field {
	if int(number) < len(m.dense) {
		return m.dense[number]
	}
	return m.fields[number]
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
			if us, ok := microseconds(values[p.partition]); ok && (us < oldest || us > newest) {
				d.errors = append(d.errors, rowError{i,
					fmt.Sprintf("The row's partition is out of range: column %s must lie between %s and %s",
						p.shape.columns[p.partition].Name, time.UnixMicro(oldest).UTC().Format(time.DateOnly),
						time.UnixMicro(newest).UTC().Format(time.DateOnly))})
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

// row reads one message into values; what it answers is empty or what is wrong.
func (m *message) row(values []driver.Value, row []byte) string {
	for len(row) > 0 {
		number, wire, n := protowire.ConsumeTag(row)
		if n < 0 {
			return malformed
		}
		row = row[n:]
		f := m.field(number)
		if f == nil {
			return fmt.Sprintf("Failed to parse the row: field number %d is not in the writer schema", number)
		}
		packed := wire == protowire.BytesType && f.wire != protowire.BytesType && f.columnType.Repeated
		if f.wire != wire && !packed {
			return fmt.Sprintf("Failed to parse the row: field %s has wire type %d, the writer schema says %d", f.name,
				wire, f.wire)
		}
		if packed {
			v, n := protowire.ConsumeBytes(row)
			if n < 0 {
				return malformed
			}
			row = row[n:]
			for len(v) > 0 {
				value, n, problem := f.value(v)
				if problem != "" {
					return problem
				}
				v = v[n:]
				f.put(values, value)
			}
			continue
		}
		value, n, problem := f.value(row)
		if problem != "" {
			return problem
		}
		row = row[n:]
		f.put(values, value)
	}
	for _, column := range m.required {
		if values[column] == nil {
			return fmt.Sprintf("Field %s%s: the required field is missing", m.prefix, m.columns[column].Name)
		}
	}
	for _, column := range m.repeated {
		if values[column] == nil {
			values[column] = []any{}
		}
	}
	return ""
}

// put sets the field's value, or adds it to the array.
func (f *field) put(values []driver.Value, value driver.Value) {
	if f.columnType.Repeated {
		list, _ := values[f.column].([]any)
		value = append(list, value)
	}
	values[f.column] = value
}

// value reads one value of the field from b: what it means, its length in b, and what is wrong.
func (f *field) value(b []byte) (value driver.Value, n int, problem string) {
	switch f.wire {
	case protowire.VarintType:
		var v uint64
		if v, n = protowire.ConsumeVarint(b); n >= 0 {
			value, problem = f.varint(v)
		}
	case protowire.Fixed64Type:
		var v uint64
		if v, n = protowire.ConsumeFixed64(b); n >= 0 {
			value = math.Float64frombits(v)
		}
	case protowire.Fixed32Type:
		var v uint32
		if v, n = protowire.ConsumeFixed32(b); n >= 0 {
			value = float64(math.Float32frombits(v))
		}
	case protowire.BytesType:
		var v []byte
		if v, n = protowire.ConsumeBytes(b); n < 0 {
			break
		}
		if f.inner != nil {
			value, problem = f.record(v)
			return value, n, problem
		}
		value, problem = f.text(v)
	}
	if n < 0 {
		return nil, n, malformed
	}
	if problem != "" {
		problem = "Field " + f.name + ": " + problem
	}
	return value, n, problem
}

// record reads a RECORD or RANGE.
func (f *field) record(b []byte) (driver.Value, string) {
	values := make([]driver.Value, len(f.inner.columns))
	if problem := f.inner.row(values, b); problem != "" {
		return nil, problem
	}
	if f.kind == contract.RangeOf {
		start, ok0 := microseconds(values[0])
		end, ok1 := microseconds(values[1])
		if ok0 && ok1 && start >= end {
			return nil, "Field " + f.name + ": the range ends before it begins"
		}
	}
	out := make(map[string]any, len(values))
	for i, c := range f.inner.columns {
		out[c.Name] = values[i]
	}
	return out, ""
}

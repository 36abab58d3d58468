package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/avro"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Field is what becomes of a field of a schema in a table.
type Field struct {
	Name    string // in the schema
	Type    string // of the column, in GoogleSQL
	Doc     string
	Aliases []string // names that older versions have for it
	Default *string  // what an event without it has, as text; nil: nothing

	Required         bool // no value is null, and no older version leaves it out
	Repeated         bool
	Precision, Scale int      // of NUMERIC and BIGNUMERIC; 0: the type's own
	Accept           []string // forms of values, as contracts call them
	Fields           []Field  // of a RECORD
}

// Recursive is the error of a schema that holds itself: a table cannot.
type Recursive struct{ Path string }

func (e *Recursive) Error() string {
	return fmt.Sprintf("%s holds a type that it is within: no column can; give it a column of type JSON in a contract of your own", e.Path)
}

// maxRecords is how deep BigQuery's RECORDs may stand in each other.
const maxRecords = 15

// Fields returns what becomes of the fields of the events. Maps, and what has several types, become JSON. The error can
// be a *Recursive.
func (p *Program) Fields() ([]Field, error) {
	if p.proto != nil {
		return protoFields(p.descriptor, nil)
	}
	if p.avro == nil {
		return nil, errors.New("columns are not made of a JSON Schema: infer them of sample events")
	}
	a := &avroShape{named: make(map[string]*avro.SchemaNode)}
	for _, root := range p.roots {
		a.define(root)
	}
	root := p.roots[len(p.roots)-1]
	if root.Type != "record" {
		return nil, fmt.Errorf("the Avro schema is of the type %s: columns can be made of a record", root.Type)
	}
	return a.fields(root, "", root.Namespace, []string{fullName(root)})
}

// Descriptor is the events' message of a Protobuf schema; nil: it is of Avro.
func (p *Program) Descriptor() protoreflect.MessageDescriptor { return p.descriptor }

// avroShape makes fields of the types of an Avro schema.
type avroShape struct{ named map[string]*avro.SchemaNode }

// define notes the types that n defines.
func (a *avroShape) define(n *avro.SchemaNode) {
	if n == nil {
		return
	}
	if n.Type == "record" || n.Type == "error" || n.Type == "enum" || n.Type == "fixed" {
		a.named[fullName(n)] = n
	}
	for i := range n.Fields {
		a.define(&n.Fields[i].Type)
	}
	for i := range n.Branches {
		a.define(&n.Branches[i])
	}
	a.define(n.Items)
	a.define(n.Values)
}

func (a *avroShape) resolve(n *avro.SchemaNode, namespace string) *avro.SchemaNode {
	if _, builtIn := avroKinds[n.Type]; builtIn {
		return n
	}
	if to := a.named[namespace+"."+n.Type]; to != nil {
		return to
	}
	if to := a.named[n.Type]; to != nil {
		return to
	}
	return n
}

func (a *avroShape) fields(record *avro.SchemaNode, path, namespace string, within []string) ([]Field, error) {
	var out []Field
	for i := range record.Fields {
		from := &record.Fields[i]
		inner := from.Name
		if path != "" {
			inner = path + "." + inner
		}
		f := Field{Name: from.Name, Doc: from.Doc, Aliases: from.Aliases, Required: true}
		n := a.single(&from.Type, namespace, &f)
		switch {
		case n == nil && !f.Required: // only null
			continue
		case n == nil:
			f.Type, f.Required = "JSON", false
		default:
			if err := a.fill(&f, n, inner, namespace, within); err != nil {
				return nil, err
			}
		}
		if from.HasDefault {
			if f.Required && !f.Repeated && f.Type != "RECORD" && f.Type != "JSON" {
				f.Default = defaultText(from.Default, f.Type)
			}
			f.Required = false
		}
		out = append(out, f)
	}
	return out, nil
}

// single is the type of the values that are not null; nil: there are several, or none.
func (a *avroShape) single(n *avro.SchemaNode, namespace string, f *Field) *avro.SchemaNode {
	n = a.resolve(n, namespace)
	if n.Type == "null" {
		f.Required = false
		return nil
	}
	if n.Type != "union" {
		return n
	}
	var one *avro.SchemaNode
	several := false
	for i := range n.Branches {
		b := a.resolve(&n.Branches[i], namespace)
		switch {
		case b.Type == "null":
			f.Required = false
		case one != nil:
			several = true
		default:
			one = b
		}
	}
	if several {
		f.Required = true // that it is not null only: see fields
		return nil
	}
	return one
}

// fill says what column the type n has.
func (a *avroShape) fill(f *Field, n *avro.SchemaNode, path, namespace string, within []string) error {
	if n.Namespace != "" {
		namespace = n.Namespace
	}
	if f.Type = avroColumns[n.Type]; f.Type != "" {
		if logical := avroLogical[n.Type+" "+n.LogicalType]; logical != "" {
			f.Type = logical
		}
		switch n.LogicalType {
		case "decimal":
			f.decimal(n.Precision, n.Scale)
		case "uuid", "duration":
			if n.Type == "fixed" && (n.LogicalType == "uuid") != (n.Size == 16) &&
				(n.LogicalType == "duration") != (n.Size == 12) {
				f.Type = "BYTES" // a logical type of another size is none
			}
		}
		return nil
	}
	switch n.Type {
	case "record", "error":
		name := fullName(n)
		if slices.Contains(within, name) {
			return &Recursive{path}
		}
		if len(n.Fields) == 0 || len(within) > maxRecords {
			f.Type = "JSON"
			return nil
		}
		inner, err := a.fields(n, path, namespace, append(within[:len(within):len(within)], name))
		if err != nil {
			return err
		}
		if f.Type, f.Fields = "RECORD", inner; len(inner) == 0 {
			f.Type = "JSON"
		}
	case "array":
		var element Field
		element.Required = true
		e := a.single(n.Items, namespace, &element)
		if e == nil || e.Type == "array" || e.Type == "map" {
			f.Type = "JSON"
			return nil
		}
		if err := a.fill(&element, e, path+"[]", namespace, within); err != nil {
			return err
		}
		if element.Type == "JSON" {
			f.Type = "JSON"
			return nil
		}
		if !element.Required {
			element.Accept = append(element.Accept, "skip_null")
		}
		f.Type, f.Fields, f.Precision, f.Scale = element.Type, element.Fields, element.Precision, element.Scale
		f.Accept, f.Repeated, f.Required = element.Accept, true, false
	default: // a map
		f.Type = "JSON"
	}
	return nil
}

var avroColumns = map[string]string{
	"boolean": "BOOL", "int": "INT64", "long": "INT64", "float": "FLOAT64", "double": "FLOAT64",
	"bytes": "BYTES", "fixed": "BYTES", "string": "STRING", "enum": "STRING",
}

var avroLogical = map[string]string{
	"int date": "DATE", "int time-millis": "TIME", "long time-micros": "TIME",
	"long timestamp-millis": "TIMESTAMP", "long timestamp-micros": "TIMESTAMP", "long timestamp-nanos": "TIMESTAMP",
	"long local-timestamp-millis": "DATETIME", "long local-timestamp-micros": "DATETIME", "long local-timestamp-nanos": "DATETIME",
	"bytes decimal": "NUMERIC", "fixed decimal": "NUMERIC", "bytes big-decimal": "BIGNUMERIC",
	"fixed uuid": "STRING", "fixed duration": "INTERVAL",
}

// decimal chooses the type that holds all numbers of a precision and a scale.
func (f *Field) decimal(precision, scale int) {
	whole := precision - scale
	switch {
	case scale <= 9 && whole <= 29:
		f.Type = "NUMERIC"
	case scale <= 38 && whole <= 38:
		f.Type = "BIGNUMERIC"
	default:
		f.Type, f.Accept = "STRING", []string{"number"}
		return
	}
	if precision > 0 && whole >= 1 {
		f.Precision, f.Scale = precision, scale
	}
}

// defaultText is a field's default as text, nil if it has none that a column can have.
func defaultText(v any, columnType string) *string {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case bool, int32, int64:
		if columnType != "BOOL" && columnType != "INT64" {
			return nil // the number of a time
		}
		text = fmt.Sprint(v)
	case float32:
		text = strconv.FormatFloat(float64(v), 'g', -1, 64)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return nil
	}
	return &text
}

// protoFields makes fields of those of a message.
func protoFields(d protoreflect.MessageDescriptor, within []protoreflect.FullName) ([]Field, error) {
	within = append(within[:len(within):len(within)], d.FullName())
	var out []Field
	for i := range d.Fields().Len() {
		from := d.Fields().Get(i)
		f := Field{Name: string(from.Name()), Repeated: from.IsList(), Doc: comment(from)}
		switch inner := from.Message(); {
		case from.IsMap():
			f.Type = "JSON"
		case inner != nil:
			if err := f.message(inner, within); err != nil {
				if r, ok := err.(*Recursive); ok {
					r.Path = strings.TrimSuffix(f.Name+"."+r.Path, ".")
				}
				return nil, err
			}
			if f.Type == "JSON" {
				f.Repeated = false // the array is one JSON value
			}
		default:
			f.Type = protoColumns[from.Kind()]
			if from.Kind() == protoreflect.EnumKind {
				f.Accept = []string{"string", "number"} // of a newer schema, the number
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// message says what column a message has.
func (f *Field) message(d protoreflect.MessageDescriptor, within []protoreflect.FullName) error {
	switch wellKnowns[d.FullName()] {
	case knownTimestamp:
		f.Type = "TIMESTAMP"
	case knownDuration:
		f.Type = "INTERVAL"
	case knownWrapper:
		f.Type = protoColumns[d.Fields().Get(0).Kind()]
	case knownFieldMask:
		f.Type = "STRING"
	case ordinary:
		if slices.Contains(within, d.FullName()) {
			return &Recursive{}
		}
		if d.Fields().Len() == 0 || len(within) > maxRecords {
			f.Type = "JSON"
			return nil
		}
		var err error
		f.Type = "RECORD"
		f.Fields, err = protoFields(d, within)
		return err
	default:
		f.Type = "JSON"
	}
	return nil
}

func comment(f protoreflect.FieldDescriptor) string {
	at := f.ParentFile().SourceLocations().ByDescriptor(f)
	return strings.Join(strings.Fields(at.LeadingComments+" "+at.TrailingComments), " ")
}

var protoColumns = map[protoreflect.Kind]string{
	protoreflect.BoolKind: "BOOL", protoreflect.StringKind: "STRING", protoreflect.BytesKind: "BYTES", protoreflect.EnumKind: "STRING",
	protoreflect.Int32Kind: "INT64", protoreflect.Sint32Kind: "INT64", protoreflect.Uint32Kind: "INT64", protoreflect.Int64Kind: "INT64",
	protoreflect.Sint64Kind: "INT64", protoreflect.Sfixed32Kind: "INT64", protoreflect.Fixed32Kind: "INT64",
	protoreflect.Sfixed64Kind: "INT64",
	protoreflect.Uint64Kind:   "NUMERIC", protoreflect.Fixed64Kind: "NUMERIC", // beyond INT64
	protoreflect.FloatKind: "FLOAT64", protoreflect.DoubleKind: "FLOAT64",
}

// Columns writes fields as the columns of a contract, in YAML. names are the columns' names that are taken, in small
// letters; what BigQuery does not take as a name is renamed. Of columns, those of required are REQUIRED; the others are
// not, also if the schema has no null for them: a version to come may leave the field out.
func Columns(fields []Field, indent string, names map[string]bool, required ...string) string {
	var b strings.Builder
	for _, f := range fields {
		name := ColumnName(f.Name, names)
		parts := []string{"name: " + name, "type: " + f.Type}
		if f.Precision > 0 {
			parts[1] = fmt.Sprintf("type: %q", fmt.Sprintf("%s(%d, %d)", f.Type, f.Precision, f.Scale))
		}
		switch {
		case f.Repeated:
			parts = append(parts, "mode: REPEATED")
		case slices.Contains(required, name):
			parts = append(parts, "mode: REQUIRED")
		}
		if len(f.Aliases) > 0 {
			from := []string{quoted(f.Name)}
			for _, alias := range f.Aliases {
				from = append(from, quoted(alias))
			}
			parts = append(parts, "from: ["+strings.Join(from, ", ")+"]")
		} else if name != f.Name {
			parts = append(parts, "from: "+quoted(f.Name))
		}
		if len(f.Accept) > 0 {
			parts = append(parts, "accept: ["+strings.Join(f.Accept, ", ")+"]")
		}
		if f.Default != nil {
			parts = append(parts, "default: "+quoted(*f.Default))
		}
		if f.Doc != "" {
			parts = append(parts, "description: "+quoted(f.Doc))
		}
		if len(f.Fields) == 0 {
			fmt.Fprintf(&b, "%s- {%s}\n", indent, strings.Join(parts, ", "))
			continue
		}
		fmt.Fprintf(&b, "%s- %s\n", indent, strings.Join(parts, "\n"+indent+"  "))
		fmt.Fprintf(&b, "%s  columns:\n%s", indent, Columns(f.Fields, indent+"    ", make(map[string]bool)))
	}
	return b.String()
}

// quoted is a text in YAML, which JSON is.
func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// ColumnName makes a column's name of a field's, which no other has, and adds it to names, in small letters.
func ColumnName(field string, names map[string]bool) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, field)
	upper := strings.ToUpper(name)
	for _, reserved := range []string{"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER",
		"_CHANGE_"} {
		if strings.HasPrefix(upper, reserved) {
			name = "event" + name
			break
		}
	}
	if len(name) > 290 {
		name = name[:290]
	}
	free := name
	for i := 2; names[strings.ToLower(free)]; i++ {
		free = name + "_" + strconv.Itoa(i)
	}
	names[strings.ToLower(free)] = true
	return free
}

// samples are values of each type, as JSON.
var samples = map[string]string{
	"STRING": `"text"`, "BYTES": `"AAEC"`, "INT64": "1", "FLOAT64": "1.5", "NUMERIC": "1", "BIGNUMERIC": "1", "BOOL": "true",
	"DATE": `"2026-01-31"`, "TIME": `"12:00:00"`, "DATETIME": `"2026-01-31T12:00:00"`, "TIMESTAMP": `"2026-01-31T12:00:00Z"`,
	"INTERVAL": `"P1D"`, "JSON": `{"any":"value"}`,
}

// Sample is an event with these fields, as JSON: with all of them, or with those that always have a value.
func Sample(fields []Field, whole bool) []byte {
	out := []byte{'{'}
	for _, f := range fields {
		if !whole && !f.Required {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(out, quote(f.Name)...), ':')
		value := []byte(samples[f.Type])
		if len(f.Fields) > 0 {
			value = Sample(f.Fields, whole)
		}
		if f.Type == "STRING" && len(f.Accept) == 1 && f.Accept[0] == "number" {
			value = []byte("1")
		}
		if f.Repeated {
			value = append(append([]byte{'['}, value...), ']')
		}
		out = append(out, value...)
	}
	return append(out, '}')
}

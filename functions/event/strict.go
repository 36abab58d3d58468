package event

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// strictDecoder is the straightforward decoder, on jsontext's tokens. It is what
// the other one is tested against.
type strictDecoder struct {
	columns  *columns
	maxDepth int
	maxBytes int
	json     jsontext.Decoder
	input    bytes.Buffer // jsontext reads a Buffer in place
	name     []byte       // of a member, unescaped
	text     []byte       // of a string, unescaped
	props    []byte       // the other members: "name":value,…
	seen     []bool       // by index of columns.fields
}

func (d *strictDecoder) init(cs *columns, c Config) {
	*d = strictDecoder{columns: cs, maxDepth: c.MaxDepth, maxBytes: c.MaxBytes, seen: make([]bool, len(cs.fields))}
}

// keptScratch is the largest scratch buffer that is kept from event to event.
const keptScratch = 1 << 20

func (d *strictDecoder) appendRow(row, value []byte, m *Meta) ([]byte, *Rejection) {
	if len(value) > d.maxBytes {
		return nil, rejectTooLarge(len(value), d.maxBytes)
	}
	start := bytes.TrimLeft(value, " \t\r\n")
	if len(start) == 0 || start[0] != '{' {
		return nil, rejectNoObject(value)
	}
	if cap(d.props) > keptScratch {
		d.props = nil
	}
	if cap(d.text) > keptScratch {
		d.text = nil
	}
	d.props = d.props[:0]
	clear(d.seen)
	d.input = *bytes.NewBuffer(value)
	d.json.Reset(&d.input)

	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntax(value, err)
	}
	var violation *Rejection // the first
	for d.json.PeekKind() == '"' {
		rawName, err := d.json.ReadValue()
		if err != nil {
			return nil, d.syntax(value, err)
		}
		// rawName points into the value, and stays.
		name, err := d.unquote(&d.name, rawName)
		if err != nil {
			return nil, d.syntax(value, err)
		}
		kind, raw, rejection := d.value(value)
		if rejection != nil {
			return nil, rejection
		}
		i, isColumn := d.columns.byName[string(name)]
		switch {
		case !isColumn:
			if len(d.props) > 0 {
				d.props = append(d.props, ',')
			}
			d.props = append(d.props, rawName...)
			d.props = append(d.props, ':')
			d.props = append(d.props, raw...)
		case kind == 'n': // null is absent
		case violation == nil:
			d.seen[i] = true
			row, violation = d.appendField(row, &d.columns.fields[i], kind, raw, m.IngestedAt)
		}
	}
	if _, err := d.json.ReadToken(); err != nil { // the closing brace, or why there is no name
		return nil, d.syntax(value, err)
	}
	if _, err := d.json.ReadToken(); err != io.EOF {
		return nil, rejectSyntax(value, int(d.json.InputOffset()))
	}
	if violation != nil {
		return nil, violation
	}
	for i := range d.columns.fields {
		if f := &d.columns.fields[i]; f.Required && !d.seen[i] {
			return nil, f.missing()
		}
	}
	return d.columns.appendOurs(d.columns.appendProperties(row, d.props), m), nil
}

// value reads the next value whole: its kind (by its first byte, '0' for numbers),
// and its text.
func (d *strictDecoder) value(whole []byte) (jsontext.Kind, []byte, *Rejection) {
	kind := d.json.PeekKind()
	if kind != '{' && kind != '[' {
		raw, err := d.json.ReadValue()
		if err != nil {
			return 0, nil, d.syntax(whole, err)
		}
		return kind, raw, nil
	}
	start, outer := 0, d.json.StackDepth()
	for first := true; first || d.json.StackDepth() > outer; first = false {
		if _, err := d.json.ReadToken(); err != nil {
			return 0, nil, d.syntax(whole, err)
		}
		if d.json.StackDepth() > d.maxDepth {
			return 0, nil, rejectTooDeep(d.maxDepth)
		}
		if first {
			start = int(d.json.InputOffset()) - 1
		}
	}
	return kind, whole[start:d.json.InputOffset()], nil
}

// syntax is the rejection for an error of jsontext's. Its text may repeat the
// event's, and is not used.
func (d *strictDecoder) syntax(value []byte, err error) *Rejection {
	var e *jsontext.SyntacticError
	if !errors.As(err, &e) {
		return rejectSyntax(value, len(value)) // io.ErrUnexpectedEOF
	}
	if !errors.Is(err, jsontext.ErrDuplicateName) {
		return rejectSyntax(value, int(e.ByteOffset))
	}
	if d.json.StackDepth() > 1 {
		return rejectDuplicate("")
	}
	i, ok := d.columns.byName[e.JSONPointer.LastToken()]
	if !ok {
		return rejectDuplicate("")
	}
	return rejectDuplicate(d.columns.fields[i].Name)
}

// unquote returns the string that raw quotes: within raw, or in *scratch if it has escapes.
func (d *strictDecoder) unquote(scratch *[]byte, raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	var err error
	*scratch, err = jsontext.AppendUnquote((*scratch)[:0], raw)
	return *scratch, err
}

// appendField appends the field f whose member is raw.
func (d *strictDecoder) appendField(row []byte, f *field, kind jsontext.Kind, raw []byte, now int64) ([]byte, *Rejection) {
	switch {
	case f.Type == contract.JSON:
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendBytes(row, raw), nil
	case kind == '"':
		s, err := d.unquote(&d.text, raw)
		if err != nil {
			return row, rejectSyntax(raw, 0)
		}
		return d.columns.appendText(row, f, s, now)
	case kind == '0' && f.Type == contract.Int64:
		// Not by ParseInt's error: it calls 100000000000000000000.0 out of range.
		if bytes.ContainsAny(raw, ".eE") {
			return row, f.reject(contract.CodeWrongType, "has a fraction or an exponent: send an integer")
		}
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return row, f.reject(contract.CodeOutOfRange, "does not fit into 64 bits")
		}
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendVarint(row, uint64(n)), nil
	case kind == '0' && f.Type == contract.Float64:
		n, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return row, f.reject(contract.CodeOutOfRange, "does not fit into a 64-bit floating point number")
		}
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendFixed64(row, math.Float64bits(n)), nil
	case (kind == 't' || kind == 'f') && f.Type == contract.Bool:
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendVarint(row, protowire.EncodeBool(kind == 't')), nil
	}
	return row, f.wrongType(byte(kind))
}

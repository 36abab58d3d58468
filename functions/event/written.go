package event

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
	"sluice/internal/schema"
)

// Program is a writer's schema, compiled for the events of a contract. It is safe for concurrent use.
type Program struct {
	*schema.Program
	name string
	made string // the schema that the contract was made for; empty: unknown
}

// Compile compiles a writer's schema for a contract. name is the schema's in messages, such as
// "orders-value version 3 (id 7)"; empty: it has none.
func Compile(c *contract.Contract, p *schema.Program, name string) (*Program, error) {
	plan, err := newPlan(c)
	if err != nil {
		return nil, err
	}
	out := &Program{Program: p.Choosing(plan.choice(plan.scopes[0].roots, true)), name: name}
	if r := c.Registry; r != nil && r.Subject != "" {
		out.made = fmt.Sprintf("%s version %d", r.Subject, r.Version)
	}
	return out, nil
}

// choice is the schema.Choice of an object with these places. A field is taken if one column takes it, from there only,
// and nothing else is done with it; the columns of RECORDs are not: theirs are found in text.
func (p *plan) choice(places []int32, take bool) schema.Choice {
	return func(name string, t schema.Type) (column int32, named bool, within schema.Choice) {
		for _, i := range places {
			at := &p.places[i]
			if at.name != name {
				continue
			}
			if len(at.fields) == 1 && take {
				if f := &p.fields[at.fields[0].field]; f.single && !f.late && !f.slow && !f.kept && !f.skipEmpty && f.takes(t) {
					return at.fields[0].field, true, nil
				}
			}
			inner, alone := slices.Clone(at.inner), len(at.fields) == 0 && len(at.reads) == 0
			for _, taker := range at.fields {
				if record := p.fields[taker.field].inner; record >= 0 {
					inner = append(inner, p.scopes[record].roots...)
				}
			}
			if len(inner) == 0 {
				return -1, true, nil
			}
			return -1, true, p.choice(inner, take && alone)
		}
		return -1, false, nil
	}
}

// takes reports whether a value of the type t becomes the same in the column as its text would.
func (c *column) takes(t schema.Type) bool {
	switch t {
	case schema.Text, schema.Integer, schema.Floating, schema.Number, schema.Boolean:
		return c.kind != kindJSON && c.kind != kindRecord
	case schema.Binary:
		return c.kind == kindBytes && c.accept&valueForms == contract.FormBase64
	case schema.Instant:
		return c.clocked
	case schema.Date:
		return c.kind == kindDate && c.accept&valueForms == contract.FormISO
	case schema.Clock:
		return c.kind == kindTime && c.accept&valueForms == contract.FormISO
	case schema.Local:
		return c.kind == kindDateTime && c.accept&valueForms == contract.FormISO
	}
	return false
}

// taking is a schema.Taker: it appends values to the row of an event before its text is read.
type taking struct {
	*fastDecoder
	digit [32]byte
}

func (t *taking) took(column int32, row []byte, p *problem) bool {
	if p != nil {
		return false
	}
	t.row = row
	t.filled[column] = t.scope
	if t.plan.fields[column].counted {
		t.missing--
	}
	return true
}

// TakeInteger takes Integer, Boolean, Instant, Local, Date and Clock.
func (t *taking) TakeInteger(column int32, of schema.Type, v int64) bool {
	f := &t.plan.fields[column]
	var row []byte
	var p *problem
	switch of {
	case schema.Boolean:
		row, p = f.appendBool(t.row, v == 1)
	case schema.Instant:
		row, p = f.appendTime(t.row, v, nil, t.now)
	case schema.Date:
		if v < minTimestamp/microsPerDay || v > maxTimestamp/microsPerDay {
			return false
		}
		row, p = f.appendCivilTime(t.row, v*microsPerDay, t.now)
	case schema.Local:
		if v < minTimestamp || v > maxTimestamp {
			return false
		}
		row, p = f.appendCivilTime(t.row, v, t.now)
	case schema.Clock:
		row, p = f.appendCivilTime(t.row, v, t.now)
	default:
		if f.kind == kindInt64 && f.accept&contract.FormNumber != 0 && f.min == nil && f.max == nil {
			row = protowire.AppendVarint(protowire.AppendVarint(t.row, f.tag), uint64(v))
		} else {
			row, p = f.appendNumber(t.row, strconv.AppendInt(t.digit[:0], v, 10), t.now)
		}
	}
	return t.took(column, row, p)
}

// TakeFloat takes Floating.
func (t *taking) TakeFloat(column int32, v float64) bool {
	f := &t.plan.fields[column]
	if f.kind == kindFloat64 && f.accept&contract.FormNumber != 0 && f.min == nil && f.max == nil {
		if v != v {
			v = math.NaN() // there are many
		}
		row := protowire.AppendFixed64(protowire.AppendVarint(t.row, f.tag), math.Float64bits(v))
		return t.took(column, row, nil)
	}
	return false
}

// TakeText takes Text, Binary and Number.
func (t *taking) TakeText(column int32, of schema.Type, v []byte) bool {
	f := &t.plan.fields[column]
	var row []byte
	var p *problem
	switch {
	case of == schema.Binary:
		row, p = f.appendRaw(t.row, v, t.now)
	case of == schema.Number:
		row, p = f.appendNumber(t.row, v, t.now)
	case f.clocked:
		row, p = t.appendClocked(t.row, f, v)
	default:
		row, p = f.appendString(t.row, v, t.now)
	}
	return t.took(column, row, p)
}

// appendSpecial appends a FLOAT64 that JSON has no number for; ok is false if text is not the name of one.
func (c *column) appendSpecial(row, text []byte) (_ []byte, _ *problem, ok bool) {
	var v float64
	switch string(text) {
	case "NaN":
		if c.min != nil || c.max != nil {
			return row, &problem{contract.CodeOutOfRange,
				"is not a number (NaN), and its column has a range: leave it out"}, true
		}
		v = math.NaN()
	case "Infinity":
		v = math.Inf(1)
	case "-Infinity":
		v = math.Inf(-1)
	default:
		return row, nil, false
	}
	if c.min != nil || c.max != nil {
		if p := c.within(compareFloat, &bound{float: v}); p != nil {
			return row, p, true
		}
	}
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendFixed64(row, math.Float64bits(v)), nil, true
}

// Schemas has the programs of writers' schemas. Program is called by several goroutines at once. Its error is a
// *Rejection, or what keeps the program from being known now: then no event may be rejected for it.
type Schemas interface {
	Program(id schema.ID) (*Program, error)
}

// writtenDecoder decodes events that were written with a schema.
type writtenDecoder struct {
	contract *contract.Contract
	fixed    *Program // for values without a prefix; nil: they have one
	schemas  Schemas
	reader   schema.Reader
	taking   taking
	text     []byte

	prefix []byte   // of the value that came last; empty: none came yet, or its id stands in a header
	last   *Program // its program
}

// newWrittenDecoder returns nil if events are JSON that no schema is held against.
func newWrittenDecoder(c *contract.Contract, fast *fastDecoder) (*writtenDecoder, error) {
	if !c.Written() {
		return nil, nil
	}
	w := &writtenDecoder{contract: c, taking: taking{fastDecoder: fast}}
	var err error
	switch {
	case c.Registry != nil: // see Use
	case len(c.Versions) > 0:
		w.schemas, err = newVersions(c)
	default:
		w.fixed, err = Compile(c, c.Writer, "")
	}
	return w, err
}

// versions are the Schemas of a contract that has them beside it.
type versions map[string]*Program

func newVersions(c *contract.Contract) (versions, error) {
	v := make(versions, len(c.Versions))
	for id, p := range c.Versions {
		var err error
		if v[id], err = Compile(c, p, c.Schema.IDs[id]+" (id "+id+")"); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Program is Schemas'.
func (v versions) Program(id schema.ID) (*Program, error) {
	if p := v[id.String()]; p != nil {
		return p, nil
	}
	return nil, &Rejection{Code: contract.CodeUnknownSchema,
		Message: "the event names the schema " + id.String() +
			", which is not among the contract's: add its file to the " +
			"ids of schema, deploy, and replay"}
}

// program returns the program that value was written with, and the value behind its prefix.
func (w *writtenDecoder) program(value []byte, m *Meta) (*Program, []byte, error) {
	if w.fixed != nil {
		if w.contract.Format == contract.FormatJSONSchema {
			var err error
			value, err = unframe(value)
			return w.fixed, value, err
		}
		return w.fixed, value, nil
	}
	if len(w.prefix) > 0 && w.contract.IDHeader == "" && bytes.HasPrefix(value, w.prefix) {
		return w.last, value[len(w.prefix):], nil // most events come with the schema of the one before
	}
	id, body, err := splitID(w.contract, value, m.Headers)
	if err != nil {
		return nil, nil, err
	}
	if w.schemas == nil {
		return nil, nil, errNoSchemas
	}
	p, err := w.schemas.Program(id)
	if err != nil {
		return nil, nil, err
	}
	w.prefix, w.last = append(w.prefix[:0], value[:len(value)-len(body)]...), p
	return p, body, nil
}

var errNoSchemas = errors.New("event: the contract's events need a schema registry, and this program asks none")

// longer is how many times as long as an event may be its JSON may be: numbers and bytes take more room there.
const longer = 3

// appendRow appends the row of an event.
func (w *writtenDecoder) appendRow(d *Decoder, dst, value []byte, m *Meta) ([]byte, error) {
	if value == nil {
		return nil, &Rejection{Code: contract.CodeUndecodableValue,
			Message: "the event is null (a Kafka tombstone): send an event"}
	}
	if len(value) > d.maxBytes {
		return nil, rejectTooLarge(len(value), d.maxBytes)
	}
	p, body, err := w.program(value, m)
	if err != nil {
		return nil, err
	}
	limits := schema.Limits{Bytes: longer * d.maxBytes, Depth: w.contract.MaxDepth}
	if cap(w.text) > keptScratch {
		w.text = nil
	}
	if d.fast != nil {
		d.fast.start(m)
		w.taking.row = dst
		w.text, err = w.reader.AppendRest(w.text[:0], p.Program, body, limits, &w.taking)
		if err == nil && (len(w.text) <= fewNames || !tooManyNames(w.text)) {
			row, err := d.fast.fill(w.text, m)
			if _, rejected := err.(*Rejection); !rejected {
				return row, err
			}
		}
	}
	// Without shortcuts: what is wrong is found in the order of the schema, and its place in the whole text.
	if w.text, err = w.reader.AppendJSON(w.text[:0], p.Program, body, limits); err != nil {
		return nil, w.reject(err, p, value)
	}
	row, err := d.appendText(dst, w.text, m)
	if r, ok := err.(*Rejection); ok {
		return nil, p.explain(r)
	}
	return row, err
}

// explain adds to a rejection which schema the event was written with.
func (p *Program) explain(r *Rejection) *Rejection {
	if p.name == "" {
		return r
	}
	out := *r
	out.Message += "; it was written with " + p.name
	if p.made != "" {
		out.Message += ", and the contract with " + p.made
	}
	return &out
}

// reject is the rejection of a value that its schema cannot read.
func (w *writtenDecoder) reject(err error, p *Program, value []byte) error {
	fault, ok := errors.AsType[*schema.Error](err)
	if !ok {
		return err
	}
	switch fault.Limit {
	case schema.TooLarge:
		return &Rejection{Code: contract.CodeTooLarge,
			Message: "the event has more than " + strconv.Itoa(longer*w.contract.MaxBytes) +
				" bytes as JSON: send less"}
	case schema.TooDeep:
		return rejectTooDeep(w.contract.MaxDepth)
	case schema.Invalid:
		return p.explain(&Rejection{Code: contract.CodeSchemaViolation, Field: fault.Path, Message: fault.Error()})
	case schema.InvalidUTF8:
		return p.explain(&Rejection{Code: contract.CodeInvalidUTF8, Field: fault.Path, Message: fault.Error()})
	}
	r := &Rejection{Code: contract.CodeUndecodableValue, Field: fault.Path, Message: fault.Error()}
	switch prefix := framedAs(value); {
	case w.fixed != nil && prefix != "":
		r.Message += fmt.Sprintf("; it begins with %s: the contract says that its events have no prefix (schema, without registry)", prefix)
	case w.fixed != nil && len(value) > 0 && value[0] == '{':
		r.Message += "; it begins like JSON: say format: json in the contract"
	case p.name != "":
		r.Message += ": it was written with another schema than " + p.name + ", which it names"
	}
	return r
}

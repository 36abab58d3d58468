package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message is a message type of a Protobuf schema.
type message struct {
	known  wellKnown
	fields []protoField
	small  []int16                    // by field number: its index in fields, plus one; 0: there is none
	large  map[protowire.Number]int16 // of numbers beyond
}

// protoField is a field of a message.
type protoField struct {
	name     string
	key      []byte // the name as JSON, with a colon
	kind     protoreflect.Kind
	message  *message         // of a message or group
	symbols  map[int32][]byte // of an enum, as JSON strings
	wire     protowire.Type   // of one value
	repeated bool
	packable bool
	isMap    bool
	implicit bool  // without presence: a value that is not there is its type's zero
	oneof    int16 // the oneof that it belongs to, plus one; 0: none

	named  bool // an implicit one is written also if it is not there
	taken  Type
	column int32
}

// wellKnown is a message type of google.protobuf that stands for something else in JSON.
type wellKnown uint8

const (
	ordinary wellKnown = iota
	knownTimestamp
	knownDuration
	knownWrapper
	knownStruct
	knownValue
	knownList
	knownFieldMask
	knownAny
)

var wellKnowns = map[protoreflect.FullName]wellKnown{
	"google.protobuf.Timestamp": knownTimestamp, "google.protobuf.Duration": knownDuration,
	"google.protobuf.DoubleValue": knownWrapper, "google.protobuf.FloatValue": knownWrapper,
	"google.protobuf.Int64Value": knownWrapper, "google.protobuf.UInt64Value": knownWrapper,
	"google.protobuf.Int32Value": knownWrapper, "google.protobuf.UInt32Value": knownWrapper,
	"google.protobuf.BoolValue": knownWrapper, "google.protobuf.StringValue": knownWrapper, "google.protobuf.BytesValue": knownWrapper,
	"google.protobuf.Struct": knownStruct, "google.protobuf.Value": knownValue, "google.protobuf.ListValue": knownList,
	"google.protobuf.FieldMask": knownFieldMask, "google.protobuf.Any": knownAny,
}

// ProtobufFile compiles the schema in a file, of which imports are found in the same folder. name is the full name
// of the events' message; empty: the file has only one.
func ProtobufFile(folder fs.FS, file, name string) (*Program, error) {
	d, err := compileProtobuf(file, func(path string) (io.ReadCloser, error) { return folder.Open(path) })
	if err != nil {
		return nil, err
	}
	if name == "" {
		if d.Messages().Len() != 1 {
			return nil, fmt.Errorf("has %d messages: say which one the events are, with message", d.Messages().Len())
		}
		return newProtobuf(d.Messages().Get(0))
	}
	m, _ := findMessage(d.Messages(), protoreflect.FullName(name))
	if m == nil {
		return nil, fmt.Errorf("has no message %s: give its full name, with the package", strconv.Quote(name))
	}
	return newProtobuf(m)
}

// Protobuf compiles a registry's Protobuf schema. references are the files that it imports, by the names it imports
// them by. indexes lead to the events' message: among the file's, then among those within.
func Protobuf(text string, references map[string]string, indexes []int) (*Program, error) {
	const main = "schema.proto"
	d, err := compileProtobuf(main, func(path string) (io.ReadCloser, error) {
		if path == main {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		if text, ok := references[path]; ok {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return nil, fs.ErrNotExist
	})
	if err != nil {
		return nil, err
	}
	among := d.Messages()
	var m protoreflect.MessageDescriptor
	for _, i := range indexes {
		if i < 0 || i >= among.Len() {
			return nil, fmt.Errorf("the Protobuf schema has no message at the indexes %v, which the value names",
				indexes)
		}
		m = among.Get(i)
		among = m.Messages()
	}
	if m == nil {
		return nil, errors.New("the value names no message of its Protobuf schema")
	}
	return newProtobuf(m)
}

func compileProtobuf(file string, open func(path string) (io.ReadCloser, error)) (protoreflect.FileDescriptor, error) {
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open}),
		MaxParallelism: 1,
		SourceInfoMode: protocompile.SourceInfoStandard} // comments become descriptions
	files, err := c.Compile(context.Background(), file)
	if err != nil {
		return nil, fmt.Errorf("read the Protobuf schema: %w", err)
	}
	return files[0], nil
}

func findMessage(among protoreflect.MessageDescriptors, name protoreflect.FullName) (protoreflect.MessageDescriptor,
	bool) {
	for i := range among.Len() {
		m := among.Get(i)
		if m.FullName() == name {
			return m, true
		}
		if inner, ok := findMessage(m.Messages(), name); ok {
			return inner, true
		}
	}
	return nil, false
}

func newProtobuf(d protoreflect.MessageDescriptor) (*Program, error) {
	if _, ok := wellKnowns[d.FullName()]; ok || d.IsMapEntry() {
		return nil, fmt.Errorf("the Protobuf message is %s: an event is a message of one's own", d.FullName())
	}
	c := &protoCompiler{messages: make(map[protoreflect.FullName]*message)}
	return &Program{Name: string(d.FullName()), proto: c.message(d), descriptor: d}, nil
}

type protoCompiler struct {
	messages map[protoreflect.FullName]*message
}

// maxSmall is how many field numbers are found without a map.
const maxSmall = 256

func (c *protoCompiler) message(d protoreflect.MessageDescriptor) *message {
	if m := c.messages[d.FullName()]; m != nil {
		return m
	}
	m := &message{known: wellKnowns[d.FullName()]}
	c.messages[d.FullName()] = m // before its fields, which may name it
	for i := range d.Fields().Len() {
		from := d.Fields().Get(i)
		f := protoField{
			name: string(from.Name()), key: append(quote(string(from.Name())),
				':'), kind: from.Kind(), wire: wireType(from.Kind()),
			repeated: from.IsList() || from.IsMap(), isMap: from.IsMap(),
			implicit: !from.HasPresence() && !from.IsList() && !from.IsMap(),
		}
		f.packable = f.repeated && f.wire != protowire.BytesType && f.wire != protowire.StartGroupType
		if o := from.ContainingOneof(); o != nil && !o.IsSynthetic() {
			f.oneof = int16(o.Index() + 1)
		}
		if e := from.Enum(); e != nil {
			f.symbols = make(map[int32][]byte)
			for k := range e.Values().Len() {
				if v := e.Values().Get(k); f.symbols[int32(v.Number())] == nil { // of aliases, the first
					f.symbols[int32(v.Number())] = quote(string(v.Name()))
				}
			}
		}
		if inner := from.Message(); inner != nil {
			f.message = c.message(inner)
		}
		m.fields = append(m.fields, f)
		if n := from.Number(); n < maxSmall {
			for int(n) >= len(m.small) {
				m.small = append(m.small, 0)
			}
			m.small[n] = int16(len(m.fields))
		} else {
			if m.large == nil {
				m.large = make(map[protowire.Number]int16)
			}
			m.large[n] = int16(len(m.fields))
		}
	}
	return m
}

func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	return protowire.VarintType
}

// slot is what was found of a field: the last value, and a list of those before it.
type slot struct {
	first, last int32 // of Reader.found, plus one; 0: it is not there
}

// found is a value of a field, or several that are packed.
type found struct {
	number uint64 // of varint and fixed
	bytes  []byte // of the others
	next   int32  // the next of the field, plus one
	packed bool
}

// lookup returns the index of the field with that number; -1: there is none.
func (m *message) lookup(n protowire.Number) int {
	if int(n) < len(m.small) {
		return int(m.small[n]) - 1
	}
	return int(m.large[n]) - 1
}

// wireError is the fault of bytes that are no message.
func wireError() error { return &Error{What: "is not in Protobuf's wire format, or ends too early"} }

// index finds the fields of a message in b, behind those that r.slots has already; they begin at r.slots[base].
func (r *Reader) index(m *message, b []byte, base int) error {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return wireError()
		}
		b = b[n:]
		i := m.lookup(number)
		var v found
		switch wire {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var bits uint32
			bits, n = protowire.ConsumeFixed32(b)
			v.number = uint64(bits)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		case protowire.StartGroupType:
			v.bytes, n = protowire.ConsumeGroup(number, b)
		default:
			return wireError()
		}
		if n < 0 {
			return wireError()
		}
		b = b[n:]
		if i < 0 {
			continue // a field that the schema does not know
		}
		f := &m.fields[i]
		if wire != f.wire {
			if !f.packable || wire != protowire.BytesType {
				continue // is one that the schema does not know, as every reader of Protobuf has it
			}
			v.packed = true
		}
		if f.oneof > 0 {
			for k := range m.fields {
				if k != i && m.fields[k].oneof == f.oneof {
					r.slots[base+k] = slot{}
				}
			}
		}
		s := &r.slots[base+i]
		if s.last > 0 && !f.repeated && f.message == nil {
			r.found[s.last-1] = v // the last one counts
			continue
		}
		r.found = append(r.found, v)
		at := int32(len(r.found))
		if s.last > 0 {
			r.found[s.last-1].next = at
		} else {
			s.first = at
		}
		s.last = at
	}
	return nil
}

// protobuf reads a message and appends it to r.out.
func (r *Reader) protobuf(m *message, b []byte) error {
	if r.depth++; r.depth > r.limits.Depth {
		return r.tooDeep()
	}
	base, foundBefore := len(r.slots), len(r.found)
	r.slots = append(r.slots, make([]slot, len(m.fields))...)
	err := r.index(m, b, base)
	if err == nil {
		err = r.fieldsOf(m, base)
	}
	r.slots, r.found = r.slots[:base], r.found[:foundBefore]
	r.depth--
	return err
}

// fieldsOf appends the message whose fields were found.
func (r *Reader) fieldsOf(m *message, base int) error {
	if m.known != ordinary {
		return r.wellKnown(m, base)
	}
	r.out = append(r.out, '{')
	first := true
	for i := range m.fields {
		f := &m.fields[i]
		s := r.slots[base+i]
		if s.last == 0 && (!f.implicit || !f.named) {
			continue
		}
		if f.taken != Other && r.taker != nil {
			if err := r.giveProto(f, s); err != nil {
				return within(err, f.name)
			}
			continue
		}
		if !first {
			r.out = append(r.out, ',')
		}
		first = false
		r.out = append(r.out, f.key...)
		var err error
		switch {
		case f.isMap:
			err = r.protoMap(f, s)
		case f.repeated:
			err = r.list(f, s)
		default:
			err = r.singular(f, s)
		}
		if err != nil {
			return within(err, f.name)
		}
		if err := r.fits(); err != nil {
			return within(err, f.name)
		}
	}
	r.out = append(r.out, '}')
	return r.fits()
}

// singular appends the value of a field that is not repeated.
func (r *Reader) singular(f *protoField, s slot) error {
	if s.last == 0 {
		return r.protoValue(f, found{})
	}
	v := r.found[s.first-1]
	if f.message != nil && v.next > 0 { // several messages are merged, which is to read them one after the other
		var all []byte
		for at := s.first; at > 0; at = r.found[at-1].next {
			all = append(all, r.found[at-1].bytes...)
		}
		v.bytes = all
	}
	return r.protoValue(f, v)
}

// protoValue appends one value of a field.
func (r *Reader) protoValue(f *protoField, v found) error {
	switch f.kind {
	case protoreflect.BoolKind:
		r.out = strconv.AppendBool(r.out, v.number != 0)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		r.out = strconv.AppendUint(r.out, uint64(uint32(v.number)), 10)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		r.out = strconv.AppendUint(r.out, v.number, 10)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		r.out = appendFloat(r.out, f.float(v.number))
	case protoreflect.StringKind:
		var ok bool
		if r.out, ok = appendString(r.out, v.bytes); !ok {
			return &Error{What: "is not valid UTF-8: encode it as UTF-8, or make it bytes in its schema",
				Limit: InvalidUTF8}
		}
	case protoreflect.BytesKind:
		r.out = appendBase64(r.out, v.bytes)
	case protoreflect.EnumKind:
		if symbol := f.symbols[int32(v.number)]; symbol != nil {
			r.out = append(r.out, symbol...)
		} else { // of a newer schema than the registry's
			r.out = strconv.AppendInt(r.out, int64(int32(v.number)), 10)
		}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return r.protobuf(f.message, v.bytes)
	default:
		r.out = strconv.AppendInt(r.out, f.integer(v.number), 10)
	}
	return nil
}

// integer is a signed number.
func (f *protoField) integer(v uint64) int64 {
	switch f.kind {
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind, protoreflect.EnumKind:
		return int64(int32(v))
	case protoreflect.Sint32Kind:
		return int64(int32(protowire.DecodeZigZag(uint64(uint32(v)))))
	case protoreflect.Sint64Kind:
		return protowire.DecodeZigZag(v)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return int64(uint32(v))
	}
	return int64(v)
}

func (f *protoField) float(v uint64) float64 {
	if f.kind == protoreflect.FloatKind {
		return float64(math.Float32frombits(uint32(v)))
	}
	return math.Float64frombits(v)
}

// each calls do for the values of a repeated field, packed or not.
func (r *Reader) each(f *protoField, s slot, do func(v found) error) error {
	for at, i := s.first, 0; at > 0; {
		v := r.found[at-1]
		at = v.next
		if !v.packed {
			if err := do(v); err != nil {
				return element(err, i)
			}
			i++
			continue
		}
		for b := v.bytes; len(b) > 0; i++ {
			var one found
			n := 0
			switch f.wire {
			case protowire.VarintType:
				one.number, n = protowire.ConsumeVarint(b)
			case protowire.Fixed32Type:
				var bits uint32
				bits, n = protowire.ConsumeFixed32(b)
				one.number = uint64(bits)
			default:
				one.number, n = protowire.ConsumeFixed64(b)
			}
			if n < 0 {
				return element(wireError(), i)
			}
			b = b[n:]
			if err := do(one); err != nil {
				return element(err, i)
			}
		}
	}
	return nil
}

func (r *Reader) list(f *protoField, s slot) error {
	r.out = append(r.out, '[')
	first := true
	err := r.each(f, s, func(v found) error {
		if !first {
			r.out = append(r.out, ',')
		}
		first = false
		if err := r.protoValue(f, v); err != nil {
			return err
		}
		return r.fits()
	})
	r.out = append(r.out, ']')
	return err
}

// entry is an entry of a map in r.out, with a comma behind it.
type entry struct{ from, keyEnd, to int }

// protoMap appends a map as an object.
func (r *Reader) protoMap(f *protoField, s slot) error {
	if r.depth++; r.depth > r.limits.Depth {
		return r.tooDeep()
	}
	key, value := &f.message.fields[0], &f.message.fields[1]
	first := len(r.entries)
	r.out = append(r.out, '{')
	for at := s.first; at > 0; {
		v := r.found[at-1]
		at = v.next
		base, before := len(r.slots), len(r.found)
		r.slots = append(r.slots, slot{}, slot{})
		if err := r.index(f.message, v.bytes, base); err != nil {
			return within(err, "an entry")
		}
		e := entry{from: len(r.out)}
		quoted := key.kind == protoreflect.StringKind
		if !quoted {
			r.out = append(r.out, '"')
		}
		if err := r.singular(key, r.slots[base]); err != nil {
			return within(err, "a key")
		}
		if !quoted {
			r.out = append(r.out, '"')
		}
		e.keyEnd = len(r.out)
		r.out = append(r.out, ':')
		if err := r.singular(value, r.slots[base+1]); err != nil {
			return within(err, "a value") // keys are the producer's, and may be personal data
		}
		r.out = append(r.out, ',')
		e.to = len(r.out)
		r.slots, r.found, r.entries = r.slots[:base], r.found[:before], append(r.entries, e)
		if err := r.fits(); err != nil {
			return err
		}
	}
	if entries := r.entries[first:]; len(entries) == 0 {
		r.out = append(r.out, '}')
	} else {
		r.onlyLast(entries)
		r.out[len(r.out)-1] = '}' // it was a comma
	}
	r.entries = r.entries[:first]
	r.depth--
	return nil
}

// onlyLast removes entries of a map from the end of r.out whose key comes again: the last one counts.
func (r *Reader) onlyLast(entries []entry) {
	begin := entries[0].from
	keyOf := func(e entry) []byte { return r.out[e.from:e.keyEnd] }
	slices.SortStableFunc(entries, func(a, b entry) int { return bytes.Compare(keyOf(a), keyOf(b)) })
	var kept []byte
	for i := range entries {
		again := i+1 < len(entries) && bytes.Equal(keyOf(entries[i]), keyOf(entries[i+1]))
		if again && kept == nil {
			kept = make([]byte, 0, len(r.out)-begin)
			for _, e := range entries[:i] {
				kept = append(kept, r.out[e.from:e.to]...)
			}
		}
		if !again && kept != nil {
			kept = append(kept, r.out[entries[i].from:entries[i].to]...)
		}
	}
	if kept != nil {
		r.out = append(r.out[:begin], kept...)
	}
}

// wellKnown appends a message of google.protobuf whose fields were found.
func (r *Reader) wellKnown(m *message, base int) error {
	// number and text are those of the field i.
	number := func(i int) uint64 {
		if s := r.slots[base+i]; s.last > 0 {
			return r.found[s.last-1].number
		}
		return 0
	}
	switch m.known {
	case knownTimestamp:
		seconds, nanos := int64(number(0)), int32(number(1))
		if seconds < minProtoSeconds || seconds > maxProtoSeconds || nanos < 0 || nanos > 999_999_999 {
			return &Error{What: "is a google.protobuf.Timestamp outside the years 1 to 9999, or with impossible nanoseconds"}
		}
		r.out = appendInstant(append(r.out, '"'), seconds, int(nanos))
		r.out = append(r.out, `Z"`...)
	case knownDuration:
		return r.duration(int64(number(0)), int32(number(1)))
	case knownWrapper, knownList:
		f, s := &m.fields[0], r.slots[base]
		if m.known == knownList {
			return r.list(f, s)
		}
		return r.singular(f, s)
	case knownStruct:
		return r.protoMap(&m.fields[0], r.slots[base])
	case knownValue:
		for i := range m.fields { // a oneof
			if s := r.slots[base+i]; s.last > 0 {
				if m.fields[i].kind == protoreflect.EnumKind {
					break
				}
				return r.singular(&m.fields[i], s)
			}
		}
		r.out = append(r.out, "null"...)
	case knownFieldMask:
		r.out = append(r.out, '"')
		first := true
		err := r.each(&m.fields[0], r.slots[base], func(v found) error {
			if !first {
				r.out = append(r.out, ',')
			}
			first = false
			mark := len(r.out)
			var ok bool
			if r.out, ok = appendString(r.out, v.bytes); !ok {
				return &Error{What: "is not valid UTF-8", Limit: InvalidUTF8}
			}
			r.out = append(r.out[:mark], r.out[mark+1:len(r.out)-1]...) // without the quotes
			return r.fits()
		})
		r.out = append(r.out, '"')
		return err
	case knownAny:
		r.out = append(r.out, `{"@type":`...)
		if err := r.singular(&m.fields[0], r.slots[base]); err != nil {
			return within(err, "type_url")
		}
		r.out = append(r.out, `,"value":`...)
		if err := r.singular(&m.fields[1], r.slots[base+1]); err != nil {
			return within(err, "value")
		}
		r.out = append(r.out, '}')
	}
	return nil
}

// What google.protobuf.Timestamp can be, in seconds: the years 1 to 9999.
const (
	minProtoSeconds = -62_135_596_800
	maxProtoSeconds = 253_402_300_799
	maxProtoSpan    = 315_576_000_000 // google.protobuf.Duration: 10,000 years
)

// duration appends a google.protobuf.Duration in ISO 8601.
func (r *Reader) duration(seconds int64, nanos int32) error {
	if seconds < -maxProtoSpan || seconds > maxProtoSpan || nanos < -999_999_999 || nanos > 999_999_999 ||
		seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0 {
		return &Error{What: "is a google.protobuf.Duration beyond 10,000 years, or with impossible nanoseconds"}
	}
	r.out = append(r.out, `"PT`...)
	if seconds < 0 || nanos < 0 {
		r.out = append(r.out, '-')
		seconds, nanos = -seconds, -nanos
	}
	r.out = strconv.AppendInt(r.out, seconds, 10)
	r.out = appendFraction(r.out, int(nanos))
	r.out = append(r.out, `S"`...)
	return nil
}

// given is what a Taker is given for values of the field.
func (f *protoField) given() Type {
	if f.repeated {
		return Other
	}
	switch f.kind {
	case protoreflect.BoolKind:
		return Boolean
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return Floating
	case protoreflect.StringKind:
		return Text
	case protoreflect.BytesKind:
		return Binary
	case protoreflect.EnumKind:
		return Other // a number, if the schema does not know it
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch f.message.known {
		case ordinary:
			return Object
		case knownTimestamp:
			return Instant
		}
		return Other
	}
	return Integer
}

// giveProto gives the value of a field to the Taker.
func (r *Reader) giveProto(f *protoField, s slot) error {
	var v found
	if s.last > 0 {
		v = r.found[s.first-1]
	}
	taken := false
	switch f.taken {
	case Boolean:
		b := int64(0)
		if v.number != 0 {
			b = 1
		}
		taken = r.taker.TakeInteger(f.column, Boolean, b)
	case Floating:
		taken = r.taker.TakeFloat(f.column, f.float(v.number))
	case Text:
		taken = utf8.Valid(v.bytes) && r.taker.TakeText(f.column, Text, v.bytes)
	case Binary:
		taken = r.taker.TakeText(f.column, Binary, v.bytes)
	case Integer:
		if unsigned := f.kind == protoreflect.Uint64Kind || f.kind == protoreflect.Fixed64Kind; !unsigned ||
			v.number <= math.MaxInt64 {
			taken = r.taker.TakeInteger(f.column, Integer, f.integer(v.number))
		}
	case Instant:
		if v.next > 0 {
			break
		}
		base, before := len(r.slots), len(r.found)
		r.slots = append(r.slots, slot{}, slot{})
		if err := r.index(f.message, v.bytes, base); err != nil {
			return err
		}
		var of [2]uint64
		for i := range of {
			if at := r.slots[base+i].last; at > 0 {
				of[i] = r.found[at-1].number
			}
		}
		r.slots, r.found = r.slots[:base], r.found[:before]
		seconds, nanos := int64(of[0]), int32(of[1])
		if seconds >= minProtoSeconds && seconds <= maxProtoSeconds && nanos >= 0 && nanos <= 999_999_999 {
			taken = r.taker.TakeInteger(f.column, Instant, seconds*1_000_000+int64(nanos)/1000)
		}
	}
	if !taken {
		return ErrNotTaken
	}
	return nil
}

// choosing copies the message for what is chosen of its fields.
func (m *message) choosing(choose Choice) *message {
	out := *m
	out.fields = append([]protoField(nil), m.fields...)
	for i := range out.fields {
		f := &out.fields[i]
		column, named, within := choose(f.name, f.given())
		f.named = named
		if column >= 0 && f.given() > Object {
			f.column, f.taken = column, f.given()
		}
		if within != nil && f.message != nil && f.message.known == ordinary && !f.isMap {
			f.message = f.message.choosing(within)
		}
	}
	return &out
}

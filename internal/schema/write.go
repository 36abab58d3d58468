package schema

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Write is the way back, for tools: it writes an event, as AppendJSON gives it, with the schema. What the schema has no
// field for is an error, and so is a field that needs a value and has none; errors begin with the field's path.
func (p *Program) Write(event []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("the event is not valid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the event is not valid JSON")
	}
	if p.json != nil {
		return event, nil
	}
	if p.proto == nil {
		return writeAvro(nil, p.avro, v)
	}
	v, err := toProtoJSON(p.descriptor, v)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := dynamicpb.NewMessage(p.descriptor)
	if err := (protojson.UnmarshalOptions{AllowPartial: true}).Unmarshal(text, m); err != nil {
		return nil, protoProblem(err)
	}
	out, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, protoProblem(err)
	}
	return out, nil
}

// protoProblem is the library's error without what it may quote of the event.
func protoProblem(err error) error {
	if name := regexp.MustCompile(`unknown field "([A-Za-z0-9_]+)"`).FindStringSubmatch(err.Error()); name != nil {
		return fmt.Errorf("%s is no field of the schema", name[1])
	}
	if name := regexp.MustCompile(`for ([a-z0-9]+ )?field ([A-Za-z0-9_.]+)`).FindStringSubmatch(err.Error()); name != nil {
		return fmt.Errorf("%s has a value that its type cannot have", name[2])
	}
	return errors.New("a value is none that its field's type can have")
}

// toProtoJSON changes what AppendJSON writes otherwise than protojson.
func toProtoJSON(d protoreflect.MessageDescriptor, v any) (any, error) {
	switch wellKnowns[d.FullName()] {
	case knownDuration:
		if s, ok := v.(string); ok && strings.HasPrefix(s, "PT") && strings.HasSuffix(s, "S") {
			return strings.TrimSuffix(s[2:], "S") + "s", nil
		}
		return v, nil
	case knownFieldMask:
		if s, ok := v.(string); ok {
			return regexp.MustCompile(`_[a-z]`).ReplaceAllStringFunc(s,
				func(m string) string { return strings.ToUpper(m[1:]) }), nil
		}
		return v, nil
	case knownAny:
		return nil, errors.New("a google.protobuf.Any cannot be written again: its type is not in the schema")
	case ordinary:
	default:
		return v, nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return v, nil // protojson says so
	}
	out := make(map[string]any, len(object))
	for name, value := range object {
		f := d.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return nil, fmt.Errorf("%s is no field of the schema", name)
		}
		inner := f.Message()
		var err error
		switch {
		case value == nil:
		case f.IsMap() && f.MapValue().Message() != nil:
			entries, _ := value.(map[string]any)
			changed := make(map[string]any, len(entries))
			for k, e := range entries {
				if changed[k], err = toProtoJSON(f.MapValue().Message(), e); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
			value = changed
		case f.IsList() && inner != nil:
			elements, _ := value.([]any)
			changed := make([]any, len(elements))
			for i, e := range elements {
				if changed[i], err = toProtoJSON(inner, e); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
			value = changed
		case inner != nil && !f.IsMap():
			if value, err = toProtoJSON(inner, value); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		out[name] = value
	}
	return out, nil
}

// errKind says that a value is none of its type.
func errKind(n *node) error {
	return &Error{What: "has a value that its type in the schema, " + n.describe() + ", cannot have"}
}

func (n *node) describe() string {
	for name, k := range avroKinds {
		if k == n.kind && name != "error" {
			return name
		}
	}
	return "unknown"
}

// writeAvro appends a value of the type n.
func writeAvro(dst []byte, n *node, v any) ([]byte, error) {
	switch n.kind {
	case kindNull:
		if v == nil {
			return dst, nil
		}
	case kindBoolean:
		if b, ok := v.(bool); ok {
			if b {
				return append(dst, 1), nil
			}
			return append(dst, 0), nil
		}
	case kindInt, kindLong:
		if i, ok := n.parseInt(v); ok && (n.kind == kindLong || int64(int32(i)) == i) {
			return binary.AppendVarint(dst, i), nil
		}
	case kindFloat, kindDouble:
		if f, ok := parseFloat(v); ok {
			if n.kind == kindFloat {
				return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f))), nil
			}
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), nil
		}
	case kindString:
		if s, ok := v.(string); ok {
			return append(binary.AppendVarint(dst, int64(len(s))), s...), nil
		}
	case kindBytes, kindFixed:
		if b, ok := n.parseBytes(v); ok {
			if n.kind == kindBytes {
				dst = binary.AppendVarint(dst, int64(len(b)))
			}
			return append(dst, b...), nil
		}
	case kindEnum:
		if s, ok := v.(string); ok {
			for i, symbol := range n.symbols {
				if string(symbol) == string(quote(s)) {
					return binary.AppendVarint(dst, int64(i)), nil
				}
			}
		}
	case kindUnion:
		for i, b := range n.branches {
			if out, err := writeAvro(binary.AppendVarint(dst[:len(dst):len(dst)], int64(i)), b, v); err == nil {
				return out, nil
			} else if n.single() == b && v != nil {
				return dst, err // the only one that it can be
			}
		}
	case kindArray:
		return writeArray(dst, n, v)
	case kindMap:
		return writeMap(dst, n, v)
	case kindRecord:
		return writeRecord(dst, n, v)
	}
	return dst, errKind(n)
}

func writeArray(dst []byte, n *node, v any) ([]byte, error) {
	elements, ok := v.([]any)
	if !ok {
		return dst, errKind(n)
	}
	if len(elements) > 0 {
		dst = binary.AppendVarint(dst, int64(len(elements)))
	}
	var err error
	for i, e := range elements {
		if dst, err = writeAvro(dst, n.inner, e); err != nil {
			return dst, element(err, i)
		}
	}
	return append(dst, 0), nil
}

func writeMap(dst []byte, n *node, v any) ([]byte, error) {
	entries, ok := v.(map[string]any)
	if !ok {
		return dst, errKind(n)
	}
	if len(entries) > 0 {
		dst = binary.AppendVarint(dst, int64(len(entries)))
	}
	var err error
	for k, e := range entries {
		dst = append(binary.AppendVarint(dst, int64(len(k))), k...)
		if dst, err = writeAvro(dst, n.inner, e); err != nil {
			return dst, within(err, "a value")
		}
	}
	return append(dst, 0), nil
}

func writeRecord(dst []byte, n *node, v any) ([]byte, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return dst, errKind(n)
	}
	known := 0
	for i := range n.fields {
		f := &n.fields[i]
		value, there := object[f.name]
		if there {
			known++
		}
		out, err := writeAvro(dst, f.node, value)
		if err != nil && !there {
			err = &Error{What: "is missing, and its schema has no null for it"}
		}
		if err != nil {
			return dst, within(err, f.name)
		}
		dst = out
	}
	if known < len(object) {
		return dst, &Error{What: "has a member that is no field of the schema"}
	}
	return dst, nil
}

// parseInt reads what appendInt writes.
func (n *node) parseInt(v any) (int64, bool) {
	if number, ok := v.(json.Number); ok {
		i, err := strconv.ParseInt(number.String(), 10, 64)
		return i, err == nil
	}
	s, ok := v.(string)
	if !ok || n.logical == plain {
		return 0, false
	}
	layout, of := "2006-01-02T15:04:05.999999999", strings.TrimPrefix(s, "+")
	switch n.logical {
	case logicalDate:
		layout = "2006-01-02"
	case logicalTimeMillis, logicalTimeMicros:
		layout, of = "2006-01-02T15:04:05.999999999", "1970-01-01T"+s
	case logicalInstant:
		layout += "Z07:00"
	}
	at, err := time.Parse(layout, of)
	if err != nil {
		return 0, false
	}
	switch n.logical {
	case logicalDate:
		return at.Unix() / secondsOfDay, at.Unix()%secondsOfDay == 0
	case logicalTimeMillis:
		return at.UnixMilli(), true
	case logicalTimeMicros:
		return at.UnixMicro(), true
	}
	perUnit := int64(time.Second) / n.perSecond
	seconds := at.Unix()
	if seconds > math.MaxInt64/n.perSecond || seconds < math.MinInt64/n.perSecond {
		return 0, false
	}
	return seconds*n.perSecond + int64(at.Nanosecond())/perUnit, true
}

func parseFloat(v any) (float64, bool) {
	if number, ok := v.(json.Number); ok {
		f, err := number.Float64()
		return f, err == nil
	}
	switch v {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	return 0, false
}

var durationForm = regexp.MustCompile(`^P(\d+)M(\d+)DT(\d+)(?:\.(\d{3}))?S$`)

// parseBytes reads what Reader.binary writes.
func (n *node) parseBytes(v any) ([]byte, bool) {
	number, isNumber := v.(json.Number)
	s, isString := v.(string)
	switch n.logical {
	case logicalDecimal, logicalBigDecimal:
		if !isNumber {
			return nil, false
		}
		return n.parseDecimal(number.String())
	case logicalUUID:
		b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		return b, isString && err == nil && len(b) == 16
	case logicalDuration:
		parts := durationForm.FindStringSubmatch(s)
		if parts == nil {
			return nil, false
		}
		var of [4]uint64
		for i := range of {
			of[i], _ = strconv.ParseUint(parts[i+1], 10, 64)
		}
		var b []byte
		for _, u := range []uint64{of[0], of[1], of[2]*1000 + of[3]} {
			if u > math.MaxUint32 {
				return nil, false
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(u))
		}
		return b, true
	}
	b, err := base64.StdEncoding.DecodeString(s)
	return b, isString && err == nil && (n.kind == kindBytes || len(b) == n.size)
}

// parseDecimal is the unscaled number of a decimal, as bytes in two's complement; a big-decimal's with its scale.
func (n *node) parseDecimal(text string) ([]byte, bool) {
	r, ok := new(big.Rat).SetString(text)
	if !ok || len(text) > 4*maxScale {
		return nil, false
	}
	scale := n.scale
	if n.logical == logicalBigDecimal {
		scale = 0
		if _, fraction, ok := strings.Cut(text, "."); ok && !strings.ContainsAny(text, "eE") {
			scale = len(fraction)
		}
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !r.IsInt() {
		return nil, false // it has more digits than the schema
	}
	length := r.Num().BitLen()/8 + 1
	if n.kind == kindFixed {
		if length > n.size && !(r.Num().Sign() < 0 && new(big.Int).Add(r.Num(), big.NewInt(1)).BitLen() <= n.size*8-1) {
			return nil, false
		}
		length = n.size
	}
	v := new(big.Int).Set(r.Num())
	if v.Sign() < 0 {
		v.Add(v, new(big.Int).Lsh(big.NewInt(1), uint(length)*8))
	}
	b := v.FillBytes(make([]byte, length))
	if n.logical == logicalBigDecimal {
		b = append(binary.AppendVarint(nil, int64(len(b))), b...)
		b = binary.AppendVarint(b, int64(scale))
	}
	return b, true
}

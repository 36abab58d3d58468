package schema

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"
)

// Type is what a Taker is given for a field.
type Type uint8

// The types.
const (
	Other    Type = iota // is never given to a Taker: arrays, maps, unions of several types
	Object               // a record: its fields may be given
	Integer              // of 64 bits
	Floating             // of 64 bits
	Boolean              // the integer 1 is true
	Text                 // valid UTF-8
	Binary               // bytes
	Number               // a decimal's digits as text
	Instant              // microseconds since 1970 in UTC
	Local                // microseconds since 1970 on a clock without time zone
	Date                 // days since 1970
	Clock                // microseconds of a day
)

// Taker takes values where they are read, so that they need not become text. A method returns false if it cannot take
// the value: then the whole event has to be read again, as JSON, which also finds out why.
type Taker interface {
	TakeInteger(column int32, t Type, v int64) bool // Integer, Boolean, Instant, Local, Date, Clock
	TakeFloat(column int32, v float64) bool         // Floating
	TakeText(column int32, t Type, v []byte) bool   // Text, Binary, Number; v is not kept
}

// ErrNotTaken says that a Taker could not take a value.
var ErrNotTaken = errors.New("schema: a value was not taken")

// Choice says what becomes of a field of the type t: it is given to the Taker as column, if that is not negative;
// named says that the contract knows it, and within, if that is not nil, what becomes of the fields of its value, or of
// its elements.
type Choice func(name string, t Type) (column int32, named bool, within Choice)

// Choosing returns the program with those fields given to a Taker that are chosen. Types that a choice leads into are
// copied, so that the same type elsewhere stays as it is.
func (p *Program) Choosing(choose Choice) *Program {
	out := *p
	switch {
	case p.proto != nil:
		out.proto = p.proto.choosing(choose)
	case p.avro != nil && p.avro.single() != nil && p.avro.single().kind == kindRecord:
		out.avro = p.avro.single().choosing(choose)
	}
	return &out
}

func (n *node) choosing(choose Choice) *node {
	out := *n
	out.fields = append([]field(nil), n.fields...)
	for i := range out.fields {
		f := &out.fields[i]
		t := f.node.single()
		if t == nil {
			continue
		}
		column, _, within := choose(f.name, t.given())
		switch {
		case column >= 0 && t.given() > Object:
			f.column, f.taken = column, t.given()
		case within != nil && t.kind == kindRecord:
			copied := t.choosing(within)
			if f.node.kind != kindUnion {
				f.node = copied
				continue
			}
			union := *f.node
			union.branches = append([]*node(nil), union.branches...)
			for k, b := range union.branches {
				if b == t {
					union.branches[k] = copied
				}
			}
			f.node = &union
		}
	}
	return &out
}

// single is the type of the values that are not null; nil: there are several.
func (n *node) single() *node {
	if n.kind != kindUnion {
		return n
	}
	var one *node
	for _, b := range n.branches {
		if b.kind == kindNull {
			continue
		}
		if one != nil {
			return nil
		}
		one = b
	}
	return one
}

// given is what a Taker is given for values of the type.
func (n *node) given() Type {
	switch n.logical {
	case logicalDecimal:
		return Number
	case logicalUUID:
		return Text
	case logicalDate:
		return Date
	case logicalTimeMillis, logicalTimeMicros:
		return Clock
	case logicalInstant:
		return Instant
	case logicalLocal:
		return Local
	case plain:
	default:
		return Other
	}
	switch n.kind {
	case kindBoolean:
		return Boolean
	case kindInt, kindLong:
		return Integer
	case kindFloat, kindDouble:
		return Floating
	case kindString, kindEnum:
		return Text
	case kindBytes, kindFixed:
		return Binary
	case kindRecord:
		return Object
	}
	return Other
}

// give reads a value of the type n, which is none of several, and gives it to the Taker.
func (r *Reader) give(n *node, f *field) error {
	taken := false
	switch n.kind {
	case kindInt, kindLong:
		v, err := r.number(n)
		if err != nil {
			return ErrNotTaken
		}
		switch n.logical {
		case logicalTimeMillis:
			if v < 0 || v >= secondsOfDay*1e3 {
				return ErrNotTaken
			}
			v *= 1e3
		case logicalTimeMicros:
			if v < 0 || v >= secondsOfDay*1e6 {
				return ErrNotTaken
			}
		case logicalInstant, logicalLocal:
			switch n.perSecond {
			case 1e3:
				if v > math.MaxInt64/1000 || v < math.MinInt64/1000 {
					return ErrNotTaken
				}
				v *= 1e3
			case 1e9:
				nanos := v % 1e3
				if v /= 1e3; nanos < 0 {
					v-- // what is below a microsecond is cut off, as of text
				}
			}
		}
		taken = r.taker.TakeInteger(f.column, f.taken, v)
	case kindFloat:
		b, err := r.take(4)
		if err != nil {
			return err
		}
		taken = r.taker.TakeFloat(f.column, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
	case kindDouble:
		b, err := r.take(8)
		if err != nil {
			return err
		}
		taken = r.taker.TakeFloat(f.column, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case kindString:
		b, err := r.bytes()
		if err != nil {
			return err
		}
		taken = utf8.Valid(b) && r.taker.TakeText(f.column, f.taken, b)
	case kindBytes, kindFixed:
		b, err := r.raw(n)
		if err != nil {
			return err
		}
		if n.logical == plain {
			taken = r.taker.TakeText(f.column, f.taken, b)
			break
		}
		mark := len(r.out)
		if err := r.binary(n, b); err != nil {
			return err
		}
		text := r.out[mark:]
		r.out = r.out[:mark]
		if text[0] == '"' {
			text = text[1 : len(text)-1] // a UUID needs no escapes
		}
		taken = r.taker.TakeText(f.column, f.taken, text)
	default: // the rest is as short as its text
		mark := len(r.out)
		if err := r.avro(n); err != nil {
			return err
		}
		text := r.out[mark:]
		r.out = r.out[:mark]
		switch text[0] {
		case 't':
			taken = r.taker.TakeInteger(f.column, f.taken, 1)
		case 'f':
			taken = r.taker.TakeInteger(f.column, f.taken, 0)
		default: // the symbol of an enum
			taken = r.taker.TakeText(f.column, f.taken, text[1:len(text)-1])
		}
	}
	if !taken {
		return ErrNotTaken
	}
	return nil
}

package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/twmb/avro"
)

// kind is how a value is written.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt // of 32 bits
	kindLong
	kindFloat
	kindDouble
	kindBytes
	kindString
	kindFixed
	kindEnum
	kindArray
	kindMap
	kindUnion
	kindRecord
)

// logical is what a value means beyond its kind.
type logical uint8

const (
	plain logical = iota
	logicalDecimal
	logicalBigDecimal
	logicalUUID
	logicalDate
	logicalTimeMillis
	logicalTimeMicros
	logicalInstant // units since 1970 in UTC: node.perSecond
	logicalLocal   // the same without a time zone
	logicalDuration
)

var avroKinds = map[string]kind{
	"null": kindNull, "boolean": kindBoolean, "int": kindInt, "long": kindLong, "float": kindFloat, "double": kindDouble,
	"bytes": kindBytes, "string": kindString, "fixed": kindFixed, "enum": kindEnum, "array": kindArray, "map": kindMap,
	"union": kindUnion, "record": kindRecord, "error": kindRecord,
}

// node is a type of an Avro schema.
type node struct {
	kind      kind
	logical   logical
	perSecond int64    // of logicalInstant and logicalLocal: units
	size      int      // of a fixed: bytes
	scale     int      // of a decimal
	symbols   [][]byte // of an enum, as JSON strings
	inner     *node    // of an array or a map: what its values are
	branches  []*node  // of a union
	fields    []field  // of a record
	least     int      // bytes that a value has at least
}

// field is a field of a record.
type field struct {
	name string
	key  []byte // the name as JSON, with a colon
	node *node

	taken  Type // what a Taker is given; Other: it is given nothing
	column int32
}

// Avro compiles an Avro schema. references are the schemas of types that it names and does not define itself, each
// behind those that it needs.
func Avro(text string, references ...string) (*Program, error) {
	var cache avro.SchemaCache
	c := &avroCompiler{named: make(map[string]*node)}
	var roots []*avro.SchemaNode
	for i, reference := range references {
		parsed, err := cache.Parse(reference)
		if err != nil {
			return nil, fmt.Errorf("read the referenced Avro schema %d: %w", i+1, err)
		}
		roots = append(roots, parsed.Root())
		if _, err := c.compile(roots[i], "", ""); err != nil {
			return nil, err
		}
	}
	parsed, err := cache.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the Avro schema: %w", err)
	}
	root := parsed.Root()
	n, err := c.compile(root, "", "")
	if err != nil {
		return nil, err
	}
	if n.kind == kindUnion { // what a topic with several types has
		for _, b := range n.branches {
			if b.kind != kindRecord && b.kind != kindNull {
				return nil, errors.New("the Avro schema is a union of which a branch is no record: an event is a record")
			}
		}
	} else if n.kind != kindRecord && n.kind != kindMap {
		return nil, fmt.Errorf("the Avro schema is of the type %s: an event is a record", root.Type)
	}
	for range len(c.all) { // records may name each other: until nothing grows any more
		changed := false
		for _, n := range c.all {
			if least := n.atLeast(); least > n.least {
				n.least, changed = least, true
			}
		}
		if !changed {
			break
		}
	}
	return &Program{Name: fullName(root), avro: n, roots: append(roots, root)}, nil
}

func fullName(n *avro.SchemaNode) string {
	if n.Namespace != "" {
		return n.Namespace + "." + n.Name
	}
	return n.Name
}

type avroCompiler struct {
	named map[string]*node
	all   []*node
}

// compile compiles the type at path; names without a dot are of namespace.
func (c *avroCompiler) compile(from *avro.SchemaNode, path, namespace string) (*node, error) {
	k, ok := avroKinds[from.Type]
	if !ok {
		n := c.named[from.Type]
		if inner := c.named[namespace+"."+from.Type]; inner != nil {
			n = inner
		}
		if n == nil {
			return nil, fmt.Errorf("the Avro schema names the type %s at %s and does not define it: it belongs to the "+
				"schema's references", from.Type, orRoot(path))
		}
		return n, nil
	}
	n := &node{kind: k, size: from.Size, scale: from.Scale}
	c.all = append(c.all, n)
	if k == kindRecord || k == kindEnum || k == kindFixed {
		c.named[fullName(from)] = n // before its fields, which may name it
		namespace = from.Namespace
	}
	n.setLogical(from.LogicalType)
	if n.logical == logicalDecimal && n.scale > maxScale {
		return nil, fmt.Errorf("the Avro schema has a decimal of the scale %d at %s: at most %d can be read", n.scale,
			orRoot(path), maxScale)
	}
	var err error
	switch k {
	case kindEnum:
		for _, s := range from.Symbols {
			n.symbols = append(n.symbols, quote(s))
		}
	case kindArray:
		n.inner, err = c.compile(from.Items, path+"[]", namespace)
	case kindMap:
		n.inner, err = c.compile(from.Values, path+"{}", namespace)
	case kindUnion:
		for i := range from.Branches {
			b, err := c.compile(&from.Branches[i], path, namespace)
			if err != nil {
				return nil, err
			}
			n.branches = append(n.branches, b)
		}
	case kindRecord:
		for i := range from.Fields {
			f := &from.Fields[i]
			inner := f.Name
			if path != "" {
				inner = path + "." + f.Name
			}
			t, err := c.compile(&f.Type, inner, namespace)
			if err != nil {
				return nil, err
			}
			n.fields = append(n.fields, field{name: f.Name, key: append(quote(f.Name), ':'), node: t})
		}
	}
	return n, err
}

// orRoot names a place in a schema.
func orRoot(path string) string {
	if path == "" {
		return "its root"
	}
	return path
}

// setLogical takes the logical type, if the kind can have it: otherwise it is ignored.
func (n *node) setLogical(name string) {
	set := func(l logical, kinds ...kind) {
		for _, k := range kinds {
			if n.kind == k {
				n.logical = l
			}
		}
	}
	instant := func(l logical, perSecond int64) {
		set(l, kindLong)
		n.perSecond = perSecond
	}
	switch name {
	case "decimal":
		set(logicalDecimal, kindBytes, kindFixed)
	case "big-decimal":
		set(logicalBigDecimal, kindBytes)
	case "uuid":
		if n.kind == kindFixed && n.size == 16 {
			n.logical = logicalUUID // as a string it is one
		}
	case "date":
		set(logicalDate, kindInt)
	case "time-millis":
		set(logicalTimeMillis, kindInt)
	case "time-micros":
		set(logicalTimeMicros, kindLong)
	case "timestamp-millis":
		instant(logicalInstant, 1e3)
	case "timestamp-micros":
		instant(logicalInstant, 1e6)
	case "timestamp-nanos":
		instant(logicalInstant, 1e9)
	case "local-timestamp-millis":
		instant(logicalLocal, 1e3)
	case "local-timestamp-micros":
		instant(logicalLocal, 1e6)
	case "local-timestamp-nanos":
		instant(logicalLocal, 1e9)
	case "duration":
		if n.kind == kindFixed && n.size == 12 {
			n.logical = logicalDuration
		}
	}
}

// atLeast is how many bytes a value has at least, as far as is known of the types within.
func (n *node) atLeast() int {
	switch n.kind {
	case kindNull:
		return 0
	case kindFloat:
		return 4
	case kindDouble:
		return 8
	case kindFixed:
		return n.size
	case kindRecord:
		sum := 0
		for _, f := range n.fields {
			sum = min(sum+f.node.least, 1<<30) // a record that holds itself has none that ends
		}
		return sum
	}
	return 1
}

// errEnd is the fault of a value that ends too early.
func (r *Reader) errEnd() error {
	return &Error{What: "ends too early, after " + strconv.Itoa(len(r.in)) + " bytes of the value"}
}

// varint reads a number in zigzag encoding.
func (r *Reader) varint() (int64, error) {
	if r.at < len(r.in) && r.in[r.at] < 0x80 { // most are lengths and branches
		b := int64(r.in[r.at])
		r.at++
		return b>>1 ^ -(b & 1), nil
	}
	v, n := binary.Uvarint(r.in[r.at:])
	if n <= 0 {
		if n == 0 {
			return 0, r.errEnd()
		}
		return 0, &Error{What: "has a number of more than 64 bits"}
	}
	r.at += n
	return int64(v>>1) ^ -int64(v&1), nil
}

// short reads a number in zigzag encoding of 32 bits, which takes five bytes at most, as Avro's Java library has it.
func (r *Reader) short() (v int64, ok bool, err error) {
	from := r.at
	v, err = r.varint()
	return v, r.at-from <= 5 && int64(int32(v)) == v, err
}

// number reads an int or a long.
func (r *Reader) number(n *node) (int64, error) {
	if n.kind == kindLong {
		return r.varint()
	}
	v, ok, err := r.short()
	if err == nil && !ok {
		err = &Error{What: "is a number of more than 32 bits: its schema says int"}
	}
	return v, err
}

// ordinal reads which of its symbols an enum is, or which of its types a union has.
func (r *Reader) ordinal(of string) (int64, error) {
	v, ok, err := r.short()
	if err == nil && !ok {
		err = &Error{What: "begins with a number of more than 32 bits where that of its " + of + " stands"}
	}
	return v, err
}

// take reads n bytes.
func (r *Reader) take(n int64) ([]byte, error) {
	if n < 0 {
		return nil, &Error{What: "has a negative length"}
	}
	if n > int64(len(r.in)-r.at) {
		return nil, r.errEnd()
	}
	b := r.in[r.at : r.at+int(n)]
	r.at += int(n)
	return b, nil
}

// bytes reads a length and as many bytes.
func (r *Reader) bytes() ([]byte, error) {
	n, err := r.varint()
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

// avro reads a value of the type n and appends it to r.out.
func (r *Reader) avro(n *node) error {
	switch n.kind {
	case kindNull:
		r.out = append(r.out, "null"...)
		return nil
	case kindBoolean:
		b, err := r.take(1)
		if err != nil {
			return err
		}
		switch b[0] {
		case 0:
			r.out = append(r.out, "false"...)
		case 1:
			r.out = append(r.out, "true"...)
		default:
			return &Error{What: "is a boolean that is neither 0 nor 1"}
		}
		return nil
	case kindInt, kindLong:
		v, err := r.number(n)
		if err != nil {
			return err
		}
		r.out = n.appendInt(r.out, v)
		return nil
	case kindFloat:
		b, err := r.take(4)
		if err != nil {
			return err
		}
		r.out = appendFloat(r.out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
		return nil
	case kindDouble:
		b, err := r.take(8)
		if err != nil {
			return err
		}
		r.out = appendFloat(r.out, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		return nil
	case kindString:
		return r.string()
	case kindBytes, kindFixed:
		b, err := r.raw(n)
		if err != nil {
			return err
		}
		return r.binary(n, b)
	case kindEnum:
		v, err := r.ordinal("enum")
		if err != nil {
			return err
		}
		if v < 0 || v >= int64(len(n.symbols)) {
			return &Error{What: fmt.Sprintf("is symbol %d of an enum of %d", v, len(n.symbols))}
		}
		r.out = append(r.out, n.symbols[v]...)
		return nil
	case kindUnion:
		b, err := r.branch(n)
		if err != nil {
			return err
		}
		return r.avro(b)
	}
	if r.depth++; r.depth > r.limits.Depth {
		return r.tooDeep()
	}
	var err error
	switch n.kind {
	case kindRecord:
		err = r.record(n)
	case kindArray:
		err = r.array(n)
	default:
		err = r.object(n)
	}
	r.depth--
	return err
}

// branch reads which type a value of a union has.
func (r *Reader) branch(n *node) (*node, error) {
	v, err := r.ordinal("union")
	if err != nil {
		return nil, err
	}
	if v < 0 || v >= int64(len(n.branches)) {
		return nil, &Error{What: fmt.Sprintf("is branch %d of a union of %d", v, len(n.branches))}
	}
	return n.branches[v], nil
}

func (r *Reader) string() error {
	b, err := r.bytes()
	if err != nil {
		return err
	}
	var ok bool
	if r.out, ok = appendString(r.out, b); !ok {
		return &Error{What: "is not valid UTF-8: encode it as UTF-8, or make it bytes in its schema",
			Limit: InvalidUTF8}
	}
	return nil
}

// raw reads a value of bytes or fixed.
func (r *Reader) raw(n *node) ([]byte, error) {
	if n.kind == kindFixed {
		return r.take(int64(n.size))
	}
	return r.bytes()
}

// binary appends a value of bytes or fixed.
func (r *Reader) binary(n *node, b []byte) error {
	switch n.logical {
	case logicalDecimal:
		r.out = appendDecimal(r.out, b, n.scale)
	case logicalBigDecimal:
		return r.bigDecimal(b)
	case logicalUUID:
		r.out = appendUUID(r.out, b)
	case logicalDuration:
		r.out = appendDuration(r.out, b)
	default:
		r.out = appendBase64(r.out, b)
	}
	return r.fits()
}

// bigDecimal appends a decimal that has its own scale: within the bytes stand bytes, its digits, and an int, its scale.
func (r *Reader) bigDecimal(b []byte) error {
	inner := Reader{in: b}
	unscaled, err := inner.bytes()
	if err == nil {
		var scale int64
		if scale, err = inner.varint(); err == nil {
			if inner.at != len(b) || scale < -maxScale || scale > maxScale {
				return &Error{What: "is no big-decimal: its scale is beyond " + strconv.Itoa(maxScale) +
					", or something follows"}
			}
			r.out = appendDecimal(r.out, unscaled, int(scale))
			return r.fits()
		}
	}
	return &Error{What: "is no big-decimal: it ends too early"}
}

// maxScale bounds the digits that a scale makes; BIGNUMERIC has 38 of them behind the point.
const maxScale = 1000

// appendInt appends a number of the type n.
func (n *node) appendInt(dst []byte, v int64) []byte {
	switch n.logical {
	case logicalDate:
		dst = appendDate(append(dst, '"'), v)
		return append(dst, '"')
	case logicalTimeMillis:
		if v >= 0 && v < secondsOfDay*1e3 {
			dst = appendClock(append(dst, '"'), int(v/1e3), int(v%1e3)*1e6)
			return append(dst, '"')
		}
	case logicalTimeMicros:
		if v >= 0 && v < secondsOfDay*1e6 {
			dst = appendClock(append(dst, '"'), int(v/1e6), int(v%1e6)*1e3)
			return append(dst, '"')
		}
	case logicalInstant, logicalLocal:
		seconds, nanos := split(v, n.perSecond)
		dst = appendInstant(append(dst, '"'), seconds, nanos)
		if n.logical == logicalInstant {
			dst = append(dst, 'Z')
		}
		return append(dst, '"')
	}
	return strconv.AppendInt(dst, v, 10)
}

// fits returns an error once the text is larger than it may be.
func (r *Reader) fits() error {
	if len(r.out)-r.begin > r.limits.Bytes {
		return &Error{What: "makes the event larger than " + strconv.Itoa(r.limits.Bytes) + " bytes as JSON",
			Limit: TooLarge}
	}
	return nil
}

func (r *Reader) record(n *node) error {
	r.out = append(r.out, '{')
	first := true
	for i := range n.fields {
		f := &n.fields[i]
		t := f.node
		if t.kind == kindUnion {
			b, err := r.branch(t)
			if err != nil {
				return within(err, f.name)
			}
			t = b
		}
		if t.kind == kindNull {
			continue
		}
		if f.taken != Other && r.taker != nil {
			if err := r.give(t, f); err != nil {
				return within(err, f.name)
			}
			continue
		}
		if !first {
			r.out = append(r.out, ',')
		}
		first = false
		r.out = append(r.out, f.key...)
		if err := r.avro(t); err != nil {
			return within(err, f.name)
		}
	}
	r.out = append(r.out, '}')
	return r.fits()
}

// block reads how many values of at least so many bytes follow in a block of an array or map; 0: it ends.
func (r *Reader) block(least int) (int64, error) {
	n, err := r.varint()
	if err != nil || n == 0 {
		return 0, err
	}
	if n < 0 {
		if n == math.MinInt64 {
			return 0, &Error{What: "has a block of an impossible length"}
		}
		if _, err := r.varint(); err != nil { // the block's bytes, for those that skip it
			return 0, err
		}
		n = -n
	}
	if least > 0 && n > int64(len(r.in)-r.at)/int64(least) {
		return 0, r.errEnd()
	}
	return n, nil
}

func (r *Reader) array(n *node) error {
	r.out = append(r.out, '[')
	for i := 0; ; {
		count, err := r.block(n.inner.least)
		if err != nil {
			return err
		}
		if count == 0 {
			break
		}
		for ; count > 0; count-- {
			if i > 0 {
				r.out = append(r.out, ',')
			}
			if err := r.avro(n.inner); err != nil {
				return element(err, i)
			}
			if err := r.fits(); err != nil {
				return err
			}
			i++
		}
	}
	r.out = append(r.out, ']')
	return nil
}

// object reads a map.
func (r *Reader) object(n *node) error {
	r.out = append(r.out, '{')
	for first := true; ; {
		count, err := r.block(n.inner.least + 1)
		if err != nil {
			return err
		}
		if count == 0 {
			break
		}
		for ; count > 0; count-- {
			if !first {
				r.out = append(r.out, ',')
			}
			first = false
			if err := r.string(); err != nil {
				return within(err, "a key")
			}
			r.out = append(r.out, ':')
			if err := r.avro(n.inner); err != nil {
				return within(err, "a value") // keys are the producer's, and may be personal data
			}
			if err := r.fits(); err != nil {
				return err
			}
		}
	}
	r.out = append(r.out, '}')
	return nil
}

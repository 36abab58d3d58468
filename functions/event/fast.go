package event

import (
	"encoding/binary"
	"math"
	"strconv"

	"sluice/internal/contract"

	"google.golang.org/protobuf/encoding/protowire"
)

// fastDecoder reads an event once, from its first byte to its last. At each name it
// first compares what is there with what came next in earlier events; if all
// guesses fail it reads the name in the ordinary way, at the same place.
//
// Calls are dear here, because none of a caller's registers outlives one: what
// happens to nearly every member of nearly every event is written out.
type fastDecoder struct {
	columns   *columns
	names     names
	maxDepth  int
	maxBytes  int
	required  int      // columns that an event must fill
	missing   int      // of them, in this event
	objects   uint64   // how many were begun, ever: their numbers
	filled    []uint64 // by index of columns.fields: the number of the event that filled it last
	other     []piece  // where the other members stand in the event
	text      []byte   // of a string, unescaped
	meta      Meta     // of an event before
	batch     []byte   // what columns.appendBatch makes of it
	clock     clock
	lane      uint8
	violation *Rejection // the first of a field
	rejection *Rejection // for syntax, when a function returns -1
}

// piece is a part of the event that goes into properties as it stands, with a byte after it.
type piece struct {
	start, end int
	then       byte
}

func newFastDecoder(cs *columns, c Config) *fastDecoder {
	d := &fastDecoder{columns: cs, batch: cs.appendBatch(nil, &Meta{}), maxDepth: c.MaxDepth, maxBytes: c.MaxBytes, filled: make([]uint64, len(cs.fields))}
	d.names.init(cs)
	for i := range cs.fields {
		if cs.fields[i].Required {
			d.required++
		}
	}
	return d
}

func (d *fastDecoder) appendRow(row, b []byte, m *Meta) ([]byte, *Rejection) {
	if len(b) > d.maxBytes {
		return nil, rejectTooLarge(len(b), d.maxBytes)
	}
	p := scanSpace(b, 0)
	if p == len(b) || b[p] != '{' {
		return nil, rejectNoObject(b)
	}
	p++
	b = b[:len(b):len(b)] // spares the comparisons of capacities
	d.begin()
	number := d.objects
	run := -1 // where the piece of other members begins that has not ended; -1: none
	where := &d.names.start
	for first := true; ; first = false {
		// What is before the next value.
		if p < len(b) && b[p] == '}' {
			break
		}
		before := p
		var w words
		if p+maxGap <= len(b) {
			w = load(b[p : p+maxGap])
		} else {
			w = loadEnd(b, p)
		}
		gap := int32(where[0])
		g := d.names.gap(gap)
		if p += int(g.length); !g.begins(w) || p >= len(b) || b[p] <= ' ' {
			gap = d.names.match(where, w, b, before, first, 0)
			g = d.names.gap(gap)
			p = before + int(g.length)
		}
		if first {
			d.lane = g.lane
		}
		column := int32(g.column)
		quote, quoted := before+int(g.quote), before+int(g.quoted)
		id, compact := int32(g.name), g.compact
		if gap != 0 {
			if d.names.seen[id] == number {
				return nil, d.duplicate(id)
			}
			d.names.seen[id] = number
		} else {
			if id, quote, quoted, p = d.name(b, p, first, 0, number); p < 0 {
				return nil, d.rejection
			}
			if id == 0 {
				if run >= 0 {
					d.other = append(d.other, piece{run, before, ','})
					run = -1
				}
				p = quote
				break
			}
			gap = d.names.learn(where, b[before:p], quote-before, quoted-before, first, id)
			column, compact = d.names.list[id].column, quote-before <= 1 && p-quoted == 1
		}
		where = d.names.next(gap, d.lane)

		start := p
		if column < 0 {
			// A member of no column: its text goes into properties, if it is compact
			// together with what is before and behind it.
			if !compact {
				if run >= 0 {
					d.other = append(d.other, piece{run, before, ','})
				}
				d.other = append(d.other, piece{quote, quoted, ':'})
				run = p
			} else if run < 0 {
				run = quote
			}
			if p < len(b) && b[p] == '"' {
				if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
					if p, _ = scanSpecial(b, p); p < 0 {
						return nil, rejectSyntax(b, start)
					}
				}
				p++
				continue
			}
			if p < len(b) && b[p] == '{' {
				p = d.object(b, p+1, id, gap, 2)
			} else {
				p = d.value(b, p, id, gap, 1)
			}
			if p < 0 {
				return nil, d.rejection
			}
			continue
		}

		if run >= 0 {
			d.other = append(d.other, piece{run, before, ','})
			run = -1
		}
		f := &d.columns.fields[column]
		if p >= len(b) || b[p] != '"' || f.kind == kindJSON {
			if p = d.value(b, p, id, gap, 1); p < 0 {
				return nil, d.rejection
			}
			if b[start] != 'n' && d.violation == nil { // null is absent
				d.fill(column, number)
				row, d.violation = appendScalar(row, f, b[start:p])
			}
			continue
		}
		escaped := false
		if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
			if p, escaped = scanSpecial(b, p); p < 0 {
				return nil, rejectSyntax(b, start)
			}
		}
		text := b[start+1 : p]
		p++
		if d.violation != nil {
			continue
		}
		d.fill(column, number)
		if escaped {
			d.text = appendUnescaped(d.text[:0], text)
			text = d.text
		}
		if f.kind == kindString && (f.rule == ruleNone || f.rule == ruleNotEmpty && len(text) > 0) {
			n := len(text)
			if k := len(row); n <= 2*room && !escaped && f.tag < 0x80 && k+2+2*room <= cap(row) && start+1+2*room <= len(b) {
				to, from := row[k:k+2+2*room], b[start+1:start+1+2*room]
				to[0], to[1] = byte(f.tag), byte(n)
				copyRoom(to[2:], from)
				if n > room {
					copyRoom(to[2+room:], from[room:])
				}
				row = row[:k+2+n]
				continue
			}
			row = protowire.AppendVarint(row, f.tag)
			row = protowire.AppendBytes(row, text)
			continue
		}
		if f.kind == kindTimestamp {
			t, err := d.clock.parse(text)
			row, d.violation = d.columns.appendTime(row, f, t, err, m.IngestedAt)
			continue
		}
		if f.rule == ruleType {
			k := d.columns.typeIndex(text)
			d.lane += uint8(k) % typeLanes
			where = d.names.next(gap, d.lane)
			if k >= 0 {
				row = protowire.AppendVarint(row, f.tag)
				row = protowire.AppendBytes(row, text)
				continue
			}
		}
		row, d.violation = d.columns.appendText(row, f, text, m.IngestedAt)
	}
	if run >= 0 {
		d.other = append(d.other, piece{run, p, ','})
	}
	if p = scanSpace(b, p+1); p < len(b) {
		return nil, rejectSyntax(b, p)
	}
	if d.violation != nil {
		return nil, d.violation
	}
	if d.missing > 0 {
		for i := range d.columns.fields {
			if f := &d.columns.fields[i]; f.Required && d.filled[i] != number {
				return nil, f.missing()
			}
		}
	}
	row = d.appendProperties(row, b)
	if m.IngestedAt != d.meta.IngestedAt || m.Partition != d.meta.Partition || m.Topic != d.meta.Topic || (m.Offset < 0) != (d.meta.Offset < 0) {
		d.meta, d.batch = *m, d.columns.appendBatch(d.batch[:0], m)
	}
	return d.columns.appendPlace(append(row, d.batch...), m), nil
}

// room is how much copyRoom copies.
const room = 32

// copyRoom copies a fixed number of bytes, without the branches of a copy that has
// to look at the length.
func copyRoom(to, from []byte) {
	binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(from))
	binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(from[8:]))
	binary.LittleEndian.PutUint64(to[16:], binary.LittleEndian.Uint64(from[16:]))
	binary.LittleEndian.PutUint64(to[24:], binary.LittleEndian.Uint64(from[24:]))
}

// begin makes ready for an event.
func (d *fastDecoder) begin() {
	if cap(d.text) > keptScratch {
		d.text = nil
	}
	if cap(d.other) > keptScratch/32 {
		d.other = nil
	}
	d.other = d.other[:0]
	d.violation = nil
	d.missing = d.required
	d.names.begin()
	d.objects++
}

// fill notes that the event fills the column.
func (d *fastDecoder) fill(column int32, number uint64) {
	d.filled[column] = number
	if d.columns.fields[column].Required {
		d.missing--
	}
}

func (d *fastDecoder) appendProperties(row, b []byte) []byte {
	switch len(d.other) {
	case 0:
		return row
	case 1:
		return d.columns.appendProperties(row, b[d.other[0].start:d.other[0].end])
	}
	n := 1
	for _, o := range d.other {
		n += o.end - o.start + 1
	}
	row = protowire.AppendVarint(row, d.columns.properties)
	row = protowire.AppendVarint(row, uint64(n))
	row = append(row, '{')
	for _, o := range d.other {
		row = append(row, b[o.start:o.end]...)
		row = append(row, o.then)
	}
	row[len(row)-1] = '}'
	return row
}

// name reads what is before a value in the ordinary way: a comma unless it is the
// object's first, a name, a colon. It returns the name's id, where it is quoted, and
// where the value begins; the id 0 and the place of the closing brace if the object
// ends; -1 and d.rejection if neither is there.
func (d *fastDecoder) name(b []byte, p int, first bool, object int32, number uint64) (id int32, quote, quoted, next int) {
	p = scanSpace(b, p)
	if p < len(b) && b[p] == '}' {
		return 0, p, 0, 0
	}
	if !first {
		if p == len(b) || b[p] != ',' {
			d.rejection = rejectSyntax(b, p)
			return 0, 0, 0, -1
		}
		p = scanSpace(b, p+1)
	}
	if p == len(b) || b[p] != '"' {
		d.rejection = rejectSyntax(b, p)
		return 0, 0, 0, -1
	}
	quote = p
	end, escaped := scanString(b, p+1)
	if end < 0 {
		d.rejection = rejectSyntax(b, p)
		return 0, 0, 0, -1
	}
	text := b[p+1 : end]
	if escaped {
		d.text = appendUnescaped(d.text[:0], text)
		text = d.text
	}
	id = d.names.lookup(object, text)
	if d.names.seen[id] == number {
		d.rejection = d.duplicate(id)
		return 0, 0, 0, -1
	}
	d.names.seen[id] = number
	if p = scanSpace(b, end+1); p == len(b) || b[p] != ':' {
		d.rejection = rejectSyntax(b, p)
		return 0, 0, 0, -1
	}
	return id, quote, end + 1, scanSpace(b, p+1)
}

func (d *fastDecoder) duplicate(id int32) *Rejection {
	if column := d.names.list[id].column; column >= 0 {
		return rejectDuplicate(d.columns.fields[column].Name)
	}
	return rejectDuplicate("")
}

// value reads the value at p, which belongs to the name id and stands within depth
// objects and arrays, and returns its end; -1 and d.rejection if it is none.
func (d *fastDecoder) value(b []byte, p int, id, gap int32, depth int) int {
	end := -1
	if p < len(b) {
		switch b[p] {
		case '"':
			if end, _ = scanString(b, p+1); end >= 0 {
				return end + 1
			}
		case '{':
			return d.object(b, p+1, id, gap, depth+1)
		case '[':
			return d.array(b, p+1, id, gap, depth+1)
		case 't', 'f', 'n':
			end = scanLiteral(b, p)
		default:
			end = scanNumber(b, p)
		}
	}
	if end < 0 {
		d.rejection = rejectSyntax(b, p)
	}
	return end
}

// object reads the object that begins before p, the value of the name object behind
// the gap, and returns its end; -1 and d.rejection if it is none. depth counts it.
func (d *fastDecoder) object(b []byte, p int, object, gap int32, depth int) int {
	if depth > d.maxDepth {
		d.rejection = rejectTooDeep(d.maxDepth)
		return -1
	}
	d.objects++
	number := d.objects
	where := d.names.within(gap)
	for first := true; ; first = false {
		if p < len(b) && b[p] == '}' {
			return p + 1
		}
		before := p
		var w words
		if p+maxGap <= len(b) {
			w = load(b[p : p+maxGap])
		} else {
			w = loadEnd(b, p)
		}
		gap := int32(where[0])
		g := d.names.gap(gap)
		if p += int(g.length); !g.begins(w) || p >= len(b) || b[p] <= ' ' {
			gap = d.names.match(where, w, b, before, first, object)
			g = d.names.gap(gap)
			p = before + int(g.length)
		}
		id := int32(g.name)
		if gap != 0 {
			if d.names.seen[id] == number {
				d.rejection = rejectDuplicate("")
				return -1
			}
			d.names.seen[id] = number
		} else {
			var quote, quoted int
			if id, quote, quoted, p = d.name(b, p, first, object, number); p < 0 {
				return -1
			}
			if id == 0 {
				return quote + 1
			}
			gap = d.names.learn(where, b[before:p], quote-before, quoted-before, first, id)
		}
		where = d.names.next(gap, d.lane)
		if p >= len(b) || b[p] != '"' {
			if p < len(b) && b[p]-'0' <= 9 {
				start := p
				if p = scanNumber(b, p); p < 0 {
					d.rejection = rejectSyntax(b, start)
				}
			} else {
				p = d.value(b, p, id, gap, depth)
			}
			if p < 0 {
				return -1
			}
			continue
		}
		start := p
		if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
			if p, _ = scanSpecial(b, p); p < 0 {
				d.rejection = rejectSyntax(b, start)
				return -1
			}
		}
		p++
	}
}

// array reads the array that begins before p, as object does.
func (d *fastDecoder) array(b []byte, p int, object, gap int32, depth int) int {
	if depth > d.maxDepth {
		d.rejection = rejectTooDeep(d.maxDepth)
		return -1
	}
	if p = scanSpace(b, p); p < len(b) && b[p] == ']' {
		return p + 1
	}
	for {
		if p = d.value(b, p, object, gap, depth); p < 0 {
			return -1
		}
		if p = scanSpace(b, p); p == len(b) {
			break
		}
		switch b[p] {
		case ',':
			p = scanSpace(b, p+1)
		case ']':
			return p + 1
		default:
			d.rejection = rejectSyntax(b, p)
			return -1
		}
	}
	d.rejection = rejectSyntax(b, p)
	return -1
}

// appendScalar appends the field f whose member is raw, which is not null and no string.
func appendScalar(row []byte, f *field, raw []byte) ([]byte, *Rejection) {
	kind := raw[0]
	switch {
	case f.kind == kindJSON:
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendBytes(row, raw), nil
	case kind == 't' || kind == 'f':
		if f.kind == kindBool {
			row = protowire.AppendVarint(row, f.tag)
			return protowire.AppendVarint(row, protowire.EncodeBool(kind == 't')), nil
		}
	case kind == '{' || kind == '[':
	case f.kind == kindInt64:
		n, code := parseInt64(raw)
		switch code {
		case contract.CodeOutOfRange:
			return row, f.reject(code, "does not fit into 64 bits")
		case contract.CodeWrongType:
			return row, f.reject(code, "has a fraction or an exponent: send an integer")
		}
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendVarint(row, uint64(n)), nil
	case f.kind == kindFloat64:
		n, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return row, f.reject(contract.CodeOutOfRange, "does not fit into a 64-bit floating point number")
		}
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendFixed64(row, math.Float64bits(n)), nil
	}
	return row, f.wrongType(kind)
}

// parseInt64 parses a number of JSON's. It answers contract.CodeWrongType for fractions and
// exponents, however large the number.
func parseInt64(raw []byte) (int64, contract.Code) {
	for _, c := range raw {
		if c == '.' || c|0x20 == 'e' {
			return 0, contract.CodeWrongType
		}
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0, contract.CodeOutOfRange
	}
	return n, ""
}

package event

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// fastDecoder reads an event once, from its first byte to its last. At each name it
// first compares what is there with what came next in earlier events; if all
// guesses fail it reads the name in the ordinary way, at the same place.
//
// Most fields are converted where they stand. Those with several paths wait until their
// object has ended, unless the value stands at the first of the paths, because a better one
// may follow. What is left of an object that paths lead into is found by a second look at
// what is noted of it, when it is known which fields took something (leftovers.go).
//
// Calls are dear here, because none of a caller's registers outlives one: what
// happens to nearly every member of nearly every event is written out.
type fastDecoder struct {
	plan    *plan
	names   names
	objects uint64   // how many were begun, ever: their numbers
	scope   uint64   // the number of the object whose fields are being filled: the event, or a RECORD's
	base    int      // where the text that is being read begins in the event
	missing int      // required fields of the scope that are not filled
	filled  []uint64 // by field: the scope that filled it last
	offers  []offer  // by field: what a late one will be converted from
	offered []int32  // the fields for which there is one, of all objects that are being read
	kept    [][]byte // by field: the text of its value, for conditions of the same event; nil: it has none
	trail   []crumb  // the RECORDs that are being read, from the outermost
	meta    Meta     // of an event before
	batch   []byte   // what appendBatch makes of it
	row     []byte   // of the event, as far as it is known
	now     int64    // the time of ingestion
	clock   clock
	lane    uint8

	special  bool     // the event left more behind than other and text
	other    []piece  // what is left of the event itself
	opened   []opened // objects of which a part may be left
	sections []int    // where each one\'s object stands in d.other, plus one; 0: it is not there
	lefts    []span   // by field: what is left of a RECORD that was read, in scratch
	elements []span   // in scratch: what is left of the elements of an array that is being read
	wide     []int32  // where numbers stand that FLOAT64 cannot hold
	blame    int32    // the field that what is being left goes to

	text     []byte // of a string, unescaped
	member   []byte // of a member, unescaped
	inner    []byte // of strings that hold JSON, unescaped
	scratch  []byte // what is left, as JSON
	keptText []byte

	violation   *Rejection // of a field: the first in the order of the text
	violationAt int        // where; noViolation: there is none
	violationOf int32      // the field
	rejection   *Rejection // for syntax, when a function returns -1
}

const noViolation = math.MaxInt

// span is a part of a text.
type span struct{ from, to int }

// part is a span of an event.
type part struct{ from, to int32 }

// offer is where the value of a late field stands.
type offer struct {
	scope uint64 // that it was offered to
	rank  int32  // of the path at which it stands
	plain bool   // it is a string without escapes
	part
}

// crumb is a RECORD that is being read.
type crumb struct {
	field, rank int32
	index       int // of the element of an array; -1: it is none
}

// piece is a part of an object that goes into its rest as it stands, with a byte after it.
// There are two more kinds of pieces: see the values of then.
type piece struct {
	start, end  int32
	field, rank int16 // of an offerPiece
	then        byte
}

// What stands behind a piece: a comma behind members, a colon behind a name.
const (
	plainMember = ','
	plainName   = ':'
	offerPiece  = 'f' // a member that one field may take, from the path rank; it is left if that takes another
	openPiece   = 'o' // opened[start], behind which stand the pieces of the object in it
)

// opened is a member of which a part may be left, or all or nothing.
type opened struct {
	place       int32
	name, value part
	end         int32 // of the pieces within it, an index of d.other
}

func newFastDecoder(p *plan) *fastDecoder {
	d := &fastDecoder{
		plan:   p,
		filled: make([]uint64, len(p.fields)), offers: make([]offer, len(p.fields)),
		kept: make([][]byte, len(p.fields)), lefts: make([]span, len(p.fields)),
		sections: make([]int, len(p.sections)),
	}
	d.batch = p.appendBatch(nil, &Meta{})
	d.names.init(p)
	return d
}

func (d *fastDecoder) appendRow(row, b []byte, m *Meta) ([]byte, error) {
	d.row = row
	d.start(m)
	return d.fill(b, m)
}

// start makes ready for the fields of an event.
func (d *fastDecoder) start(m *Meta) {
	d.begin(m)
	d.objects++ // also if no text was read of the event before
	d.scope, d.missing = d.objects+1, d.plan.scopes[0].required
}

// fill appends to d.row the fields that stand in b, the event or what of it is text, and all that an event's row has
// besides. start came before. The row is the caller's from then on.
func (d *fastDecoder) fill(b []byte, m *Meta) ([]byte, error) {
	p := scanSpace(b, 0)
	if p == len(b) || b[p] != '{' {
		return nil, rejectNoObject(b)
	}
	b = b[:len(b):len(b)] // spares the comparisons of capacities
	s := &d.plan.scopes[0]
	if p = d.members(b, p+1, 0, &d.names.starts[0], 1); p < 0 {
		return nil, d.rejection
	}
	if p = scanSpace(b, p); p < len(b) {
		return nil, rejectSyntax(b, p)
	}
	if len(d.offered) > 0 {
		d.convertLate(b, 0)
	}
	if len(d.plan.outside) > 0 {
		d.appendOutside(m)
	}
	if d.plan.conditions {
		if err := d.leaveOut(); err != nil {
			return nil, err
		}
	}
	if s.rest == contract.RestReject && len(d.other) > 0 {
		d.findUnknown(0, len(d.other), "")
	}
	if len(d.wide) > 0 {
		d.judgeWide(b)
	}
	if d.violation != nil {
		return nil, d.violation
	}
	if d.missing > 0 || len(s.final) > s.required {
		if d.finish(s, 0); d.violation != nil {
			return nil, d.violation
		}
	}
	if len(s.constants) > 0 {
		d.row = append(d.row, s.constants...)
	}
	if s.restField >= 0 && len(d.other) > 0 {
		d.appendRest(b, d.plan.fields[s.restField].tag)
	}
	for i := range d.sections {
		if d.sections[i] > 0 {
			d.appendSection(b, i)
		}
	}
	if m.IngestedAt != d.meta.IngestedAt || m.Partition != d.meta.Partition || m.Topic != d.meta.Topic ||
		(m.Offset < 0) != (d.meta.Offset < 0) {
		d.meta = Meta{IngestedAt: m.IngestedAt, Partition: m.Partition, Topic: m.Topic, Offset: m.Offset}
		d.batch = d.plan.appendBatch(d.batch[:0], m)
	}
	row := d.plan.appendPlace(append(d.row, d.batch...), m)
	d.row = nil
	return row, nil
}

// begin makes ready for an event.
func (d *fastDecoder) begin(m *Meta) {
	if cap(d.text) > keptScratch {
		d.text = nil
	}
	if cap(d.other) > keptScratch/32 {
		d.other = nil
	}
	d.other = d.other[:0]
	if d.special {
		d.beginSpecial()
	}
	d.violation, d.violationAt = nil, noViolation
	d.now = m.IngestedAt
	d.names.begin()
}

// beginSpecial forgets what events leave behind that have more than plain members.
func (d *fastDecoder) beginSpecial() {
	d.special = false
	for _, scratch := range []*[]byte{&d.member, &d.inner, &d.scratch, &d.keptText} {
		if cap(*scratch) > keptScratch {
			*scratch = nil
		}
		*scratch = (*scratch)[:0]
	}
	d.trail, d.offered = d.trail[:0], d.offered[:0]
	if cap(d.wide) > keptScratch/8 || cap(d.elements) > keptScratch/16 || cap(d.opened) > keptScratch/64 {
		d.wide, d.elements, d.opened = nil, nil, nil
	}
	d.wide, d.opened, d.elements = d.wide[:0], d.opened[:0], d.elements[:0]
	clear(d.sections)
}

// members reads the members of the object that begins before p, which is known by the name
// object, and its closing brace. It returns the end; -1 and d.rejection if it is none.
// Fields are filled, and what no field takes is appended to d.other.
func (d *fastDecoder) members(b []byte, p int, object int32, where *guesses, depth int) int {
	d.objects++
	number := d.objects
	run := -1 // where the piece of other members begins that has not ended; -1: none
	for begin := p; ; {
		// What is before the next value.
		if p < len(b) && b[p] == '}' {
			if run >= 0 {
				d.other = append(d.other, piece{start: int32(run), end: int32(p), then: plainMember})
			}
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
			gap = d.names.match(where, w, b, before, before == begin, object)
			g = d.names.gap(gap)
			p = before + int(g.length)
		}
		if before == begin {
			d.lane = g.lane
		}
		act := int32(g.act)
		quote, quoted := before+int(g.quote), before+int(g.quoted)
		id, compact := int32(g.name), g.compact
		if gap != 0 {
			if d.names.seen[id] == number {
				d.rejection = d.duplicate(id)
				return -1
			}
			d.names.seen[id] = number
		} else {
			if id, quote, quoted, p = d.name(b, p, before == begin, object, number); p < 0 {
				return -1
			}
			if id == 0 {
				if run >= 0 {
					d.other = append(d.other, piece{start: int32(run), end: int32(before), then: plainMember})
				}
				return quote + 1
			}
			gap = d.names.learn(where, b[before:p], quote-before, quoted-before, before == begin, id)
			act, compact = d.names.list[id].act, quote-before <= 1 && p-quoted == 1
		}
		where = d.names.next(gap, d.lane)

		start := p
		if act == actRest {
			// A member that the contract does not know: its text goes into the rest, if it is
			// compact together with what is before and behind it.
			if !compact {
				if run >= 0 {
					d.other = append(d.other, piece{start: int32(run), end: int32(before), then: plainMember})
				}
				d.other = append(d.other, piece{start: int32(quote), end: int32(quoted), then: plainName})
				run = p
			} else if run < 0 {
				run = quote
			}
			if p < len(b) && b[p] == '"' {
				if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
					if p, _ = scanSpecial(b, p); p < 0 {
						d.rejection = rejectSyntax(b, start)
						return -1
					}
				}
				p++
				continue
			}
			if p < len(b) && b[p] == '{' {
				p = d.object(b, p+1, id, gap, depth+1)
			} else {
				p = d.value(b, p, id, gap, depth)
			}
			if p < 0 {
				return -1
			}
			continue
		}

		if run >= 0 {
			d.other = append(d.other, piece{start: int32(run), end: int32(before), then: plainMember})
			run = -1
		}
		if act < 0 { // more is to be done than to fill one field
			if at := &d.plan.places[actPlace-act]; at.second && p < len(b) && b[p] == '"' && quoted+1 == p {
				// What place would do. Of two paths the one that most events have is the second as often as not.
				escaped := false
				if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
					if p, escaped = scanSpecial(b, p); p < 0 {
						d.rejection = rejectSyntax(b, start)
						return -1
					}
				}
				p++
				if t := &at.fields[0]; p-start > 2 || !d.plan.fields[t.field].skipEmpty {
					d.special = true
					d.offer(*t, start, p, !escaped)
					d.other = append(d.other, piece{int32(quote), int32(p), int16(t.field), int16(t.rank), offerPiece})
				}
				continue
			}
			if p = d.place(b, p, span{quote, quoted}, id, gap, actPlace-act, depth); p < 0 {
				return -1
			}
			continue
		}
		f := &d.plan.fields[act]
		if p >= len(b) || b[p] != '"' || f.slow {
			if p < len(b) && b[p]-'0' <= 9 {
				if p = d.number(b, p); p < 0 {
					return -1
				}
			} else if p = d.value(b, p, id, gap, depth); p < 0 {
				return -1
			}
			if !f.absent(b[start:p]) {
				if f.late {
					d.offers[act] = offer{scope: d.scope}
				}
				d.convert(b, act, 0, start, p, false)
			}
			continue
		}
		escaped := false
		if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
			if p, escaped = scanSpecial(b, p); p < 0 {
				d.rejection = rejectSyntax(b, start)
				return -1
			}
		}
		text := b[start+1 : p]
		p++
		if f.watched {
			if len(text) == 0 && f.skipEmpty {
				continue
			}
			d.watch(act, text, escaped)
		}
		d.filled[act] = d.scope
		if f.counted {
			d.missing--
		}
		if d.violation != nil && d.base+start > d.violationAt {
			continue
		}
		if escaped {
			d.text = appendUnescaped(d.text[:0], text)
			text = d.text
		}
		// the rest may be blank
		if f.plain && (!f.notEmpty || len(text) > 0 && text[0] > ' ' && text[0] < utf8.RuneSelf) {
			n := len(text)
			if k := len(d.row); n <= 2*room && !escaped && f.tag < 0x80 && k+2+2*room <= cap(d.row) &&
				start+1+2*room <= len(b) {
				to, from := d.row[k:k+2+2*room], b[start+1:start+1+2*room]
				to[0], to[1] = byte(f.tag), byte(n)
				copyRoom(to[2:], from)
				if n > room {
					copyRoom(to[2+room:], from[room:])
				}
				d.row = d.row[:k+2+n]
				continue
			}
			d.row = appendCopy(d.row, f.tag, text)
			continue
		}
		var problem *problem
		if f.clocked {
			d.row, problem = d.appendClocked(d.row, f, text)
		} else if f.lanes {
			k := f.allowedIndex(text)
			d.lane += uint8(k) % typeLanes
			where = d.names.next(gap, d.lane)
			if k >= 0 {
				d.row = protowire.AppendVarint(d.row, f.tag)
				d.row = protowire.AppendBytes(d.row, text)
				continue
			}
			d.row, problem = f.appendString(d.row, text, d.now)
		} else {
			d.row, problem = f.appendString(d.row, text, d.now)
		}
		if problem != nil {
			d.violate(start, act, 0, -1, problem)
		}
	}
}

// watch is called before a field that is watched takes the characters of a string where they stand.
func (d *fastDecoder) watch(index int32, text []byte, escaped bool) {
	f := &d.plan.fields[index]
	if f.late {
		d.offers[index] = offer{scope: d.scope} // ends what other paths offer
	}
	if f.kept {
		if escaped {
			text = d.keepEscaped(text)
		}
		d.kept[index] = text
	}
}

// room is how much copyRoom copies.
const room = 32

// appendCopy appends a STRING.
func appendCopy(row []byte, tag uint64, text []byte) []byte {
	n, k := len(text), len(row)
	if n > 2*room || tag >= 1<<14 || k+3+2*room > cap(row) || cap(text) < 2*room {
		row = protowire.AppendVarint(row, tag)
		return protowire.AppendBytes(row, text)
	}
	to, from := row[k:k+3+2*room], text[:2*room]
	two := 0
	to[0] = byte(tag)
	if tag >= 0x80 {
		to[0], to[1] = byte(tag)|0x80, byte(tag>>7)
		two = 1
	}
	to[1+two] = byte(n)
	copyRoom(to[2+two:], from)
	if n > room {
		copyRoom(to[2+two+room:], from[room:])
	}
	return row[:k+2+two+n]
}

// copyRoom copies a fixed number of bytes, without the branches of a copy that has
// to look at the length.
func copyRoom(to, from []byte) {
	binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(from))
	binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(from[8:]))
	binary.LittleEndian.PutUint64(to[16:], binary.LittleEndian.Uint64(from[16:]))
	binary.LittleEndian.PutUint64(to[24:], binary.LittleEndian.Uint64(from[24:]))
}

// name reads what is before a value in the ordinary way: a comma unless it is the
// object's first, a name, a colon. It returns the name's id, where it is quoted, and
// where the value begins; the id 0 and the place of the closing brace if the object
// ends; -1 and d.rejection if neither is there.
func (d *fastDecoder) name(b []byte, p int, first bool, object int32, number uint64) (id int32, quote, quoted,
	next int) {
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

//go:noinline
func (d *fastDecoder) duplicate(id int32) *Rejection {
	if len(d.trail) > 0 {
		return rejectDuplicate("") // the path is the RECORD's
	}
	return rejectDuplicate(d.names.list[id].path)
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
			return d.number(b, p)
		}
	}
	if end < 0 {
		d.rejection = rejectSyntax(b, p)
	}
	return end
}

// number reads the number at p, as value does.
func (d *fastDecoder) number(b []byte, p int) int {
	end, long := scanNumber(b, p)
	if long {
		d.noteLong(b, p, end)
	} else if end < 0 {
		d.rejection = rejectSyntax(b, p)
	}
	return end
}

// noteLong notes the number b[p:end], which FLOAT64 may not hold, if it does not. A RECORD's
// are read twice.
func (d *fastDecoder) noteLong(b []byte, p, end int) {
	if n := len(d.wide); (n == 0 || int(d.wide[n-1]) < p) && !finite(b[p:end]) {
		d.wide, d.special = append(d.wide, int32(p)), true
	}
}

// object reads the object that begins before p, the value of the name object behind
// the gap, and returns its end; -1 and d.rejection if it is none. depth counts it.
func (d *fastDecoder) object(b []byte, p int, object, gap int32, depth int) int {
	if depth > d.plan.depth {
		d.rejection = rejectTooDeep(d.plan.depth)
		return -1
	}
	d.objects++
	number := d.objects
	where := d.names.within(gap)
	for begin := p; ; {
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
			gap = d.names.match(where, w, b, before, before == begin, object)
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
			if id, quote, quoted, p = d.name(b, p, before == begin, object, number); p < 0 {
				if d.rejection.Code == contract.CodeDuplicateName {
					d.rejection = rejectDuplicate("") // no path leads here
				}
				return -1
			}
			if id == 0 {
				return quote + 1
			}
			gap = d.names.learn(where, b[before:p], quote-before, quoted-before, before == begin, id)
		}
		where = d.names.next(gap, d.lane)
		if p >= len(b) || b[p] != '"' {
			if p < len(b) && b[p]-'0' <= 9 {
				p = d.number(b, p)
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
	if depth > d.plan.depth {
		d.rejection = rejectTooDeep(d.plan.depth)
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

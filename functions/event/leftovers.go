package event

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// appendRest appends the column of the event's members that no field takes.
func (d *fastDecoder) appendRest(row, b []byte, tag uint64) []byte {
	n, plain := 1, true
	for _, o := range d.other {
		n += o.end - o.start + 1
		plain = plain && o.then != openPiece
	}
	if plain {
		row = protowire.AppendVarint(row, tag)
		row = protowire.AppendVarint(row, uint64(n))
		row = append(row, '{')
		for _, o := range d.other {
			row = append(row, b[o.start:o.end]...)
			row = append(row, o.then)
		}
		row[len(row)-1] = '}'
		return row
	}
	mark := d.leaveEvent(b)
	return d.appendLeft(row, tag, mark)
}

// appendSection appends the column of what is left of one object.
func (d *fastDecoder) appendSection(row, b []byte, i int) []byte {
	mark := d.leaveSection(b, i)
	return d.appendLeft(row, d.plan.fields[d.plan.sections[i].field].tag, mark)
}

// appendLeft appends the column that scratch has from mark on, if it is an object that has
// members, and takes it from scratch.
func (d *fastDecoder) appendLeft(row []byte, tag uint64, mark int) []byte {
	if left := d.scratch[mark:]; len(left) > 0 {
		row = protowire.AppendVarint(row, tag)
		row = protowire.AppendBytes(row, left)
	}
	d.scratch = d.scratch[:mark]
	return row
}

// leaveEvent appends to scratch what is left of the event, nothing if no member is, and
// returns where that begins; so do leaveSection and leaveObject.
func (d *fastDecoder) leaveEvent(b []byte) (mark int) {
	mark = len(d.scratch)
	d.blame = d.plan.scopes[0].blame
	d.scratch = append(d.scratch, '{')
	for _, o := range d.other {
		if o.then == openPiece {
			left := &d.opened[o.start]
			d.leave(b, left.place, left.name, left.value)
			continue
		}
		d.checkWide(span{o.start, o.end})
		d.scratch = append(d.scratch, b[o.start:o.end]...)
		d.scratch = append(d.scratch, o.then)
	}
	d.closeObject(mark)
	return mark
}

func (d *fastDecoder) leaveSection(b []byte, i int) (mark int) {
	section := &d.plan.sections[i]
	d.blame = section.field
	return d.leaveObject(b, d.sections[i].from, d.plan.places[section.place].inner)
}

// leaveObject does it for the object at p, whose members have the places inner.
func (d *fastDecoder) leaveObject(b []byte, p int, inner []int32) (mark int) {
	mark = len(d.scratch)
	d.scratch = append(d.scratch, '{')
	d.leaveMembers(b, p, inner)
	d.closeObject(mark)
	return mark
}

func (d *fastDecoder) leaveMembers(b []byte, p int, inner []int32) {
	for w := walk(b, p); w.member(); {
		if place := d.placeOf(inner, b[w.name.from+1:w.name.to-1]); place >= 0 {
			d.leave(b, place, w.name, w.value)
		} else {
			d.leaveWhole(b, w.name, w.value)
		}
	}
}

// closeObject ends the object that begins at mark, or takes it away if it has no members.
func (d *fastDecoder) closeObject(mark int) {
	if len(d.scratch) == mark+1 {
		d.scratch = d.scratch[:mark]
	} else {
		d.scratch[len(d.scratch)-1] = '}' // it was a comma
	}
}

// placeOf returns the one of places that has that name, -1 if none has.
func (d *fastDecoder) placeOf(places []int32, name []byte) int32 {
	for _, i := range places {
		if d.isString(name, d.plan.places[i].name) {
			return i
		}
	}
	return -1
}

// leave appends to scratch what is left of the member at a place, with a comma.
func (d *fastDecoder) leave(b []byte, index int32, name, value span) {
	at := &d.plan.places[index]
	raw := b[value.from:value.to]
	if at.section >= 0 && raw[0] == '{' {
		return
	}
	if len(at.fields) > 0 {
		absent := true // for all: then the contract names it, and it says nothing
		for _, t := range at.fields {
			f := &d.plan.fields[t.field]
			if f.absent(raw) {
				continue
			}
			absent = false
			if !d.won(t) {
				continue
			}
			if left := &d.lefts[t.field]; f.inner >= 0 && left.to > left.from {
				d.scratch = append(append(d.scratch, b[name.from:name.to]...), ':')
				d.scratch = append(append(d.scratch, d.scratch[left.from:left.to]...), ',')
			}
			return
		}
		if absent {
			return
		}
	}
	if raw[0] != '{' || len(at.inner) == 0 {
		d.leaveWhole(b, name, value)
		return
	}
	mark := len(d.scratch)
	d.scratch = append(append(d.scratch, b[name.from:name.to]...), ':', '{')
	begun := len(d.scratch)
	if d.leaveMembers(b, value.from, at.inner); len(d.scratch) == begun {
		d.scratch = d.scratch[:mark]
		return
	}
	d.scratch[len(d.scratch)-1] = '}'
	d.scratch = append(d.scratch, ',')
}

// leaveWhole appends a member to scratch, with a comma.
func (d *fastDecoder) leaveWhole(b []byte, name, value span) {
	d.checkWide(value)
	d.scratch = append(append(d.scratch, b[name.from:name.to]...), ':')
	d.scratch = append(append(d.scratch, b[value.from:value.to]...), ',')
}

// won reports whether the field takes the value of the member at which its taker t is, and
// which is there for the field.
func (d *fastDecoder) won(t taker) bool {
	if !d.plan.fields[t.field].late {
		return true
	}
	o := &d.offers[t.field]
	return o.scope == d.scope && o.rank == t.rank
}

// checkWide refuses a number in the text that BigQuery has no JSON number for: it would
// refuse the row.
func (d *fastDecoder) checkWide(text span) {
	for _, p := range d.wide {
		if text.from <= p && p < text.to {
			trail := d.trail
			scope := d.plan.fields[d.blame].scope
			for n := len(trail); n > 0 && d.plan.fields[trail[n-1].field].inner != scope; n-- {
				d.trail = trail[:n-1] // the column is further up
			}
			d.violate(p, d.blame, 0, -1, problemWide)
			d.trail = trail
			return
		}
	}
}

var problemWide = &problem{contract.CodeOutOfRange,
	"has a number that does not fit into a 64-bit floating point number: send it as a string"}

// judgeWide looks for such numbers in what is left of the event.
func (d *fastDecoder) judgeWide(b []byte) {
	mark := len(d.scratch)
	if d.plan.scopes[0].rest == contract.RestColumn {
		d.leaveEvent(b)
	}
	for i := range d.sections {
		if d.sections[i].to > 0 {
			d.leaveSection(b, i)
		}
	}
	d.scratch = d.scratch[:mark]
}

// findUnknown refuses the first member of the object at p that has no place. It reports
// whether there is one. path is the object's, empty for the scope's own.
func (d *fastDecoder) findUnknown(b []byte, p int, inner []int32, path string) bool {
	for w := walk(b, p); w.member(); {
		i := d.placeOf(inner, b[w.name.from+1:w.name.to-1])
		if i < 0 {
			d.refuseUnknown(w.name.from, path)
			return true
		}
		at := &d.plan.places[i]
		if b[w.value.from] != '{' || len(at.inner) == 0 || at.section >= 0 || d.taken(at, b[w.value.from:w.value.to]) {
			continue
		}
		if d.findUnknown(b, w.value.from, at.inner, at.path) {
			return true
		}
	}
	return false
}

// taken reports whether a field takes the value raw at the place.
func (d *fastDecoder) taken(at *place, raw []byte) bool {
	for _, t := range at.fields {
		if !d.plan.fields[t.field].absent(raw) && d.won(t) {
			return true
		}
	}
	return false
}

func (d *fastDecoder) refuseUnknown(p int, path string) {
	if !d.before(d.base+p, math.MaxInt32) {
		return
	}
	r := unknownMember(d.path(path, -1), d.base+p)
	d.violation, d.violationAt, d.violationOf = r, d.base+p, math.MaxInt32
}

// unknownMember is the rejection of a member of the object at path, the event if that is
// empty. The member's name is the producer's: it may be personal data.
func unknownMember(path string, at int) *Rejection {
	object := path
	if path == "" {
		object = "the event"
	}
	return &Rejection{Code: contract.CodeUnknownMember, Field: path,
		Message: object + " has a member at byte " + strconv.Itoa(at) + " that the contract does not know: leave it out, or add it to the contract"}
}

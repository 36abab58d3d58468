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
	d.blame = d.plan.scopes[0].blame
	return d.leaveObject(b, 0, len(d.other))
}

func (d *fastDecoder) leaveSection(b []byte, i int) (mark int) {
	d.blame = d.plan.sections[i].field
	open := d.sections[i] - 1
	return d.leaveObject(b, open+1, d.opened[d.other[open].start].end)
}

// leaveObject does it for the object whose pieces are d.other[from:to].
func (d *fastDecoder) leaveObject(b []byte, from, to int) (mark int) {
	mark = len(d.scratch)
	d.scratch = append(d.scratch, '{')
	d.leavePieces(b, from, to)
	d.closeObject(mark)
	return mark
}

// leavePieces appends the members of an object to scratch, each with a comma.
func (d *fastDecoder) leavePieces(b []byte, from, to int) {
	for from < to {
		o := &d.other[from]
		from++
		if o.then == openPiece {
			left := &d.opened[o.start]
			d.leave(b, left, from)
			from = left.end
			continue
		}
		if len(d.wide) > 0 {
			d.checkWide(span{o.start, o.end})
		}
		d.scratch = append(append(d.scratch, b[o.start:o.end]...), o.then)
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

// leave appends to scratch what is left of a member at a place, with a comma. Its pieces begin
// at d.other[pieces].
func (d *fastDecoder) leave(b []byte, o *opened, pieces int) {
	at, name, value := &d.plan.places[o.place], o.name, o.value
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
	if d.leavePieces(b, pieces, o.end); len(d.scratch) == begun {
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
	for _, at := range d.wide {
		p := int(at)
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
		if d.sections[i] > 0 {
			d.leaveSection(b, i)
		}
	}
	d.scratch = d.scratch[:mark]
}

// findUnknown refuses the first member of the object with the pieces d.other[from:to] that has
// no place. It reports whether there is one. path is the object's, empty for the scope's own.
func (d *fastDecoder) findUnknown(from, to int, path string) bool {
	for from < to {
		o := &d.other[from]
		from++
		if o.then != openPiece {
			d.refuseUnknown(o.start, path)
			return true
		}
		left := &d.opened[o.start]
		at := &d.plan.places[left.place]
		// A place that is taken whole, or has a rest of its own, is known with all that is in it.
		if from < left.end && at.section < 0 && !d.isTaken(at) && d.findUnknown(from, left.end, at.path) {
			return true
		}
		from = left.end
	}
	return false
}

// isTaken reports whether a field takes the object at the place.
func (d *fastDecoder) isTaken(at *place) bool {
	for _, t := range at.fields {
		if d.won(t) { // an object is never as good as absent
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
		Message: object + " has a member at byte " + strconv.Itoa(at) +
			" that the contract does not know: leave it out, " +
			"or add it to the contract"}
}

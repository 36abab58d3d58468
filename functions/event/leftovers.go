package event

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// appendRest appends the column of the event's members that no field takes.
func (d *fastDecoder) appendRest(b []byte, tag uint64) {
	if !d.special {
		n := 1
		for i := range d.other {
			o := &d.other[i]
			n += int(o.end-o.start) + 1
		}
		d.row = protowire.AppendVarint(d.row, tag)
		d.row = protowire.AppendVarint(d.row, uint64(n))
		d.row = append(d.row, '{')
		for i := range d.other {
			o := &d.other[i]
			d.row = append(d.row, b[o.start:o.end]...)
			d.row = append(d.row, o.then)
		}
		d.row[len(d.row)-1] = '}'
		return
	}
	d.blame = d.plan.scopes[0].blame
	d.appendLeft(b, tag, 0, len(d.other))
}

// appendSection appends the column of what is left of one object.
func (d *fastDecoder) appendSection(b []byte, i int) {
	s := &d.plan.sections[i]
	d.blame = s.field
	from, to := d.section(i)
	d.appendLeft(b, d.plan.fields[s.field].tag, from, to)
}

// section returns where the pieces of the object are that has a column for its rest.
func (d *fastDecoder) section(i int) (from, to int) {
	open := d.sections[i] - 1
	return open + 1, int(d.opened[d.other[open].start].end)
}

// appendLeft appends the column of what is left of the object whose pieces are d.other[from:to], if anything is.
func (d *fastDecoder) appendLeft(b []byte, tag uint64, from, to int) {
	mark := len(d.row)
	d.row = append(protowire.AppendVarint(d.row, tag), 0)
	begin := len(d.row)
	if d.row = d.leaveObject(d.row, b, from, to); len(d.row) == begin {
		d.row = d.row[:mark]
	} else {
		d.row = closeMessage(d.row, begin)
	}
}

// leaveObject appends to dst what is left of the object whose pieces are d.other[from:to], nothing if no member is.
func (d *fastDecoder) leaveObject(dst, b []byte, from, to int) []byte {
	mark := len(dst)
	dst = d.leavePieces(append(dst, '{'), b, from, to)
	if len(dst) == mark+1 {
		return dst[:mark]
	}
	dst[len(dst)-1] = '}' // it was a comma
	return dst
}

// leavePieces appends to dst the members that are left, each with a comma.
func (d *fastDecoder) leavePieces(dst, b []byte, from, to int) []byte {
	for from < to {
		o := &d.other[from]
		from++
		then := o.then
		if then > plainName {
			if then == openPiece {
				left := &d.opened[o.start]
				dst = d.leave(dst, b, left, from)
				from = int(left.end)
				continue
			}
			if d.won(taker{int32(o.field), int32(o.rank)}) {
				continue
			}
			then = plainMember
		}
		if len(d.wide) > 0 {
			d.checkWide(span{int(o.start), int(o.end)})
		}
		dst = append(append(dst, b[o.start:o.end]...), then)
	}
	return dst
}

// leave appends to dst what is left of a member at a place, with a comma. Its pieces begin at d.other[pieces].
func (d *fastDecoder) leave(dst, b []byte, o *opened, pieces int) []byte {
	at, name, value := &d.plan.places[o.place], b[o.name.from:o.name.to], o.value
	raw := b[value.from:value.to]
	if at.section >= 0 && raw[0] == '{' {
		return dst
	}
	absent := len(at.fields) > 0 // for all: then the contract names it, and it says nothing
	for _, t := range at.fields {
		f := &d.plan.fields[t.field]
		if f.absent(raw) {
			continue
		}
		absent = false
		if f.late && !d.won(t) {
			continue
		}
		if f.inner >= 0 && d.leaves(t.field) {
			left := d.lefts[t.field]
			dst = append(append(dst, name...), ':')
			dst = append(append(dst, d.scratch[left.from:left.to]...), ',')
		}
		return dst
	}
	if absent {
		return dst
	}
	if raw[0] != '{' || len(at.inner) == 0 {
		d.checkWide(span{int(value.from), int(value.to)})
		dst = append(append(dst, name...), ':')
		return append(append(dst, raw...), ',')
	}
	mark := len(dst)
	dst = append(append(dst, name...), ':', '{')
	begun := len(dst)
	if dst = d.leavePieces(dst, b, pieces, int(o.end)); len(dst) == begun {
		return dst[:mark]
	}
	dst[len(dst)-1] = '}'
	return append(dst, ',')
}

// won reports whether the field, which is late, takes the value at which its taker t is.
func (d *fastDecoder) won(t taker) bool {
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
	if s := &d.plan.scopes[0]; s.rest == contract.RestColumn {
		d.blame = s.blame
		d.scratch = d.leaveObject(d.scratch, b, 0, len(d.other))
	}
	for i := range d.sections {
		if d.sections[i] > 0 {
			d.blame = d.plan.sections[i].field
			from, to := d.section(i)
			d.scratch = d.leaveObject(d.scratch, b, from, to)
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
		if o.then == offerPiece {
			continue
		}
		if o.then != openPiece {
			d.refuseUnknown(int(o.start), path)
			return true
		}
		left := &d.opened[o.start]
		at := &d.plan.places[left.place]
		// A place that is taken whole, or has a rest of its own, is known with all that is in it.
		if from < int(left.end) && at.section < 0 && !d.isTaken(at) && d.findUnknown(from, int(left.end), at.path) {
			return true
		}
		from = int(left.end)
	}
	return false
}

// isTaken reports whether a field takes the object at the place.
func (d *fastDecoder) isTaken(at *place) bool {
	for _, t := range at.fields {
		if !d.plan.fields[t.field].late || d.won(t) { // an object is never as good as absent
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

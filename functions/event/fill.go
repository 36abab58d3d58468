package event

import (
	"bytes"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/batch"
	"sluice/internal/contract"
)

// place reads the value at p of a member with which more is to be done than to fill one
// field, and returns its end; -1 and d.rejection if it is none.
func (d *fastDecoder) place(b []byte, p int, name span, id, gap, index int32, depth int) int {
	at := &d.plan.places[index]
	d.special = true
	start := p
	plain := false // it is a string without escapes
	switch {
	case p < len(b) && b[p] == '"':
		escaped := false
		if p = scanPlain(b, p+1); p >= len(b) || b[p] != '"' {
			if p, escaped = scanSpecial(b, p); p < 0 {
				d.rejection = rejectSyntax(b, start)
				return -1
			}
		}
		p++
		plain = !escaped
	case p < len(b) && b[p] == '{' && at.open:
		return d.enter(b, p, name, id, gap, index, depth)
	case at.record >= 0 && p < len(b) && b[p] == d.plan.fields[at.record].opening():
		return d.takeRecord(b, p, name, index, depth)
	default:
		if p = d.value(b, p, id, gap, depth); p < 0 {
			return -1
		}
	}
	if at.open {
		if raw := b[start:p]; raw[0] != 'n' && !emptyArray(raw) {
			d.block(at, start, raw)
		}
	}
	one, left := d.give(b, at, start, p, plain)
	switch {
	case one != nil && name.to+1 == start:
		d.other = append(d.other, piece{int32(name.from), int32(p), int16(one.field), int16(one.rank), offerPiece})
	case one != nil || left:
		d.open(index, name, start, p)
	}
	return p
}

// enter is place for an object that fields look into, or that has a column for its rest.
func (d *fastDecoder) enter(b []byte, p int, name span, id, gap, index int32, depth int) int {
	if depth == d.plan.depth {
		d.rejection = rejectTooDeep(d.plan.depth)
		return -1
	}
	at := &d.plan.places[index]
	start, pieces, lane := p, len(d.other), d.lane
	k := d.open(index, name, start, start)
	if p = d.members(b, p+1, id, d.names.within(gap), depth+1); p < 0 {
		return -1
	}
	d.lane = lane
	if at.section >= 0 {
		d.sections[at.section] = pieces + 1
	}
	if len(at.fields) > 0 || len(at.reads) > 0 {
		d.give(b, at, start, p, false)
	} else if len(d.other) == pieces+1 && at.section < 0 { // nothing is left
		d.other, d.opened = d.other[:pieces], d.opened[:k]
		return p
	}
	d.opened[k].value.to, d.opened[k].end = int32(p), int32(len(d.other))
	return p
}

// takeRecord is place for what only one field looks at, a RECORD or an array of them, from the first of its paths.
func (d *fastDecoder) takeRecord(b []byte, p int, name span, index int32, depth int) int {
	k, start := d.plan.places[index].record, p
	f := &d.plan.fields[k]
	d.filled[k] = d.scope
	d.offers[k] = offer{scope: d.scope} // ends what other paths offer
	if f.counted {
		d.missing--
	}
	if f.Repeated {
		p = d.repeated(b, k, 0, start, depth+1)
	} else {
		p = d.record(b, k, 0, -1, start, -1, depth+1)
	}
	if p >= 0 && d.leaves(k) {
		d.open(index, name, start, p)
	}
	return p
}

// give gives the value b[start:end] to the fields that look at it. If none takes it for certain, it returns the one
// that may do so, or reports that more may, or take a part, or none.
func (d *fastDecoder) give(b []byte, at *place, start, end int, plain bool) (one *taker, left bool) {
	if len(at.reads) > 0 {
		d.read(b, at, start)
	}
	raw := b[start:end]
	left = len(at.fields) == 0
	taken := false // whole, by a field for which no better path can come
	parts := false // a RECORD may take it and leave a part
	for i := range at.fields {
		t := &at.fields[i]
		f := &d.plan.fields[t.field]
		if f.absent(raw) {
			continue
		}
		if t.rank > 0 {
			d.offer(*t, start, end, plain)
			left = left || one != nil
			one = t
			parts = parts || f.inner >= 0
			continue
		}
		if f.late {
			d.offers[t.field] = offer{scope: d.scope}
		}
		d.convert(b, t.field, 0, start, end, plain)
		parts = parts || f.inner >= 0 && d.leaves(t.field)
		taken = taken || !parts
	}
	if taken {
		return nil, false
	}
	if left || parts {
		return nil, true
	}
	return one, false
}

// read gives elements of the array at start to the fields that look for them.
func (d *fastDecoder) read(b []byte, at *place, start int) {
	for k := range at.reads {
		r := &at.reads[k]
		f := &d.plan.fields[r.field]
		v, steps := d.follow(b, start, r.steps)
		switch {
		case v.from < 0:
		case steps < len(r.steps):
			if len(f.paths) == 1 && d.before(d.base+v.from, r.field) {
				path := d.path(at.path+r.steps[:steps].String(), -1)
				d.violateAt(d.base+v.from, r.field, path, noContainer(b[v.from], r.steps[steps]))
			}
		case f.absent(b[v.from:v.to]):
		case f.late:
			d.offer(r.taker, v.from, v.to, false)
		default:
			d.convert(b, r.field, 0, v.from, v.to, false)
		}
	}
}

// open appends a member with the value b[start:end], of which a part may be left, and returns its index in d.opened.
func (d *fastDecoder) open(place int32, name span, start, end int) int {
	k := len(d.opened)
	d.other = append(d.other, piece{start: int32(k), then: openPiece})
	d.opened = append(d.opened, opened{place: place, name: part{int32(name.from), int32(name.to)},
		value: part{int32(start), int32(end)}, end: int32(len(d.other))})
	return k
}

// leaves reports whether the field is a RECORD that leaves something of what it has taken.
func (d *fastDecoder) leaves(field int32) bool { return d.lefts[field].to > d.lefts[field].from }

// opening is what the value of a RECORD begins with.
func (f *field) opening() byte {
	if f.Repeated {
		return '['
	}
	return '{'
}

// block refuses a value in which fields look for something, but which is no object.
func (d *fastDecoder) block(at *place, start int, raw []byte) {
	problem := noContainer(raw[0], contract.Step{})
	for _, t := range at.below {
		if len(d.plan.fields[t.field].paths) == 1 && d.before(d.base+start, t.field) {
			d.violateAt(d.base+start, t.field, d.path(at.path, -1), problem)
		}
	}
	if at.section >= 0 {
		if f := d.plan.sections[at.section].field; d.before(d.base+start, f) {
			d.violateAt(d.base+start, f, d.path(at.path, -1), problem)
		}
	}
}

// noContainer is the problem of a value that begins with the byte first, and into which a
// path does not lead.
func noContainer(first byte, step contract.Step) *problem {
	return &problem{contract.CodeWrongType,
		"is " + kindWord(first) + ", not " + kindWord(stepInto(step)) +
			": send the right type, values are not converted"}
}

// offer notes the value b[start:end] for a field that is converted later. plain says that it is a string without
// escapes.
func (d *fastDecoder) offer(t taker, start, end int, plain bool) {
	o := &d.offers[t.field]
	if o.scope != d.scope {
		d.offered = append(d.offered, t.field)
	} else if o.rank < t.rank {
		return
	}
	*o = offer{d.scope, t.rank, plain, part{int32(start), int32(end)}}
}

// absent reports whether the value raw counts as none.
func (f *field) absent(raw []byte) bool {
	return raw[0] == 'n' || f.skipEmpty && string(raw) == `""` || f.emptyIsNull && emptyArray(raw)
}

// convertLate appends the fields of a scope that waited for its object's end, d.offered[from:].
func (d *fastDecoder) convertLate(b []byte, from int) {
	for _, k := range d.offered[from:] {
		if o := &d.offers[k]; d.filled[k] != d.scope {
			f := &d.plan.fields[k]
			if o.plain && f.copied {
				d.filled[k] = d.scope
				d.row = appendCopy(d.row, f.tag, b[o.from+1:o.to-1])
				continue
			}
			d.convert(b, k, o.rank, int(o.from), int(o.to), o.plain)
		}
	}
}

// convert appends a field whose value stands at b[start:end], or notes why it cannot. plain says that the value is a
// string without escapes.
func (d *fastDecoder) convert(b []byte, index, rank int32, start, end int, plain bool) {
	f := &d.plan.fields[index]
	d.filled[index] = d.scope
	if f.counted {
		d.missing--
	}
	if f.kept {
		d.keepText(index, b[start:end])
	}
	if f.inner >= 0 {
		d.lefts[index] = span{}
	}
	if d.base+start > d.violationAt {
		return
	}
	if f.Repeated {
		d.repeated(b, index, rank, start, 1)
		return
	}
	if f.inner >= 0 {
		d.record(b, index, rank, -1, start, end, 1)
		return
	}
	var problem *problem
	switch {
	case plain && f.clocked:
		d.row, problem = d.appendClocked(d.row, f, b[start+1:end-1])
	case plain && f.kind != kindJSON:
		d.row, problem = f.appendString(d.row, b[start+1:end-1], d.now)
	default:
		d.row, problem = d.scalar(d.row, f, b, start, end)
	}
	if problem != nil {
		d.refuse(start, end, index, rank, -1, problem)
	}
}

// one appends the value of a field that is an array, or its element elem if that is not negative.
func (d *fastDecoder) one(b []byte, index, rank int32, elem, start, end int) {
	f := &d.plan.fields[index]
	if f.inner >= 0 {
		d.record(b, index, rank, elem, start, end, 1)
		return
	}
	var problem *problem
	d.row, problem = d.scalar(d.row, f, b, start, end)
	if problem != nil {
		d.refuse(start, end, index, rank, elem, problem)
	}
}

// refuse notes the problem of the value at start.
func (d *fastDecoder) refuse(start, end int, index, rank int32, elem int, p *problem) {
	if p == problemWide {
		start = d.wideWithin(start, end)
	}
	d.violate(start, index, rank, elem, p)
}

// scalar appends one value that is no RECORD.
func (d *fastDecoder) scalar(row []byte, f *field, b []byte, start, end int) ([]byte, *problem) {
	raw := b[start:end]
	if f.kind == kindJSON {
		if raw[0] == '"' && f.accept&contract.FormJSONText != 0 {
			text, at, problem := d.jsonText(raw)
			if problem != nil {
				return row, problem
			}
			return f.appendJSON(row, text[at.from:at.to]), nil
		}
		if d.wideWithin(start, end) >= 0 {
			return row, problemWide
		}
		return f.appendJSON(row, raw), nil
	}
	switch raw[0] {
	case '"':
		text := raw[1 : len(raw)-1]
		if bytes.IndexByte(text, '\\') >= 0 {
			d.text = appendUnescaped(d.text[:0], text)
			text = d.text
		}
		if f.clocked {
			return d.appendClocked(row, f, text)
		}
		return f.appendString(row, text, d.now)
	case '{', '[':
		return f.appendObject(row, raw, d.now)
	case 't', 'f':
		return f.appendBool(row, raw[0] == 't')
	}
	return f.appendNumber(row, raw, d.now)
}

// appendClocked appends a TIMESTAMP, which is in RFC 3339 mostly.
func (d *fastDecoder) appendClocked(row []byte, f *field, text []byte) ([]byte, *problem) {
	t, err := d.clock.parse(text)
	if err != nil && !f.rfc3339 {
		return f.appendString(row, text, d.now)
	}
	return f.appendTime(row, t, err, d.now)
}

// wideWithin returns where the first number stands within b[start:end] that BigQuery's JSON
// cannot hold, -1 if there is none.
func (d *fastDecoder) wideWithin(start, end int) int {
	for _, at := range d.wide {
		p := int(at)
		if start <= p && p < end {
			return p
		}
	}
	return -1
}

// jsonText reads the JSON in a string: its text, and where in that the value stands. Numbers
// that BigQuery's JSON cannot hold count as no JSON there.
func (d *fastDecoder) jsonText(raw []byte) (text []byte, at span, _ *problem) {
	from := len(d.inner)
	d.special = true
	d.inner = appendUnescaped(d.inner, raw[1:len(raw)-1])
	text = d.inner[from:len(d.inner):len(d.inner)]
	wide, rejection := d.wide, d.rejection
	defer func() { d.wide, d.rejection = wide, rejection }()
	d.wide = d.wide[len(wide):]
	at.from = scanSpace(text, 0)
	if at.to = d.value(text, at.from, d.names.jsonText, 0, 1); at.to < 0 || scanSpace(text, at.to) < len(text) ||
		len(d.wide) > 0 {
		return nil, at, problemJSONText
	}
	return text, at, nil
}

var problemJSONText = &problem{contract.CodeInvalidValue, "is a string that holds no valid JSON: send the value " +
	"itself, or its JSON as text"}

// repeated appends the elements of the array at start, and returns its end. Of an array of RECORDs the text need
// not be known to be valid; the end is then -1 if it is not. depth counts the array.
func (d *fastDecoder) repeated(b []byte, index, rank int32, start, depth int) int {
	f := &d.plan.fields[index]
	n, end := 1, start
	if b[start] == '{' && f.accept&contract.FormEntries != 0 {
		wide, base := d.wide, d.base
		b, d.base = d.entries(b[start:skipValue(b, start)]), base+start
		start = 0
		defer func() { d.wide, d.base = wide, base }()
	}
	if b[start] == '[' {
		lefts := len(d.elements)
		if n, end = d.appendElements(b, index, rank, start, depth); end < 0 {
			return -1
		}
		d.leaveElements(index, lefts)
	} else if f.accept&contract.FormSingle != 0 {
		d.one(b, index, rank, -1, start, skipValue(b, start))
	} else {
		d.violate(start, index, rank, -1, &problem{contract.CodeWrongType,
			"is " + kindWord(b[start]) + ", not an array" + rightType})
		return end
	}
	if p := lengthProblem(n, f.minElements, f.maxElements, "elements"); p != nil {
		d.violate(start, index, rank, -1, p)
	}
	return end
}

// appendElements appends the elements of the array at start, and what is left of each to d.elements. It returns how
// many there are that are not null, and the end; -1 and d.rejection if the array is none.
func (d *fastDecoder) appendElements(b []byte, index, rank int32, start, depth int) (n, end int) {
	f := &d.plan.fields[index]
	if depth > d.plan.depth {
		d.rejection = rejectTooDeep(d.plan.depth)
		return 0, -1
	}
	inherit := f.inner >= 0 && d.plan.scopes[f.inner].rest == contract.RestInherit
	p := scanSpace(b, start+1)
	if p < len(b) && b[p] == ']' {
		return 0, p + 1
	}
	for i := 0; ; i++ {
		left, from := span{}, p
		if f.inner >= 0 && p < len(b) && b[p] == '{' {
			if p = d.record(b, index, rank, i, p, -1, depth+1); p < 0 {
				return 0, -1
			}
			left = d.lefts[index]
			n++
		} else {
			if f.inner < 0 {
				p = skipValue(b, p)
			} else if p = d.value(b, p, d.names.scopes[f.inner], 0, depth); p < 0 {
				return 0, -1
			}
			if b[from] != 'n' {
				d.one(b, index, rank, i, from, p)
				left = d.lefts[index]
				n++
			} else if f.accept&contract.FormSkipNull == 0 {
				d.violate(from, index, rank, i, problemNullElement)
			}
		}
		if inherit {
			d.elements = append(d.elements, left)
		}
		if p = scanSpace(b, p); p == len(b) {
			break
		}
		if b[p] == ']' {
			return n, p + 1
		}
		if b[p] != ',' {
			break
		}
		p = scanSpace(b, p+1)
	}
	d.rejection = rejectSyntax(b, p)
	return 0, -1
}

// entries is the array of the keys and values of an object, which is valid. Afterwards d.wide is that of its text.
func (d *fastDecoder) entries(object []byte) []byte {
	d.special = true
	from := len(d.inner)
	d.inner = appendEntries(d.inner, object)
	text := d.inner[from:len(d.inner):len(d.inner)]
	d.wide = d.wide[len(d.wide):]
	d.value(text, 0, d.names.jsonText, 0, 0) // no deeper than the event is
	return text
}

// appendEntries appends the array to dst.
func appendEntries(dst, object []byte) []byte {
	dst = append(dst, '[')
	for w := walk(object, 0); w.member(); {
		dst = append(append(dst, `{"key":`...), object[w.name.from:w.name.to]...)
		dst = append(append(dst, `,"value":`...), object[w.value.from:w.value.to]...)
		dst = append(dst, '}', ',')
	}
	if dst[len(dst)-1] == ',' {
		dst[len(dst)-1] = ']'
		return dst
	}
	return append(dst, ']')
}

var problemNullElement = &problem{contract.CodeWrongType, "is null: leave it out of the array"}

// leaveElements puts together what is left of an array's elements, from the one at
// d.elements[from] on: each keeps its index, and those behind the last of which something
// is left are cut off.
func (d *fastDecoder) leaveElements(index int32, from int) {
	elements := d.elements[from:]
	d.elements = d.elements[:from]
	last := len(elements)
	for last > 0 && elements[last-1].to == elements[last-1].from {
		last--
	}
	d.lefts[index] = span{}
	if last == 0 {
		return
	}
	mark := len(d.scratch)
	d.scratch = append(d.scratch, '[')
	for _, e := range elements[:last] {
		if e.to == e.from {
			d.scratch = append(d.scratch, "{}"...)
		}
		d.scratch = append(append(d.scratch, d.scratch[e.from:e.to]...), ',')
	}
	d.scratch[len(d.scratch)-1] = ']'
	d.lefts[index] = span{mark, len(d.scratch)}
}

// record appends a RECORD whose object stands at b[start:end], and returns its end. If b[start] is a brace, end need
// not be known before, nor that the text is valid: the end is then -1 if it is not. depth counts the object.
func (d *fastDecoder) record(b []byte, index, rank int32, elem, start, end, depth int) int {
	f := &d.plan.fields[index]
	d.lefts[index] = span{}
	if depth > d.plan.depth {
		d.rejection = rejectTooDeep(d.plan.depth)
		return -1
	}
	s := &d.plan.scopes[f.inner]
	text, p, base, wide := b, start, d.base, d.wide
	inText := b[start] == '"' && f.accept&contract.FormJSONText != 0
	if inText {
		t, at, problem := d.jsonText(b[start:end])
		if problem != nil {
			d.violate(start, index, rank, elem, problem)
			return end
		}
		// The places of what is in a string are those of its characters, near enough to
		// say which fault comes first.
		text, p, base, d.wide = t, at.from, base+start+1, d.wide[len(d.wide):]
	}
	if text[p] != '{' {
		d.violate(start, index, rank, elem, f.wrongType(text[p]))
		d.wide = wide
		return end
	}
	d.row = protowire.AppendVarint(d.row, f.tag)
	d.row = append(d.row, 0)
	begin := len(d.row)

	outer, missing, before := d.scope, d.missing, d.base
	d.scope, d.missing, d.base = d.objects+1, s.required, base
	d.trail = append(d.trail, crumb{index, rank, elem})
	lane, other, open, offered := d.lane, len(d.other), len(d.opened), len(d.offered)
	behind := d.members(text, p+1, d.names.scopes[f.inner], &d.names.starts[f.inner], depth)
	if behind < 0 {
		return -1
	}
	if !inText {
		end, wide = behind, d.wide
	}
	d.lane = lane
	d.convertLate(text, offered)
	d.offered = d.offered[:offered]
	if d.missing > 0 || len(s.final) > s.required {
		d.finish(s, p)
	}
	d.row = append(d.row, s.constants...)
	d.blame = s.blame
	var rest span
	switch s.rest {
	case contract.RestReject:
		d.findUnknown(other, len(d.other), "")
	case contract.RestColumn:
		d.appendLeft(text, d.plan.fields[s.restField].tag, other, len(d.other))
	case contract.RestInherit:
		rest.from = len(d.scratch)
		d.scratch = d.leaveObject(d.scratch, text, other, len(d.other))
		rest.to = len(d.scratch)
	}
	d.other, d.opened = d.other[:other], d.opened[:open]
	d.trail = d.trail[:len(d.trail)-1]
	d.scope, d.missing, d.base, d.wide = outer, missing, before, wide
	d.lefts[index] = rest
	d.row = closeMessage(d.row, begin)
	return end
}

// closeMessage writes the length of the message that begins at begin, where one byte is
// reserved for it.
func closeMessage(row []byte, begin int) []byte {
	n := len(row) - begin
	if n < 0x80 {
		row[begin-1] = byte(n)
		return row
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	row = append(row, make([]byte, more)...)
	copy(row[begin+more:], row[begin:begin+n])
	protowire.AppendVarint(row[:begin-1], uint64(n))
	return row
}

// finish gives the fields of a scope that were not filled their defaults, and notes the
// first that must be there. The scope's object begins at start.
func (d *fastDecoder) finish(s *scope, start int) {
	for _, k := range s.final {
		if d.filled[k] == d.scope {
			continue
		}
		f := &d.plan.fields[k]
		switch {
		case f.byDefault != nil:
			d.row = append(d.row, f.byDefault...)
		case f.missing:
			d.reject(start, k, f.problemMissing())
		default:
			for i := range f.when {
				if d.meets(&f.when[i]) {
					d.reject(start, k, f.problemWhen(&d.plan.fields[f.when[i].Column], &f.when[i]))
					break
				}
			}
		}
	}
}

func (d *fastDecoder) reject(start int, field int32, p *problem) { d.violate(start, field, 0, -1, p) }

// problemMissing is the problem of an event without the field.
func (f *field) problemMissing() *problem {
	if len(f.paths) > 1 {
		return &problem{contract.CodeMissingField, "is missing or null, and so is each of " +
			strings.Join(f.paths[1:], ", ") + ": every event needs one of them"}
	}
	return &problem{contract.CodeMissingField, "is missing or null: every event needs it"}
}

// problemWhen is the problem of an event that needs the field because another has a value.
func (f *field) problemWhen(other *field, c *contract.Condition) *problem {
	return &problem{contract.CodeMissingField, "is missing or null: every event needs it whose " + other.Name +
		" is " + strings.Join(c.Values, " or ")}
}

// appendOutside appends the fields that come with the event from Kafka.
func (d *fastDecoder) appendOutside(m *Meta) {
	for _, k := range d.plan.outside {
		f := &d.plan.fields[k]
		value := f.outside(m)
		if value == nil || f.skipEmpty && len(value) == 0 {
			continue
		}
		d.filled[k] = d.scope
		if f.kept {
			d.kept[k] = value
		}
		var problem *problem
		if d.row, problem = f.appendRaw(d.row, value, d.now); problem != nil {
			d.violate(outsideAt, k, 0, -1, problem)
		}
	}
}

// outsideAt is where the faults of headers and keys stand: behind all of the event's.
const outsideAt = 1 << 40

// outside returns the value of a field that comes from the key or a header, nil for none.
func (f *field) outside(m *Meta) []byte {
	if f.source == contract.FromKafkaKey {
		return m.Key
	}
	return batch.HeaderOf(m.Headers, f.header)
}

// before reports whether a fault of the field at a place of the event comes before the one
// that is known.
func (d *fastDecoder) before(at int, field int32) bool {
	return at < d.violationAt || at == d.violationAt && field < d.violationOf
}

// violate notes a fault of a field, whose value stands at start, or its element elem.
func (d *fastDecoder) violate(start int, field, rank int32, elem int, p *problem) {
	if at := d.base + start; d.before(at, field) {
		d.violateAt(at, field, d.path(d.plan.fields[field].paths[rank], elem), p)
	}
}

func (d *fastDecoder) violateAt(at int, field int32, path string, p *problem) {
	d.violation = &Rejection{Code: p.code, Field: path, Message: path + " " + p.what}
	d.violationAt, d.violationOf = at, field
}

// path is the whole path of what a RECORD's field calls path, or of its element elem.
func (d *fastDecoder) path(path string, elem int) string {
	var b strings.Builder
	for i, c := range d.trail {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(d.plan.fields[c.field].paths[c.rank])
		writeIndex(&b, c.index)
	}
	if path != "" && b.Len() > 0 {
		b.WriteByte('.')
	}
	b.WriteString(path)
	writeIndex(&b, elem)
	return b.String()
}

func writeIndex(b *strings.Builder, i int) {
	if i >= 0 {
		b.WriteString("[" + strconv.Itoa(i) + "]")
	}
}

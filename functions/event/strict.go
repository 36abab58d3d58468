package event

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// strictDecoder is the straightforward decoder: it makes a tree of jsontext's tokens, looks
// up each field's paths in it, and marks what they take. It is what the other one is tested
// against. Both share how one value becomes a column (column.go), and what the contract
// says; not how values are found, nor what is left.
type strictDecoder struct {
	plan *plan
	json jsontext.Decoder
}

func newStrictDecoder(p *plan) *strictDecoder { return &strictDecoder{plan: p} }

// keptScratch is the largest scratch buffer that is kept from event to event.
const keptScratch = 1 << 20

// node is a value of the event.
type node struct {
	kind     byte // what it begins with, '0' for numbers
	raw      []byte
	at       int // where it begins in the event
	members  []member
	elements []*node
}

type member struct {
	quoted []byte // the name as it is written
	at     int
	name   string
	value  *node
}

// verdict is what is known of an event so far.
type verdict struct {
	m          *Meta
	rejection  *Rejection // of a field, the first in the order of the text
	at         int
	field      int32
	conditions []text           // by field of the event
	paths      map[int32]string // by scope: of the object whose fields are being filled
}

// text is what conditions compare.
type text struct {
	text string
	ok   bool
}

// blame notes a fault, if it is the first.
func (v *verdict) blame(at int, field int32, r *Rejection) {
	if v.rejection == nil || at < v.at || at == v.at && field < v.field {
		v.rejection, v.at, v.field = r, at, field
	}
}

func (d *strictDecoder) appendRow(row, value []byte, m Meta) ([]byte, error) {
	start := bytes.TrimLeft(value, " \t\r\n")
	if len(start) == 0 || start[0] != '{' {
		return nil, rejectNoObject(value)
	}
	root, rejection := d.parse(value, 0, 0, d.plan.scopes[0].roots)
	if rejection != nil {
		return nil, rejection
	}
	v := &verdict{m: &m, conditions: make([]text, d.plan.scopes[0].last), paths: map[int32]string{}}
	row = append([]byte(nil), row...)
	row, _, missing := d.object(row, 0, root, "", v)
	for i := range d.plan.contract.Drop {
		if v.meets(&d.plan.contract.Drop[i]) {
			return nil, ErrDropped
		}
	}
	if s := d.plan.contract.Sample; s != nil {
		if t := v.conditions[s.Column]; t.ok && !sampled([]byte(t.text), s.Keep) {
			return nil, ErrSampled
		}
	}
	if v.rejection != nil {
		return nil, v.rejection
	}
	if missing != nil {
		return nil, missing
	}
	return d.plan.appendPlace(d.plan.appendBatch(row, &m), &m), nil
}

func (v *verdict) meets(c *contract.Condition) bool {
	t := v.conditions[c.Column]
	return t.ok && slices.Contains(c.Values, t.text)
}

// parse reads a text whole; it stands at base in the event, within depth objects and
// arrays. inner are the places of its members, for messages.
func (d *strictDecoder) parse(value []byte, base, depth int, inner []int32) (*node, *Rejection) {
	d.json.Reset(bytes.NewBuffer(value))
	n, rejection := d.value(value, base, depth, inner)
	if rejection != nil {
		return nil, rejection
	}
	if _, err := d.json.ReadToken(); err != io.EOF {
		return nil, rejectSyntax(value, int(d.json.InputOffset()))
	}
	return n, nil
}

// value reads the next value. inner are the places of its members, if it is an object that
// paths lead into.
func (d *strictDecoder) value(whole []byte, base, depth int, inner []int32) (*node, *Rejection) {
	n := &node{kind: byte(d.json.PeekKind())}
	if n.kind != '{' && n.kind != '[' {
		raw, err := d.json.ReadValue()
		if err != nil {
			return nil, d.syntax(whole, err, nil)
		}
		end := int(d.json.InputOffset())
		n.raw, n.at = whole[end-len(raw):end], base+end-len(raw)
		return n, nil
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntax(whole, err, nil)
	}
	start := int(d.json.InputOffset()) - 1
	if d.json.StackDepth()+depth > d.plan.depth {
		return nil, rejectTooDeep(d.plan.depth)
	}
	for n.kind == '[' && d.json.PeekKind() != ']' {
		element, rejection := d.value(whole, base, depth, nil)
		if rejection != nil {
			return nil, rejection
		}
		n.elements = append(n.elements, element)
	}
	for n.kind == '{' && d.json.PeekKind() == '"' {
		quoted, err := d.json.ReadValue()
		if err != nil {
			return nil, d.syntax(whole, err, inner)
		}
		end := int(d.json.InputOffset())
		m := member{quoted: whole[end-len(quoted) : end], at: base + end - len(quoted)}
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return nil, rejectSyntax(whole, end)
		}
		m.name = string(name)
		var below []int32
		for _, i := range inner {
			if d.plan.places[i].name == m.name {
				below = d.plan.places[i].inner
			}
		}
		var rejection *Rejection
		if m.value, rejection = d.value(whole, base, depth, below); rejection != nil {
			return nil, rejection
		}
		n.members = append(n.members, m)
	}
	if _, err := d.json.ReadToken(); err != nil { // the closing brace, or why there is no name
		return nil, d.syntax(whole, err, inner)
	}
	n.raw, n.at = whole[start:d.json.InputOffset()], base+start
	return n, nil
}

// syntax is the rejection for an error of jsontext's. Its text may repeat the
// event's, and is not used. inner are the places of the object's members, for a name that is
// there twice.
func (d *strictDecoder) syntax(value []byte, err error, inner []int32) *Rejection {
	var e *jsontext.SyntacticError
	if !errors.As(err, &e) {
		return rejectSyntax(value, len(value)) // io.ErrUnexpectedEOF
	}
	if !errors.Is(err, jsontext.ErrDuplicateName) {
		return rejectSyntax(value, int(e.ByteOffset))
	}
	for _, i := range inner {
		if d.plan.places[i].name == e.JSONPointer.LastToken() {
			return rejectDuplicate(d.plan.places[i].path)
		}
	}
	return rejectDuplicate("")
}

// winner is the value that a field takes.
type winner struct {
	rank  int
	value *node
	left  string // of a RECORD, as JSON; empty: nothing
}

// object appends the fields of an object: of scope index. path is the object's, empty for
// the event. It returns what is left of it for a column of an object further up, and the
// first field that is missing.
func (d *strictDecoder) object(row []byte, index int32, n *node, path string, v *verdict) (_ []byte, rest string,
	missing *Rejection) {
	s := &d.plan.scopes[index]
	v.paths[index] = path
	won := map[int32]*winner{}
	present := map[int32]bool{}
	for k := s.first; k < s.last; k++ {
		f := &d.plan.fields[k]
		switch f.source {
		case contract.FromEvent:
			w := d.find(k, n, path, v)
			if w == nil {
				continue
			}
			won[k], present[k] = w, true
			if index == 0 {
				v.conditions[k] = conditionText(w.value)
			}
			row = d.field(row, k, w, join(path, f.paths[w.rank]), v)
		case contract.FromHeader, contract.FromKafkaKey:
			value := f.outside(v.m)
			if value == nil || f.skipEmpty && len(value) == 0 {
				continue
			}
			present[k], v.conditions[k] = true, text{string(value), true}
			var p *problem
			if row, p = f.appendRaw(row, value, v.m.IngestedAt); p != nil {
				v.blame(outsideAt, k, p.reject(f.paths[0]))
			}
		}
	}
	for k := s.first; k < s.last; k++ {
		f := &d.plan.fields[k]
		if index == 0 && !present[k] && f.byDefault != nil {
			v.conditions[k] = text{string(f.defaultText), true}
		}
	}
	for k := s.first; k < s.last; k++ {
		f := &d.plan.fields[k]
		var p *problem
		switch {
		case present[k] || f.source > contract.FromKafkaKey:
			continue
		case f.byDefault != nil:
			row = append(row, f.byDefault...)
		case f.missing:
			p = f.problemMissing()
		default:
			for i := range f.when {
				if p == nil && v.meets(&f.when[i]) {
					p = f.problemWhen(&d.plan.fields[f.when[i].Column], &f.when[i])
				}
			}
		}
		if p != nil && index > 0 {
			v.blame(n.at, k, p.reject(join(path, f.paths[0])))
		} else if p != nil && missing == nil {
			missing = p.reject(f.paths[0])
		}
	}
	row = append(row, s.constants...)
	l := &leaving{d: d, scope: index, won: won, path: path, v: v, blame: s.blame}
	switch s.rest {
	case contract.RestReject:
		l.unknown(n, nil)
	case contract.RestColumn:
		if left := l.object(n, nil); left != "" {
			row = protowire.AppendVarint(row, d.plan.fields[s.restField].tag)
			row = protowire.AppendString(row, left)
		}
	case contract.RestInherit:
		rest = l.object(n, nil)
	}
	if index == 0 {
		for _, section := range d.plan.contract.Sections {
			at, blocked, _ := look(n, section.Path)
			if blocked != nil || at == nil || at.kind == 'n' || at.kind == '[' && len(at.elements) == 0 {
				continue
			}
			if at.kind != '{' {
				v.blame(at.at, int32(section.Column),
					noContainer(at.kind, contract.Step{}).reject(section.Path.String()))
				continue
			}
			l.blame = int32(section.Column)
			if left := l.object(at, section.Path); left != "" {
				row = protowire.AppendVarint(row, d.plan.fields[section.Column].tag)
				row = protowire.AppendString(row, left)
			}
		}
	}
	return row, rest, missing
}

// reject is the rejection of the field at path.
func (p *problem) reject(path string) *Rejection {
	return &Rejection{Code: p.code, Field: path, Message: path + " " + p.what}
}

func join(path, inner string) string {
	if path == "" || inner == "" {
		return path + inner
	}
	return path + "." + inner
}

func conditionText(n *node) text {
	switch n.kind {
	case '{', '[':
		return text{}
	case '"':
		s, err := jsontext.AppendUnquote(nil, n.raw)
		return text{string(s), err == nil}
	}
	return text{string(n.raw), true}
}

// find returns the value that the field takes, nil if there is none.
func (d *strictDecoder) find(k int32, n *node, path string, v *verdict) *winner {
	f := &d.plan.fields[k]
	for rank, steps := range f.from {
		at, blocked, i := look(n, steps)
		if blocked != nil && len(f.from) == 1 {
			v.blame(blocked.at, k, noContainer(blocked.kind, steps[i]).reject(join(path,
				contract.Path(steps[:i]).String())))
		}
		if at != nil && !f.absent(at.raw) {
			return &winner{rank: rank, value: at}
		}
	}
	return nil
}

// look goes along steps from n. If a value there is not what the step i leads into, it is
// returned as blocked.
func look(n *node, steps contract.Path) (at, blocked *node, i int) {
	for i, step := range steps {
		if n.kind == 'n' || n.kind == '[' && len(n.elements) == 0 {
			return nil, nil, i
		}
		if n.kind != stepInto(step) {
			return nil, n, i
		}
		var next *node
		switch step.Kind {
		case contract.Member:
			next = n.member(step.Name)
		case contract.Index:
			if step.Index < len(n.elements) {
				next = n.elements[step.Index]
			}
		case contract.Select:
			for _, e := range n.elements {
				if m := e.member(step.Name); m != nil && m.kind == '"' && conditionText(m).text == step.Value {
					next = e
					break
				}
			}
		}
		if next == nil {
			return nil, nil, i
		}
		n = next
	}
	return n, nil, len(steps)
}

func (n *node) member(name string) *node {
	for _, m := range n.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// field appends the field k with its value.
func (d *strictDecoder) field(row []byte, k int32, w *winner, path string, v *verdict) []byte {
	f := &d.plan.fields[k]
	if !f.Repeated {
		row, w.left = d.one(row, k, w.value, path, v)
		return row
	}
	if w.value.kind == '{' && f.accept&contract.FormEntries != 0 {
		array, rejection := d.parse(appendEntries(nil, w.value.raw), w.value.at, -1, nil)
		if rejection != nil {
			panic(rejection) // it was parsed
		}
		w.value = array
	}
	var lefts []string
	elements := w.value.elements
	switch {
	case w.value.kind == '[':
	case f.accept&contract.FormSingle != 0:
		row, w.left = d.one(row, k, w.value, path, v)
		elements = []*node{w.value}
	default:
		v.blame(w.value.at, k, (&problem{contract.CodeWrongType,
			"is " + kindWord(w.value.kind) + ", not an array" + rightType}).reject(path))
		return row
	}
	count := 0
	for i, e := range elements {
		left := ""
		switch {
		case w.value.kind != '[':
			count++
		case e.kind != 'n':
			count++
			row, left = d.one(row, k, e, path+"["+strconv.Itoa(i)+"]", v)
		case f.accept&contract.FormSkipNull == 0:
			v.blame(e.at, k, problemNullElement.reject(path+"["+strconv.Itoa(i)+"]"))
		}
		lefts = append(lefts, left)
	}
	if p := lengthProblem(count, f.minElements, f.maxElements, "elements"); p != nil {
		v.blame(w.value.at, k, p.reject(path))
	}
	for len(lefts) > 0 && lefts[len(lefts)-1] == "" {
		lefts = lefts[:len(lefts)-1]
	}
	if len(lefts) > 0 {
		for i := range lefts {
			if lefts[i] == "" {
				lefts[i] = "{}"
			}
		}
		w.left = "[" + strings.Join(lefts, ",") + "]"
	}
	return row
}

// one appends the field k with one value, and returns what is left of a RECORD.
func (d *strictDecoder) one(row []byte, k int32, n *node, path string, v *verdict) ([]byte, string) {
	f := &d.plan.fields[k]
	isText := n.kind == '"' && f.accept&contract.FormJSONText != 0 && (f.kind == kindJSON || f.kind == kindRecord)
	if isText {
		s, err := jsontext.AppendUnquote(nil, n.raw)
		if err != nil {
			panic(err) // it was parsed
		}
		inner, rejection := d.parse(s, n.at+1, 1, nil)
		if rejection != nil || inner.wide() != nil {
			v.blame(n.at, k, problemJSONText.reject(path))
			return row, ""
		}
		outer := n
		if n = inner; f.kind == kindRecord && n.kind != '{' {
			v.blame(outer.at, k, f.wrongType(n.kind).reject(path))
			return row, ""
		}
	}
	var p *problem
	now := v.m.IngestedAt
	switch {
	case f.kind == kindRecord && n.kind == '{':
		message, left, _ := d.object(nil, f.inner, n, path, v)
		row = protowire.AppendVarint(row, f.tag)
		return protowire.AppendBytes(row, message), left
	case f.kind == kindRecord:
		p = f.wrongType(n.kind)
	case f.kind == kindJSON:
		if wide := n.wide(); wide != nil {
			v.blame(wide.at, k, problemWide.reject(path))
			return row, ""
		}
		row = f.appendJSON(row, n.raw)
	case n.kind == '"':
		s, err := jsontext.AppendUnquote(nil, n.raw)
		if err != nil {
			panic(err)
		}
		row, p = f.appendString(row, s, now)
	case n.kind == '0':
		row, p = f.appendNumber(row, n.raw, now)
	case n.kind == 't' || n.kind == 'f':
		row, p = f.appendBool(row, n.kind == 't')
	default:
		row, p = f.appendObject(row, n.raw, now)
	}
	if p != nil {
		v.blame(n.at, k, p.reject(path))
	}
	return row, ""
}

// wide returns the first number within n that is not finite in FLOAT64.
func (n *node) wide() *node {
	if n.kind == '0' {
		if _, err := strconv.ParseFloat(string(n.raw), 64); err != nil {
			return n
		}
	}
	for _, m := range n.members {
		if w := m.value.wide(); w != nil {
			return w
		}
	}
	for _, e := range n.elements {
		if w := e.wide(); w != nil {
			return w
		}
	}
	return nil
}

// leaving finds out what is left of a scope's object.
type leaving struct {
	d     *strictDecoder
	scope int32
	won   map[int32]*winner
	path  string // of the scope's object
	v     *verdict
	blame int32
}

// role is what the contract does with the members at a path.
type role struct {
	takers  []int32 // fields
	ranks   []int
	leads   bool // further in
	section bool
}

// role looks through all paths for the one of a member.
func (l *leaving) role(path contract.Path) (r role, known bool) {
	add := func(p contract.Path) (all bool) {
		members := p
		if i := slices.IndexFunc(p, func(s contract.Step) bool { return s.Kind != contract.Member }); i >= 0 {
			members = p[:i]
		}
		if len(members) < len(path) || !slices.Equal(members[:len(path)], path) {
			return false
		}
		known = true
		r.leads = r.leads || len(members) > len(path)
		return len(p) == len(path)
	}
	s := &l.d.plan.scopes[l.scope]
	for k := s.first; k < s.last; k++ {
		if f := &l.d.plan.fields[k]; f.source == contract.FromEvent {
			for rank, p := range f.from {
				if add(p) {
					r.takers, r.ranks = append(r.takers, k), append(r.ranks, rank)
				}
			}
		}
	}
	if l.scope == 0 {
		for _, section := range l.d.plan.contract.Sections {
			if add(section.Path) {
				r.section = true
			}
		}
	}
	return r, known
}

// took returns which of the takers won with this value, and whether all call it absent.
func (l *leaving) took(r *role, n *node) (w *winner, absent bool) {
	absent = len(r.takers) > 0
	for i, k := range r.takers {
		if l.d.plan.fields[k].absent(n.raw) {
			continue
		}
		absent = false
		if won := l.won[k]; w == nil && won != nil && won.rank == r.ranks[i] {
			w = won
		}
	}
	return w, absent
}

// object returns what is left of an object at path, empty if nothing is.
func (l *leaving) object(n *node, path contract.Path) string {
	var members []string
	for _, m := range n.members {
		inner := append(slices.Clone(path), contract.Step{Name: m.name})
		r, known := l.role(inner)
		w, absent := l.took(&r, m.value)
		left := string(m.value.raw)
		switch {
		case r.section && m.value.kind == '{':
			continue
		case w != nil:
			left = w.left
		case absent:
			continue
		case known && r.leads && m.value.kind == '{':
			left = l.object(m.value, inner)
		default:
			if wide := m.value.wide(); wide != nil {
				f := &l.d.plan.fields[l.blame]
				l.v.blame(wide.at, l.blame, problemWide.reject(join(l.v.paths[f.scope], f.paths[0])))
			}
		}
		if left != "" {
			members = append(members, string(m.quoted)+":"+left)
		}
	}
	if len(members) == 0 {
		return ""
	}
	return "{" + strings.Join(members, ",") + "}"
}

// unknown refuses the first member that no path leads to.
func (l *leaving) unknown(n *node, path contract.Path) bool {
	for _, m := range n.members {
		inner := append(slices.Clone(path), contract.Step{Name: m.name})
		r, known := l.role(inner)
		if !known {
			l.v.blame(m.at, math.MaxInt32, unknownMember(join(l.path, path.String()), m.at))
			return true
		}
		if w, _ := l.took(&r, m.value); w != nil || r.section || !r.leads || m.value.kind != '{' {
			continue
		}
		if l.unknown(m.value, inner) {
			return true
		}
	}
	return false
}

package event

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// plan is a contract, compiled for decoding: what stands at which place of an event, and
// which fields it fills.
type plan struct {
	contract *contract.Contract
	fields   []field // of the table in its order, then those of each RECORD
	scopes   []scope // 0 is the event; the others are RECORDs
	places   []place

	ingestedAt, topic, partition, replayID, offset, timestamp []uint64 // tags of the fields with these sources
	outside                                                   []int32  // fields from headers and from the key
	sections                                                  []section
	conditions                                                bool // the contract leaves events out
	depth                                                     int

	mistakes contract.Mistakes // what only the decoder can find in a contract
}

// section is an object whose rest has a column of its own.
type section struct{ field, place int32 }

// scope is an object that has fields of its own: the event, or the object of a RECORD.
type scope struct {
	field       int32   // the RECORD; -1: the event
	first, last int32   // its fields are plan.fields[first:last]
	roots       []int32 // the places of its members
	final       []int32 // fields to look at after its end: they are required at times, or have a default
	required    int     // fields that must be there and are not late
	constants   []byte  // the fields with constants, encoded
	rest        contract.Rest
	restField   int32 // the JSON column of the rest; -1: none
	blame       int32 // the field that what is left goes to; -1: none
}

// place is a member of an object that the contract knows, found by its path.
type place struct {
	name    string
	fields  []taker // that take its value
	reads   []pick  // that read elements of its array
	inner   []int32 // the places within, if it is an object
	below   []taker // the fields that take something within
	section int32   // of plan.sections, takes what is left of the object; -1: none
	open    bool    // paths lead into it, or it has a column for what is left of it
	second  bool    // only one field looks at its value, no RECORD, and not at the first of its paths
	record  int32   // the RECORD that takes its value, if nothing else looks at it; -1: none
	path    string  // from the scope, for messages
}

// taker is one of the ways in which a field may get its value.
type taker struct {
	field int32
	rank  int32 // of its paths
}

// pick is a taker whose path goes on through elements of an array.
type pick struct {
	taker
	steps contract.Path
}

// field is a column that the decoder fills, compiled.
type field struct {
	slow      bool // single, but its value is more than text that is converted
	skipEmpty bool // an empty string counts as null
	missing   bool // an event without it is rejected
	counted   bool // it is one of its scope's required fields
	watched   bool // more is to be done with its strings, or less, than to convert them
	copied    bool // a string without escapes is copied, and that is all
	late      bool // may be converted after the end of its scope only: what stands at a better path comes first
	single    bool // at the first of its paths no other field looks at the value, and it is no RECORD
	column
	source                   contract.Source
	line                     int             // of the contract's file
	scope                    int32           // that it belongs to
	inner                    int32           // the scope of a RECORD; -1: it is none
	from                     []contract.Path // by rank
	paths                    []string        // the same, for messages
	header                   string
	kept                     bool // conditions look at its value
	when                     []contract.Condition
	emptyIsNull              bool   // an empty array counts as null
	minElements, maxElements int    // of an array; 0: no limit
	byDefault                []byte // encoded; nil: none
	defaultText              []byte
}

// newPlan compiles a contract that was checked when it was read. Values that stand in it, such
// as a default, are checked here, by what converts those of events. The error is
// contract.Mistakes.
func newPlan(c *contract.Contract) (*plan, error) {
	p := &plan{contract: c, depth: c.MaxDepth}
	p.addScope(-1, c.Table.Columns, c.Fields, c.Rest)
	for i := range c.Sections {
		s := &c.Sections[i]
		at := p.at(0, s.Path)
		p.places[at].section = int32(len(p.sections))
		p.sections = append(p.sections, section{int32(s.Column), at})
	}
	for _, drop := range c.Drop {
		p.fields[drop.Column].kept, p.conditions = true, true
	}
	if c.Sample != nil {
		p.fields[c.Sample.Column].kept, p.conditions = true, true
	}
	for i := range p.fields {
		for _, when := range p.fields[i].when {
			p.fields[when.Column].kept = true
		}
	}
	if len(p.fields) > maxActs || len(p.places) > maxActs {
		p.wrong(0, "the contract has %d columns and %d places of values: want at most %d of each", len(p.fields),
			len(p.places), maxActs)
	} else {
		p.settle()
	}
	if len(p.mistakes) > 0 {
		return nil, p.mistakes
	}
	return p, nil
}

// wrong notes a mistake in the contract.
func (p *plan) wrong(line int, format string, args ...any) {
	p.mistakes = append(p.mistakes, contract.Mistake{File: p.contract.File, Line: line, What: fmt.Sprintf(format,
		args...)})
}

// addScope compiles the fields of an object: of the event, or of the RECORD record.
func (p *plan) addScope(record int32, columns []contract.Column, fields []contract.Field, rest contract.Rest) {
	s := int32(len(p.scopes))
	first := int32(len(p.fields))
	p.scopes = append(p.scopes, scope{field: record, first: first, last: first + int32(len(columns)), rest: rest,
		restField: -1})
	for i := range columns {
		c, f := &columns[i], &fields[i]
		compiled, err := newColumn(p.contract, c, f)
		if err != nil {
			p.wrong(f.Line, "column %s: %v", c.Name, err)
		}
		p.fields = append(p.fields, field{
			column: compiled, source: f.Source, line: f.Line, scope: s, inner: -1, skipEmpty: f.SkipEmpty, when: f.RequiredWhen,
			missing: f.Source <= contract.FromKafkaKey && (c.Required || c.Repeated && f.MinLength > 0) &&
				f.Default == nil,
			paths: []string{contract.QuoteName(c.Name)}, from: f.Paths, header: f.Header,
			emptyIsNull: c.Type == contract.Record && !c.Repeated && f.Accept&contract.FormEmptyArray != 0,
		})
		if last := &p.fields[len(p.fields)-1]; c.Repeated {
			last.minElements, last.maxElements = f.MinLength, f.MaxLength
		}
	}
	for i := range columns {
		p.addField(s, first+int32(i), &columns[i], &fields[i])
	}
}

func (p *plan) addField(s, index int32, c *contract.Column, f *contract.Field) {
	tag := protowire.EncodeTag(c.Number, c.WireType())
	compiled := &p.fields[index]
	if f.Default != nil {
		compiled.defaultText = []byte(*f.Default)
		row, problem := compiled.appendText(nil, compiled.defaultText, 0)
		if problem != nil {
			p.wrong(f.Line, "column %s: its default %s", c.Name, problem.what)
		}
		compiled.byDefault = row
	}
	switch f.Source {
	case contract.FromEvent:
	case contract.FromHeader, contract.FromKafkaKey:
		p.outside = append(p.outside, index)
		compiled.paths = []string{"kafka:key"}
		if f.Source == contract.FromHeader {
			compiled.paths = []string{"header:" + f.Header}
		}
		return
	case contract.FromConstant:
		row, problem := compiled.appendText(p.scopes[s].constants, []byte(*f.Constant), 0)
		if problem != nil {
			p.wrong(f.Line, "column %s: its constant %s", c.Name, problem.what)
		}
		p.scopes[s].constants = row
		return
	case contract.FromRest:
		p.scopes[s].restField = index
		return
	case contract.FromIngestionTime:
		p.ingestedAt = append(p.ingestedAt, tag)
		return
	case contract.FromKafkaTopic:
		p.topic = append(p.topic, tag)
		return
	case contract.FromKafkaPartition:
		p.partition = append(p.partition, tag)
		return
	case contract.FromKafkaOffset:
		p.offset = append(p.offset, tag)
		return
	case contract.FromKafkaTimestamp:
		p.timestamp = append(p.timestamp, tag)
		return
	case contract.FromReplayID:
		p.replayID = append(p.replayID, tag)
		return
	default: // a section is added by newPlan
		return
	}
	compiled.paths = nil
	compiled.late = len(f.Paths) > 1
	if len(f.Paths) > maxActs {
		p.wrong(f.Line, "column %s has %d paths: want at most %d", c.Name, len(f.Paths), maxActs)
	}
	for rank, path := range f.Paths {
		compiled.paths = append(compiled.paths, path.String())
		members := path
		for i, step := range path {
			if step.Kind != contract.Member {
				members = path[:i]
				break
			}
		}
		t := taker{index, int32(rank)}
		at := p.at(s, members)
		if len(members) == len(path) {
			p.places[at].fields = append(p.places[at].fields, t)
		} else {
			p.places[at].reads = append(p.places[at].reads, pick{t, path[len(members):]})
		}
		for i := 1; i < len(members); i++ {
			above := p.at(s, members[:i])
			p.places[above].below = append(p.places[above].below, t)
		}
	}
	if c.Type == contract.Record {
		compiled.inner = int32(len(p.scopes))
		p.addScope(index, c.Columns, f.Fields, f.Rest)
	}
}

// at returns the place at the end of a path of members, which it adds if it is new.
func (p *plan) at(s int32, path contract.Path) int32 {
	at := int32(-1)
	for i, step := range path {
		inner := p.scopes[s].roots
		if at >= 0 {
			inner = p.places[at].inner
		}
		k := slices.IndexFunc(inner, func(i int32) bool { return p.places[i].name == step.Name })
		if k >= 0 {
			at = inner[k]
			continue
		}
		next := int32(len(p.places))
		p.places = append(p.places, place{name: step.Name, section: -1, record: -1, path: path[:i+1].String()})
		if at >= 0 {
			p.places[at].inner = append(p.places[at].inner, next)
		} else {
			p.scopes[s].roots = append(p.scopes[s].roots, next)
		}
		at = next
	}
	return at
}

// maxActs is how many fields, and how many places, a plan may have: what becomes of a name
// is kept in 16 bits, see names.go.
const maxActs = 32_000

// settle decides what depends on all fields being known.
func (p *plan) settle() {
	for i := range p.places {
		at := &p.places[i]
		at.open = len(at.inner) > 0 || at.section >= 0
		if len(at.fields) == 1 && len(at.reads) == 0 && len(at.inner) == 0 && at.section < 0 {
			t := at.fields[0]
			f := &p.fields[t.field]
			if t.rank > 0 {
				at.second = f.inner < 0
			} else if f.inner < 0 {
				f.single = true
			} else {
				at.record = t.field
			}
		}
	}
	for i := range p.scopes {
		s := &p.scopes[i]
		for k := s.first; k < s.last; k++ {
			f := &p.fields[k]
			f.slow = f.kind == kindJSON || f.Repeated
			if f.missing && f.source == contract.FromEvent && !f.late {
				f.counted = true
				s.required++
			}
			f.watched = f.skipEmpty || f.late || f.kept
			f.copied = f.plain && !f.notEmpty && !f.kept && !f.Repeated
			if f.missing || f.byDefault != nil || len(f.when) > 0 {
				s.final = append(s.final, k)
			}
		}
		p.settleRest(s)
	}
}

// settleRest decides where what is left of a scope's object goes. After it, RestInherit
// means that it goes to a column of an object further up.
func (p *plan) settleRest(s *scope) {
	s.blame = s.restField
	if s.rest != contract.RestInherit || s.field < 0 {
		return
	}
	record := &p.fields[s.field]
	outer := &p.scopes[record.scope]
	s.blame = outer.blame
	sections := 0
	for _, path := range record.from {
		for i := 1; i < len(path); i++ {
			if path[i-1].Kind != contract.Member {
				break
			}
			if k := p.places[p.at(record.scope, path[:i])].section; k >= 0 {
				s.blame = p.sections[k].field
				sections++
				break
			}
		}
	}
	switch {
	case sections == len(record.from) && sections > 0:
	case sections > 0:
		p.wrong(record.line, "column %s: of its paths some lie in an object that has a column for its rest, and some do "+
			"not: what its columns leave would go to either", record.Name)
	case outer.rest != contract.RestColumn:
		s.rest = outer.rest
	}
}

// appendBatch appends the columns that are alike for all events of a batch.
func (p *plan) appendBatch(row []byte, m *Meta) []byte {
	for _, tag := range p.ingestedAt {
		row = protowire.AppendVarint(row, tag)
		row = protowire.AppendVarint(row, uint64(m.IngestedAt))
	}
	if m.Offset < 0 {
		return row
	}
	for _, tag := range p.topic {
		row = protowire.AppendVarint(row, tag)
		row = protowire.AppendString(row, m.Topic)
	}
	for _, tag := range p.partition {
		row = protowire.AppendVarint(row, tag)
		row = protowire.AppendVarint(row, uint64(m.Partition))
	}
	return row
}

// appendPlace appends those that are each event's own.
func (p *plan) appendPlace(row []byte, m *Meta) []byte {
	if m.ReplayID != "" {
		for _, tag := range p.replayID {
			row = protowire.AppendVarint(row, tag)
			row = protowire.AppendString(row, m.ReplayID)
		}
	}
	if m.Offset < 0 {
		return row
	}
	for _, tag := range p.offset {
		row = protowire.AppendVarint(row, tag)
		row = protowire.AppendVarint(row, uint64(m.Offset))
	}
	// Producers may stamp records with any number. One that BigQuery has no time
	// for must not cost the event its row.
	if m.Timestamp != 0 && m.Timestamp >= minTimestamp/1000 && m.Timestamp <= maxTimestamp/1000 {
		for _, tag := range p.timestamp {
			row = protowire.AppendVarint(row, tag)
			row = appendMicros(row, m.Timestamp*1000)
		}
	}
	return row
}

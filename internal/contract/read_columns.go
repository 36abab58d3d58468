package contract

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

var (
	columnKeys = []string{
		"name", "type", "mode", "description", "from", "header", "kafka", "ingest", "constant", "default", "accept",
		"not_empty", "skip_empty", "allowed", "length", "range", "required_when", "columns", "rest", "rest_of",
	}
	lengthKeys = []string{"min", "max"}
	rangeKeys  = []string{"min", "max", "oldest", "newest"}
	acceptKeys = []string{"pattern"}

	kafkaSources = map[string]Source{
		"key": FromKafkaKey, "topic": FromKafkaTopic, "partition": FromKafkaPartition, "offset": FromKafkaOffset, "timestamp": FromKafkaTimestamp,
	}
	ingestSources = map[string]Source{"time": FromIngestionTime, "replay_id": FromReplayID}
	// The columns that each of these sources is for.
	systemNames = map[Source]string{
		FromKafkaTopic: KafkaTopic, FromKafkaPartition: KafkaPartition, FromKafkaOffset: KafkaOffset,
		FromKafkaTimestamp: KafkaTimestamp, FromIngestionTime: IngestedAt, FromReplayID: ReplayID,
	}
)

// formNames has the forms that the values of each type may have, by their names in the
// language. Forms of the same group exclude each other: a value could be read as either.
var formNames = map[Type]map[string]Form{
	String:     {"string": FormString, "number": FormNumber, "boolean": FormBoolean},
	Bytes:      {"base64": FormBase64, "base64url": FormBase64URL, "hex": FormHex},
	Int64:      {"number": FormNumber, "string": FormString},
	Float64:    {"number": FormNumber, "string": FormString},
	Numeric:    {"number": FormNumber, "string": FormString, "round": FormRound},
	BigNumeric: {"number": FormNumber, "string": FormString, "round": FormRound},
	Bool:       {"boolean": FormBoolean, "string": FormString, "number": FormNumber},
	Date:       {"iso8601": FormISO, "epoch_days": FormEpochDays},
	Time:       {"iso8601": FormISO},
	DateTime:   {"iso8601": FormISO},
	Timestamp: {
		"rfc3339": FormRFC3339, "iso8601": FormISO8601,
		"epoch_seconds": FormEpochSeconds, "epoch_millis": FormEpochMillis, "epoch_micros": FormEpochMicros,
	},
	JSON:      {"json_text": FormJSONText},
	Geography: {"wkt": FormWKT, "geojson": FormGeoJSON},
	Interval:  {"iso8601": FormISO, "sql": FormSQL},
	RangeOf:   {"object": FormObject, "sql": FormSQL},
	Record:    {"object": FormObject, "json_text": FormJSONText, "empty_array": FormEmptyArray},
}

var repeatedForms = map[string]Form{"single": FormSingle, "skip_null": FormSkipNull, "entries": FormEntries}

// exclusive are the groups of which one form at most may be open.
var exclusive = []Form{
	FormEpochSeconds | FormEpochMillis | FormEpochMicros,
	FormBase64 | FormBase64URL | FormHex,
	FormRFC3339 | FormISO8601,
}

// reserved are the prefixes of column names that BigQuery keeps to itself, see
// https://cloud.google.com/bigquery/docs/schemas#column_names.
var reserved = []string{
	"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_SEQUENCE_NUMBER",
	"_CHANGE_TYPE", "_CHANGE_TIMESTAMP",
}

func number(columns int) protowire.Number { return protowire.Number(columns + 1) }

// scope is what the columns of one object share: the table's, or a RECORD's.
type readScope struct {
	record  string // the RECORD's name with those around it; empty: the table
	depth   int
	seen    map[string]int // lines by names in small letters
	columns []Column
	fields  []Field
	paths   []readPath
	rest    *Rest
	restAt  *yaml.Node
}

// readPath is a path of the contract and whose it is.
type readPath struct {
	path   Path
	node   *yaml.Node
	column *Column // a copy, whose Columns are not set; nil: a section's
	name   string
}

// readColumns reads the list n of columns: of the table if outer is nil, else of a RECORD in
// outer. A column with rest: true makes rest RestColumn.
func (r *reader) readColumns(n *yaml.Node, outer *readScope, rest *Rest, record ...string) ([]Column, []Field) {
	s := &readScope{seen: make(map[string]int), rest: rest}
	what := "columns"
	if outer != nil {
		s.depth = outer.depth + 1
		s.record = strings.Join(record, ".") + "."
		what = "columns of " + strings.Join(record, ".")
		if s.depth > maxNesting {
			r.wrong(n, "%s: RECORDs stand in each other more than %d deep, which BigQuery does not take", what,
				maxNesting)
			return nil, nil
		}
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.wrong(n, "%s is %s: want a list of some columns", what, kindOf(n))
		return nil, nil
	}
	for _, item := range n.Content {
		if r.nodes >= maxNodes {
			break
		}
		r.readColumn(r.resolve(item), s)
	}
	r.overlaps(s)
	return s.columns, s.fields
}

var typeText = regexp.MustCompile(`^\s*(\w+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)|<\s*(\w+)\s*>)?\s*$`)

// readType reads a type with its parameters, such as NUMERIC(10, 2) or RANGE<DATE>.
func (r *reader) readType(n *yaml.Node, c *Column, what string) bool {
	text, ok := r.text(n, "the type of "+what)
	if !ok {
		return false
	}
	parts := typeText.FindStringSubmatch(text)
	if parts == nil {
		r.wrong(n, "%s has the type %s, which cannot be read: want one such as STRING, STRING(64), NUMERIC(10, 2) or "+
			"RANGE<DATE>; an ARRAY is mode: REPEATED, a STRUCT is RECORD with columns",
			what, strconv.Quote(text))
		return false
	}
	var err error
	if c.Type, err = ParseType(parts[1]); err != nil {
		r.wrong(n, "%s has the %v; an ARRAY is mode: REPEATED", what, err)
		return false
	}
	first, _ := strconv.Atoi(parts[2])
	second, _ := strconv.Atoi(parts[3])
	switch {
	case parts[4] != "" && c.Type != RangeOf, parts[2] != "" && !slices.Contains([]Type{String, Bytes, Numeric,
		BigNumeric}, c.Type):
		r.wrong(n, "%s has the type %s: %s has no parameter", what, strconv.Quote(text), c.Type)
	case c.Type == RangeOf:
		c.Element, err = ParseType(parts[4])
		if err != nil || c.Element != Date && c.Element != DateTime && c.Element != Timestamp {
			r.wrong(n, "%s has the type %s: want RANGE<DATE>, RANGE<DATETIME> or RANGE<TIMESTAMP>", what,
				strconv.Quote(text))
			return false
		}
	case parts[2] == "":
	case c.Type == String || c.Type == Bytes:
		if c.MaxLength = first; first < 1 || parts[3] != "" {
			r.wrong(n, "%s has the type %s: want one length of at least 1", what, strconv.Quote(text))
		}
	default:
		whole, scale := 29, 9
		if c.Type == BigNumeric {
			whole, scale = 38, 38
		}
		c.Precision, c.Scale = first, second
		if second > scale || first < max(1, second) || first > second+whole {
			r.wrong(n, "%s has the type %s: BigQuery takes a scale up to %d, and a precision from the scale (at least 1) up to %d more than it",
				what, strconv.Quote(text), scale, whole)
		}
	}
	return true
}

// readColumn reads one column into s.
func (r *reader) readColumn(n *yaml.Node, s *readScope) {
	o, ok := r.mapping(n, "the column", columnKeys)
	if !ok {
		return
	}
	c := Column{Number: number(len(s.columns))}
	f := Field{Line: n.Line}
	if o.get("name") == nil {
		r.wrong(n, "the column has no name: give it one with name")
		return
	}
	c.Name, _ = r.text(o.get("name"), "the column's name")
	what := "column " + s.record + c.Name
	r.columnName(o.get("name"), s, c.Name, what)
	c.Description, _ = r.text(o.get("description"), "the description of "+what)
	if o.get("type") == nil {
		r.wrong(n, "%s has no type: give it one with type, such as STRING", what)
		return
	}
	if !r.readType(o.get("type"), &c, what) {
		return
	}
	if mode, ok := r.text(o.get("mode"), "the mode of "+what); ok {
		switch strings.ToUpper(mode) {
		case "REQUIRED":
			c.Required = true
		case "REPEATED":
			c.Repeated = true
		case "NULLABLE":
		default:
			r.wrong(o.get("mode"), "%s has the mode %s: want NULLABLE, REQUIRED or REPEATED", what, strconv.Quote(mode))
		}
	}
	r.source(n, o, s, &c, &f, what)
	r.accept(o.get("accept"), &c, &f, what)
	r.rules(o, s, &c, &f, what)
	if c.Type == Record {
		f.Rest = RestInherit
		r.readRest(o.get("rest"), &f.Rest, what)
		if columns := o.get("columns"); columns == nil {
			r.wrong(n, "%s is a RECORD without columns: list them with columns, or make it JSON", what)
		} else {
			c.Columns, f.Fields = r.readColumns(columns, s, &f.Rest, s.record+c.Name)
		}
	} else if at := o.keys["columns"]; at != nil {
		r.wrong(at, "%s is %s and has columns: only a RECORD has them", what, c.Type)
	}
	if s.record == "" {
		r.columns[strings.ToLower(c.Name)] = len(s.columns)
		if f.Source == FromSection {
			r.c.Sections[len(r.c.Sections)-1].Column = len(s.columns)
		}
	}
	s.columns, s.fields = append(s.columns, c), append(s.fields, f)
}

func (r *reader) columnName(n *yaml.Node, s *readScope, name, what string) {
	folded := strings.ToLower(name)
	if line := s.seen[folded]; line > 0 {
		r.wrong(n, "%s: a column of this name stands in line %d, and BigQuery does not tell names apart by their case: rename one", what, line)
	}
	s.seen[folded] = n.Line
	if !identifier(name) {
		r.wrong(n, "the column's name is %s: use at most 300 letters, digits and underscores, not beginning with a digit; "+
			"what the member is called goes to from",
			strconv.Quote(name))
	}
	for _, prefix := range reserved {
		if strings.HasPrefix(folded, strings.ToLower(prefix)) {
			r.wrong(n, "%s: names that begin with %s are BigQuery's own: rename it", what, prefix)
		}
	}
}

// source reads where the value comes from.
func (r *reader) source(n *yaml.Node, o object, s *readScope, c *Column, f *Field, what string) {
	var given []string
	for _, key := range []string{"from", "header", "kafka", "ingest", "constant", "rest_of"} {
		if o.get(key) != nil {
			given = append(given, key)
		}
	}
	if o.get("rest") != nil && c.Type != Record {
		given = append(given, "rest")
	}
	if len(given) > 1 {
		r.wrong(o.keys[given[1]], "%s has %s: a value comes from one of them", what, strings.Join(given, " and "))
		return
	}
	key := "from"
	if len(given) == 1 {
		key = given[0]
	}
	if s.record != "" && key != "from" && key != "constant" && key != "rest" {
		r.wrong(o.keys[key], "%s has %s: within a RECORD a value comes from the event", what, key)
		return
	}
	own, isSystem := system[strings.ToLower(c.Name)]
	isSystem = isSystem && s.record == ""
	from := n
	if o.keys[key] != nil {
		from = o.keys[key]
	}
	switch key {
	case "from":
		r.fromEvent(o, s, c, f, what)
	case "header":
		f.Source = FromHeader
		f.Header, _ = r.text(o.get(key), "the header of "+what)
	case "kafka", "ingest":
		sources := kafkaSources
		if key == "ingest" {
			sources = ingestSources
		}
		text, _ := r.text(o.get(key), key+" of "+what)
		source, ok := sources[text]
		if !ok {
			r.wrong(o.get(key), "%s has %s: %s: want one of %s", what, key, strconv.Quote(text), joinKeys(sources))
			return
		}
		f.Source = source
		if want := systemNames[source]; want != "" && c.Name != want {
			r.wrong(from, "%s has %s: %s: this value has the column %s in every table; call it so, or leave it out",
				what, key, text, want)
			return
		}
	case "constant":
		f.Source = FromConstant
		if text, ok := r.text(o.get(key), "the constant of "+what); ok {
			f.Constant = &text
		}
	case "rest":
		f.Source = FromRest
		r.restColumn(o, s, c, what)
	case "rest_of":
		f.Source = FromSection
		text, _ := r.text(o.get(key), "rest_of of "+what)
		path, err := ParsePath(text)
		if err != nil {
			r.wrong(o.get(key), "%s has the path %s, which %v", what, strconv.Quote(text), err)
		} else if len(path.members()) != len(path) {
			r.wrong(o.get(key), "%s has rest_of: %s: the rest of an element of an array cannot be taken; name an object by its members", what, text)
		}
		r.c.Sections = append(r.c.Sections, Section{Path: path})
		s.paths = append(s.paths, readPath{path, o.get(key), nil, c.Name})
	}
	if isSystem {
		switch {
		case f.Source != own.source:
			r.wrong(from, "%s: every table has this column for where the event came from: give it %s, or leave it out and "+
				"use another name for your own",
				what, sourceKey(own.source))
		case c.Type != own.typ:
			r.wrong(from, "%s is %s: it is %s in every table", what, c.Type, own.typ)
		case c.Repeated || c.Required && c.Name != IngestedAt:
			r.wrong(from, "%s is %s: make it NULLABLE, not every event has one", what, c.Mode())
		case c.Name == IngestedAt && !c.Required:
			r.wrong(from, "%s is NULLABLE: make it REQUIRED, every event has one", what)
		}
		return
	}
	switch {
	case (f.Source == FromRest || f.Source == FromSection) && (c.Type != JSON || c.Required || c.Repeated):
		r.wrong(from, "%s takes what is left and is %s %s: make it NULLABLE JSON, not every event has something left",
			what, c.Mode(), c.Type)
	case f.Source == FromHeader || f.Source == FromKafkaKey || f.Source == FromConstant:
		if c.Repeated || c.Type == JSON || c.Type == Record {
			r.wrong(from, "%s takes one text and is %s: make it a single value, such as STRING", what, c.kind())
		}
	}
}

// Mode is the column's mode in BigQuery.
func (c Column) Mode() string {
	switch {
	case c.Required:
		return "REQUIRED"
	case c.Repeated:
		return "REPEATED"
	}
	return "NULLABLE"
}

func joinKeys[V any](m map[string]V) string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

// sourceKey is how the language writes one of the system columns' sources.
func sourceKey(source Source) string {
	for name, s := range kafkaSources {
		if s == source {
			return "kafka: " + name
		}
	}
	for name, s := range ingestSources {
		if s == source {
			return "ingest: " + name
		}
	}
	return ""
}

// readRest reads rest: drop or reject, of the contract or a RECORD. A column with rest: true
// has its own way: restColumn.
func (r *reader) readRest(n *yaml.Node, rest *Rest, what string) {
	text, ok := r.text(n, "rest of "+what)
	if !ok {
		return
	}
	switch text {
	case "drop":
		*rest = RestDrop
	case "reject":
		*rest = RestReject
	default:
		r.wrong(n, "%s has rest: %s: want drop or reject, or a column of type JSON with rest: true", what, text)
	}
}

func (r *reader) restColumn(o object, s *readScope, c *Column, what string) {
	n := o.get("rest")
	if !r.boolean(n, "rest of "+what) {
		if n.Tag == "!!bool" {
			r.wrong(n, "%s has rest: false: remove it", what)
		}
		return
	}
	switch {
	case *s.rest == RestColumn:
		r.wrong(n, "%s takes the rest, and so does the column in line %d: a table or RECORD has one such column", what,
			s.restAt.Line)
	case *s.rest != RestInherit:
		r.wrong(n, "%s takes the rest, but it is said with rest: drop or reject as well: remove one", what)
	}
	*s.rest, s.restAt = RestColumn, n
}

// fromEvent reads the paths of a value.
func (r *reader) fromEvent(o object, s *readScope, c *Column, f *Field, what string) {
	if o.get("from") == nil {
		f.Paths = []Path{{{Kind: Member, Name: c.Name}}}
		s.paths = append(s.paths, readPath{f.Paths[0], o.get("name"), c, c.Name})
		return
	}
	for _, item := range r.list(o.get("from"), "from of "+what) {
		text, ok := r.text(item, "from of "+what)
		if !ok {
			continue
		}
		path, err := ParsePath(text)
		if err != nil {
			r.wrong(item, "%s has the path %s, which %v", what, strconv.Quote(text), err)
			continue
		}
		for _, other := range f.Paths {
			if path.within(other) && other.within(path) {
				r.wrong(item, "%s has the path %s twice: remove one", what, text)
			}
		}
		f.Paths = append(f.Paths, path)
		s.paths = append(s.paths, readPath{path, item, c, c.Name})
	}
}

// overlaps reports paths of one object that no event could serve.
func (r *reader) overlaps(s *readScope) {
	byFirst := make(map[string][]readPath) // the others cannot overlap
	for _, p := range s.paths {
		if p.path != nil {
			byFirst[p.path[0].Name] = append(byFirst[p.path[0].Name], p)
		}
	}
	for _, paths := range byFirst {
		r.overlapping(s, paths)
	}
}

func (r *reader) overlapping(s *readScope, paths []readPath) {
	for i, p := range paths {
		for k, q := range paths {
			if i == k {
				continue
			}
			same := len(p.path) == len(q.path)
			if !q.path.within(p.path) || same && i > k {
				continue
			}
			switch {
			case p.column == nil && q.column == nil:
				if same {
					r.wrong(q.node, "column %s takes the rest of %s, and so does %s: one column can", s.record+q.name,
						p.path, s.record+p.name)
				}
			case p.column == nil:
				if same {
					r.wrong(q.node, "column %s takes %s whole, so that nothing is left of it for column %s: remove one",
						s.record+q.name, q.path, s.record+p.name)
				}
			case q.column == nil:
				if same || p.column.Type != JSON && p.column.Type != Record || p.column.Repeated {
					r.wrong(q.node, "column %s takes the rest of %s, but column %s takes %s as %s: remove one",
						s.record+q.name, q.path, s.record+p.name, p.path, p.column.kind())
				}
			case same:
				if q.column == p.column {
					continue
				}
				if p.column.Type == Record && q.column.Type == Record ||
					(p.column.Type == Record) != (q.column.Type == Record) &&
						p.column.Type != JSON && q.column.Type != JSON {
					r.wrong(q.node, "columns %s (%s) and %s (%s) both take %s: an object has one RECORD, and is no other value; remove one",
						s.record+p.name, p.column.kind(), s.record+q.name, q.column.kind(), p.path)
				}
			case p.column == q.column:
				if p.column.Type != JSON {
					r.wrong(q.node, "column %s has the path %s and, within it, %s: a %s has no members; remove one",
						s.record+q.name, p.path, q.path, p.column.kind())
				}
			default:
				step := q.path[len(p.path)]
				fits := p.column.Type == JSON || p.column.Repeated && step.Kind != Member ||
					!p.column.Repeated && p.column.Type == Record && step.Kind == Member
				if !fits {
					r.wrong(q.node, "column %s takes %s, which lies within column %s, at %s: a %s has no such part; make that column JSON, or remove one",
						s.record+q.name, q.path, s.record+p.name, p.path, p.column.kind())
				}
			}
		}
	}
}

// accept reads the forms that a value may have.
func (r *reader) accept(n *yaml.Node, c *Column, f *Field, what string) {
	if n == nil {
		return
	}
	if f.Source != FromEvent && f.Source != FromHeader && f.Source != FromKafkaKey {
		r.wrong(n, "%s has accept: its value does not come from outside", what)
		return
	}
	known := formNames[c.Type]
	var ofTime []*yaml.Node
	items := r.list2(n, "accept of "+what)
	for _, item := range items {
		if item.Kind == yaml.MappingNode {
			o, _ := r.mapping(item, "accept of "+what, acceptKeys)
			text, ok := r.text(o.get("pattern"), "pattern")
			if !ok {
				continue
			}
			if c.Type != Timestamp && c.Type != DateTime && c.Type != Date && c.Type != Time {
				r.wrong(item, "%s is %s: a pattern is for TIMESTAMP, DATETIME, DATE and TIME", what, c.Type)
				continue
			}
			layout, err := ParseLayout(text, c.Type)
			if err != nil {
				r.wrong(item, "%s has the pattern %s, which %v", what, strconv.Quote(text), err)
				continue
			}
			f.Accept |= FormPattern
			f.Layouts, ofTime = append(f.Layouts, layout), append(ofTime, item)
			continue
		}
		text, ok := r.text(item, "accept of "+what)
		if !ok {
			continue
		}
		form, ok := known[text]
		if !ok && c.Repeated {
			form, ok = repeatedForms[text]
		}
		switch {
		case ok && form == FormEntries && c.Type != Record:
			r.wrong(item, "%s accepts entries, which makes an array of objects with key and value: make its type RECORD, "+
				"with columns of these names", what)
		case !ok && repeatedForms[text] != 0:
			r.wrong(item, "%s accepts %s, which is for columns of mode REPEATED", what, text)
		case !ok:
			names := joinKeys(known)
			if layouts := []Type{Timestamp, DateTime, Date, Time}; slices.Contains(layouts, c.Type) {
				names += ", {pattern: …}"
			}
			r.wrong(item, "%s accepts %s, which is not known for %s: use %s", what, strconv.Quote(text), c.Type, names)
		case f.Accept&form != 0:
			r.wrong(item, "%s accepts %s twice: remove one", what, text)
		}
		f.Accept |= form
	}
	for _, group := range exclusive {
		if both := f.Accept & group; both&(both-1) != 0 {
			var names []string
			for name, form := range known {
				if form&both != 0 {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			r.wrong(n, "%s accepts %s: a value could be read as each; choose one", what, strings.Join(names, " and "))
		}
	}
	r.ambiguous(c, f, ofTime, what)
}

// ambiguous reports patterns of time whose texts another accepted form reads as another time.
func (r *reader) ambiguous(c *Column, f *Field, at []*yaml.Node, what string) {
	for i, l := range f.Layouts {
		if f.Accept&(FormEpochDays|FormEpochSeconds|FormEpochMillis|FormEpochMicros) != 0 && l.digitsOnly() {
			r.wrong(at[i], "%s has the pattern %s, which is a number, and accepts an epoch: a value could be read as each; "+
				"choose one", what, strconv.Quote(l.Text))
		}
		for _, other := range f.Layouts[:i] {
			if text, ok := other.clash(l); ok {
				r.wrong(at[i], "%s has the patterns %s and %s: %q is another time by each; choose one", what,
					strconv.Quote(other.Text), strconv.Quote(l.Text), text)
			}
		}
		if iso, ok := isoLayouts[c.Type]; ok && f.Accept&(FormISO|FormRFC3339|FormISO8601) != 0 {
			if text, ok := iso.clash(l); ok {
				r.wrong(at[i], "%s has the pattern %s: %q is another time by it than by ISO 8601, which it accepts too; choose "+
					"one", what, strconv.Quote(l.Text), text)
			}
		}
	}
}

// isoLayouts has the form that each type of time has without a pattern.
var isoLayouts = map[Type]Layout{
	Timestamp: {Go: "2006-01-02T15:04:05Z07:00"}, DateTime: {Go: "2006-01-02T15:04:05"}, Date: {Go: "2006-01-02"}, Time: {Go: "15:04:05"},
}

// list2 is list for items that may be mappings.
func (r *reader) list2(n *yaml.Node, what string) []*yaml.Node {
	if n.Kind == yaml.MappingNode {
		return []*yaml.Node{n}
	}
	return r.list(n, what)
}

// rules reads what the value must be.
func (r *reader) rules(o object, s *readScope, c *Column, f *Field, what string) {
	outside := f.Source <= FromKafkaKey
	for _, key := range []string{"default", "not_empty", "skip_empty", "allowed", "length", "range", "required_when"} {
		if o.keys[key] != nil && !outside {
			r.wrong(o.keys[key], "%s has %s: its value does not come from outside", what, key)
			return
		}
	}
	if text, ok := r.text(o.get("default"), "the default of "+what); ok {
		f.Default = &text
		if c.Repeated || c.Type == JSON || c.Type == Record {
			r.wrong(o.keys["default"], "%s is %s: only a single value has a default", what, c.kind())
		}
	}
	f.SkipEmpty = r.boolean(o.get("skip_empty"), "skip_empty of "+what)
	if f.NotEmpty = r.boolean(o.get("not_empty"), "not_empty of "+what); f.NotEmpty && c.Type != String &&
		c.Type != Bytes {
		r.wrong(o.keys["not_empty"], "%s is %s: not_empty is for STRING and BYTES; a REPEATED column has length: {min: 1}", what, c.Type)
	}
	if f.NotEmpty && f.SkipEmpty {
		r.wrong(o.keys["not_empty"], "%s has not_empty and skip_empty: an empty string is a mistake or absent; choose one", what)
	}
	if n := o.get("allowed"); n != nil {
		f.Allowed = r.texts(n, "allowed of "+what)
		if c.Type != String {
			r.wrong(o.keys["allowed"], "%s is %s: allowed is for STRING; numbers and times have range", what, c.Type)
		}
	}
	if n := o.get("length"); n != nil {
		if length, ok := r.mapping(n, "length of "+what, lengthKeys); ok {
			f.MinLength = r.integer(length.get("min"), "the least length of "+what, 0, 10_000_000)
			f.MaxLength = r.integer(length.get("max"), "the greatest length of "+what, 1, 10_000_000)
			if f.MaxLength > 0 && f.MinLength > f.MaxLength {
				r.wrong(n, "%s has a length of at least %d and at most %d: turn them round", what, f.MinLength,
					f.MaxLength)
			}
		}
		if !c.Repeated && c.Type != String && c.Type != Bytes {
			r.wrong(o.keys["length"], "%s is %s: length is for STRING (characters), BYTES (bytes) and REPEATED columns (elements)", what, c.Type)
		}
		if !c.Repeated && c.MaxLength > 0 && f.MinLength > c.MaxLength {
			r.wrong(n, "%s has a length of at least %d, and its type takes at most %d: change one", what, f.MinLength,
				c.MaxLength)
		}
	}
	r.valueRange(o.get("range"), c, f, what)
	if n := o.get("required_when"); n != nil {
		if s.record != "" {
			r.wrong(n, "%s is within a RECORD: required_when is for columns of the table", what)
		}
		index := len(s.fields)
		r.later = append(r.later, func() {
			conditions := r.conditions(n, "required_when of "+what)
			if index < len(r.c.Fields) {
				r.c.Fields[index].RequiredWhen = conditions
			}
		})
		if c.Required {
			r.wrong(o.keys["required_when"], "%s is REQUIRED anyway: remove required_when, or make it NULLABLE", what)
		}
	}
}

func (r *reader) valueRange(n *yaml.Node, c *Column, f *Field, what string) {
	if n == nil {
		return
	}
	o, ok := r.mapping(n, "range of "+what, rangeKeys)
	if !ok {
		return
	}
	numbers := []Type{Int64, Float64, Numeric, BigNumeric}
	times := []Type{Timestamp, Date, DateTime}
	if !slices.Contains(append(append(numbers, times...), Time), c.Type) {
		r.wrong(n, "%s is %s: range is for numbers and times; text has allowed and length", what, c.Type)
		return
	}
	f.Range = &Range{}
	if text, ok := r.text(o.get("min"), "the least value of "+what); ok {
		f.Range.Min = &text
	}
	if text, ok := r.text(o.get("max"), "the greatest value of "+what); ok {
		f.Range.Max = &text
	}
	f.Range.Oldest = r.duration(o.get("oldest"), "oldest of "+what)
	f.Range.Newest = r.duration(o.get("newest"), "newest of "+what)
	if (f.Range.Oldest > 0 || f.Range.Newest > 0) && !slices.Contains(times, c.Type) {
		r.wrong(n, "%s is %s: oldest and newest are for TIMESTAMP, DATE and DATETIME", what, c.Type)
	}
	if len(o.values) == 0 {
		r.wrong(n, "range of %s has no bound: give min, max, oldest or newest", what)
	}
}

// topics reads the Kafka topics.
func (r *reader) topics(n *yaml.Node) {
	if n == nil {
		return
	}
	var patterns []string
	for _, item := range r.list2(n, "topics") {
		if item.Kind == yaml.MappingNode {
			o, _ := r.mapping(item, "topics", acceptKeys)
			text, ok := r.text(o.get("pattern"), "pattern")
			if !ok {
				continue
			}
			if err := checkPattern(text); err != nil {
				r.wrong(o.get("pattern"), "the pattern of topics %s %v", strconv.Quote(text), err)
				continue
			}
			patterns = append(patterns, "(?:"+text+")")
			continue
		}
		topic, ok := r.text(item, "topics")
		switch {
		case !ok:
		case !topicName.MatchString(topic) || topic == "." || topic == "..":
			r.wrong(item, "topics has %s, which is no name of a topic: use letters, digits, dots, _ and -; a regular "+
				"expression is {pattern: '…'}", strconv.Quote(topic))
		case slices.Contains(r.c.Topics, topic):
			r.wrong(item, "topics has %s twice: remove one", topic)
		default:
			r.c.Topics = append(r.c.Topics, topic)
		}
	}
	if len(patterns) > 0 {
		r.c.Pattern = regexp.MustCompile(fmt.Sprintf("^(?:%s)$", strings.Join(patterns, "|")))
	}
}

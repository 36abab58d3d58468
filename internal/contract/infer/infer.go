package infer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"sluice/internal/contract"
)

// Options say what to write.
type Options struct {
	Name  string  // of the contract; its table is called so, too
	Topic string  // of Kafka; empty: the name
	Share float64 // of the events that a member must be in to get a column; 0: a tenth
}

// The names by which members are taken for what identifies an event, its time, its type and
// its user: those of the specifications of Segment, RudderStack, Snowplow, GA4, PostHog,
// Matomo, Mixpanel and Amplitude, and common ones, in the order of trust.
var (
	idNames = []string{"event_id", "eventId", "messageId", "message_id", "uuid", "insert_id", "insertId",
		"$insert_id", "event_uuid", "idaction", "id", "_id"}
	vague     = map[string]bool{"id": true, "_id": true, "idaction": true}
	timeNames = []string{
		"event_timestamp", "eventTimestamp", "timestamp", "originalTimestamp", "original_timestamp", "derived_tstamp",
		"collector_tstamp", "dvce_created_tstamp",
		"event_time", "eventTime", "occurred_at", "occurredAt", "client_event_time", "serverTimestamp", "created_at",
		"createdAt", "sentAt", "sent_at", "time", "ts", "datetime", "date_time", "cdt",
	}
	typeNames = []string{"event_type", "eventType", "event_name", "eventName", "event", "type", "action", "name"}
	userNames = []string{"user_id", "userId", "user_pseudo_id", "distinct_id", "anonymousId", "anonymous_id",
		"domain_userid", "visitorId", "visitor_id", "_id", "uid", "device_id"}
)

// money are words in names of members that hold amounts of it.
var money = regexp.MustCompile(`(?i)price|revenue|total|amount|cost|tax|discount|shipping|value`)

// fractional are words in names of members that have fractions, also where the samples have none.
var fractional = regexp.MustCompile(`(?i)latitude|longitude|altitude|(^|_)(lat|lng|lon)$|speed|density|accuracy|ratio|score|percent`)

// column is one that is proposed.
type column struct {
	contract.Column
	at      *node
	path    contract.Path
	from    []string // when there are several paths
	accept  []string
	skip    bool // skip_empty
	note    string
	columns []column
}

// Contract writes the contract.
func (s *Sample) Contract(o Options) string {
	o.Share = cmp.Or(o.Share, 0.1)
	w := &writer{sample: s, options: o, names: map[string]bool{}, taken: map[*node]bool{}}
	for _, name := range contract.SystemColumns {
		w.names[name] = true
	}
	w.choose()
	return w.write()
}

type writer struct {
	sample  *Sample
	options Options
	names   map[string]bool // of columns, in small letters
	taken   map[*node]bool

	id, time, kind, user *column
	columns              []column
}

// enough reports whether a member is in enough events to get a column.
func (w *writer) enough(n *node) bool {
	return float64(n.present) >= w.options.Share*float64(w.sample.Events) && n.present > 0
}

func (w *writer) choose() {
	root := &w.sample.root
	w.id = w.pick(root, idNames, func(c *column) bool {
		// A name that says that it is the event's id may come twice, with a copy of the event.
		often := len(c.at.distinct) == w.sample.Events || len(c.at.distinct) >= maxDistinct || !vague[c.at.name] &&
			2*len(c.at.distinct) > w.sample.Events
		return c.at.present == w.sample.Events && often &&
			c.Type != contract.Timestamp && c.Type != contract.Date && c.Type != contract.JSON && !c.Repeated &&
			c.Type != contract.Record && c.Type != contract.Bool
	})
	w.time = w.pick(root, timeNames, func(c *column) bool { return c.Type == contract.Timestamp })
	w.otherTimes(root)
	w.kind = w.pick(root, typeNames, func(c *column) bool { return c.Type == contract.String && !c.Repeated })
	w.users(root)
	for _, c := range []*column{w.id, w.time} {
		if c != nil && c.at.present == w.sample.Events && c.at.empty == 0 {
			c.Required = true
		}
	}
	for _, c := range []*column{w.id, w.time, w.kind, w.user} {
		if c != nil {
			w.columns = append(w.columns, *c)
		}
	}
	w.object(root, nil, 3)
}

// pick makes a column of the first member of those names for which fits says so; members that are
// in every event come before others.
func (w *writer) pick(root *node, names []string, fits func(*column) bool) *column {
	for _, always := range []bool{true, false} {
		for _, name := range names {
			n := root.index[name]
			if n == nil || w.taken[n] || n.present == 0 || always && n.present < w.sample.Events {
				continue
			}
			c, ok := w.scalar(n, contract.Path{{Name: name}}, true)
			if ok && fits(&c) {
				w.taken[n] = true
				c.Name = w.name(c.path)
				return &c
			}
		}
	}
	return nil
}

// otherTimes lets the time come from other members, too, if not every event has it.
func (w *writer) otherTimes(root *node) {
	if w.time == nil || w.time.at.present == w.sample.Events {
		return
	}
	from := []string{contract.QuoteName(w.time.at.name)}
	accept := w.time.accept
	if len(accept) == 0 {
		accept = []string{"rfc3339"}
	}
	for _, name := range timeNames {
		n := root.index[name]
		if n == nil || n == w.time.at || n.present == 0 {
			continue
		}
		c, ok := w.scalar(n, contract.Path{{Name: name}}, true)
		if !ok || c.Type != contract.Timestamp || c.Repeated {
			continue
		}
		more := mergeForms(accept, c.accept)
		if more == nil {
			continue
		}
		from, accept = append(from, contract.QuoteName(name)), more
	}
	if len(from) > 1 {
		w.time.from, w.time.accept = from, accept
	}
}

// mergeForms are the forms of times that both lists accept, nil if a value could be read in
// two units.
func mergeForms(a, b []string) []string {
	if len(b) == 0 {
		b = []string{"rfc3339"}
	}
	out, epoch := slices.Clone(a), ""
	for _, form := range a {
		if strings.HasPrefix(form, "epoch") {
			epoch = form
		}
	}
	for _, form := range b {
		if strings.HasPrefix(form, "epoch") && epoch != "" && epoch != form {
			return nil
		}
		if !slices.Contains(out, form) {
			out = append(out, form)
		}
	}
	if slices.Contains(out, "iso8601") { // it takes all that rfc3339 does
		out = slices.DeleteFunc(out, func(form string) bool { return form == "rfc3339" })
	}
	return out
}

// users makes a column of who did it: the first that there is of the known names.
func (w *writer) users(root *node) {
	var found []*node
	numbers := false
	for _, name := range userNames {
		n := root.index[name]
		if n == nil || w.taken[n] || n.present == 0 || n.kinds[anObject]+n.kinds[anArray]+n.kinds[aBoolean] > 0 {
			continue
		}
		found = append(found, n)
		numbers = numbers || n.kinds[anInteger]+n.kinds[aNumber] > 0
	}
	if len(found) == 0 {
		return
	}
	c := column{Column: contract.Column{Type: contract.String}, at: found[0],
		path: contract.Path{{Name: found[0].name}}}
	if len(found) > 1 {
		for _, n := range found {
			c.from = append(c.from, contract.QuoteName(n.name))
		}
	}
	if numbers {
		c.accept = []string{"string", "number"}
	}
	for _, n := range found {
		c.skip = c.skip || n.empty > 0
		// Members that are elsewhere in the list stay in the rest as well: two ids of one event
		// are data.
	}
	w.taken[found[0]] = true
	c.note = w.note(found[0])
	c.Name = w.name(contract.Path{{Name: "user_id"}})
	w.user = &c
}

// object makes columns of an object's members that are in enough events.
func (w *writer) object(n *node, path contract.Path, depth int) {
	if len(n.members) > 100 { // names that are data
		return
	}
	for _, m := range n.members {
		at := append(slices.Clone(path), contract.Step{Name: m.name})
		switch {
		case w.taken[m] || !w.enough(m):
		case m.kinds[anObject] == m.present:
			if depth > 1 {
				w.object(m, at, depth-1)
			}
		case m.keyedArray():
			w.keyed(m, at)
		default:
			if c, ok := w.scalar(m, at, false); ok {
				c.Name = w.name(at)
				w.columns = append(w.columns, c)
			}
		}
	}
}

// keyedArray reports whether all elements are {"key": …, "value": …}.
func (n *node) keyedArray() bool {
	if n.kinds[anArray] != n.present || n.elements == nil || len(n.keys) == 0 {
		return false
	}
	key := n.elements.index["key"]
	return key != nil && key.present == n.elements.present && n.elements.index["value"] != nil
}

// keyed makes columns of the values of such elements.
func (w *writer) keyed(n *node, path contract.Path) {
	for _, key := range n.keys {
		value := n.keyed[key]
		at := append(slices.Clone(path[:len(path)-1]), path[len(path)-1], contract.Step{Kind: contract.Select,
			Name:  "key",
			Value: key}, contract.Step{Name: "value"})
		if !w.enough(value) {
			continue
		}
		if value.kinds[anObject] != value.present {
			if c, ok := w.scalar(value, at, false); ok {
				c.Name = w.name(at)
				w.columns = append(w.columns, c)
			}
			continue
		}
		for _, m := range value.members {
			if c, ok := w.scalar(m, append(slices.Clone(at), contract.Step{Name: m.name}), false); ok &&
				m.present > 0 && w.enough(m) {
				c.Name = w.name(contract.Path{{Name: key}})
				w.columns = append(w.columns, c)
			}
		}
	}
}

// scalar makes a column of one member, without its name; false: it has none that would keep
// what the events say, and stays in the rest.
func (w *writer) scalar(n *node, path contract.Path, isTime bool) (column, bool) {
	c := column{at: n, path: path, note: w.note(n)}
	text := n.kinds[aString] + n.kinds[aTimestamp] + n.kinds[anISOTimestamp] + n.kinds[aDate] + n.kinds[digitString] +
		n.kinds[numberString] + n.kinds[booleanString]
	numbers := n.kinds[anInteger] + n.kinds[aNumber]
	digits := n.kinds[digitString] + n.kinds[numberString]
	times := n.kinds[aTimestamp] + n.kinds[anISOTimestamp]
	named := len(path) > 0 && timeName.MatchString(path[len(path)-1].Name)
	switch {
	case n.kinds[anArray] == n.present:
		return w.array(n, c)
	case n.kinds[anObject]+n.kinds[anArray] > 0:
		return c, false
	case n.kinds[aBoolean] == n.present:
		c.Type = contract.Bool
	case n.kinds[aBoolean] > 0:
		c.Type = contract.String
		c.accept = []string{"string", "boolean"}
		if numbers > 0 {
			c.accept = append(c.accept, "number")
		}
	case times == n.present:
		c.Type = contract.Timestamp
		if n.kinds[anISOTimestamp] > 0 {
			c.accept = []string{"iso8601"}
		}
	case times > 0 && times+n.kinds[anInteger]+n.kinds[digitString] == n.present && isTime:
		form, ok := n.unit(n.present - times)
		if !ok {
			return c, false
		}
		c.Type = contract.Timestamp
		c.accept = []string{"rfc3339", form}
		if n.kinds[anISOTimestamp] > 0 {
			c.accept[0] = "iso8601"
		}
	case n.kinds[aDate] == n.present:
		c.Type = contract.Date
	case (isTime || named) && numbers+n.kinds[digitString] == n.present && n.epoch != nil:
		form, ok := n.unit(n.present)
		if !ok {
			return w.plain(n, c, text, numbers, digits), true
		}
		c.Type = contract.Timestamp
		c.accept = []string{form}
	default:
		return w.plain(n, c, text, numbers, digits), true
	}
	return c, true
}

// timeName is what members with times are called.
var timeName = regexp.MustCompile(`(?i)(^|_)(time|timestamp|tstamp|ts)$|[a-z](Timestamp|Time)$|_timestamp$|_at$|[a-z]At$`)

// unit is the one unit in which all of count integers are times of our days.
func (n *node) unit(count int) (string, bool) {
	for form, name := range map[contract.Form]string{
		contract.FormEpochSeconds: "epoch_seconds", contract.FormEpochMillis: "epoch_millis", contract.FormEpochMicros: "epoch_micros",
	} {
		if n.epoch[form] == count {
			return name, true
		}
	}
	return "", false
}

// plain chooses between text and numbers.
func (w *writer) plain(n *node, c column, text, numbers, digits int) column {
	switch {
	case numbers == 0 && (digits < text || !w.quantity(n, c.path)):
		c.Type = contract.String
		return c
	case numbers > 0 && text > digits: // a name here, a number there
		c.Type = contract.String
		c.accept = []string{"string", "number"}
		return c
	case n.scale <= 9 && !n.exponents && !n.wide && money.MatchString(c.path[len(c.path)-1].Name):
		c.Type = contract.Numeric // also where all were whole: the next one may not be
	case fractional.MatchString(c.path[len(c.path)-1].Name):
		c.Type = contract.Float64
	case n.kinds[aNumber]+n.kinds[numberString] == 0 && !n.wide:
		c.Type = contract.Int64
	default:
		c.Type = contract.Float64
	}
	if digits > 0 { // whoever writes numbers as text here may write them as numbers there
		c.accept = []string{"number", "string"}
	}
	return c
}

// quantity reports whether digits within strings are meant as a number: ids and codes, of
// which leading zeros count, are not.
func (w *writer) quantity(n *node, path contract.Path) bool {
	name := path[len(path)-1].Name
	return money.MatchString(name) && !strings.HasSuffix(strings.ToLower(name),
		"id") || name == "int_value" || name == "double_value" || name == "float_value" ||
		quantityName.MatchString(name)
}

var quantityName = regexp.MustCompile(`(?i)count|quantity|duration|(^|_)(width|height|position|index|size)$|percent`)

// array makes a REPEATED column.
func (w *writer) array(n *node, c column) (column, bool) {
	e := n.elements
	if e == nil || e.present == 0 { // nothing was in it: nobody knows what could be
		return c, false
	}
	c.Repeated = true
	if e.kinds[anObject] != e.present {
		element, ok := w.scalar(e, c.path, false)
		if !ok || element.Repeated {
			return c, false
		}
		c.Type, c.accept = element.Type, element.accept
		return c, true
	}
	if len(e.members) > 40 {
		return c, false
	}
	c.Type = contract.Record
	inner := &writer{sample: &Sample{Events: e.present}, options: w.options, names: map[string]bool{},
		taken: map[*node]bool{}}
	for _, m := range e.members {
		at := contract.Path{{Name: m.name}}
		if m.kinds[anObject] > 0 {
			continue // in the rest, at its place
		}
		if field, ok := inner.scalar(m, at, false); ok && m.present > 0 && field.Type != contract.Record {
			field.Name = inner.name(at)
			field.note = ""
			c.columns = append(c.columns, field)
		}
	}
	return c, len(c.columns) > 0
}

// name makes a column's name of a path, which no other column has.
func (w *writer) name(path contract.Path) string {
	var parts []string
	for _, step := range path {
		switch step.Kind {
		case contract.Member:
			parts = append(parts, snake(step.Name))
		case contract.Select:
			parts = append(parts, snake(step.Value))
		}
	}
	// The names of containers say little.
	for len(parts) > 1 && slices.Contains([]string{"properties", "context", "traits", "data", "payload", "attributes"},
		parts[0]) {
		if short := strings.Join(parts[1:], "_"); w.names[short] {
			break
		}
		parts = parts[1:]
	}
	name := strings.Join(parts, "_")
	if len(name) > 100 {
		name = name[:100]
	}
	if name == "" || unicode.IsDigit(rune(name[0])) || slices.ContainsFunc([]string{"_table_", "_file_", "_partition",
		"_row_timestamp", "__root__", "_colidentifier", "_change_"},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		name = "f_" + strings.TrimLeft(name, "_")
	}
	for base, i := name, 2; w.names[name]; i++ {
		name = base + "_" + strconv.Itoa(i)
	}
	w.names[name] = true
	return name
}

// snake writes a name in small letters, digits and underscores.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case r >= 'A' && r <= 'Z':
			before := i > 0 && (runes[i-1] >= 'a' && runes[i-1] <= 'z' || runes[i-1] >= '0' && runes[i-1] <= '9')
			after := i > 0 && i+1 < len(runes) && runes[i+1] >= 'a' && runes[i+1] <= 'z' && runes[i-1] >= 'A' &&
				runes[i-1] <= 'Z'
			if before || after {
				b.WriteByte('_')
			}
			b.WriteRune(unicode.ToLower(r))
		default:
			if b.Len() > 0 {
				b.WriteByte('_')
			}
		}
	}
	return strings.Trim(multiple.ReplaceAllString(b.String(), "_"), "_")
}

var multiple = regexp.MustCompile(`__+`)

// note says how often a member was seen, and as what.
func (w *writer) note(n *node) string {
	share := fmt.Sprintf("in %d of %d", n.present, w.sample.Events)
	if n.present == w.sample.Events {
		share = "in all"
	}
	if len(n.kinds) < 2 {
		return share
	}
	type seen struct {
		name         string
		count, first int
	}
	byName := map[string]*seen{}
	var all []*seen
	for k, count := range n.kinds {
		name := kindNames[k]
		s := byName[name]
		if s == nil {
			s = &seen{name: name, first: n.first[k]}
			byName[name] = s
			all = append(all, s)
		}
		s.count += count
		s.first = min(s.first, n.first[k])
	}
	slices.SortFunc(all, func(a, b *seen) int {
		return cmp.Or(cmp.Compare(b.count, a.count), strings.Compare(a.name,
			b.name))
	})
	var parts []string
	for i, s := range all {
		part := fmt.Sprintf("%d %s", s.count, s.name)
		if i > 0 {
			part += fmt.Sprintf(" (first: event %d)", s.first)
		}
		parts = append(parts, part)
	}
	if len(all) < 2 {
		return share
	}
	return share + ": " + strings.Join(parts, ", ")
}

// write is the contract's text.
func (w *writer) write() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Proposed from %s: look at the names, the types and what is REQUIRED.", events(w.sample.Events))
	line("contract: %s", contract.Version)
	line("name: %s", w.options.Name)
	line("topics: %s", scalar(cmp.Or(w.options.Topic, w.options.Name)))
	line("bare: true")
	if w.time != nil || w.kind != nil || w.user != nil {
		line("table:")
		if w.time != nil {
			line("  partition_by: %s", w.time.Name)
		}
		var cluster []string
		for _, c := range []*column{w.kind, w.user} {
			if c != nil {
				cluster = append(cluster, c.Name)
			}
		}
		if len(cluster) > 0 {
			line("  cluster_by: [%s]", strings.Join(cluster, ", "))
		}
	}
	if w.id != nil || w.time != nil || w.kind != nil {
		line("event:")
		if w.id != nil {
			line("  id: %s", w.id.Name)
		} else {
			line("  # id: which column tells an event from every other?")
		}
		if w.time != nil {
			line("  time: %s", w.time.Name)
		}
		if w.kind != nil {
			line("  type: %s", w.kind.Name)
		}
	}
	line("columns:")
	for i := range w.columns {
		w.column(line, "  ", &w.columns[i])
	}
	rest := "rest"
	for _, name := range []string{"properties", "rest", "other", "other_members"} {
		if !w.names[name] {
			rest = name
			break
		}
	}
	line("  - {name: %s, type: JSON, rest: true} # everything else", rest)
	return b.String()
}

func (w *writer) column(line func(string, ...any), indent string, c *column) {
	parts := []string{"name: " + scalar(c.Name), "type: " + string(c.Type)}
	switch {
	case c.Required:
		parts = append(parts, "mode: REQUIRED")
	case c.Repeated:
		parts = append(parts, "mode: REPEATED")
	}
	if len(c.from) > 0 {
		quoted := make([]string, len(c.from))
		for i, path := range c.from {
			quoted[i] = scalar(path)
		}
		parts = append(parts, "from: ["+strings.Join(quoted, ", ")+"]")
	} else if path := c.path.String(); path != c.Name {
		parts = append(parts, "from: "+scalar(path))
	}
	if len(c.accept) > 0 {
		parts = append(parts, "accept: ["+strings.Join(c.accept, ", ")+"]")
	}
	if c.skip {
		parts = append(parts, "skip_empty: true")
	}
	note := ""
	if c.note != "" {
		note = " # " + c.note
	}
	if c == w.kindColumn() {
		if names := w.eventNames(); names != "" {
			note += "; seen: " + names
		}
	}
	if len(c.columns) == 0 {
		line("%s- {%s}%s", indent, strings.Join(parts, ", "), note)
		return
	}
	line("%s- %s%s", indent, parts[0], note)
	for _, part := range parts[1:] {
		line("%s  %s", indent, part)
	}
	line("%s  columns:", indent)
	for i := range c.columns {
		w.column(line, indent+"    ", &c.columns[i])
	}
}

// kindColumn is the column of the event's type among those that are written.
func (w *writer) kindColumn() *column {
	if w.kind == nil {
		return nil
	}
	for i := range w.columns {
		if w.columns[i].at == w.kind.at {
			return &w.columns[i]
		}
	}
	return nil
}

// eventNames are the event's types, if they are few.
func (w *writer) eventNames() string {
	names := make([]string, 0, len(w.kind.at.distinct))
	for name := range w.kind.at.distinct {
		if len(name) > 60 || strings.ContainsAny(name, "\n\r") {
			return ""
		}
		names = append(names, name)
	}
	if len(names) > 20 {
		return ""
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func events(n int) string {
	if n == 1 {
		return "1 event"
	}
	return fmt.Sprintf("%d events", n)
}

// scalar writes a text in YAML, within [] and {} too.
func scalar(s string) string {
	if plain.MatchString(s) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"},
		strings.ToLower(s)) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

var plain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

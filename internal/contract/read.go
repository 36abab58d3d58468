package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/internal/schema"
)

// Version is the version of the language that a contract's first key names.
const Version = "1"

// Read reads a contract: YAML as contract.schema.json describes it. file is its name in
// messages and, without .yaml, the contract's own name if the text gives none. The error
// is Mistakes, and holds all of them. What depends on values, such as a default that its own
// column refuses, the decoder finds: see event.New.
func Read(file string, text []byte) (*Contract, error) {
	return ReadIn(os.DirFS(filepath.Dir(file)), file, text)
}

// ReadIn is Read for a contract whose schema's file, if it names one, lies in folder.
func ReadIn(folder fs.FS, file string, text []byte) (*Contract, error) {
	r := &reader{file: file, folder: folder, c: &Contract{File: file, Text: string(text)},
		columns: make(map[string]int)}
	if root := r.parse(text); root != nil {
		r.contract(root)
	}
	if err := r.mistakes.sorted(); err != nil {
		return nil, err
	}
	return r.c, nil
}

// ReadFile reads the contract in a file.
func ReadFile(file string) (*Contract, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	return Read(file, text)
}

// ReadDir reads the contracts of a folder: its files with the suffix .yaml or .yml. It checks
// also what they must be together: see Together.
func ReadDir(dir string) ([]*Contract, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the contracts: %w", err)
	}
	var all []*Contract
	var mistakes Mistakes
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".yaml" && ext != ".yml" || strings.HasPrefix(e.Name(),
			".") {
			continue
		}
		c, err := ReadFile(filepath.Join(dir, e.Name()))
		if some, ok := errors.AsType[Mistakes](err); ok {
			mistakes = append(mistakes, some...)
			continue
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // a link to nothing, such as editors leave
				return nil, fmt.Errorf("%w: remove it, or put the file there", err)
			}
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 && len(mistakes) == 0 {
		return nil, Mistakes{{File: dir, What: "has no contract: put a file NAME.yaml for each stream there"}}
	}
	if err, ok := errors.AsType[Mistakes](Together(all)); ok {
		mistakes = append(mistakes, err...)
	}
	if err := mistakes.sorted(); err != nil {
		return nil, err
	}
	return all, nil
}

// ReadPath reads the contracts of a folder, or the one in a file.
func ReadPath(path string) ([]*Contract, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the contracts: %w", err)
	case info.IsDir():
		return ReadDir(path)
	}
	c, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	return []*Contract{c}, nil
}

// Find returns the contract that takes the records of a Kafka topic; "" are events that did
// not come through Kafka. nil: none does.
func Find(all []*Contract, topic string) *Contract {
	for _, c := range all {
		if c.Serves(topic) {
			return c
		}
	}
	return nil
}

// Serves reports whether the contract is that of the records of a Kafka topic; "" are events
// that did not come through Kafka.
func (c *Contract) Serves(topic string) bool {
	return topic == "" && c.Bare || topic != "" && c.Takes(topic)
}

// Together checks what contracts must be if they serve one deployment: their names and tables
// differ, no Kafka topic can be taken by two of them, and at most one takes events without a
// topic. The error is Mistakes.
func Together(all []*Contract) error {
	var mistakes Mistakes
	add := func(c *Contract, format string, args ...any) {
		mistakes = append(mistakes, Mistake{File: c.File, What: fmt.Sprintf(format, args...)})
	}
	for i, c := range all {
		for _, other := range all[:i] {
			at := other.File
			if at == "" {
				at = "the contract " + other.Name
			}
			if c.Name == other.Name {
				add(c, "has the name %s, as %s has: give each contract its own", c.Name, at)
			}
			if strings.EqualFold(c.Table.Name, other.Table.Name) {
				add(c, "has the table %s, as %s has: give each contract its own", c.Table.Name, at)
			}
			if c.Bare && other.Bare {
				add(c, "says bare: true, as %s does: only one contract can take events without a Kafka topic", at)
			}
			if topic, ok := common(c, other); ok {
				add(c, "takes the topic %s, as %s does: a topic has one contract", topic, at)
			}
		}
	}
	return mistakes.sorted()
}

// KafkaTopics are the topics of the contracts, as the bridge subscribes to them: names, and
// patterns from ^ to $.
func KafkaTopics(all []*Contract) []string {
	var topics []string
	for _, c := range all {
		topics = append(topics, c.Topics...)
		if c.Pattern != nil {
			topics = append(topics, kafkaPattern(c.Pattern))
		}
	}
	return topics
}

// BatchGroups are the topics that may share batches, because one contract takes them, as
// the bridge's --batch-groups has them: between semicolons, those of each contract that takes several.
func BatchGroups(all []*Contract) string {
	var groups []string
	for _, c := range all {
		if len(c.Topics) > 1 || c.Pattern != nil {
			groups = append(groups, strings.Join(KafkaTopics([]*Contract{c}), ","))
		}
	}
	return strings.Join(groups, ";")
}

// SampleTopic is a topic that the contract takes, for those who make events for it; empty if
// it takes none of Kafka's.
func (c *Contract) SampleTopic() string {
	if len(c.Topics) > 0 {
		return c.Topics[0]
	}
	if c.Pattern == nil {
		return ""
	}
	topic, _ := witness(unanchored(c.Pattern), unanchored(c.Pattern))
	return topic
}

// Takes reports whether the contract takes the records of that Kafka topic.
func (c *Contract) Takes(topic string) bool {
	return slices.Contains(c.Topics, topic) || c.Pattern != nil && c.Pattern.MatchString(topic)
}

// reader reads one file.
type reader struct {
	file     string
	folder   fs.FS // with its schema's file
	c        *Contract
	mistakes Mistakes
	columns  map[string]int // the top-level columns by name
	nodes    int            // that have been visited, aliases counted as often as they stand
	later    []func()       // checks that need all columns

	program *schema.Program // of the contract's own schema; nil: it has none
}

// maxNodes bounds what aliases can make of a small file.
const maxNodes = 500_000

func (r *reader) wrong(n *yaml.Node, format string, args ...any) {
	m := Mistake{File: r.file, What: fmt.Sprintf(format, args...)}
	if n != nil {
		m.Line, m.Column = n.Line, n.Column
	}
	r.mistakes = append(r.mistakes, m)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parse returns the root of the text, nil if there is none.
func (r *reader) parse(text []byte) *yaml.Node {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.wrong(nil, "is empty: a contract begins with contract: 1")
		return nil
	case err != nil:
		m := Mistake{File: r.file, What: "is no YAML: " + err.Error()}
		if parts := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " ")); parts != nil {
			m.Line, _ = strconv.Atoi(parts[1])
			m.What = "is no YAML: " + parts[2]
		}
		r.mistakes = append(r.mistakes, m)
		return nil
	}
	var second yaml.Node
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		r.wrong(&second, "is a second document: a file holds one contract")
	}
	return r.resolve(doc.Content[0])
}

// resolve follows an alias.
func (r *reader) resolve(n *yaml.Node) *yaml.Node {
	if r.nodes++; r.nodes == maxNodes {
		r.wrong(n, "has more than %d values: aliases repeat what they stand for", maxNodes)
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// object is a mapping by its keys.
type object struct {
	node   *yaml.Node
	values map[string]*yaml.Node
	keys   map[string]*yaml.Node
}

// get returns the value of a key, nil if it has none.
func (o object) get(key string) *yaml.Node { return o.values[key] }

// mapping reads a mapping with those keys; what names it in messages.
func (r *reader) mapping(n *yaml.Node, what string, keys []string) (object, bool) {
	o := object{n, make(map[string]*yaml.Node), make(map[string]*yaml.Node)}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "%s is %s: want a mapping with the keys %s", what, kindOf(n), strings.Join(keys, ", "))
		return o, false
	}
	for i := 0; i < len(n.Content) && r.nodes < maxNodes; i += 2 {
		key, value := n.Content[i], r.resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(keys, key.Value):
			r.wrong(key, "%s has the key %s, which is not known: use %s", what, strconv.Quote(key.Value),
				strings.Join(keys, ", "))
		case o.keys[key.Value] != nil:
			r.wrong(key, "%s has the key %s twice, first in line %d: remove one", what, key.Value,
				o.keys[key.Value].Line)
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			r.wrong(key, "%s has the key %s without a value: give one, or remove the key", what, key.Value)
		default:
			o.keys[key.Value], o.values[key.Value] = key, value
		}
	}
	return o, true
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "empty"
		}
		return "a single value"
	}
	return "no value"
}

// text reads a single value as its text, as it is written; "" if there is none.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.wrong(n, "%s is %s: want one text", what, kindOf(n))
		return "", false
	}
	return n.Value, true
}

// list reads a single value, or several, as the nodes of their texts.
func (r *reader) list(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		if _, ok := r.text(n, what); !ok {
			return nil
		}
		return []*yaml.Node{n}
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		out := make([]*yaml.Node, 0, len(n.Content))
		for _, item := range n.Content {
			out = append(out, r.resolve(item))
		}
		return out
	}
	r.wrong(n, "%s is %s: want one value or a list of some", what, kindOf(n))
	return nil
}

// texts is list for texts, of which none may come twice.
func (r *reader) texts(n *yaml.Node, what string) []string {
	var out []string
	for _, item := range r.list(n, what) {
		text, ok := r.text(item, what)
		if ok && slices.Contains(out, text) {
			r.wrong(item, "%s has %s twice: remove one", what, strconv.Quote(text))
			continue
		}
		if ok {
			out = append(out, text)
		}
	}
	return out
}

func (r *reader) boolean(n *yaml.Node, what string) bool {
	if n == nil {
		return false
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		r.wrong(n, "%s is neither true nor false: use one of them", what)
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// integer reads a number from least to most; 0 if there is none.
func (r *reader) integer(n *yaml.Node, what string, least, most int) int {
	text, ok := r.text(n, what)
	if !ok {
		return 0
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < least || v > most {
		r.wrong(n, "%s is %s: want a whole number from %d to %d", what, strconv.Quote(text), least, most)
		return 0
	}
	return v
}

// duration reads hours or days, such as 36h or 400d; 0 if there is none.
func (r *reader) duration(n *yaml.Node, what string) time.Duration {
	text, ok := r.text(n, what)
	if !ok {
		return 0
	}
	unit, most := time.Hour, 24*365*300
	digits := strings.TrimSuffix(text, "h")
	if d, ok := strings.CutSuffix(text, "d"); ok {
		digits, unit, most = d, 24*time.Hour, 365*300
	} else if digits == text {
		digits = ""
	}
	v, err := strconv.Atoi(digits)
	if err != nil || v < 1 || v > most {
		r.wrong(n, "%s is %s: want hours or days, such as 36h or 400d", what, strconv.Quote(text))
		return 0
	}
	return time.Duration(v) * unit
}

// The keys of the language. The schema has the same: see schema_test.go.
var (
	contractKeys = []string{"contract", "name", "description", "topics", "bare", "format", "registry", "schema",
		"table", "event", "columns", "rest", "drop", "sample", "limits"}
	tableKeys     = []string{"name", "partition_by", "cluster_by"}
	partitionKeys = []string{"column", "every", "expire"}
	eventKeys     = []string{"id", "time", "type"}
	sampleKeys    = []string{"by", "keep"}
	limitKeys     = []string{"max_bytes", "max_depth"}
)

var contractName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

func (r *reader) contract(root *yaml.Node) {
	o, ok := r.mapping(root, "the contract", contractKeys)
	if !ok {
		return
	}
	c := r.c
	switch version, ok := r.text(o.get("contract"), "contract"); {
	case o.keys["contract"] == nil:
		r.wrong(root, "the contract does not say the version of its language: begin it with contract: %s", Version)
	case ok && version != Version:
		r.wrong(o.get("contract"), "contract is %s: this program knows version %s of the language",
			strconv.Quote(version), Version)
	}
	c.Name = strings.TrimSuffix(strings.TrimSuffix(filepath.Base(r.file), ".yaml"), ".yml")
	at := root
	if name, ok := r.text(o.get("name"), "name"); ok {
		c.Name, at = name, o.get("name")
	}
	if !contractName.MatchString(c.Name) {
		r.wrong(at, "the contract's name is %s: give it a name: of small letters, digits, _ and -, which begins with a "+
			"letter and has at most 63 characters",
			strconv.Quote(c.Name))
	}
	c.Description, _ = r.text(o.get("description"), "description")
	c.Bare = r.boolean(o.get("bare"), "bare")
	r.format(o)
	r.topics(o.get("topics"))
	if len(c.Topics) == 0 && c.Pattern == nil && !c.Bare && o.get("topics") == nil {
		r.wrong(root, "the contract takes no events: name its Kafka topics with topics, or say bare: true for events that "+
			"are published to Pub/Sub directly")
	}
	c.Table = &Table{Name: strings.ReplaceAll(c.Name, "-", "_")}

	c.Rest = RestInherit
	r.readRest(o.get("rest"), &c.Rest, "the contract")
	if n := o.get("columns"); n == nil {
		r.wrong(root, "the contract has no columns: list them with columns")
	} else if n = r.columnsOf(o, n); n != nil {
		c.Table.Columns, c.Fields = r.readColumns(n, nil, &c.Rest)
		if c.Rest == RestInherit {
			r.wrong(root, "the contract does not say what becomes of members that no column takes: give a column of type "+
				"JSON rest: true, or say rest: drop, or rest: reject")
		}
	}
	r.systemColumns()
	r.table(o.get("table"))
	r.event(o.get("event"))
	r.leftOut(o)
	c.MaxBytes, c.MaxDepth = MaxBytes, 100
	if n := o.get("limits"); n != nil {
		if limits, ok := r.mapping(n, "limits", limitKeys); ok {
			if v := r.integer(limits.get("max_bytes"), "max_bytes", 1, MaxBytes); v > 0 {
				c.MaxBytes = v
			}
			if v := r.integer(limits.get("max_depth"), "max_depth", 1, MaxDepth); v > 0 {
				c.MaxDepth = v
			}
		}
	}
	for _, check := range r.later {
		check()
	}
	r.expiry(o.get("table"))
}

// expiry refuses partitions that expire before the events that the contract takes do: BigQuery
// would acknowledge them, and delete them with their partition.
func (r *reader) expiry(n *yaml.Node) {
	p := r.c.Partition
	i := slices.IndexFunc(r.c.Table.Columns, func(c Column) bool { return c.Name == p.Column })
	if p.Expire == 0 || i < 0 || i >= len(r.c.Fields) || r.c.Fields[i].Source > FromKafkaKey {
		return
	}
	if oldest := r.c.Fields[i].Range; oldest == nil || oldest.Oldest == 0 || oldest.Oldest > p.Expire {
		r.wrong(n, "the partitions expire after %g days, and column %s takes older values: BigQuery would take such rows "+
			"and delete them at once; give the column range: {oldest: …} of less",
			p.Expire.Hours()/24, p.Column)
	}
}

// systemColumns appends those that the contract does not place itself.
func (r *reader) systemColumns() {
	c := r.c
	builtIn := FactEvents()
	for _, name := range SystemColumns {
		if _, ok := r.columns[strings.ToLower(name)]; ok {
			continue
		}
		column, _ := builtIn.Column(name)
		column.Number = number(len(c.Table.Columns))
		c.Table.Columns = append(c.Table.Columns, column)
		c.Fields = append(c.Fields, Field{Source: system[name].source})
	}
	if len(c.Table.Columns) > maxColumns {
		r.wrong(nil, "the table has %d columns: BigQuery takes at most %d", len(c.Table.Columns), maxColumns)
	}
}

// column returns the top-level column that a value names.
func (r *reader) column(n *yaml.Node, what string) (int, bool) {
	name, ok := r.text(n, what)
	if !ok {
		return 0, false
	}
	for i := range r.c.Table.Columns {
		if r.c.Table.Columns[i].Name == name {
			return i, true
		}
	}
	r.wrong(n, "%s names the column %s, which the table does not have: name one of its columns, in the same case", what,
		strconv.Quote(name))
	return 0, false
}

func (r *reader) table(n *yaml.Node) {
	if n == nil {
		return
	}
	o, ok := r.mapping(n, "table", tableKeys)
	if !ok {
		return
	}
	c := r.c
	if name, ok := r.text(o.get("name"), "the table's name"); ok {
		if !identifier(name) {
			r.wrong(o.get("name"), "the table's name is %s: use letters, digits and underscores, not beginning with a digit, "+
				"without the dataset", strconv.Quote(name))
		}
		c.Table.Name = name
	}
	if by := o.get("partition_by"); by != nil {
		r.partition(by)
	}
	clusterable := []Type{String, Int64, Numeric, BigNumeric, Bool, Date, DateTime, Timestamp, Geography, RangeOf}
	items := r.list(o.get("cluster_by"), "cluster_by")
	if len(items) > 4 {
		r.wrong(items[4], "cluster_by has %d columns: BigQuery takes at most four", len(items))
	}
	for _, item := range items {
		i, ok := r.column(item, "cluster_by")
		if !ok {
			continue
		}
		column := c.Table.Columns[i]
		switch {
		case column.Repeated || !slices.Contains(clusterable, column.Type):
			r.wrong(item, "cluster_by names %s, which is %s: BigQuery clusters by single values of %s", column.Name,
				column.kind(), joinTypes(clusterable))
		case slices.Contains(c.Cluster, column.Name):
			r.wrong(item, "cluster_by names %s twice: remove one", column.Name)
		}
		c.Cluster = append(c.Cluster, column.Name)
	}
}

// kind is the column's type and mode, for messages.
func (c Column) kind() string {
	if c.Repeated {
		return "REPEATED " + string(c.Type)
	}
	return string(c.Type)
}

func (r *reader) partition(n *yaml.Node) {
	at, p := n, &r.c.Partition
	p.Every = Day
	if n.Kind == yaml.MappingNode {
		o, _ := r.mapping(n, "partition_by", partitionKeys)
		if at = o.get("column"); at == nil {
			r.wrong(n, "partition_by does not say column: name the column that says the time")
			return
		}
		if every, ok := r.text(o.get("every"), "every"); ok {
			p.Every = Granularity(every)
			if !slices.Contains([]Granularity{Hour, Day, Month, Year}, p.Every) {
				r.wrong(o.get("every"), "every is %s: use hour, day, month or year", strconv.Quote(every))
			}
		}
		p.Expire = r.duration(o.get("expire"), "expire")
	}
	i, ok := r.column(at, "partition_by")
	if !ok {
		return
	}
	column := r.c.Table.Columns[i]
	p.Column = column.Name
	switch {
	case column.Repeated || column.Type != Timestamp && column.Type != Date && column.Type != DateTime:
		r.wrong(at, "partition_by names %s, which is %s: BigQuery partitions by a single TIMESTAMP, DATE or DATETIME",
			column.Name, column.kind())
	case column.Type == Date && p.Every == Hour:
		r.wrong(at, "partition_by names %s, which is a DATE: it has no hours; use day, month or year", column.Name)
	}
}

func (r *reader) event(n *yaml.Node) {
	if n == nil {
		return
	}
	o, ok := r.mapping(n, "event", eventKeys)
	if !ok {
		return
	}
	c := r.c
	for _, item := range r.list(o.get("id"), "id") {
		i, ok := r.column(item, "id")
		if !ok {
			continue
		}
		column := c.Table.Columns[i]
		switch {
		case column.Repeated || slices.Contains([]Type{JSON, Geography, Record}, column.Type):
			r.wrong(item, "id names %s, which is %s: BigQuery cannot compare such values; name columns of single values", column.Name, column.kind())
		case slices.Contains(c.ID, column.Name):
			r.wrong(item, "id names %s twice: remove one", column.Name)
		}
		c.ID = append(c.ID, column.Name)
	}
	one := func(key string, want Type) string {
		if o.get(key) == nil {
			return ""
		}
		i, ok := r.column(o.get(key), key)
		if !ok {
			return ""
		}
		column := c.Table.Columns[i]
		if column.Repeated || column.Type != want {
			r.wrong(o.get(key), "%s names %s, which is %s: name a column of type %s", key, column.Name, column.kind(),
				want)
		}
		return column.Name
	}
	c.Time, c.EventType = one("time", Timestamp), one("type", String)
}

// leftOut reads drop and sample.
func (r *reader) leftOut(o object) {
	c := r.c
	if n := o.get("drop"); n != nil {
		c.Drop = r.conditions(n, "drop")
	}
	n := o.get("sample")
	if n == nil {
		return
	}
	s, ok := r.mapping(n, "sample", sampleKeys)
	if !ok {
		return
	}
	if s.get("by") == nil || s.get("keep") == nil {
		r.wrong(n, "sample is not whole: say by, the column whose hash decides, and keep, the share of events that stay, such as 10%%")
		return
	}
	i, ok := r.comparable(s.get("by"), "by")
	text, _ := r.text(s.get("keep"), "keep")
	digits, percent := strings.CutSuffix(text, "%")
	keep, err := strconv.ParseFloat(digits, 64)
	if percent {
		keep /= 100
	}
	if err != nil || !(keep > 0 && keep < 1) {
		r.wrong(s.get("keep"), "keep is %s: want a share above 0%% and below 100%%, such as 10%%", strconv.Quote(text))
	}
	if ok {
		c.Sample = &Sample{Column: i, Keep: keep}
	}
}

// conditions reads a list of mappings, each from a column to the values that meet it.
func (r *reader) conditions(n *yaml.Node, what string) []Condition {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	var out []Condition
	for _, item := range items {
		item = r.resolve(item)
		if item.Kind != yaml.MappingNode || len(item.Content) != 2 {
			r.wrong(item, "%s is %s: want a mapping from one column to its values, such as event_name: [ping]; several are a "+
				"list of such", what, kindOf(item))
			continue
		}
		i, ok := r.comparable(item.Content[0], what)
		values := r.texts(r.resolve(item.Content[1]), what)
		if !ok || len(values) == 0 {
			continue
		}
		column := r.c.Table.Columns[i]
		for _, v := range values {
			if n, err := strconv.ParseInt(v, 10, 64); column.Type == Int64 &&
				(err != nil || strconv.FormatInt(n, 10) != v) {
				r.wrong(item, "%s compares %s with %s, which is no INT64: use whole numbers", what, column.Name,
					strconv.Quote(v))
			}
			if column.Type == Bool && v != "true" && v != "false" {
				r.wrong(item, "%s compares %s with %s: it is BOOL, use true or false", what, column.Name,
					strconv.Quote(v))
			}
		}
		out = append(out, Condition{Column: i, Values: values})
	}
	return out
}

// comparable returns the column that a condition looks at.
func (r *reader) comparable(n *yaml.Node, what string) (int, bool) {
	i, ok := r.column(n, what)
	if !ok {
		return 0, false
	}
	column, f := r.c.Table.Columns[i], r.c.Fields[i]
	if column.Repeated || column.Type != String && column.Type != Int64 && column.Type != Bool {
		r.wrong(n, "%s looks at %s, which is %s: it can look at a single STRING, INT64 or BOOL", what, column.Name,
			column.kind())
		return 0, false
	}
	if f.Source > FromKafkaKey {
		r.wrong(n, "%s looks at %s, which is not of the event: it can look at a value of the event, of a header, or the key", what, column.Name)
		return 0, false
	}
	return i, true
}

package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/functions/event"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/contract/infer"
)

// Contract is the command of the tools for contracts. local is nil in a program that knows
// BigQuery only.
func Contract(local *Local) Command {
	return func(ctx context.Context, args []string) error {
		tools := map[string]func(context.Context, []string) error{
			"check": checkContract, "infer": inferContract, "diff": diffContracts, "tables": printTables, "show": showPreset,
			"deploy":  deployContracts,
			"promote": func(ctx context.Context, args []string) error { return promote(ctx, local, args) },
		}
		if len(args) == 1 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			fmt.Fprint(os.Stderr, `Tools for contracts, which say what events are:

  infer    a contract from sample events, or from a schema
  check    a contract's mistakes; and how it judges a file of events
  diff     what changes for the table, and whether BigQuery can do it
  tables   BigQuery's schema and DDL
  promote  columns for members that have none yet
  show     a contract that is built in
  deploy   a step of the build

-h after a tool lists its flags.
`)
			return flag.ErrHelp
		}
		if len(args) == 0 || tools[args[0]] == nil {
			return UsageError("name a tool: %s", strings.Join(slices.Sorted(maps.Keys(tools)), ", "))
		}
		return tools[args[0]](ctx, args[1:])
	}
}

// readContracts reads those that the words name: presets, files, and folders of files.
func readContracts(words []string) (all []*contract.Contract, err error) {
	var mistakes contract.Mistakes
	for _, word := range words {
		var some []*contract.Contract
		if slices.Contains(contract.Presets(), word) {
			var one *contract.Contract
			one, err = contract.Preset(word)
			some = []*contract.Contract{one}
		} else {
			some, err = contract.ReadPath(word)
		}
		if more, ok := errors.AsType[contract.Mistakes](err); ok {
			mistakes = append(mistakes, more...)
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	// What only values can show.
	for _, c := range all {
		if _, err := event.New(c, event.Fast, time.Now); err != nil {
			more, ok := errors.AsType[contract.Mistakes](err)
			if !ok {
				return nil, err
			}
			mistakes = append(mistakes, more...)
		}
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return all, contract.Together(all)
}

// isContract reports whether a word names a contract and not events.
func isContract(word string) bool {
	if info, err := os.Stat(word); err == nil && info.IsDir() {
		return true
	}
	ext := filepath.Ext(word)
	return ext == ".yaml" || ext == ".yml" || slices.Contains(contract.Presets(), word)
}

// interleaved parses flags that stand before, between and behind words.
func interleaved(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := Parse(flags, args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return words, nil
		}
		words = append(words, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

// judged is what check found of one file of events.
type judged struct {
	Events   int               `json:"events"`
	Landed   int               `json:"would_land"`
	LeftOut  int               `json:"left_out"`
	Rejected int               `json:"rejected"`
	Reasons  []judgedReason    `json:"reasons"`
	index    map[[2]string]int // of Reasons, by code and field
}

type judgedReason struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"`
	Events  int    `json:"events"`
	Line    int    `json:"first_line"`
	Message string `json:"message"`
}

func checkContract(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("contract check", flag.ContinueOnError)
	var (
		of     values
		asJSON = flags.Bool("json", false, "print what was found of the events as one JSON object")
		topic  = flags.String("topic", "", "Kafka `topic` of the events; needed only with several contracts")
		from   schemaFlags
	)
	from.declare(flags)
	flags.Var(&of, "contract", "`name` of a preset, a contract's file, or a folder of them; may be repeated, or stand as a word")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Reads contracts and prints all their mistakes; with files of events, one JSON object a line (.gz and .zst, too),
judges each by the decoder of production. The exit status is 1 if there is a mistake, or an event that would be rejected.

  ./scripts/contract check contracts/
  ./scripts/contract check events.ndjson --contract contracts/shop_events.yaml

With a schema it says what becomes of its fields, and whether the contract takes events that are written with it: a version
that is to come, before it is there.

  ./scripts/contract check contracts/orders.yaml --schema order-v2.avsc
  ./scripts/contract check contracts/orders.yaml --registry https://registry.example.com --subject orders-value

`)
		flags.PrintDefaults()
	}
	words, err := interleaved(flags, args)
	if err != nil {
		return err
	}
	var files []string
	for _, word := range words {
		if isContract(word) {
			of = append(of, word)
		} else {
			files = append(files, word)
		}
	}
	if len(of) == 0 {
		return UsageError("name a contract: a preset (%s), a file NAME.yaml, or a folder",
			strings.Join(contract.Presets(), ", "))
	}
	all, err := readContracts(of)
	if mistakes, ok := errors.AsType[contract.Mistakes](err); ok {
		fmt.Fprintln(os.Stderr, mistakes)
		return ErrFailed
	}
	if err != nil {
		return err
	}
	if from.given() {
		if len(files) > 0 || len(all) > 1 {
			return UsageError("a schema is held against one contract: leave out the files of events, and name one contract")
		}
		return from.check(ctx, all[0], os.Stdout)
	}
	if len(files) == 0 {
		for _, c := range all {
			fmt.Fprintf(os.Stderr, "%s: %d columns of the table %s, no mistakes\n", cmp.Or(c.File, c.Name),
				len(c.Table.Columns), c.Table.Name)
		}
		return nil
	}
	if len(all) > 1 {
		c := contract.Find(all, *topic)
		if c == nil {
			return UsageError("there are %d contracts: say with --topic, a topic of one, whose the events are",
				len(all))
		}
		all = []*contract.Contract{c}
	}
	found := &judged{Reasons: []judgedReason{}, index: make(map[[2]string]int)}
	for _, file := range files {
		if err := found.judge(ctx, all[0], file); err != nil {
			return err
		}
	}
	if *asJSON {
		err = json.NewEncoder(os.Stdout).Encode(found)
	} else {
		found.print(os.Stdout)
	}
	if err == nil && found.Rejected > 0 {
		err = ErrFailed
	}
	return err
}

// judge judges the events of a file.
func (j *judged) judge(ctx context.Context, c *contract.Contract, file string) error {
	d, err := event.New(c.Plain(), event.Fast, time.Now)
	if err != nil {
		return err
	}
	lines, err := OpenLines(ctx, file, -1)
	if err != nil {
		return err
	}
	defer lines.Close()
	var row []byte
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		j.Events++
		row, err = d.AppendRow(row[:0], line, event.Meta{Offset: batch.NoOffset})
		why, rejected := errors.AsType[*event.Rejection](err)
		switch {
		case err == nil:
			j.Landed++
		case errors.Is(err, event.ErrDropped) || errors.Is(err, event.ErrSampled):
			j.LeftOut++
		case rejected:
			j.Rejected++
			key := [2]string{string(why.Code), indices.ReplaceAllString(why.Field, "[]")}
			i, ok := j.index[key]
			if !ok {
				i = len(j.Reasons)
				j.index[key] = i
				j.Reasons = append(j.Reasons, judgedReason{Code: key[0], Field: key[1], Line: lines.Number(),
					Message: why.Message})
			}
			j.Reasons[i].Events++
		default:
			return err
		}
	}
}

// indices are those of elements in the name of a field: all elements have one reason.
var indices = regexp.MustCompile(`\[\d+\]`)

func (j *judged) print(w io.Writer) {
	if len(j.Reasons) > 0 {
		rows := [][]any{}
		for _, r := range j.Reasons {
			rows = append(rows, []any{r.Events, r.Line, r.Code, r.Field, r.Message})
		}
		PrintTable(w, []string{"events", "first line", "code", "field", "why"}, rows)
	}
	noun := "events"
	if j.Events == 1 {
		noun = "event"
	}
	fmt.Fprintf(w, "%d %s: %d would land, %d would be left out, %d would be rejected.\n", j.Events, noun, j.Landed,
		j.LeftOut, j.Rejected)
}

func inferContract(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("contract infer", flag.ContinueOnError)
	var o infer.Options
	flags.StringVar(&o.Name, "name", "", "`name` of the contract and its table (default: the first file's)")
	flags.StringVar(&o.Topic, "topic", "", "Kafka `topic` of the events (default: the name)")
	flags.Float64Var(&o.Share, "share", 0.1, "a member gets a column if it is in this `share` of the events, from 0 to 1")
	most := flags.Int("events", 100_000, "look at this many events")
	var from schemaFlags
	from.declare(flags)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Writes a contract from sample events: JSON objects, one a line or laid out, or arrays of them (.gz and .zst, too).
What led to each column stands behind it. Values of events are not written, but for the names of events.
Or from a schema, of a registry or in a file beside the contract, for events in Avro or Protobuf.

  ./scripts/contract infer events.ndjson > contracts/shop_events.yaml
  ./scripts/contract infer --registry https://registry.example.com --subject orders-value > contracts/orders.yaml
  ./scripts/contract infer --schema contracts/order.avsc --name orders > contracts/orders.yaml

`)
		flags.PrintDefaults()
	}
	files, err := interleaved(flags, args)
	if err != nil {
		return err
	}
	if from.given() {
		if len(files) > 0 {
			return UsageError("files of events and a schema do not go together: give one of them")
		}
		return from.infer(ctx, o, os.Stdout)
	}
	switch {
	case len(files) == 0:
		return UsageError("name a file of events, or a schema with --registry and --subject, or with --schema")
	case !(o.Share >= 0 && o.Share <= 1):
		return UsageError("--share is %g: a share from 0 to 1 is needed", o.Share)
	case *most < 1:
		return UsageError("--events is %d: a number from 1 on is needed", *most)
	}
	if o.Name == "" {
		o.Name = contractName(files[0])
	}
	var s infer.Sample
	for _, file := range files {
		if err := sample(ctx, &s, file, *most); err != nil {
			return err
		}
	}
	if s.Events == 0 {
		return fmt.Errorf("%s has no event", strings.Join(files, ", "))
	}
	text := s.Contract(o)
	if _, err := os.Stdout.WriteString(text); err != nil {
		return err
	}
	c, err := contract.Read(o.Name+".yaml", []byte(text))
	if err != nil {
		return err
	}
	// The contract must take what it was made of.
	found := &judged{Reasons: []judgedReason{}, index: make(map[[2]string]int)}
	for _, file := range files {
		if err := found.judgeValues(ctx, c, file, *most); err != nil {
			return err
		}
	}
	found.print(os.Stderr)
	return nil
}

// contractName makes a contract's name of a file's.
func contractName(file string) string {
	base := strings.ToLower(filepath.Base(file))
	base, _, _ = strings.Cut(base, ".")
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9_]+`).ReplaceAllString(base, "_"), "_")
	if name == "" || name[0] < 'a' {
		name = strings.Trim("events_"+name, "_")
	}
	return name[:min(len(name), 63)]
}

// events runs f for the JSON values of a file, those of arrays one by one.
func events(ctx context.Context, file string, most int, f func(n int, value []byte) error) error {
	lines, err := OpenLines(ctx, file, -1)
	if err != nil {
		return err
	}
	defer lines.Close()
	d := jsontext.NewDecoder(lines, jsontext.AllowDuplicateNames(true))
	n := 0
	for n < most {
		if d.PeekKind() == '[' || d.PeekKind() == ']' {
			if _, err := d.ReadToken(); err != nil {
				return fmt.Errorf("%s, after event %d: %w", file, n, err)
			}
			continue
		}
		value, err := d.ReadValue()
		if err == io.EOF {
			return nil
		}
		n++
		if err == nil {
			err = f(n, value)
		}
		if err != nil {
			return fmt.Errorf("%s, event %d %w", file, n, err)
		}
	}
	return nil
}

func sample(ctx context.Context, s *infer.Sample, file string, most int) error {
	return events(ctx, file, most, func(_ int, value []byte) error { return s.Add(value) })
}

func (j *judged) judgeValues(ctx context.Context, c *contract.Contract, file string, most int) error {
	d, err := event.New(c.Plain(), event.Fast, time.Now)
	if err != nil {
		return err
	}
	return events(ctx, file, most, func(n int, value []byte) error {
		j.Events++
		_, err := d.AppendRow(nil, bytes.TrimSpace(value), event.Meta{Offset: batch.NoOffset})
		why, rejected := errors.AsType[*event.Rejection](err)
		if !rejected {
			j.Landed++
			return nil
		}
		j.Rejected++
		j.Reasons = append(j.Reasons, judgedReason{Code: string(why.Code), Field: why.Field, Events: 1, Line: n,
			Message: why.Message})
		return nil
	})
}

func diffContracts(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("contract diff", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Says what changes for the table from one contract to another. The exit status is 1 if BigQuery cannot
make the change to a table that is there.

  ./scripts/contract diff old.yaml new.yaml

`)
		flags.PrintDefaults()
	}
	words, err := interleaved(flags, args)
	if err != nil {
		return err
	}
	if len(words) != 2 {
		return UsageError("name two contracts: the old one and the new one")
	}
	old, err := contract.Named(words[0])
	if err != nil {
		return err
	}
	c, err := contract.Named(words[1])
	if err != nil {
		return err
	}
	breaks := 0
	for _, change := range c.Diff(old) {
		word := "additive: "
		if change.Breaking {
			word = "BREAKING: "
			breaks++
		}
		fmt.Println(word + change.What)
	}
	if breaks > 0 {
		return ErrFailed
	}
	return nil
}

func printTables(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("contract tables", flag.ContinueOnError)
	ddl := flags.Bool("ddl", false, "print GoogleSQL's statements that make the tables and views, instead of BigQuery's schema JSON")
	dataset := flags.String("dataset", "clickstream", "`dataset` of the statements, or project.dataset")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Prints the tables of contracts: BigQuery's schema JSON (an object of them if there are several), or statements.

  ./scripts/contract tables contracts/shop_events.yaml > shop_events.json
  ./scripts/contract tables --ddl --dataset my-project.clickstream contracts/

`)
		flags.PrintDefaults()
	}
	words, err := interleaved(flags, args)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return UsageError("name a contract: a preset (%s), a file NAME.yaml, or a folder",
			strings.Join(contract.Presets(), ", "))
	}
	all, err := readContracts(words)
	if err != nil {
		return err
	}
	switch {
	case *ddl:
		for _, c := range all {
			fmt.Println(c.DDL(*dataset))
		}
	case len(all) == 1:
		_, err = os.Stdout.Write(all[0].Table.Schema())
	default:
		schemas := make(map[string]json.RawMessage)
		for _, c := range all {
			schemas[c.Table.Name] = c.Table.Schema()
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(schemas)
	}
	return err
}

func showPreset(_ context.Context, args []string) error {
	if len(args) != 1 || !slices.Contains(contract.Presets(), args[0]) {
		return UsageError("name a preset: %s", strings.Join(contract.Presets(), ", "))
	}
	c, err := contract.Preset(args[0])
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(c.Text)
	return err
}

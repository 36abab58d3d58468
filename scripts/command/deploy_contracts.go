package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/functions/event"
	"sluice/internal/contract"
)

// stream is what infra/bigquery.tf is told of a contract: see the variable streams there.
type stream struct {
	Table       string           `json:"table"`
	Description string           `json:"description"`
	Schema      string           `json:"schema"`
	Partition   *streamPartition `json:"partition"`
	Clustering  []string         `json:"clustering"`
	View        string           `json:"view"`
	Query       string           `json:"query"`
	Deployed    bool             `json:"deployed"` // the functions have the contract; else its table is kept
}

type streamPartition struct {
	Column       string `json:"column"`
	Type         string `json:"type"`
	ExpirationMS *int64 `json:"expiration_ms"`
}

// settingsOfContracts are Terraform's variables that follow from contracts.
type settingsOfContracts struct {
	Streams   map[string]stream `json:"streams"`
	Topics    string            `json:"stream_topics"`
	Groups    string            `json:"batch_groups"`
	LeavesOut bool              `json:"leaves_out"`
	Health    string            `json:"health_query"`
}

// deployContracts makes of contracts what a deployment needs, and refuses what it cannot do. It
// is a step of the build: infra/build/contracts.
func deployContracts(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("contract deploy", flag.ContinueOnError)
	var (
		packed    = flags.String("packed", "", "`file` with the contracts and the files of their schemas: a JSON object of texts by file names")
		kept      = flags.String("kept", "", "`file` with the contracts of all tables that were deployed so far, in the same form; it is updated")
		dataset   = flags.String("dataset", "", "`dataset` of the tables, project.dataset")
		folder    = flags.String("into", "", "`folder` that the functions' image takes the contracts from")
		terraform = flags.String("terraform", "", "`file` for Terraform's variables")
	)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `A step of the build: makes of packed contracts the folder for the functions' image and the variables for
infra/. A contract with a mistake, or with a change that BigQuery cannot make to a table that is there, fails the build
before anything is changed. The table of a contract that is gone stays.

`)
		flags.PrintDefaults()
	}
	if err := Parse(flags, args); err != nil {
		return err
	}
	if err := NoMore(flags); err != nil {
		return err
	}
	for name, value := range map[string]string{"packed": *packed, "kept": *kept, "dataset": *dataset, "into": *folder,
		"terraform": *terraform} {
		if value == "" {
			return UsageError("--%s is missing", name)
		}
	}
	current := map[string]string{}
	if err := readJSON(*packed, &current); err != nil {
		return err
	}
	all, err := parsePacked(current)
	if err != nil {
		return err
	}
	if err := contract.Together(all); err != nil {
		return err
	}
	tables := map[string]keptTable{}
	if err := readJSON(*kept, &tables); err != nil {
		return err
	}
	old, err := keptContracts(tables)
	if err != nil {
		return fmt.Errorf("%s: %w", *kept, err)
	}
	out, err := planStreams(*dataset, all, old)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*folder, 0o755); err != nil {
		return err
	}
	for _, c := range all {
		// By the contract's name, so that a renamed file is the same contract.
		if err := os.WriteFile(filepath.Join(*folder, c.Name+".yaml"), []byte(c.Text), 0o644); err != nil {
			return err
		}
		if err := c.Schema.Write(*folder); err != nil {
			return err
		}
		tables[c.Table.Name] = keptTable{Contract: named(c), Schema: c.Table.Schema(), Files: c.Schema.Files}
	}
	if err := writeJSON(*kept, tables); err != nil {
		return err
	}
	return writeJSON(*terraform, out)
}

// named is the text of a contract with its name and table in it, so that the name of its file
// says nothing.
func named(c *contract.Contract) string {
	text := c.Text
	if !strings.Contains("\n"+text, "\nname:") {
		text += "\nname: " + c.Name + "\n"
	}
	return text
}

// keptTable is a table that was deployed: its last contract, and all columns that it has,
// also those that no contract has any more.
type keptTable struct {
	Contract string          `json:"contract"`
	Schema   json.RawMessage `json:"schema"`
	// Files are those of its events' schema, by their names.
	Files contract.Folder `json:"files,omitempty"`
}

// keptContracts are the last contracts of the tables, with all the tables' columns.
func keptContracts(tables map[string]keptTable) ([]*contract.Contract, error) {
	var all []*contract.Contract
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		c, err := contract.ReadIn(tables[name].Files, name+".yaml", []byte(tables[name].Contract))
		if err != nil {
			return nil, err
		}
		if c.Table, err = contract.Parse(name, tables[name].Schema); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// readJSON reads a file, which need not exist, into the empty value v.
func readJSON(file string, v any) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s is not what infra/build/contracts fetches: %w", file, err)
	}
	return nil
}

func parsePacked(files map[string]string) ([]*contract.Contract, error) {
	var all []*contract.Contract
	var mistakes contract.Mistakes
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if ext := filepath.Ext(name); ext != ".yaml" && ext != ".yml" || strings.Contains(name, "/") {
			continue // a file of a schema
		}
		c, err := contract.ReadIn(contract.Folder(files), name, []byte(files[name]))
		if err == nil {
			_, err = event.New(c, event.Fast, time.Now)
		}
		if some, ok := errors.AsType[contract.Mistakes](err); ok {
			mistakes = append(mistakes, some...)
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return all, nil
}

// planStreams refuses breaking changes, and makes Terraform's variables of the contracts and of
// the tables that are kept.
func planStreams(dataset string, all, old []*contract.Contract) (*settingsOfContracts, error) {
	out := &settingsOfContracts{
		Streams: map[string]stream{}, Topics: strings.Join(contract.KafkaTopics(all),
			","), Groups: contract.BatchGroups(all),
		LeavesOut: contract.LeavesOut(all),
	}
	var breaks []string
	for _, c := range all {
		for _, before := range old {
			if !strings.EqualFold(before.Table.Name, c.Table.Name) {
				continue
			}
			for _, change := range c.Diff(before) {
				if change.Breaking {
					breaks = append(breaks, c.Name+": "+change.What)
				}
			}
			c.Table.Columns = keepColumns(c.Table.Columns, before.Table.Columns)
		}
		out.Streams[c.Table.Name] = newStream(c, dataset, true)
	}
	if len(breaks) > 0 {
		return nil, fmt.Errorf("the tables that are there cannot become what the contracts say:\n%s",
			strings.Join(breaks, "\n"))
	}
	for _, before := range old {
		if _, ok := out.Streams[before.Table.Name]; !ok {
			out.Streams[before.Table.Name] = newStream(before, dataset, false)
		}
	}
	if len(all) > 0 {
		health, err := contract.Query{Dataset: dataset, Contracts: all}.SQL("pipeline_health_per_minute")
		if err != nil {
			return nil, err
		}
		out.Health = health
	}
	return out, nil
}

// keepColumns returns columns with those of before that they have no more, also within RECORDs:
// Terraform would drop a column with all that it holds.
func keepColumns(columns, before []contract.Column) []contract.Column {
	out := slices.Clone(columns)
	for _, old := range before {
		i := slices.IndexFunc(out, func(is contract.Column) bool { return strings.EqualFold(is.Name, old.Name) })
		if i < 0 {
			out = append(out, old)
			continue
		}
		out[i].Columns = keepColumns(out[i].Columns, old.Columns)
	}
	return out
}

func newStream(c *contract.Contract, dataset string, deployed bool) stream {
	s := stream{
		Table: c.Table.Name, Description: c.Description, Schema: string(c.Table.Schema()), Clustering: c.Cluster,
		View: c.ViewName(), Query: c.View("`" + dataset + "`"), Deployed: deployed,
	}
	if s.Clustering == nil {
		s.Clustering = []string{}
	}
	if p := c.Partition; p.Column != "" {
		s.Partition = &streamPartition{Column: p.Column, Type: strings.ToUpper(string(p.Every))}
		if p.Expire > 0 {
			ms := p.Expire.Milliseconds()
			s.Partition.ExpirationMS = &ms
		}
	}
	return s
}

func writeJSON(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

package infer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sluice/internal/contract"
	"sluice/internal/schema"
)

// Source is where a schema was found.
type Source struct {
	Format   contract.Format
	Registry *contract.Registry // with Subject and Version; nil: the schema is a file
	File     string             // within the contract's folder
	Message  string             // of a Protobuf file with several messages: the full name
}

// FromSchema writes a contract from a schema: a column for each field, and one for what versions to come add.
func FromSchema(p *schema.Program, from Source, o Options) (string, error) {
	fields, err := p.Fields()
	if err != nil {
		return "", err
	}
	names := make(map[string]bool)
	for _, name := range contract.SystemColumns {
		names[name] = true
	}
	// The columns' names, as schema.Columns gives them.
	given := make([]string, len(fields))
	taken := make(map[string]bool)
	for _, name := range contract.SystemColumns {
		taken[name] = true
	}
	for i, f := range fields {
		given[i] = schema.ColumnName(f.Name, taken)
	}
	pick := func(candidates []string, fits func(f *schema.Field) bool) string {
		for _, name := range candidates {
			if i := slices.IndexFunc(fields, func(f schema.Field) bool {
				return f.Name == name && !f.Repeated &&
					fits(&f)
			}); i >= 0 {
				return given[i]
			}
		}
		return ""
	}
	id := pick(idNames, func(f *schema.Field) bool {
		return f.Type == "STRING" || f.Type == "INT64" ||
			f.Type == "BYTES"
	})
	at := pick(timeNames, func(f *schema.Field) bool { return f.Type == "TIMESTAMP" })
	if i := slices.IndexFunc(fields, func(f schema.Field) bool {
		return f.Type == "TIMESTAMP" &&
			!f.Repeated
	}); at == "" && i >= 0 {
		at = given[i]
	}
	kind := pick(typeNames, func(f *schema.Field) bool { return f.Type == "STRING" })
	user := pick(userNames, func(f *schema.Field) bool { return f.Type == "STRING" || f.Type == "INT64" })
	var required []string
	for i, f := range fields {
		if f.Required && (given[i] == id || given[i] == at) {
			required = append(required, given[i])
		}
	}

	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	what := from.File
	if from.Registry != nil {
		what = fmt.Sprintf("%s version %d", from.Registry.Subject, from.Registry.Version)
	}
	line("# Made of the schema %s: look at the names, and at what is REQUIRED.", what)
	line("contract: %s", contract.Version)
	line("name: %s", o.Name)
	line("topics: %s", scalar(cmp.Or(o.Topic, o.Name)))
	line("format: %s", from.Format)
	if r := from.Registry; r != nil {
		line("registry:")
		line("  url: %s", scalar(r.URL))
		if r.Auth != contract.AuthNone && r.Auth != "" {
			line("  auth: %s", r.Auth)
		}
		line("  subject: %s", scalar(r.Subject))
		line("  version: %d", r.Version)
	} else {
		line("schema:")
		line("  file: %s", scalar(from.File))
		if from.Message != "" {
			line("  message: %s", scalar(from.Message))
		}
	}
	var cluster []string
	for _, name := range []string{kind, user} {
		if name != "" && !slices.Contains(cluster, name) {
			cluster = append(cluster, name)
		}
	}
	if at != "" || len(cluster) > 0 {
		line("table:")
		if at != "" {
			line("  partition_by: %s", at)
		}
		if len(cluster) > 0 {
			line("  cluster_by: [%s]", strings.Join(cluster, ", "))
		}
	}
	if id != "" || at != "" || kind != "" {
		line("event:")
		for _, pair := range [][2]string{{"id", id}, {"time", at}, {"type", kind}} {
			if pair[1] != "" {
				line("  %s: %s", pair[0], pair[1])
			}
		}
		if id == "" {
			line("  # id: which column tells an event from every other?")
		}
	}
	line("columns:")
	b.WriteString(schema.Columns(fields, "  ", names, required...))
	line("  - {name: %s, type: JSON, rest: true} # what versions to come add", schema.ColumnName("rest", names))
	return b.String(), nil
}

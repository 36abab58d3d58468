package command

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/functions/event"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/contract/infer"
	"sluice/internal/registry"
	"sluice/internal/schema"
)

// schemaFlags name a schema: of a registry, or in a file.
type schemaFlags struct {
	registry, subject, auth, file, message string
}

func (s *schemaFlags) declare(flags *flag.FlagSet) {
	flags.StringVar(&s.registry, "registry", "", "`address` of a schema registry; credentials come from SCHEMA_REGISTRY_* of the environment")
	flags.StringVar(&s.subject, "subject", "", "`subject` of the schema in the registry, such as orders-value: its newest version")
	flags.StringVar(&s.auth, "auth", "none", "how the registry knows who asks: none, basic, bearer, mtls or google")
	flags.StringVar(&s.file, "schema", "", "`file` with the schema instead: .avsc or .proto")
	flags.StringVar(&s.message, "message", "", "full `name` of the events' message, if the .proto file has several")
}

func (s *schemaFlags) given() bool { return s.registry != "" || s.subject != "" || s.file != "" }

// found is a schema and where it was found.
type foundSchema struct {
	infer.Source
	program *schema.Program
	name    string // in messages
}

// load reads the schema.
func (s *schemaFlags) load(ctx context.Context) (*foundSchema, error) {
	if s.file == "" {
		return s.ask(ctx)
	}
	if s.registry != "" || s.subject != "" {
		return nil, UsageError("--schema is a file: --registry and --subject do not go with it")
	}
	out := &foundSchema{Source: infer.Source{File: filepath.Base(s.file), Message: s.message}, name: s.file}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	switch filepath.Ext(s.file) {
	case ".avsc", ".json":
		out.Format = contract.FormatAvro
		out.program, err = schema.Avro(string(text))
	case ".proto":
		out.Format = contract.FormatProtobuf
		out.program, err = schema.ProtobufFile(os.DirFS(filepath.Dir(s.file)), filepath.Base(s.file), s.message)
	default:
		return nil, UsageError("--schema is %s: a file .avsc (Avro) or .proto (Protobuf) is needed", s.file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file, err)
	}
	return out, nil
}

// ask asks the registry for it.
func (s *schemaFlags) ask(ctx context.Context) (*foundSchema, error) {
	if s.registry == "" || s.subject == "" {
		return nil, UsageError("a schema of a registry needs both --registry and --subject")
	}
	r := contract.Registry{URL: strings.TrimRight(s.registry, "/"), Auth: contract.Auth(s.auth)}
	client, err := registry.New(r, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found, err := client.Latest(ctx, s.subject)
	if err != nil {
		return nil, err
	}
	if found.Type == contract.FormatJSONSchema {
		return nil, fmt.Errorf("%s is a JSON Schema: what an event is, infer finds out of sample events; say format: "+
			"json_schema in the contract", found)
	}
	p, err := found.Program([]int{0})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", found, err)
	}
	r.Subject, r.Version = found.Subject, found.Version
	return &foundSchema{Source: infer.Source{Format: found.Type, Registry: &r}, program: p, name: found.String()}, nil
}

// infer writes a contract from the schema.
func (s *schemaFlags) infer(ctx context.Context, o infer.Options, to io.Writer) error {
	found, err := s.load(ctx)
	if err != nil {
		return err
	}
	o.Name = cmp.Or(o.Name, contractName(cmp.Or(found.File, strings.TrimSuffix(s.subject, "-value"))))
	if o.Topic == "" && strings.HasSuffix(s.subject, "-value") {
		o.Topic = strings.TrimSuffix(s.subject, "-value") // as the usual strategy names subjects
	}
	text, err := infer.FromSchema(found.program, found.Source, o)
	if err != nil {
		return fmt.Errorf("%s: %w", found.name, err)
	}
	// It is read where the schema's file is, if it is one.
	if _, err := contract.Read(filepath.Join(filepath.Dir(s.file), o.Name+".yaml"), []byte(text)); err != nil {
		return err
	}
	_, err = io.WriteString(to, text)
	return err
}

// check says what becomes of the schema's fields in a contract, and whether it takes events of it.
func (s *schemaFlags) check(ctx context.Context, c *contract.Contract, w io.Writer) error {
	found, err := s.load(ctx)
	if err != nil {
		return err
	}
	if c.Format != found.Format {
		return fmt.Errorf("%s is of the format %s, and the contract %s says format: %s", found.name, found.Format,
			c.Name, c.Format)
	}
	fields, err := found.program.Fields()
	if err != nil {
		return fmt.Errorf("%s: %w", found.name, err)
	}
	var rows [][]any
	toRest := 0
	for _, f := range fields {
		to := columnOf(c, f.Name)
		if to == "" {
			if to = "the rest"; c.Rest == contract.RestDrop {
				to = "nowhere: dropped"
			}
			toRest++
		}
		rows = append(rows, []any{f.Name, f.Type, to})
	}
	PrintTable(w, []string{"field", "type", "goes to"}, rows)
	for i, column := range c.Table.Columns {
		if missing := c.Fields[i].Source == contract.FromEvent && !reaches(c.Fields[i].Paths, fields); missing {
			fmt.Fprintf(w, "The column %s has no field: it will be %s.\n", column.Name, cmp.Or(defaultOf(&c.Fields[i]),
				"null"))
		}
	}
	problems, err := rejections(c, fields)
	if err != nil {
		return err
	}
	for _, r := range problems {
		fmt.Fprintf(w, "Events would be rejected: %s\n", r.Error())
	}
	fmt.Fprintf(w, "%s: %d of %d fields go to columns.\n", found.name, len(fields)-toRest, len(fields))
	if len(problems) > 0 {
		return ErrFailed
	}
	return nil
}

func defaultOf(f *contract.Field) string {
	if f.Default == nil {
		return ""
	}
	return "its default"
}

// columnOf is the column that takes a field or something within it.
func columnOf(c *contract.Contract, name string) string {
	var to []string
	for i, f := range c.Fields {
		for _, path := range f.Paths {
			if f.Source == contract.FromEvent && len(path) > 0 && path[0].Kind == contract.Member &&
				path[0].Name == name {
				to = append(to, c.Table.Columns[i].Name)
				break
			}
		}
	}
	for _, section := range c.Sections {
		if section.Path[0].Name == name {
			to = append(to, c.Table.Columns[section.Column].Name)
		}
	}
	return strings.Join(to, ", ")
}

// reaches reports whether one of the paths leads to a field, or into one whose value has no fields of its own.
func reaches(paths []contract.Path, fields []schema.Field) bool {
	for _, path := range paths {
		among, ok := fields, true
		for _, step := range path {
			if step.Kind != contract.Member {
				break
			}
			ok = false
			for _, f := range among {
				if f.Name == step.Name {
					among, ok = f.Fields, true
				}
			}
			if !ok || len(among) == 0 {
				break
			}
		}
		if ok {
			return true
		}
	}
	return false
}

// rejections are why the contract would reject an event that has all fields, one that has only those that always have a
// value, and so on, as far as types and presence go: what a value must be beyond that, a schema does not say.
func rejections(c *contract.Contract, fields []schema.Field) ([]*event.Rejection, error) {
	d, err := event.New(c.Plain(), event.Fast, time.Now)
	if err != nil {
		return nil, err
	}
	var out []*event.Rejection
	seen, wrong := make(map[string]bool), make(map[string]bool)
	for _, whole := range []bool{true, false} {
		left := fields
		for range len(fields) + 1 {
			_, err := d.AppendRow(nil, schema.Sample(left, whole), event.Meta{Topic: c.SampleTopic(),
				Offset: batch.NoOffset})
			r, rejected := errors.AsType[*event.Rejection](err)
			if !rejected || r.Code != contract.CodeWrongType && r.Code != contract.CodeMissingField &&
				r.Code != contract.CodeUnknownMember {
				break
			}
			// One that was left out below is missing for that.
			if key := r.Error(); !seen[key] && !(r.Code == contract.CodeMissingField && wrong[r.Field]) {
				seen[key] = true
				out = append(out, r)
			}
			wrong[r.Field] = true
			// Once one field is known to be wrong, the others are looked at without it.
			root, _, _ := strings.Cut(strings.TrimSuffix(r.Field, "]"), ".")
			root, _, _ = strings.Cut(root, "[")
			var rest []schema.Field
			for _, f := range left {
				if f.Name != root {
					rest = append(rest, f)
				}
			}
			if len(rest) == len(left) {
				break
			}
			left = rest
		}
	}
	return out, nil
}

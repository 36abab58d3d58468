package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"sluice/internal/contract"
	"sluice/internal/local/registry"
	asking "sluice/internal/registry"
	"sluice/internal/schema"
	"sluice/scripts/command"
)

// written are events of JSON, written as the contract says that its topic's records are.
type written struct {
	source
	program *schema.Program // nil: they stay JSON
	prefix  []byte
	count   int
}

func (w *written) next() (key, value []byte, err error) {
	key, value, err = w.source.next()
	if err != nil {
		return key, value, err
	}
	w.count++
	if w.program != nil {
		if value, err = w.program.Write(value); err != nil {
			return nil, nil, fmt.Errorf("event %d of the input cannot be written with the contract's schema: %w",
				w.count, err)
		}
	}
	return key, append(w.prefix[:len(w.prefix):len(w.prefix)], value...), nil
}

// written returns the source as the contract's events are written: with the schema that lies beside the contract, or
// else the newest of its registry.
func (f *runFlags) written(ctx context.Context, in source, c *contract.Contract) (source, error) {
	switch {
	case c == nil || c.Format == contract.FormatJSON:
		return in, nil
	case c.Format == contract.FormatJSONSchema && c.Registry == nil:
		return &written{source: in, prefix: []byte{0, 0, 0, 0, 1}}, nil // schema 1, which nobody looks up
	case !c.Framed():
		return &written{source: in, program: c.Writer}, nil
	}
	if c.IDHeader != "" {
		return nil, fmt.Errorf("the contract %s says id_header, and this program writes ids before values: leave it out for a try", c.Name)
	}
	out := &written{source: in, program: c.Writer}
	id := int64(0)
	switch {
	case c.Registry == nil:
		for text, file := range c.Schema.IDs {
			if file != c.Schema.Name {
				continue
			}
			parsed, err := schema.ParseID(text)
			if err != nil {
				return nil, err
			}
			out.prefix = parsed.Prefix()
		}
		if out.prefix == nil {
			return nil, fmt.Errorf("the contract %s names no id for %s: add one to the ids of schema", c.Name,
				c.Schema.Name)
		}
	case registry.Needed(c) && f.kafka != "":
		return nil, command.UsageError("the contract %s names a registry: with --kafka its events are to be in Kafka "+
			"already, leave out --input", c.Name)
	case registry.Needed(c):
		id = int64(registry.ID(c)) // in the embedded registry
	case c.Registry.Subject == "":
		return nil, fmt.Errorf("the contract %s does not say which schema its events are to be written with: put it "+
			"beside the contract and name it with schema, or say subject and version of it in registry", c.Name)
	default:
		client, err := asking.New(*c.Registry, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		asked, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		found, err := client.Latest(asked, c.Registry.Subject)
		if err != nil {
			return nil, err
		}
		if out.program, err = found.Program([]int{0}); err != nil {
			return nil, err
		}
		id = found.ID.Number
	}
	if id > 0 {
		out.prefix = schema.ID{Number: id}.Prefix()
	}
	if c.Format == contract.FormatProtobuf {
		out.prefix = append(out.prefix, messageIndexes(out.program)...)
	}
	return out, nil
}

// messageIndexes lead to the message of a program, as serializers write them.
func messageIndexes(p *schema.Program) []byte {
	var path []int
	for d := protoreflect.Descriptor(p.Descriptor()); ; d = d.Parent() {
		m, ok := d.(protoreflect.MessageDescriptor)
		if !ok {
			break
		}
		path = append([]int{m.Index()}, path...)
	}
	if len(path) == 1 && path[0] == 0 {
		return []byte{0}
	}
	out := binary.AppendVarint(nil, int64(len(path)))
	for _, i := range path {
		out = binary.AppendVarint(out, int64(i))
	}
	return out
}

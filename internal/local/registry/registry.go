// Package registry is a schema registry in this process, for contracts whose schema lies beside them:
//
//	r := registry.Start(contracts)
//	defer r.Close()
//	http.Get(r.URL() + "/schemas/ids/" + strconv.Itoa(registry.ID(contract)))
package registry

import (
	"cmp"
	"hash/crc32"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/reflect/protoreflect"

	"sluice/internal/contract"
)

// Needed reports whether a contract's events need a registry, and its schema is there to be registered in one.
func Needed(c *contract.Contract) bool { return c.Registry != nil && c.Writer != nil }

// Start registers the schemas of those contracts that need it.
func Start(all []*contract.Contract) *srfake.Registry {
	r := srfake.New()
	for _, c := range all {
		if Needed(c) {
			register(r, c)
		}
	}
	return r
}

// ID is the id of a contract's schema: always the same for the same text, so that events that are kept stay readable.
func ID(c *contract.Contract) int { return id(c.Schema.Files[c.Schema.Name]) }

func id(text string) int { return int(crc32.ChecksumIEEE([]byte(text))&math.MaxInt32 | 1) }

func register(r *srfake.Registry, c *contract.Contract) {
	kind := sr.TypeAvro
	switch c.Format {
	case contract.FormatProtobuf:
		kind = sr.TypeProtobuf
	case contract.FormatJSONSchema:
		kind = sr.TypeJSON
	}
	// Each import is a schema of its own, and refers to all before it: those that it does not import do no harm.
	var references []sr.SchemaReference
	for _, name := range imports(c) {
		subject, text := c.Name+"/"+name, c.Schema.Files[name]
		r.SeedSchema(subject, 1, id(text), sr.Schema{Schema: text, Type: kind, References: references})
		references = append(references[:len(references):len(references)], sr.SchemaReference{Name: name,
			Subject: subject, Version: 1})
	}
	r.SeedSchema(cmp.Or(c.Registry.Subject, c.SampleTopic()+"-value"), max(c.Registry.Version, 1), ID(c),
		sr.Schema{Schema: c.Schema.Files[c.Schema.Name], Type: kind, References: references})
}

// imports are the files that a contract's schema imports, each behind those that it imports itself.
func imports(c *contract.Contract) []string {
	d := c.Writer.Descriptor()
	if d == nil {
		return nil
	}
	var out []string
	var walk func(protoreflect.FileDescriptor)
	walk = func(file protoreflect.FileDescriptor) {
		for i := range file.Imports().Len() {
			inner := file.Imports().Get(i).FileDescriptor
			if _, own := c.Schema.Files[inner.Path()]; own && !slices.Contains(out, inner.Path()) {
				walk(inner)
				out = append(out, inner.Path())
			}
		}
	}
	walk(d.ParentFile())
	return out
}

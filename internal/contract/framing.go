package contract

import (
	"fmt"

	"sluice/internal/schema"
)

// The prefixes that the serializers of schema registries write before a value: Confluent's, a zero and the schema's id,
// big endian; and AWS Glue's, a three, the compression, and the schema version's UUID.
const (
	ConfluentPrefix = 1 + 4
	GluePrefix      = 1 + 1 + 16

	GlueVersion = 3 // its first byte
	GluePlain   = 0 // its second: the value behind it is not compressed
)

// SplitPrefix splits a schema registry's prefix off a value. JSON begins with none of its bytes, so that one that has
// none is rest.
func SplitPrefix(value []byte) (prefix, rest []byte) {
	switch {
	case len(value) > ConfluentPrefix && value[0] == 0:
		return value[:ConfluentPrefix:ConfluentPrefix], value[ConfluentPrefix:]
	case len(value) > GluePrefix && value[0] == GlueVersion && value[1] == GluePlain:
		return value[:GluePrefix:GluePrefix], value[GluePrefix:]
	}
	return nil, value
}

// NoPrefix says what stands where a schema registry's prefix should be.
func NoPrefix(value []byte, format Format) string {
	what := "does not begin with one"
	switch {
	case len(value) == 0:
		what = "is empty"
	case value[0] == 0 || value[0] == GlueVersion && len(value) < 2:
		what = fmt.Sprintf("ends within it, after %d bytes", len(value))
	case value[0] == GlueVersion && value[1] != GluePlain:
		what = fmt.Sprintf("begins with AWS Glue's and is compressed by the serializer (%d): switch that off, Kafka's "+
			"producer can compress", value[1])
	case value[0] == GlueVersion:
		what = fmt.Sprintf("ends within AWS Glue's, after %d bytes", len(value))
	case value[0] == '{':
		what = "is plain JSON: say format: json in the contract, or have its producer use the serializer of a schema registry"
	}
	return fmt.Sprintf("the contract expects a schema registry's prefix (format: %s), and the event %s", format, what)
}

// FramingError says that a value does not name its schema as the contract expects.
type FramingError struct {
	Field string // such as header:NAME; empty: the value
	What  string
}

func (e *FramingError) Error() string { return e.What }

// SplitID returns the id of the schema that a value was written with, and the value itself. header is the value of the
// record's header IDHeader; empty: it has none. The error is a *FramingError.
func (c *Contract) SplitID(value, header []byte) (schema.ID, []byte, error) {
	if len(header) > 0 {
		id, ok := schema.HeaderID(header)
		if !ok {
			return id, nil, &FramingError{Field: "header:" + c.IDHeader, What: fmt.Sprintf(
				"header:%s has %d bytes and is no id of a schema: want Confluent's 17 or 5 bytes, a number of 4 or 8 bytes, or "+
					"digits", c.IDHeader, len(header))}
		}
		if id.Message != "" {
			return id, value, nil
		}
		return c.withMessage(id, value)
	}
	prefix, rest := SplitPrefix(value)
	if prefix == nil {
		return schema.ID{}, nil, &FramingError{What: NoPrefix(value, c.Format)}
	}
	return c.withMessage(schema.PrefixID(prefix), rest)
}

// withMessage takes from a Protobuf value which message of its schema it is.
func (c *Contract) withMessage(id schema.ID, value []byte) (schema.ID, []byte, error) {
	if c.Format != FormatProtobuf {
		return id, value, nil
	}
	indexes, rest, ok := schema.SplitIndexes(value)
	if !ok {
		return id, nil, &FramingError{What: fmt.Sprintf("behind the id %s, the event does not say which message of its "+
			"Protobuf schema it is: have its producer use the serializer of a schema registry", id)}
	}
	id.Message = string(indexes)
	return id, rest, nil
}

package event

import (
	"encoding/binary"
	"fmt"

	"sluice/internal/contract"
)

// The prefixes that serializers of schema registries write before a value.
const (
	confluentPrefix = 1 + 4      // a zero and the schema's id, big endian
	gluePrefix      = 1 + 1 + 16 // a three, the compression, and the schema version's UUID
	glueVersion     = 3
	gluePlain       = 0
)

// unframe returns the JSON behind a schema registry's prefix.
func unframe(value []byte) ([]byte, error) {
	switch {
	case value == nil:
		return nil, nil // a tombstone has no prefix either
	case len(value) > confluentPrefix && value[0] == 0:
		return value[confluentPrefix:], nil
	case len(value) > gluePrefix && value[0] == glueVersion && value[1] == gluePlain:
		return value[gluePrefix:], nil
	}
	what := "does not begin with one"
	switch {
	case len(value) == 0:
		what = "is empty"
	case value[0] == 0 || value[0] == glueVersion && len(value) < 2:
		what = fmt.Sprintf("ends within it, after %d bytes", len(value))
	case value[0] == glueVersion && value[1] != gluePlain:
		what = fmt.Sprintf("begins with AWS Glue's and is compressed by the serializer (%d): switch that off, Kafka's producer can compress", value[1])
	case value[0] == glueVersion:
		what = fmt.Sprintf("ends within AWS Glue's, after %d bytes", len(value))
	case value[0] == '{':
		what = "is plain JSON: say format: json in the contract, or have its producer use the serializer for JSON Schema"
	}
	return nil, &Rejection{Code: contract.CodeInvalidJSON, Message: "the contract expects a schema registry's prefix (format: json_schema), and the event " + what}
}

// framedAs says which prefix a value begins with, for messages about values that should have none; "": none
// that is known.
func framedAs(value []byte) string {
	if len(value) > confluentPrefix && value[0] == 0 {
		return fmt.Sprintf("a schema registry's prefix, id %d", binary.BigEndian.Uint32(value[1:confluentPrefix]))
	}
	if len(value) > gluePrefix && value[0] == glueVersion && (value[1] == gluePlain || value[1] == 5) {
		return fmt.Sprintf("AWS Glue's prefix, schema version %x", value[2:gluePrefix])
	}
	return ""
}

package event

import (
	"encoding/binary"
	"fmt"

	"sluice/internal/contract"
)

// unframe returns the JSON behind a schema registry's prefix.
func unframe(value []byte) ([]byte, error) {
	if value == nil {
		return nil, nil // a tombstone has no prefix either
	}
	if prefix, rest := contract.SplitPrefix(value); prefix != nil {
		return rest, nil
	}
	what := "does not begin with one"
	switch {
	case len(value) == 0:
		what = "is empty"
	case value[0] == 0 || value[0] == contract.GlueVersion && len(value) < 2:
		what = fmt.Sprintf("ends within it, after %d bytes", len(value))
	case value[0] == contract.GlueVersion && value[1] != contract.GluePlain:
		what = fmt.Sprintf("begins with AWS Glue's and is compressed by the serializer (%d): switch that off, Kafka's producer can compress", value[1])
	case value[0] == contract.GlueVersion:
		what = fmt.Sprintf("ends within AWS Glue's, after %d bytes", len(value))
	case value[0] == '{':
		what = "is plain JSON: say format: json in the contract, or have its producer use the serializer for JSON Schema"
	}
	return nil, &Rejection{Code: contract.CodeInvalidJSON, Message: "the contract expects a schema registry's prefix (format: json_schema), and the event " + what}
}

// framedAs says which prefix a value begins with, for messages about values that should have none; "": none
// that is known.
func framedAs(value []byte) string {
	if len(value) > contract.ConfluentPrefix && value[0] == 0 {
		return fmt.Sprintf("a schema registry's prefix, id %d", binary.BigEndian.Uint32(value[1:contract.ConfluentPrefix]))
	}
	if len(value) > contract.GluePrefix && value[0] == contract.GlueVersion && (value[1] == contract.GluePlain || value[1] == 5) {
		return fmt.Sprintf("AWS Glue's prefix, schema version %x", value[2:contract.GluePrefix])
	}
	return ""
}

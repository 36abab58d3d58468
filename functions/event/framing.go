package event

import (
	"encoding/binary"
	"fmt"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/schema"
)

// unframe returns the JSON behind a schema registry's prefix.
func unframe(value []byte) ([]byte, error) {
	if value == nil {
		return nil, nil // a tombstone has no prefix either
	}
	if prefix, rest := contract.SplitPrefix(value); prefix != nil {
		return rest, nil
	}
	return nil, &Rejection{Code: contract.CodeInvalidJSON, Message: contract.NoPrefix(value, contract.FormatJSONSchema)}
}

// splitID is contract.SplitID with a *Rejection for an error.
func splitID(c *contract.Contract, value []byte, headers []batch.RecordHeader) (schema.ID, []byte, error) {
	id, body, err := c.SplitID(value, batch.HeaderOf(headers, c.IDHeader))
	if fault, ok := err.(*contract.FramingError); ok {
		return id, nil, &Rejection{Code: contract.CodeUndecodableValue, Field: fault.Field, Message: fault.What}
	}
	return id, body, nil
}

// framedAs says which prefix a value begins with, for messages about values that should have none; "": none
// that is known.
func framedAs(value []byte) string {
	if len(value) > contract.ConfluentPrefix && value[0] == 0 {
		return fmt.Sprintf("a schema registry's prefix, id %d",
			binary.BigEndian.Uint32(value[1:contract.ConfluentPrefix]))
	}
	if len(value) > contract.GluePrefix && value[0] == contract.GlueVersion && (value[1] == contract.GluePlain ||
		value[1] == 5) {
		return fmt.Sprintf("AWS Glue's prefix, schema version %x", value[2:contract.GluePrefix])
	}
	return ""
}

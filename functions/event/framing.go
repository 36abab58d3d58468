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
	return nil, &Rejection{Code: contract.CodeInvalidJSON, Message: noPrefix(value, contract.FormatJSONSchema)}
}

// noPrefix says what stands where a schema registry's prefix should be.
func noPrefix(value []byte, format contract.Format) string {
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
		what = "is plain JSON: say format: json in the contract, or have its producer use the serializer of a schema registry"
	}
	return fmt.Sprintf("the contract expects a schema registry's prefix (format: %s), and the event %s", format, what)
}

// SplitID returns the id of the schema that a value was written with, and the value itself. The error is a
// *Rejection.
func SplitID(c *contract.Contract, value []byte, headers []batch.RecordHeader) (schema.ID, []byte, error) {
	if c.IDHeader != "" {
		for i := len(headers) - 1; i >= 0; i-- {
			if string(headers[i].Key) != c.IDHeader {
				continue
			}
			id, ok := schema.HeaderID(headers[i].Value)
			if !ok {
				return id, nil, &Rejection{Code: contract.CodeUndecodableValue, Field: "header:" + c.IDHeader,
					Message: fmt.Sprintf("header:%s has %d bytes and is no id of a schema: want Confluent's 17 or 5 bytes, a number of 4 or 8 bytes, or digits", c.IDHeader, len(headers[i].Value))}
			}
			if id.Message != "" {
				return id, value, nil
			}
			return withMessage(c, id, value)
		}
	}
	prefix, rest := contract.SplitPrefix(value)
	if prefix == nil {
		return schema.ID{}, nil, &Rejection{Code: contract.CodeUndecodableValue, Message: noPrefix(value, c.Format)}
	}
	return withMessage(c, schema.PrefixID(prefix), rest)
}

// withMessage takes from a Protobuf value which message of its schema it is.
func withMessage(c *contract.Contract, id schema.ID, value []byte) (schema.ID, []byte, error) {
	if c.Format != contract.FormatProtobuf {
		return id, value, nil
	}
	indexes, rest, ok := schema.SplitIndexes(value)
	if !ok {
		return id, nil, &Rejection{Code: contract.CodeUndecodableValue,
			Message: fmt.Sprintf("behind the id %s, the event does not say which message of its Protobuf schema it is: have its producer use the serializer of a schema registry", id)}
	}
	id.Message = string(indexes)
	return id, rest, nil
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

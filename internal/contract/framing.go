package contract

// The prefixes that the serializers of schema registries write before a value: Confluent's, a zero and the schema's id, big endian;
// and AWS Glue's, a three, the compression, and the schema version's UUID.
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

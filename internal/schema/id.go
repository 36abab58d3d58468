package schema

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// ID is the id under which a registry knows a schema: a number, or a UUID.
type ID struct {
	Number int64    // Confluent's and Apicurio's; 0: it is a UUID
	UUID   [16]byte // Confluent's GUID, AWS Glue's schema version
	Glue   bool     // the UUID is Glue's
}

func (id ID) String() string {
	if id.Number != 0 || id.UUID == [16]byte{} {
		return strconv.FormatInt(id.Number, 10)
	}
	h := hex.EncodeToString(id.UUID[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// PrefixID is the id in the prefix of a value: Confluent's of 5 bytes, a zero and the number, big endian; AWS Glue's of
// 18, whose last 16 are the UUID. See contract.SplitPrefix.
func PrefixID(prefix []byte) ID {
	if len(prefix) == 5 {
		return ID{Number: int64(binary.BigEndian.Uint32(prefix[1:]))}
	}
	id := ID{Glue: true}
	copy(id.UUID[:], prefix[len(prefix)-16:])
	return id
}

// HeaderID is the id in a header of a record, as serializers write it there: Confluent's 17 bytes, a one and the
// GUID, or the 5 bytes of its prefix; Apicurio's number of 8 or 4 bytes; or digits.
func HeaderID(value []byte) (id ID, ok bool) {
	switch {
	case len(value) == 17 && value[0] == 1:
		copy(id.UUID[:], value[1:])
		return id, true
	case len(value) == 5 && value[0] == 0:
		return PrefixID(value), true
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 {
		return ID{Number: n}, true
	}
	switch len(value) {
	case 4:
		id.Number = int64(binary.BigEndian.Uint32(value))
	case 8:
		id.Number = int64(binary.BigEndian.Uint64(value))
	}
	return id, id.Number > 0
}

package schema

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// ID is the id under which a registry knows a schema: a number, or a UUID.
type ID struct {
	Number int64    // Confluent's and Apicurio's; 0: it is a UUID
	UUID   [16]byte // Confluent's GUID, AWS Glue's schema version
	Glue   bool     // the UUID is Glue's

	Message string // of a Protobuf schema: the bytes that lead to the value's message, see SplitIndexes
}

func (id ID) String() string {
	if id.Number != 0 || id.UUID == [16]byte{} {
		return strconv.FormatInt(id.Number, 10)
	}
	h := hex.EncodeToString(id.UUID[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseID reads what String writes.
func ParseID(text string) (ID, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return ID{Number: n}, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 || len(text) != 36 {
		return ID{}, errors.New("no id of a schema")
	}
	var id ID
	copy(id.UUID[:], b)
	return id, nil
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

// Prefix is the prefix with the id: Confluent's of a number, AWS Glue's of a UUID.
func (id ID) Prefix() []byte {
	if id.Number > 0 {
		return binary.BigEndian.AppendUint32([]byte{0}, uint32(id.Number))
	}
	return append([]byte{3, 0}, id.UUID[:]...)
}

// HeaderID is the id in a header of a record, as serializers write it there: Confluent's one and the GUID, or the five
// bytes of its prefix, each with the indexes of a Protobuf message behind it; Apicurio's number of 8 or 4 bytes; or
// digits.
func HeaderID(value []byte) (id ID, ok bool) {
	digits, err := strconv.ParseInt(string(value), 10, 64)
	switch n := len(value); {
	case n >= 17 && value[0] == 1:
		copy(id.UUID[:], value[1:])
		id.Message = string(value[17:])
	case n >= 5 && value[0] == 0 && n != 8:
		id = PrefixID(value[:5])
		id.Message = string(value[5:])
	case err == nil:
		id.Number = digits
		return id, digits > 0
	case n == 4:
		id.Number = int64(binary.BigEndian.Uint32(value))
		return id, true
	case n == 8:
		id.Number = int64(binary.BigEndian.Uint64(value))
		return id, id.Number > 0
	default:
		return id, false
	}
	if id.Message == "" {
		return id, true
	}
	_, rest, ok := SplitIndexes([]byte(id.Message))
	return id, ok && len(rest) == 0
}

// maxIndexes is how deep a message may be defined in others.
const maxIndexes = 32

// SplitIndexes splits off a Protobuf value what says which of its schema's messages it is: a count and as many indexes,
// in zigzag encoding; a single zero stands for the first message. ok is false if value does not begin so.
func SplitIndexes(value []byte) (indexes, rest []byte, ok bool) {
	count, n := binary.Varint(value)
	if n <= 0 || count < 0 || count > maxIndexes {
		return nil, nil, false
	}
	for range count {
		i, m := binary.Varint(value[n:])
		if m <= 0 || i < 0 || i > 1<<20 {
			return nil, nil, false
		}
		n += m
	}
	return value[:n:n], value[n:], true
}

// Indexes are those that Message has.
func (id ID) Indexes() []int {
	b := []byte(id.Message)
	count, n := binary.Varint(b)
	if n <= 0 || count == 0 {
		return []int{0}
	}
	var out []int
	for range count {
		i, m := binary.Varint(b[n:])
		if m <= 0 {
			break
		}
		out = append(out, int(i))
		n += m
	}
	return out
}

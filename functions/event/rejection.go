package event

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice/internal/contract"
)

// Rejection is why an event cannot become a row.
type Rejection struct {
	Code    contract.Code
	Field   string // the column at fault, or empty
	Message string // a sentence that the producer's author can act on; no values from the event
}

func (r *Rejection) Error() string { return string(r.Code) + ": " + r.Message }

// rejectSyntax is the rejection of a text that is no JSON from the byte at offset
// on. A text that is not UTF-8 anywhere is called that, because it is the likelier cause.
func rejectSyntax(value []byte, offset int) *Rejection {
	if what := disguise(value); what != "" {
		return rejectDisguise(value, what)
	}
	if at := invalidUTF8(value); at >= 0 {
		return &Rejection{Code: contract.CodeInvalidUTF8,
			Message: "the event is not valid UTF-8 at byte " + strconv.Itoa(at) + ": encode it as UTF-8"}
	}
	if n := len(value); n > 0 && value[n-1] == 0 && offset >= len(bytes.TrimRight(value, "\x00")) {
		return &Rejection{Code: contract.CodeInvalidJSON,
			Message: "the event is followed by NUL bytes, as a string of C " +
				"has them: leave them out"}
	}
	if at, what := stringFault(value, offset); what != "" {
		return &Rejection{Code: contract.CodeInvalidJSON, Message: "the event is not valid JSON at byte " +
			strconv.Itoa(at) + ": " + what}
	}
	if offset >= len(value) {
		return &Rejection{Code: contract.CodeInvalidJSON,
			Message: "the event is not valid JSON: it ends too early, after " + strconv.Itoa(len(value)) + " bytes"}
	}
	return &Rejection{Code: contract.CodeInvalidJSON, Message: "the event is not valid JSON at byte " +
		strconv.Itoa(offset)}
}

// stringFault says which byte of the string that begins at offset is at fault, and how to repair
// it; what is "" if none is, or there is no string.
func stringFault(value []byte, offset int) (at int, what string) {
	// Where the string begins: the fault may be known more closely.
	for start := 0; ; start++ {
		if start > offset || start >= len(value) {
			return 0, ""
		}
		quote := bytes.IndexByte(value[start:min(offset+1, len(value))], '"')
		if quote < 0 {
			return 0, ""
		}
		end := start + quote + 1
		for end < len(value) && value[end] != '"' {
			if value[end] == '\\' {
				end++
			}
			end++
		}
		if end > offset {
			offset = start + quote
			break
		}
		start = end
	}
	unit := func(i int) int { // the code unit of \uXXXX at i, -1: it is none
		if i+6 > len(value) || value[i] != '\\' || value[i+1] != 'u' {
			return -1
		}
		v, err := strconv.ParseUint(string(value[i+2:i+6]), 16, 16)
		if err != nil {
			return -1
		}
		return int(v)
	}
	i := offset + 1
	for ; i < len(value) && value[i] != '"'; i++ {
		switch c := value[i]; {
		case c < ' ':
			return i, fmt.Sprintf("the control character U+%04X stands in a string: escape it", c)
		case c != '\\':
		case i+1 == len(value):
		case value[i+1] != 'u':
			if strings.IndexByte(`"\/bfnrt`, value[i+1]) < 0 {
				return i, "a backslash begins no escape that JSON has: write two of them for the character"
			}
			i++
		default:
			switch u := unit(i); {
			case u < 0:
				return i, "\\u has not four hexadecimal digits behind it"
			case u >= 0xd800 && u < 0xdc00:
				if low := unit(i + 6); low < 0xdc00 || low > 0xdfff {
					return i, "half a surrogate pair: escape both halves, or write the character itself"
				}
				i += 11
			case u >= 0xdc00 && u < 0xe000:
				return i, "half a surrogate pair: escape both halves, or write the character itself"
			default:
				i += 5
			}
		}
	}
	if i >= len(value) {
		return len(value), "it ends too early, within a string"
	}
	return 0, ""
}

// disguise says what a value is that would be an event if its producer, or somebody on its way,
// had not wrapped it; "": it is nothing that is known.
func disguise(value []byte) string {
	has := func(prefix string) bool { return bytes.HasPrefix(value, []byte(prefix)) }
	switch {
	case has("\xef\xbb\xbf"):
		return "begins with a byte order mark: write UTF-8 without one"
	case has("\xff\xfe"), has("\xfe\xff"), has("{\x00"), has("\x00{"):
		return "is in UTF-16: encode it as UTF-8"
	case has("\x1f\x8b"):
		return "is compressed with gzip: send the JSON itself, and let Kafka's producer compress (compression.type)"
	case has("\x28\xb5\x2f\xfd"):
		return "is compressed with zstd: send the JSON itself, and let Kafka's producer compress (compression.type)"
	case framedAs(value) != "":
		body := value[contract.ConfluentPrefix:]
		if value[0] == contract.GlueVersion {
			body = value[contract.GluePrefix:]
		}
		if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
			return "begins with " + framedAs(value) +
				": the contract says json; say format: json_schema in it, or use a " +
				"serializer that writes plain JSON"
		}
		return "begins with " + framedAs(value) + ", and no JSON follows (Avro or Protobuf): the contract says json; say " +
			"format: avro or format: protobuf in it, and registry"
	case has(`"{`):
		return "is a string that holds JSON: it is encoded twice; send the inner object"
	}
	return ""
}

// rejectDisguise is the rejection of such a value.
func rejectDisguise(value []byte, what string) *Rejection {
	code := contract.CodeInvalidJSON
	if !utf8.Valid(value) {
		code = contract.CodeInvalidUTF8
	}
	return &Rejection{Code: code, Message: "the event " + what}
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}

// rejectNoObject is the rejection of a value that does not begin like an object. It
// looks no further: what it says is true whatever follows.
func rejectNoObject(value []byte) *Rejection {
	if value == nil {
		return &Rejection{Code: contract.CodeInvalidJSON,
			Message: "the event is null (a Kafka tombstone): send one JSON object"}
	}
	if what := disguise(value); what != "" {
		return rejectDisguise(value, what)
	}
	if at := invalidUTF8(value); at >= 0 {
		return rejectSyntax(value, at)
	}
	text := strings.TrimLeft(string(value[:min(len(value), 64)]), " \t\r\n")
	what := "not JSON"
	switch {
	case text == "" && len(value) <= 64:
		what = "empty"
	case strings.HasPrefix(text, "null"):
		what = "null"
	case strings.HasPrefix(text, "["):
		what = "an array"
	case strings.HasPrefix(text, `"`):
		what = "a string"
	}
	return &Rejection{Code: contract.CodeInvalidJSON, Message: "the event is " + what + ": send one JSON object"}
}

func rejectTooLarge(size, limit int) *Rejection {
	return &Rejection{Code: contract.CodeTooLarge, Message: "the event has " + strconv.Itoa(size) + " bytes: send at " +
		"most " + strconv.Itoa(limit)}
}

func rejectTooDeep(limit int) *Rejection {
	return &Rejection{Code: contract.CodeTooDeep,
		Message: "the event nests objects and arrays deeper than " + strconv.Itoa(limit) + " levels: flatten it"}
}

// rejectDuplicate takes the column of the name, which is empty if the name is no
// column's: such names are the producer's, and may be personal data.
func rejectDuplicate(column string) *Rejection {
	if column == "" {
		return &Rejection{Code: contract.CodeDuplicateName,
			Message: "the event has two members of the same name in one object: send each once"}
	}
	return &Rejection{Code: contract.CodeDuplicateName, Field: column, Message: column +
		" occurs twice in the event: send it once"}
}

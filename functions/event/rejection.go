package event

import (
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
	if at := invalidUTF8(value); at >= 0 {
		return &Rejection{Code: contract.CodeInvalidUTF8, Message: "the event is not valid UTF-8 at byte " + strconv.Itoa(at) + ": encode it as UTF-8"}
	}
	if offset >= len(value) {
		return &Rejection{Code: contract.CodeInvalidJSON, Message: "the event is not valid JSON: it ends too early, after " + strconv.Itoa(len(value)) + " bytes"}
	}
	return &Rejection{Code: contract.CodeInvalidJSON, Message: "the event is not valid JSON at byte " + strconv.Itoa(offset)}
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
		return &Rejection{Code: contract.CodeInvalidJSON, Message: "the event is null (a Kafka tombstone): send one JSON object"}
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
	return &Rejection{Code: contract.CodeTooLarge, Message: "the event has " + strconv.Itoa(size) + " bytes: send at most " + strconv.Itoa(limit)}
}

func rejectTooDeep(limit int) *Rejection {
	return &Rejection{Code: contract.CodeTooDeep, Message: "the event nests objects and arrays deeper than " + strconv.Itoa(limit) + " levels: flatten it"}
}

// rejectDuplicate takes the column of the name, which is empty if the name is no
// column's: such names are the producer's, and may be personal data.
func rejectDuplicate(column string) *Rejection {
	if column == "" {
		return &Rejection{Code: contract.CodeDuplicateName, Message: "the event has two members of the same name in one object: send each once"}
	}
	return &Rejection{Code: contract.CodeDuplicateName, Field: column, Message: column + " occurs twice in the event: send it once"}
}

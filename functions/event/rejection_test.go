package event

import (
	"errors"
	"strings"
	"testing"

	"sluice/internal/contract"
)

// Protects producers' authors from guessing: what is wrong with a text is named, at its byte,
// with what to do, by both decoders.
func TestSyntaxIsExplained(t *testing.T) {
	const head = `{"a":"`
	for value, want := range map[string]string{
		"\xef\xbb\xbf{}":                 "begins with a byte order mark",
		"\xff\xfe{\x00}\x00":             "is in UTF-16",
		"{\x00}\x00":                     "UTF-16",
		"\x1f\x8b\x08\x00":               "compressed with gzip",
		"\x28\xb5\x2f\xfd\x00":           "compressed with zstd",
		"\x00\x00\x00\x00\x07{\"a\":1}":  "begins with a schema registry's prefix, id 7: the contract says json",
		"\x00\x00\x00\x00\x07\x02\x06ab": "prefix, id 7, and no JSON follows (Avro or Protobuf)",
		`"{\"a\":1}"`:                    "encoded twice",
		good + "\x00":                    "followed by NUL bytes",
		good + "\x00\x00":                "followed by NUL bytes",
		head + "x\ty\"}":                 "at byte 7: the control character U+0009",
		head + `xy\q"}`:                  "at byte 8: a backslash begins no escape",
		head + `\u12g4"}`:                "at byte 6: \\u has not four",
		head + `ab\ud83dcd"}`:            "at byte 8: half a surrogate pair",
		head + `\ude00"}`:                "at byte 6: half a surrogate pair",
		`{"\ud83d":1}`:                   "at byte 2: half a surrogate pair",
		`{"a":01}`:                       "not valid JSON at byte",
		`{"a":"x`:                        "ends too early",
	} {
		for _, decoder := range []string{Fast, Strict} {
			d := newDecoder(t, contract.FactEvents(), Config{Decoder: decoder})
			_, err := d.AppendRow(nil, []byte(value), meta)
			var why *Rejection
			if !errors.As(err, &why) || why.Code != contract.CodeInvalidJSON && why.Code != contract.CodeInvalidUTF8 || !strings.Contains(why.Message, want) {
				t.Errorf("%s, %q: %v, want %s", decoder, value, err, want)
			}
		}
	}
}

package command

import (
	"bytes"
	"strings"
	"testing"
)

// Protects the operator's terminal from what an event may hold: no control character of a
// value is printed as it is, and ordinary text stays as it is.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ünïcode, 日本語 😀":       "plain, ünïcode, 日本語 😀",
		"two\nlines\tand a tab\r":     `two\nlines\tand a tab\r`,
		"\x1b]0;title\x07":            `\x1b]0;title\a`,
		"C1 \u009b31m":                `C1 \u009b31m`,
		"right to left \u202e":        `right to left \u202e`,
		"not UTF-8 \xff\x9b and on":   `not UTF-8 \xff\x9b and on`,
		"zero width \u200b, del \x7f": `zero width \u200b, del \x7f`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
	var out bytes.Buffer
	PrintTable(&out, []string{"na\x1bme"}, [][]any{{"\x1b[2J"}, {map[string]any{"a": "\x07"}}, {nil}})
	if strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("a control character is in the table: %q", out.String())
	}
}

package command

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable is text as it may be printed on a terminal. Values of events are anybody's: a
// control character in one could move the cursor, change the window's title or worse
// (CWE-150), and a bidirectional one show another text than there is. Each is written as
// an escape sequence of JSON's or Go's.
func Printable(text string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) || r == ' ' }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for i, width := 0, 0; i < len(text); i += width {
		var r rune
		r, width = utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && width == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case plain(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// float writes a number to six decimals, or to six digits where that says little.
func float(v float64) string {
	if size := math.Abs(v); v != 0 && (size < 1e-3 || size >= 1e15) || math.IsNaN(v) {
		return fmt.Sprintf("%.6g", v)
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// PrintTable prints aligned columns, numbers to the right.
func PrintTable(w io.Writer, names []string, rows [][]any) {
	cells := make([][]string, 0, len(rows)+1)
	titles := make([]string, len(names))
	for i, name := range names {
		titles[i] = Printable(name)
	}
	cells = append(cells, titles)
	right := make([]bool, len(names))
	for _, row := range rows {
		line := make([]string, len(row))
		for i, v := range row {
			switch v := v.(type) {
			case nil:
				line[i] = "NULL"
			case string:
				line[i] = Printable(v)
			case float64:
				line[i], right[i] = float(v), true
			default:
				line[i], right[i] = Printable(fmt.Sprint(v)), true
			}
		}
		cells = append(cells, line)
	}
	width := make([]int, len(names))
	for _, line := range cells {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range cells {
		for i, cell := range line {
			if i > 0 {
				fmt.Fprint(w, "  ")
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			switch {
			case right[i]:
				fmt.Fprint(w, pad, cell)
			case i < len(line)-1:
				fmt.Fprint(w, cell, pad)
			default:
				fmt.Fprint(w, cell)
			}
		}
		fmt.Fprintln(w)
		if n == 0 {
			for i := range names {
				if i > 0 {
					fmt.Fprint(w, "  ")
				}
				fmt.Fprint(w, strings.Repeat("-", width[i]))
			}
			fmt.Fprintln(w)
		}
	}
	if len(rows) == 1 {
		fmt.Fprintln(w, "(1 row)")
		return
	}
	fmt.Fprintf(w, "(%d rows)\n", len(rows))
}

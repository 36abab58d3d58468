package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Mistake is one thing that is wrong in a contract's file.
type Mistake struct {
	File         string // as Read was told; empty if the contract is no file
	Line, Column int    // from 1; 0: the mistake is no line's
	What         string // what is wrong and what would be right
}

// Error is file:line:column: what.
func (m Mistake) Error() string {
	var at strings.Builder
	if m.File != "" {
		at.WriteString(m.File + ":")
	}
	if m.Line > 0 {
		fmt.Fprintf(&at, "%d:", m.Line)
	}
	if m.Column > 0 {
		fmt.Fprintf(&at, "%d:", m.Column)
	}
	if at.Len() > 0 {
		at.WriteByte(' ')
	}
	return at.String() + m.What
}

// Mistakes is everything that is wrong, in the order of files and lines. It is the only kind
// of error that Read gives.
type Mistakes []Mistake

// Error is one line for each.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].Error()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the mistakes in the order in which a reader meets them, each once; nil as
// no error.
func (m Mistakes) sorted() error {
	if len(m) == 0 {
		return nil
	}
	slices.SortStableFunc(m, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(m)
}

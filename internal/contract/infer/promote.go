package infer

import (
	"fmt"
	"strings"

	"sluice/internal/contract"
)

// Proposal is a column for members that lie in a JSON column.
type Proposal struct {
	Name string
	YAML string // the column's line in the contract
	path contract.Path
	typ  contract.Type
}

// Columns proposes single-valued columns for members that a share of the sample, of what
// lies in the JSON column for the rest of c, has.
func (s *Sample) Columns(c *contract.Contract, share float64) []Proposal {
	w := &writer{sample: s, options: Options{Share: share}, names: map[string]bool{}, taken: map[*node]bool{}}
	for _, column := range c.Table.Columns {
		w.names[strings.ToLower(column.Name)] = true
	}
	w.object(&s.root, nil, 3)
	var out []Proposal
	for i := range w.columns {
		column := &w.columns[i]
		if column.Repeated || column.Type == contract.Record {
			continue
		}
		members := true
		for _, step := range column.path {
			members = members && step.Kind == contract.Member
		}
		if !members {
			continue
		}
		var text strings.Builder
		w.column(func(format string, args ...any) { fmt.Fprintf(&text, format, args...) }, "  ", column)
		out = append(out, Proposal{column.Name, text.String(), column.path, column.Type})
	}
	return out
}

// SQL is the expression in GoogleSQL that takes the value out of the JSON column; NULL where
// it is of another type.
func (p Proposal) SQL(rest string) string {
	var path strings.Builder
	path.WriteString("$")
	for _, step := range p.path {
		path.WriteString(`."` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(step.Name) + `"`)
	}
	value := fmt.Sprintf("JSON_VALUE(%s, '%s')", rest, path.String())
	if p.typ == contract.String {
		return value
	}
	return fmt.Sprintf("SAFE_CAST(%s AS %s)", value, p.typ)
}

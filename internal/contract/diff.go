package contract

import (
	"fmt"
	"slices"
	"strings"
)

// Change is one difference between two contracts of a stream.
type Change struct {
	Breaking bool   // BigQuery cannot make it to a table that is there
	What     string // and, if it breaks, what to do instead
}

// Diff returns what changes for the table and its rows from the contract old to c.
func (c *Contract) Diff(old *Contract) []Change {
	var d differ
	if c.Name != old.Name {
		d.add("the stream's name changes from %s to %s: its metrics and dead letters carry the new one", old.Name,
			c.Name)
	}
	if c.Table.Name != old.Table.Name {
		d.add("the rows go to the new table %s: %s stays as it is", c.Table.Name, old.Table.Name)
		return d
	}
	switch before, after := old.Partition, c.Partition; {
	case before.Column != after.Column || before.Every != after.Every:
		d.breaks("the table's partitions change from %s to %s, which BigQuery cannot do: name a new table",
			partitionText(before), partitionText(after))
	case before.Expire != after.Expire:
		d.add("the partitions expire after %s, no longer after %s", expireText(after), expireText(before))
	}
	if !slices.Equal(c.Cluster, old.Cluster) {
		d.add("the table is clustered by %s, no longer by %s: rows that are there are clustered again in time",
			orNothing(strings.Join(c.Cluster, ", ")), orNothing(strings.Join(old.Cluster, ", ")))
	}
	d.columns("", old.Table.Columns, c.Table.Columns)
	if !slices.Equal(c.ID, old.ID) || c.Time != old.Time {
		d.add("the view %s tells copies by %s, no longer by %s", c.ViewName(),
			orNothing(strings.Join(append(slices.Clone(c.ID), c.Time),
				", ")), orNothing(strings.Join(append(slices.Clone(old.ID), old.Time), ", ")))
	}
	if c.Format != old.Format {
		d.add("the format is %s, no longer %s: events of the old one become dead letters", c.Format, old.Format)
	}
	for _, topic := range KafkaTopics([]*Contract{old}) {
		if !slices.Contains(KafkaTopics([]*Contract{c}), topic) {
			d.add("the topic %s is not taken any more: events that come from it become dead letters", topic)
		}
	}
	return d
}

func partitionText(p Partition) string {
	if p.Column == "" {
		return "none"
	}
	return p.Column + " by " + string(p.Every)
}

func expireText(p Partition) string {
	if p.Expire == 0 {
		return "never"
	}
	return fmt.Sprintf("%g days", p.Expire.Hours()/24)
}

func orNothing(s string) string {
	if strings.Trim(s, ", ") == "" {
		return "nothing"
	}
	return strings.TrimSuffix(s, ", ")
}

type differ []Change

func (d *differ) add(format string, args ...any) {
	*d = append(*d, Change{false, fmt.Sprintf(format, args...)})
}
func (d *differ) breaks(format string, args ...any) {
	*d = append(*d, Change{true, fmt.Sprintf(format, args...)})
}

// columns compares the columns of the table, or of the RECORD that prefix names.
func (d *differ) columns(prefix string, before, after []Column) {
	find := func(columns []Column, name string) *Column {
		i := slices.IndexFunc(columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
		if i < 0 {
			return nil
		}
		return &columns[i]
	}
	for i := range before {
		old := &before[i]
		name := prefix + old.Name
		c := find(after, old.Name)
		switch {
		case c == nil && old.Required:
			d.breaks("column %s is gone and is REQUIRED: the table would refuse every row; keep it, or name a new table", name)
		case c == nil:
			d.add("column %s is gone: the table keeps it, and new rows have NULL there", name)
		default:
			d.column(name, old, c)
		}
	}
	for i := range after {
		c := &after[i]
		if find(before, c.Name) != nil {
			continue
		}
		if c.Required {
			d.breaks("column %s is new and REQUIRED, which BigQuery cannot add to a table: make it NULLABLE, or name a new table", prefix+c.Name)
			continue
		}
		d.add("column %s is new: %s %s", prefix+c.Name, c.Mode(), c.SQLType())
	}
}

// wider has the types to which BigQuery can change a column of each type.
var wider = map[Type][]Type{Int64: {Numeric, BigNumeric, Float64}, Numeric: {BigNumeric, Float64},
	BigNumeric: {Float64}}

func (d *differ) column(name string, old, c *Column) {
	if old.Type != c.Type || old.Element != c.Element {
		if !slices.Contains(wider[old.Type], c.Type) || old.Repeated != c.Repeated {
			d.breaks("column %s changes from %s to %s, which BigQuery cannot do: give the new one another name, or name a "+
				"new table", name, old.SQLType(), c.SQLType())
			return
		}
		d.add("column %s widens from %s to %s", name, old.SQLType(), c.SQLType())
	} else if c.Type == Record {
		d.columns(name+".", old.Columns, c.Columns)
	} else if old.SQLType() != c.SQLType() {
		whole := func(c *Column) int { return c.Precision - c.Scale }
		narrower := c.MaxLength > 0 && (old.MaxLength == 0 || c.MaxLength < old.MaxLength) ||
			c.Precision > 0 && (old.Precision == 0 || whole(c) < whole(old) || c.Scale < old.Scale)
		if narrower {
			d.breaks("column %s narrows from %s to %s, which BigQuery cannot do: keep it, and let the contract's rules be "+
				"stricter", name, old.SQLType(), c.SQLType())
		} else {
			d.add("column %s widens from %s to %s", name, old.SQLType(), c.SQLType())
		}
	}
	switch before, after := old.Mode(), c.Mode(); {
	case before == after:
	case before == "REQUIRED" && after == "NULLABLE":
		d.add("column %s is no longer REQUIRED", name)
	default:
		d.breaks("column %s changes from %s to %s, which BigQuery cannot do: name a new table", name, before, after)
	}
}

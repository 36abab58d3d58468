package livepage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice/internal/contract"
)

// listed is a stream of the pipeline as the list of events shows it.
type listed struct {
	contract *contract.Contract
	row      string // SQL of the list's columns id, type and about, each a text
}

// newStreams are those of the contracts, in their order.
func newStreams(contracts []*contract.Contract) []listed {
	streams := make([]listed, len(contracts))
	for i, c := range contracts {
		typ := "'" + c.Name + "'"
		if c.EventType != "" {
			typ = clipped(textOf(c.EventType))
		}
		streams[i] = listed{c, clipped(idOf(c)) + " AS id, " + typ + " AS type, " + clipped(aboutOf(c)) + " AS about"}
	}
	return streams
}

// quoted is a column's name in SQL.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// textOf is a column's value as text, or "".
func textOf(column string) string { return "COALESCE(CAST(" + quoted(column) + " AS VARCHAR), '')" }

// idOf is what tells events of the contract apart.
func idOf(c *contract.Contract) string {
	if len(c.ID) == 0 {
		return "concat(kafka_partition, '/', kafka_offset)"
	}
	var parts []string
	for _, name := range c.ID {
		parts = append(parts, textOf(name))
	}
	return strings.Join(parts, " || '/' || ")
}

// aboutColumns is how many columns the list looks at besides the id and the type.
const aboutColumns = 8

// aboutOf is the first texts of an event.
func aboutOf(c *contract.Contract) string {
	var parts []string
	for _, column := range c.Table.Columns {
		if column.Type == contract.String && !column.Repeated && column.Name != c.EventType && !slices.Contains(c.ID,
			column.Name) &&
			!slices.Contains(contract.SystemColumns, column.Name) {
			parts = append(parts, "NULLIF("+textOf(column.Name)+", '')")
		}
	}
	if len(parts) == 0 {
		return "''"
	}
	// Those without a value are left out.
	return "concat_ws(' · ', " + strings.Join(parts[:min(len(parts), aboutColumns)], ", ") + ")"
}

// tables are the names of the streams' tables.
func (p *Page) tables() string {
	var names []string
	for _, s := range p.streams {
		names = append(names, s.contract.Table.Name)
	}
	return strings.Join(names, ", ")
}

// views are the names of the streams' views.
func (p *Page) views() string {
	var names []string
	for _, s := range p.streams {
		names = append(names, s.contract.ViewName())
	}
	return strings.Join(names, ", ")
}

// topics are the Kafka topics of the pipeline.
func (p *Page) topics() []string { return slices.Sorted(maps.Keys(p.stack.Topics())) }

// table is where the rows of a topic's records are; "" if no contract takes them.
func (p *Page) table(topic string) string {
	all := make([]*contract.Contract, len(p.streams))
	for i, s := range p.streams {
		all[i] = s.contract
	}
	if c := contract.Find(all, topic); c != nil {
		return c.Table.Name
	}
	return ""
}

// builtIn reports whether the pipeline has the built-in contract only, for which there are generated events.
func builtIn(contracts []*contract.Contract) bool {
	return len(contracts) == 1 && contracts[0].Name == "clickstream" &&
		contracts[0].Table.Name == contract.FactEvents().Name
}

// ownQueries are the statements to begin with where the contracts are the user's.
func ownQueries(streams []listed) []Query {
	var own []Query
	for _, s := range streams {
		c := s.contract
		own = append(own, Query{"Latest rows of " + c.Table.Name,
			"SELECT *\nFROM " + quoted(c.Table.Name) + "\nORDER BY ingested_at DESC\nLIMIT 10"})
		if c.EventType != "" {
			own = append(own, Query{"Rows of " + c.Table.Name + " by " + c.EventType,
				fmt.Sprintf("SELECT %s, COUNT(*) AS events\nFROM %s\nGROUP BY 1\nORDER BY events DESC",
					quoted(c.EventType), quoted(c.ViewName()))})
		}
	}
	for _, q := range queries {
		if !strings.Contains(q.SQL, "event_id") && !strings.Contains(q.SQL, "fact_events") && !strings.Contains(q.SQL,
			"FROM events\n") {
			own = append(own, q)
		}
	}
	return own
}

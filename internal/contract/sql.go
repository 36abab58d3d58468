package contract

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// Views are the names of the views, each after those that it reads.
func Views() []string {
	return []string{"events", "dead_letters_by_code", "pipeline_health_per_minute"}
}

// Query is what the texts of queries depend on. They keep to what GoogleSQL and DuckDB share.
type Query struct {
	Dataset   string      // "dataset" or, in BigQuery, "project.dataset"
	Contracts []*Contract // nil: the built-in one
	// EventsSince bounds what the audit and the replay read by the tables' partitioning columns; zero: all.
	EventsSince time.Time
	// FailedSince bounds which dead letters a replay reads: no earlier one matters to it; zero: all.
	FailedSince time.Time
}

// SQL returns the text of a query, such as "events" for sql/events.sql, for the built-in
// contract.
func SQL(name, dataset string) (string, error) { return Query{Dataset: dataset}.SQL(name) }

// SQL returns the text of a query. Where the file says ${dataset}.fact_events, the rows of all
// contracts are meant; the files of views are also Terraform's templates.
func (q Query) SQL(name string) (string, error) {
	file, err := sqlFiles.ReadFile("sql/" + name + ".sql")
	if err != nil {
		return "", fmt.Errorf("contract: no query %q", name)
	}
	t, err := template.New(name).Parse(string(file))
	if err != nil {
		return "", fmt.Errorf("contract: query %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, q); err != nil {
		return "", fmt.Errorf("contract: query %s: %w", name, err)
	}
	text := strings.ReplaceAll(b.String(), "${dataset}.fact_events", q.Rows())
	return strings.ReplaceAll(text, "${dataset}", q.Dataset), nil
}

// Since is the condition that bounds what is read, empty if nothing does.
func (q Query) Since(column string) string {
	if q.EventsSince.IsZero() {
		return ""
	}
	return "AND " + column + " >= " + SQLTime(q.EventsSince)
}

// Failed is the condition that bounds which dead letters are read, empty if nothing does.
func (q Query) Failed() string {
	if q.FailedSince.IsZero() {
		return ""
	}
	return "AND failed_at >= " + SQLTime(q.FailedSince)
}

// LeftOut reports whether any contract leaves events out, whose records are then in the table
// EventsLeftOut.
func (q Query) LeftOut() bool { return LeavesOut(q.Contracts) }

// LeavesOut reports whether any of the contracts leaves events out.
func LeavesOut(all []*Contract) bool {
	return slices.ContainsFunc(all, func(c *Contract) bool { return len(c.Drop) > 0 || c.Sample != nil })
}

// SQLTime is a time in SQL.
func SQLTime(t time.Time) string {
	return t.UTC().Format("TIMESTAMP '2006-01-02 15:04:05.000000'")
}

// Rows is what stands for fact_events: the table itself, or what its queries read of it,
// from the tables of all contracts.
func (q Query) Rows() string {
	if len(q.Contracts) == 0 {
		return q.Dataset + ".fact_events"
	}
	selects := make([]string, len(q.Contracts))
	for i, c := range q.Contracts {
		id := "CAST(NULL AS STRING)"
		if len(c.ID) > 0 {
			var parts []string
			for _, name := range c.ID {
				parts = append(parts, "CAST("+sqlName(name)+" AS STRING)")
			}
			id = strings.Join(parts, " || '/' || ")
		}
		at := c.Time
		if at == "" {
			at = IngestedAt
		}
		selects[i] = fmt.Sprintf("SELECT '%s' AS contract, kafka_topic, kafka_partition, kafka_offset, kafka_timestamp, "+
			"ingested_at, replay_id, %s AS event_id, %s AS event_timestamp FROM %s.%s",
			c.Name, id, sqlName(at), q.Dataset, c.Table.Name)
	}
	return "(" + strings.Join(selects, " UNION ALL ") + ") AS fact_events"
}

// sqlName quotes a column's name if it is a word of GoogleSQL. DuckDB wants other quotes.
func sqlName(name string) string {
	if slices.Contains(keywords, strings.ToUpper(name)) {
		return "`" + name + "`"
	}
	return name
}

// keywords are those that GoogleSQL reserves, see
// https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#reserved_keywords.
var keywords = strings.Fields(`ALL AND ANY ARRAY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE
	CURRENT DEFAULT DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL GROUP GROUPING
	GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOOKUP MERGE NATURAL NEW NO NOT NULL NULLS OF
	ON OR ORDER OUTER OVER PARTITION PRECEDING PROTO QUALIFY RANGE RECURSIVE RESPECT RIGHT ROLLUP ROWS SELECT SET SOME STRUCT TABLESAMPLE THEN TO
	TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN WHERE WINDOW WITH WITHIN`)

// ViewName is the view that has each event of the contract's table once: events of the table
// fact_events, T_once of a table T.
func (c *Contract) ViewName() string {
	if c.Table.Name == "fact_events" {
		return "events"
	}
	return c.Table.Name + "_once"
}

// View is the text of the view ViewName. Copies of an event have the same values in the
// columns that identify it; those that came by redelivery, the same coordinates.
func (c *Contract) View(dataset string) string {
	by, unless := "kafka_topic, kafka_partition, kafka_offset", "kafka_offset IS NULL"
	if len(c.ID) > 0 {
		// The time is among the columns, so that a filter on it prunes the table's partitions.
		columns := slices.Clone(c.ID)
		if c.Time != "" && !slices.Contains(columns, c.Time) {
			columns = append(columns, c.Time)
		}
		for i, name := range columns {
			columns[i] = sqlName(name)
		}
		by, unless = strings.Join(columns, ", "), ""
		var nullable []string
		for _, name := range c.ID {
			if column, _ := c.Table.Column(name); !column.Required {
				nullable = append(nullable, sqlName(name)+" IS NULL")
			}
		}
		unless = strings.Join(nullable, " OR ")
	}
	if unless != "" { // an event without an id is nobody's copy
		unless += " OR "
	}
	return fmt.Sprintf(`SELECT *
FROM %s.%s
WHERE TRUE
QUALIFY %sROW_NUMBER() OVER (
  PARTITION BY %s
  ORDER BY ingested_at, kafka_topic NULLS LAST, kafka_partition, kafka_offset
) = 1
`, dataset, c.Table.Name, unless, by)
}

// Queries are the names of all queries, those of the views among them.
func Queries() []string {
	entries, err := sqlFiles.ReadDir("sql")
	if err != nil {
		panic(err) // the embedded folder is there
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".sql")
	}
	return names
}

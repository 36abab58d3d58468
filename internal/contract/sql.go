package contract

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// Views are the names of the views, each after those that it reads.
func Views() []string {
	return []string{"events", "dead_letters_by_code", "pipeline_health_per_minute"}
}

// SQL returns the text of a query, such as "events" for sql/events.sql, for a dataset:
// "dataset" or, in BigQuery, "project.dataset".
//
// The texts keep to what GoogleSQL and DuckDB share. Their one placeholder is ${dataset},
// which Terraform's templatefile substitutes as SQL does.
func SQL(name, dataset string) (string, error) {
	text, err := sqlFiles.ReadFile("sql/" + name + ".sql")
	if err != nil {
		return "", fmt.Errorf("contract: no query %q", name)
	}
	return strings.ReplaceAll(string(text), "${dataset}", dataset), nil
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

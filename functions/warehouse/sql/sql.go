// Package queries holds the project's SQL: the views over its tables, one text
// each for BigQuery and for the local warehouse.
//
//	for _, view := range queries.Views() {          // in the order of creation
//		text, err := queries.Text(view, "clickstream") // the SELECT of the view
//	}
//
// The texts keep to what GoogleSQL and DuckDB share. The one placeholder is
// ${dataset}, which Terraform's templatefile substitutes as Text does.
package queries

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Views are the names of the views, each after those that it reads.
func Views() []string {
	return []string{"events", "dead_letters_by_code", "pipeline_health_per_minute"}
}

// Text returns the SQL of a file, such as "events" for events.sql, for a dataset:
// "dataset" or, in BigQuery, "project.dataset".
func Text(name, dataset string) (string, error) {
	text, err := files.ReadFile(name + ".sql")
	if err != nil {
		return "", fmt.Errorf("queries: no query %q", name)
	}
	return strings.ReplaceAll(string(text), "${dataset}", dataset), nil
}

// Names are the names of all texts.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the embedded folder is there
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".sql")
	}
	return names
}

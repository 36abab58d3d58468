//go:build thirdparty

package audit_test

import (
	"testing"

	"sluice/internal/query"
	"sluice/test/thirdparty/bigquery"
)

// Protects the audit on BigQuery: its client, its dialect, its types and parameters,
// as far as an emulator has them.
func TestOnBigQuery(t *testing.T) {
	b, err := bigquery.Start(t.Context(), bigquery.Config{Dir: t.TempDir(), Project: "sluice-test",
		Dataset: "clickstream"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	testFromWhatHasLanded(t, query.BigQuery{Client: b.Client()})
}

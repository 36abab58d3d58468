//go:build thirdparty

package audit_test

import (
	"testing"

	"sluice/functions/warehouse/schema"
	"sluice/internal/query"
	"sluice/test/embedded/warehouse"
	"sluice/test/thirdparty/bigquery"
)

// Protects the audit on BigQuery: its client, its dialect, its types and parameters,
// as far as an emulator has them.
func TestOnBigQuery(t *testing.T) {
	b, err := bigquery.Start(t.Context(), bigquery.Config{Dir: t.TempDir(), Project: "sluice-test", Dataset: "clickstream"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, table := range []*schema.Table{schema.FactEvents(), schema.EventsDLQ()} {
		if err := b.CreateTable(t.Context(), table, warehouse.DefaultPartitions()[table.Name].Column); err != nil {
			t.Fatal(err)
		}
	}
	var e query.Engine = query.BigQuery{Client: b.Client()}
	testFromWhatHasLanded(t, e)
}

package warehouse_test

import (
	"fmt"
	"os"
	"testing"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
)

// Protects "acknowledged is durable" against an end without Close: the files as
// they are at that moment hold every acknowledged row.
func TestAcknowledgedRowsSurviveAnEndWithoutClose(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	w := start(t, warehouse.Config{Dir: dir})
	stream := open(t, dial(t, w))
	const requests, rows = 50, 100
	for i := range requests {
		var batch [][]byte
		for n := range rows {
			batch = append(batch, good(fmt.Sprint(i, "-", n)))
		}
		if a := exchange(t, stream, request(w, "fact_events", contract.FactEvents().Descriptor(),
			batch...)); a.GetError() != nil {
			t.Fatal(a)
		}
	}
	// What a killed process leaves is what the files hold now.
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := start(t, warehouse.Config{Dir: left})
	if n := count(t, again, "SELECT COUNT(*) FROM events"); n != requests*rows {
		t.Errorf("%d rows, want %d", n, requests*rows)
	}
}

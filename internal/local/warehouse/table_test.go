package warehouse

import (
	"errors"
	"testing"

	"sluice/internal/contract"
)

// Protects tests that drop a table under load: rows that reach its writer just after its
// end are refused. Unanswered, they would hold up their stream for ever.
func TestRowsBehindTheEndOfATable(t *testing.T) {
	w, err := Start(Config{Tables: []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dropped := w.store.table("fact_events")
	if err := w.DropTable(t.Context(), "fact_events"); err != nil {
		t.Fatal(err)
	}
	for range 50 { // Go chooses at random whether submit meets the queue or the end
		j := &job{done: make(chan error, 1)}
		dropped.submit(j)
		if err := dropped.stored(t.Context(), j); !errors.Is(err, errTableGone) {
			t.Fatalf("%v, want %v", err, errTableGone)
		}
	}
}

package warehouse_test

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"sluice/functions/warehouse"
	embedded "sluice/internal/local/warehouse"
)

// bad makes rows bad that hold the word.
func bad(word string) func([]byte) bool {
	return func(row []byte) bool { return bytes.Contains(row, []byte(word)) }
}

// batchOf is n rows of which those at the indices are bad.
func batchOf(t *testing.T, n int, badOnes ...int) [][]byte {
	t.Helper()
	all := make([][]byte, n)
	for i := range all {
		all[i] = row(t, fmt.Sprint("good-", i))
	}
	for _, i := range badOnes {
		all[i] = row(t, fmt.Sprint("poison-", i))
	}
	return all
}

// Protects the neighbours of bad rows, whether BigQuery names the bad ones or not:
// all good ones are durable, once, and the bad ones are returned with its words.
func TestWriteTakesBadRowsOut(t *testing.T) {
	for _, test := range []struct {
		name   string
		naming embedded.Naming
		bad    []int
	}{
		{"none", embedded.NameAll, nil},
		{"all named", embedded.NameAll, []int{0, 7, 8, 99}},
		{"named one at a time", embedded.NameFirst, []int{0, 7, 8, 99}},
		{"unnamed, the first", embedded.NameNone, []int{0}},
		{"unnamed, the last", embedded.NameNone, []int{99}},
		{"unnamed, some", embedded.NameNone, []int{3, 4, 50, 51, 98}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, a := startWarehouse(t, warehouse.AppenderConfig{})
			w.Fail(embedded.Fault{Count: -1, Naming: test.naming, BadRow: bad("poison")})
			rejected, err := a.Write(t.Context(), batchOf(t, 100, test.bad...))
			check(t, err)
			var got []int
			for _, e := range rejected {
				got = append(got, e.Index)
				if e.Code != warehouse.CodeRejected || e.Message == "" {
					t.Errorf("rejected %+v", e)
				}
			}
			if !slices.Equal(got, test.bad) {
				t.Errorf("rejected %v, want %v", got, test.bad)
			}
			if n := landed(t, w); n != 100-len(test.bad) {
				t.Errorf("%d rows, want %d", n, 100-len(test.bad))
			}
		})
	}
}

// Protects the time that a push has: a bad row without a name costs at most two
// requests per halving, and many of them end in an error rather than in a storm.
func TestBisectionIsBounded(t *testing.T) {
	const n = 1000
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	refused := w.Fail(embedded.Fault{Count: -1, Naming: embedded.NameNone, BadRow: bad("poison")})
	if _, err := a.Write(t.Context(), batchOf(t, n, 777)); err != nil {
		t.Fatal(err)
	}
	if limit := 1 + bits.Len(n); refused.Hits() > limit {
		t.Errorf("%d requests were refused for one bad row of %d, want at most %d", refused.Hits(), n, limit)
	}
	before := refused.Hits()
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if _, err := a.Write(t.Context(), batchOf(t, n, all...)); err == nil || !strings.Contains(err.Error(),
		"too many requests") {
		t.Errorf("got %v", err)
	}
	if spent, limit := refused.Hits()-before, 32*(1+bits.Len(n)); spent > limit {
		t.Errorf("%d requests, want at most %d", spent, limit)
	}
}

// Protects good data from a table that does not fit, from the start or since it was replaced:
// when BigQuery refuses all rows, it is the rows' fault only if a stream that was opened since
// has taken others. A row that it names is believed, but not twice in a row.
func TestWriteBelievesOnlyAProvenTable(t *testing.T) {
	for _, test := range []struct {
		name     string
		naming   embedded.Naming
		rows     int
		proven   bool
		rejected int // -1: an error
	}{
		{"one row, named", embedded.NameAll, 1, false, 1},
		{"one row, unnamed", embedded.NameNone, 1, false, -1},
		{"two rows, named", embedded.NameAll, 2, false, -1},
		{"two rows, unnamed", embedded.NameNone, 2, false, -1},
		{"one row, unnamed, proven", embedded.NameNone, 1, true, 1},
		{"two rows, named, proven", embedded.NameAll, 2, true, 2},
		{"two rows, unnamed, proven", embedded.NameNone, 2, true, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, a := startWarehouse(t, warehouse.AppenderConfig{})
			if test.proven {
				check(t, a.Append(t.Context(), rows(t, "good")))
			}
			w.Fail(embedded.Fault{Count: -1, Naming: test.naming, BadRow: bad("poison")})
			if test.proven { // what was shown before the refusal says nothing of the table now
				if rejected, err := a.Write(t.Context(),
					batchOf(t, test.rows, []int{0, 1}[:test.rows]...)); err == nil || len(rejected) > 0 {
					t.Errorf("rejected %v, error %v: want an error", rejected, err)
				}
				check(t, a.Append(t.Context(), rows(t, "good")))
			}
			rejected, err := a.Write(t.Context(), batchOf(t, test.rows, []int{0, 1}[:test.rows]...))
			if test.rejected < 0 {
				if err == nil || len(rejected) > 0 {
					t.Errorf("rejected %v, error %v: want an error", rejected, err)
				}
				return
			}
			if err != nil || len(rejected) != test.rejected {
				t.Errorf("rejected %v, error %v: want %d rejected", rejected, err, test.rejected)
			}
		})
	}
}

// Protects traffic of single rows from the same: the first row that BigQuery names is believed,
// and no second one before another row has landed.
func TestOneNamedRowIsBelievedOnce(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	check(t, a.Append(t.Context(), rows(t, "good")))
	w.Fail(embedded.Fault{Count: -1, Naming: embedded.NameAll, BadRow: bad("poison")})
	poison := func() error { _, err := a.Write(t.Context(), batchOf(t, 1, 0)); return err }
	check(t, poison())
	for range 2 {
		if poison() == nil {
			t.Error("one row after the other is refused and believed to be bad")
		}
	}
	if rejected, err := a.Write(t.Context(), rows(t, "good too")); err != nil || len(rejected) > 0 {
		t.Errorf("rejected %v, error %v", rejected, err)
	}
	check(t, poison())
}

// Protects the same data beside a row that is rejected without BigQuery's word: its
// being too large says nothing about the table.
func TestTooLargeProvesNothing(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{MaxRequest: 20_000})
	w.Fail(embedded.Fault{Count: -1, BadRow: bad("poison")})
	all := batchOf(t, 3, 0, 1)
	all[2] = row(t, strings.Repeat("x", 30_000))
	if rejected, err := a.Write(t.Context(), all); err == nil || len(rejected) > 0 {
		t.Errorf("rejected %v, error %v: want an error", rejected, err)
	}
}

// Protects BigQuery's limit on requests: they are split, and a row that fits into
// none is rejected by itself.
func TestWriteSplits(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{MaxRequest: 20_000})
	largest := 0
	observe := w.Fail(embedded.Fault{Count: -1, When: func(r embedded.Request) bool {
		largest = max(largest,
			r.Bytes)
		return false
	}})
	defer observe.Remove()
	all := batchOf(t, 1000)
	all[500] = row(t, strings.Repeat("x", 30_000))
	rejected, err := a.Write(t.Context(), all)
	check(t, err)
	if len(rejected) != 1 || rejected[0].Index != 500 || rejected[0].Code != warehouse.CodeTooLarge {
		t.Errorf("rejected %v", rejected)
	}
	if n := landed(t, w); n != 999 {
		t.Errorf("%d rows, want 999", n)
	}
	if largest > 20_000 || largest < 15_000 {
		t.Errorf("the largest request has %d bytes, want it filled up to 20,000", largest)
	}
}

// Protects messages without rows: no request is made.
func TestWriteNothing(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	any := w.Fail(embedded.Fault{Code: codes.Internal, Count: -1})
	rejected, err := a.Write(t.Context(), nil)
	if err != nil || len(rejected) > 0 || any.Hits() > 0 {
		t.Errorf("rejected %v, error %v, %d requests", rejected, err, any.Hits())
	}
}

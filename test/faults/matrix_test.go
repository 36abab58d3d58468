package faults

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

var update = flag.Bool("update", false, "write the table of README.md")

// fault is one row of the matrix.
type fault struct {
	name string
	// What the user notices, for README.md. Nothing is ever lost: that column is
	// the same for all.
	duplicates string // "none" is checked
	delay      string

	stack  func(*pipeline.Config) // how the pipeline is made, if not as it is deployed
	before func(w *world)         // happens before the load, if not nil
	strike func(w *world)         // happens under load; when it returns, the fault is over
}

const none = "none"

// Each fault strikes a pipeline under load of thousands of events. When it is over,
// everything must arrive without anybody's help, be where it belongs, and the audit
// must be clean.
func TestMatrix(t *testing.T) {
	for i, f := range matrix {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			// Small batches, so that a fault meets many of them.
			c := pipeline.Config{Config: local.Config{Push: local.PushConfig{BackoffScale: 0.005}},
				TuneBridge: smallBatches}
			if f.stack != nil {
				f.stack(&c)
			}
			w := start(t, c)
			if f.before != nil {
				f.before(w)
			}
			w.load(uint64(i)+1, 1500)
			w.flow(500)
			f.strike(w)
			ended := time.Now()
			w.produce(500)
			if n := 3000 - w.produced.Load(); n > 0 {
				w.produce(n)
			}
			w.endLoad()
			figures := w.settle(ended)
			t.Log(figures)
			if w.bad != nil && w.expected["row_rejected"] < 10 {
				t.Errorf("the fault has met %d rows only", w.expected["row_rejected"])
			}
			if figures.lost != 0 {
				t.Errorf("%d records are lost", figures.lost)
			}
			if f.duplicates == none && figures.duplicateRows != 0 {
				t.Errorf("%d rows are duplicates, README.md says none", figures.duplicateRows)
			}
		})
	}
}

// README.md must say what the matrix checks.
func TestTable(t *testing.T) {
	const begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
	var table strings.Builder
	table.WriteString("| what fails | lost | rows twice (hidden by the view `events`) | what else is noticed |\n|---|---|---|---|\n")
	for _, f := range append(matrix[:len(matrix):len(matrix)], others...) {
		fmt.Fprintf(&table, "| %s | 0 | %s | %s |\n", f.name, f.duplicates, f.delay)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatal("README.md has no table")
	}
	want := before + begin + table.String() + end + after
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Error("the table in README.md is not the matrix: run go test ./test/faults -run Table -update")
	}
}

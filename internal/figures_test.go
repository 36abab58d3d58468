package internal

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func document(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// number is the first number of a cell such as "**86.72**" or "1,004".
func number(t *testing.T, cell string) float64 {
	t.Helper()
	text := strings.ReplaceAll(regexp.MustCompile(`[0-9][0-9,.]*`).FindString(cell), ",", "")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("%q has no number: %v", cell, err)
	}
	return v
}

// row returns the cells of the first row of a table whose first cell contains name.
func row(t *testing.T, text, name string) []string {
	t.Helper()
	for line := range strings.Lines(text) {
		if cells := strings.Split(strings.Trim(line, "| \n"), "|"); strings.HasPrefix(line, "|") &&
			strings.Contains(cells[0], name) {
			return cells
		}
	}
	t.Fatalf("no row %q", name)
	return nil
}

// Protects the figures of README's first screen and of ALTERNATIVES.md: they are those of the pages that runs have
// written.
func TestQuotedFigures(t *testing.T) {
	readme, alternatives := document(t, "../README.md"), document(t, "../infra/ALTERNATIVES.md")
	costs, peers := document(t, "../infra/COSTS.md"), document(t, "../test/docs/peers.md")
	quoted := func(text, name, want string) {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q: correct it", name, want)
		}
	}
	for _, rate := range []struct {
		heading string
		say     func(sluice, dataflow, subscription float64) []string
	}{
		{"### 1,000 events", func(s, d, b float64) []string {
			return []string{fmt.Sprintf("$%.0f a month at 1,000 events", s), fmt.Sprintf("Dataflow is at $%.0f", d),
				fmt.Sprintf("a BigQuery subscription at $%.0f", b)}
		}},
		{"### 10,000 events", func(s, d, b float64) []string {
			return []string{fmt.Sprintf("$%.0f at 10,000", s), fmt.Sprintf("and $%.0f,", d), fmt.Sprintf("and $%.0f (",
				b)}
		}},
	} {
		_, part, _ := strings.Cut(costs, rate.heading)
		cells := row(t, part, "**a month**")
		for _, text := range rate.say(number(t, cells[1]), number(t, cells[5]), number(t, cells[6])) {
			quoted(strings.ReplaceAll(readme, "\n  ", " "), "README.md", text)
		}
	}
	cpu := func(way string) float64 { return number(t, row(t, peers, way)[1]) }
	quoted(strings.ReplaceAll(readme, "\n  ", " "), "README.md",
		fmt.Sprintf("%.1f CPU seconds for a million events, from Kafka to rows; a Go consumer written in a day takes %.0f to %.0f, a Python one %.0f",
			cpu("BigQuery: Sluice"), cpu("a day's Go, struct"), cpu("a day's Go, map"), cpu("a Python consumer")))
	for way, name := range map[string]string{
		"Pub/Sub: Sluice's bridge": "Pub/Sub: Sluice's bridge", "Google's Kafka connector": "Google's Kafka connector",
		"Pub/Sub: Redpanda Connect":       "Redpanda Connect, a message",
		"Pub/Sub: Redpanda Connect, gzip": "Redpanda Connect, 1,000 events in gzip",
		"Pub/Sub: Redpanda Connect, lz4":  "Redpanda Connect, 1,000 events in lz4",
		"BigQuery: Sluice":                "BigQuery: Sluice",
		"a day's Go, struct":              "a good Go engineer writes", "a day's Go, map": "the same with a map",
		"a Python consumer": "a Python consumer",
	} {
		want, got := cpu(way), number(t, row(t, alternatives, name)[1])
		if math.Abs(want-got) > 0.05*want {
			t.Errorf("ALTERNATIVES.md says %v CPU seconds of %q, the run %v", got, name, want)
		}
	}
}

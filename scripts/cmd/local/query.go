package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice/internal/local/warehouse"
)

// queryTables runs SQL on a kept warehouse and prints what it answers.
func queryTables(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("query", flag.ContinueOnError)
	var (
		data   = flags.String("data", ".data", "the `folder` that ./scripts/run --data kept")
		asJSON = flags.Bool("json", false, "print one JSON object per row instead of a table")
	)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), `Runs SQL on a warehouse that ./scripts/run --data DIR kept.

  ./scripts/query --data DIR 'SELECT event_type, COUNT(*) AS n FROM events GROUP BY event_type'

Tables: fact_events, events_dlq. Views: events (each event once), dead_letters_by_code,
pipeline_health_per_minute. The pipeline must not be running on the same folder.

`)
		flags.PrintDefaults()
	}
	statement, err := parseQuery(flags, args)
	if err != nil {
		return err
	}
	w, err := openWarehouse(*data)
	if err != nil {
		return err
	}
	defer w.Close()
	names, table, err := warehouse.Answer(ctx, w.DB(), statement)
	if err != nil {
		return err
	}
	if *asJSON {
		return printRows(os.Stdout, names, table)
	}
	printTable(os.Stdout, names, table)
	return nil
}

// parseQuery takes the one SQL statement out of args; flags may stand on both sides of it.
func parseQuery(flags *flag.FlagSet, args []string) (string, error) {
	if err := parse(flags, args); err != nil {
		return "", err
	}
	statement := strings.TrimRight(flags.Arg(0), "; \n\t")
	if flags.NArg() > 1 {
		if err := parse(flags, flags.Args()[1:]); err != nil {
			return "", err
		}
		if flags.NArg() > 0 {
			return "", usageError("unexpected argument %q: give one SQL statement, in quotes", flags.Arg(0))
		}
	}
	if strings.TrimSpace(statement) == "" {
		return "", usageError("give one SQL statement, in quotes")
	}
	return statement, nil
}

// printRows prints one JSON object per row, columns in the query's order.
func printRows(w io.Writer, names []string, rows [][]any) error {
	var line strings.Builder
	for _, row := range rows {
		line.Reset()
		for i, v := range row {
			line.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
			name, err := json.Marshal(names[i])
			if err != nil {
				return err
			}
			value, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("column %s: %w", names[i], err)
			}
			line.Write(name)
			line.WriteByte(':')
			line.Write(value)
		}
		line.WriteString("}\n")
		if _, err := io.WriteString(w, line.String()); err != nil {
			return err
		}
	}
	return nil
}

// float writes a number to six decimals, or to six digits where that says little.
func float(v float64) string {
	if size := math.Abs(v); v != 0 && (size < 1e-3 || size >= 1e15) || math.IsNaN(v) {
		return fmt.Sprintf("%.6g", v)
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// printTable prints aligned columns, numbers to the right.
func printTable(w io.Writer, names []string, rows [][]any) {
	cells := make([][]string, 0, len(rows)+1)
	cells = append(cells, names)
	right := make([]bool, len(names))
	for _, row := range rows {
		line := make([]string, len(row))
		for i, v := range row {
			switch v := v.(type) {
			case nil:
				line[i] = "NULL"
			case string:
				line[i] = strings.NewReplacer("\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(v)
			case float64:
				line[i], right[i] = float(v), true
			default:
				line[i], right[i] = fmt.Sprint(v), true
			}
		}
		cells = append(cells, line)
	}
	width := make([]int, len(names))
	for _, line := range cells {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range cells {
		for i, cell := range line {
			if i > 0 {
				fmt.Fprint(w, "  ")
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			switch {
			case right[i]:
				fmt.Fprint(w, pad, cell)
			case i < len(line)-1:
				fmt.Fprint(w, cell, pad)
			default:
				fmt.Fprint(w, cell)
			}
		}
		fmt.Fprintln(w)
		if n == 0 {
			for i := range names {
				if i > 0 {
					fmt.Fprint(w, "  ")
				}
				fmt.Fprint(w, strings.Repeat("-", width[i]))
			}
			fmt.Fprintln(w)
		}
	}
	if len(rows) == 1 {
		fmt.Fprintln(w, "(1 row)")
		return
	}
	fmt.Fprintf(w, "(%d rows)\n", len(rows))
}

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"sluice/internal/local"
	"sluice/internal/local/warehouse"
	"sluice/scripts/command"
)

// queryTables runs SQL on a kept warehouse and prints what it answers.
func queryTables(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("query", flag.ContinueOnError)
	var (
		data   = flags.String("data", ".data", "the `folder` that ./scripts/run --data kept")
		asJSON = flags.Bool("json", false, "print one JSON object per row instead of a table")
	)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), `Runs SQL on a warehouse that ./scripts/run --data DIR kept. It reads, and changes nothing.

  ./scripts/query --data DIR 'SELECT event_type, COUNT(*) AS n FROM events GROUP BY event_type'

Tables: fact_events, events_dlq, and those of contracts of your own. Views: events (each event
once; T_once of your table T), dead_letters_by_code, pipeline_health_per_minute. The pipeline must not be running on the same folder.

`)
		flags.PrintDefaults()
	}
	statement, err := parseQuery(flags, args)
	if err != nil {
		return err
	}
	w, err := openWarehouse(*data) // brings tables and views up to date
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return err
	}
	db, err := warehouse.Reader(*data, local.Dataset)
	if err != nil {
		return err
	}
	defer db.Close()
	names, table, err := warehouse.Answer(ctx, db, statement)
	if err != nil {
		return err
	}
	if *asJSON {
		return printRows(os.Stdout, names, table)
	}
	command.PrintTable(os.Stdout, names, table)
	return nil
}

// parseQuery takes the one SQL statement out of args; flags may stand on both sides of it.
func parseQuery(flags *flag.FlagSet, args []string) (string, error) {
	if err := command.Parse(flags, args); err != nil {
		return "", err
	}
	statement := strings.TrimRight(flags.Arg(0), "; \n\t")
	if flags.NArg() > 1 {
		if err := command.Parse(flags, flags.Args()[1:]); err != nil {
			return "", err
		}
		if flags.NArg() > 0 {
			return "", command.UsageError("unexpected argument %q: give one SQL statement, in quotes", flags.Arg(0))
		}
	}
	if strings.TrimSpace(statement) == "" {
		return "", command.UsageError("give one SQL statement, in quotes")
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

package command

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"

	"sluice/internal/contract"
	"sluice/internal/contract/infer"
)

// promote proposes columns for members of a JSON column that many events have.
func promote(ctx context.Context, local *Local, args []string) error {
	flags := flag.NewFlagSet("contract promote", flag.ContinueOnError)
	tables := target{here: local}
	tables.flags(flags)
	var (
		of    = flags.String("contract", "", "`name` of a preset, or the contract's file")
		share = flags.Float64("share", 0.5, "propose a column for what this `share` of the rows has, from 0 to 1")
		rows  = flags.Int("rows", 100_000, "look at this many rows, the latest")
	)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Looks at the JSON column that takes the rest of a contract's events, and proposes columns for what many rows
have there: lines for the contract, and the statement that fills the column for the rows that are there.

  ./scripts/contract promote contracts/shop_events.yaml --project P
  ./scripts/contract promote shop_events.yaml --data .data

`)
		flags.PrintDefaults()
	}
	words, err := interleaved(flags, args)
	if err != nil {
		return err
	}
	if *of == "" && len(words) == 1 {
		*of, words = words[0], nil
	}
	switch {
	case *of == "" || len(words) > 0:
		return UsageError("name one contract: a preset, or a file")
	case !(*share >= 0 && *share <= 1):
		return UsageError("--share is %g: a share from 0 to 1 is needed", *share)
	case *rows < 1:
		return UsageError("--rows is %d: a number from 1 on is needed", *rows)
	}
	if err := tables.validate(); err != nil {
		return err
	}
	c, err := contract.Named(*of)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Fields, func(f contract.Field) bool { return f.Source == contract.FromRest })
	if i < 0 {
		return fmt.Errorf("the contract %s has no column for the rest: there is nothing to promote", c.Name)
	}
	rest := c.Table.Columns[i].Name
	engine, closeTables, err := tables.engine(ctx)
	if err != nil {
		return err
	}
	defer closeTables()
	statement := fmt.Sprintf("SELECT TO_JSON_STRING(%[1]s) FROM %[2]s.%[3]s WHERE %[1]s IS NOT NULL ORDER BY ingested_at DESC LIMIT %[4]d",
		rest, tables.name(), c.Table.Name, *rows)
	var s infer.Sample
	for row, err := range engine.Query(ctx, statement) {
		if err != nil {
			return err
		}
		if text, ok := row[0].(string); ok {
			if err := s.Add([]byte(text)); err != nil {
				return fmt.Errorf("a row of %s: its %s %w", c.Table.Name, rest, err)
			}
		}
	}
	if s.Events == 0 {
		return fmt.Errorf("%s has no row with something in %s", c.Table.Name, rest)
	}
	proposals := s.Columns(c, *share)
	if len(proposals) == 0 {
		fmt.Printf("Of %d rows with something in %s, no member is in %g%% that a column could take.\n", s.Events, rest,
			*share*100)
		return nil
	}
	fmt.Printf("# For the columns of %s, from %d rows:\n", c.Name, s.Events)
	for _, p := range proposals {
		fmt.Println(p.YAML)
	}
	fmt.Printf("\n-- When the tables have the columns and the functions run with the contract, for the rows before:\n")
	sets := make([]string, len(proposals))
	nulls := make([]string, len(proposals))
	for i, p := range proposals {
		sets[i] = fmt.Sprintf("%s = %s", p.Name, p.SQL(rest))
		nulls[i] = p.Name + " IS NULL"
	}
	fmt.Printf("UPDATE %s.%s\nSET %s\nWHERE %s;\n", tables.name(), c.Table.Name, strings.Join(sets, ",\n    "),
		strings.Join(nulls, " AND "))
	fmt.Printf("-- BigQuery changes no rows that came in the last 30 minutes: add AND ingested_at < " +
		"TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 90 MINUTE).\n")
	return nil
}

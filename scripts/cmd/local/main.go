// Sluice on one machine: the program behind ./scripts/run, query, audit and replay.
//
//	sluice run     the whole pipeline in one process, on embedded servers
//	sluice query   SQL on a warehouse that run --data kept
//	sluice audit   whether every record that was consumed has arrived, here or in BigQuery
//	sluice replay  dead letters back into the pipeline, here or in Google Cloud
//
// The scripts build and call it; -h after a command tells its flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// commands by name; each returns an error to print, or nil for exit status 0.
var commands = map[string]func(ctx context.Context, args []string) error{
	"run":    run,
	"query":  queryTables,
	"audit":  auditTables,
	"replay": replayLetters,
}

// errFailed ends the program with status 1 when all that is to be said has been said.
var errFailed = errors.New("failed")

func main() {
	os.Exit(execute())
}

func execute() int {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: sluice run|query|audit|replay [flags]; -h after a command tells its flags")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends gracefully, the second at once.
	context.AfterFunc(ctx, stop)

	switch err := commands[os.Args[1]](ctx, os.Args[2:]); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errFailed):
		return 1
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "sluice %s: %v\n", os.Args[1], err)
		return 2
	default:
		fmt.Fprintf(os.Stderr, "sluice %s: %v\n", os.Args[1], err)
		if os.Args[1] == "audit" {
			return 2 // 1 says that records are missing
		}
		return 1
	}
}

// parse parses a command's flags. A mistake is an errUsage: one line, not the whole
// usage, which package flag prints unasked.
func parse(flags *flag.FlagSet, args []string) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	flags.SetOutput(nil) // standard error
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.Usage()
	case err != nil:
		err = usageError("%v", err)
	}
	return err
}

// noMore refuses what stands behind the flags.
func noMore(flags *flag.FlagSet) error {
	if flags.NArg() > 0 {
		return usageError("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

// errUsage marks errors in the command line: exit status 2.
var errUsage = errors.New("usage")

// usageError is an errUsage that says what is wrong.
func usageError(format string, args ...any) error {
	return fmt.Errorf("%w: %s (-h tells the flags)", errUsage, fmt.Sprintf(format, args...))
}

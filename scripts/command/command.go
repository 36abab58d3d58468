// Package command is what the programs behind the scripts share: the commands audit and
// replay, and how a command is called, fails and prints.
//
//	os.Exit(command.Main("sluice", map[string]command.Command{
//		"audit":  command.Audit(nil),    // nil: only BigQuery, no local warehouse
//		"replay": command.Replay(nil),
//	}))
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"sluice/internal/contract"
	"sluice/internal/kafkaclient"
	"sluice/internal/query"
	"sluice/internal/replay"
)

// Command runs with the words after its name. Its error is printed, nil is exit status 0.
type Command func(ctx context.Context, args []string) error

// Local is what a program with the local servers in it gives to Audit and Replay: how to
// work on a folder that ./scripts/run --data keeps.
type Local struct {
	// Tables opens the folder's warehouse; close frees it.
	Tables func(dir string) (engine query.Engine, close func() error, err error)
	// Contracts reads those that the folder keeps; nil: the built-in one.
	Contracts func(dir string) ([]*contract.Contract, error)
	// Kafka serves the topics that the folder keeps; brokers is empty if it keeps none.
	Kafka func(dir string) (brokers string, close func() error, err error)
	// Registry serves the schemas that lie beside the contracts; url is empty if none needs it.
	Registry func(contracts []*contract.Contract) (url string, close func(), err error)
	// Replay sends the letters of r through a pipeline on the folder and returns what became of them.
	Replay func(ctx context.Context, dir string, r *replay.Replay, o replay.Options) (*replay.Outcome, error)
}

// The names that the product is deployed with, unless its settings say otherwise.
const (
	DefaultGroup = "clickstream-to-bigquery" // the bridge's consumer group: KAFKA_GROUP
	DefaultTopic = "clickstream"             // of Pub/Sub, the bridge's: PUBSUB_TOPIC
)

// ErrFailed ends the program with status 1 when all that is to be said has been said.
var ErrFailed = errors.New("failed")

// Exit is an error that has been printed already, with the status to end the program with.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Main runs the command that the program's arguments name and returns the exit status: 0,
// 1 for a failure, 2 for a mistake in the command line, or an audit that could not be made.
func Main(program string, commands map[string]Command) int {
	commands["completion"] = Completion(program, slices.Sorted(maps.Keys(commands)))
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		names := strings.Join(slices.Sorted(maps.Keys(commands)), "|")
		fmt.Fprintf(os.Stderr, "usage: %s %s [flags]; -h after a command lists its flags\n", program, names)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends gracefully, the second at once.
	context.AfterFunc(ctx, stop)

	name, exit := os.Args[1], Exit(0)
	switch err := commands[name](ctx, os.Args[2:]); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, ErrFailed):
		return 1
	case errors.As(err, &exit):
		return int(exit)
	default:
		fmt.Fprintf(os.Stderr, "sluice %s: %v\n", name, err)
		if errors.Is(err, ErrUsage) || name == "audit" { // 1 says that records are missing
			return 2
		}
		return 1
	}
}

// Parse parses a command's flags. A mistake is an ErrUsage: one line, not the whole
// usage, which package flag prints unasked.
func Parse(flags *flag.FlagSet, args []string) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	flags.SetOutput(nil) // standard error
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.Usage()
	case err != nil:
		err = UsageError("%v", err)
	}
	return err
}

// NoMore refuses what stands behind the flags.
func NoMore(flags *flag.FlagSet) error {
	if flags.NArg() > 0 {
		return UsageError("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

// ErrUsage marks errors in the command line: exit status 2.
var ErrUsage = errors.New("usage")

// UsageError is an ErrUsage that says what is wrong.
func UsageError(format string, args ...any) error {
	return fmt.Errorf("%w: %s (-h tells the flags)", ErrUsage, fmt.Sprintf(format, args...))
}

// CheckBrokers checks the value of --kafka.
func CheckBrokers(list string) error {
	if mistakes := kafkaclient.BrokerMistakes(list); len(mistakes) > 0 {
		return UsageError("--kafka: %s", mistakes[0])
	}
	return nil
}

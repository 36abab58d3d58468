// Command sluice is what an operator runs against a deployed pipeline:
//
//	sluice audit    whether every record that was consumed has arrived in BigQuery
//	sluice replay   dead letters back into the pipeline
//	sluice contract  what events are: check, infer, diff, tables, promote
//	sluice cost     what a workload costs at list price
//	sluice doctor   whether what a pipeline needs is there
//	sluice version  what was built
//	sluice completion  a script that completes commands and flags, for bash, zsh or fish
//
// -h after a command lists its flags. It has none of the embedded servers in it, so that it
// builds in seconds; scripts/cmd/local has them.
package main

import (
	"context"
	"fmt"
	"os"

	"sluice/scripts/command"
	"sluice/scripts/command/cost"
)

// version is the commit that was built: scripts/sluice stamps it with -ldflags "-X main.version=…".
var version = "unknown"

func main() {
	os.Exit(command.Main("sluice", map[string]command.Command{
		"audit":    command.Audit(nil),
		"replay":   command.Replay(nil),
		"contract": command.Contract(nil),
		"doctor":   command.Doctor,
		"cost": func(_ context.Context, args []string) error {
			if status := cost.Run(args, os.Stdout, os.Stderr); status != 0 {
				return command.Exit(status)
			}
			return nil
		},
		"version": func(context.Context, []string) error {
			fmt.Println("sluice", version)
			return nil
		},
	}))
}

// Sluice on one machine: the program behind ./scripts/run and query, and behind audit and
// replay where they work on a folder that run --data keeps.
//
//	sluice-local run     the whole pipeline in one process, on embedded servers
//	sluice-local query   SQL on a warehouse that run --data kept
//	sluice-local audit   whether every record that was consumed has arrived
//	sluice-local replay  dead letters back into the pipeline
//
// The scripts build and call it; -h after a command lists its flags. Against Google Cloud the
// program scripts/cmd/sluice has audit and replay without the embedded servers.
package main

import (
	"os"

	"sluice/scripts/command"
)

func main() { os.Exit(execute()) }

func execute() int {
	return command.Main("sluice-local", map[string]command.Command{
		"run":      run,
		"query":    queryTables,
		"audit":    command.Audit(kept),
		"replay":   command.Replay(kept),
		"contract": command.Contract(kept),
		"doctor":   command.Doctor,
	})
}

package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write scripts/COMMANDS.md")

// Protects scripts/COMMANDS.md from being another one than the programs' own help.
func TestCommandReference(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Commands

What each prints for ` + "`-h`" + `. Made by ` + "`go test ./scripts/cmd/local -run TestCommandReference -update`" + `; do not edit.

Exit statuses: 0, all is well; 1, it failed, or an audit found something missing, or a check something wrong; 2, a mistake in the command
line, or an audit that could not be made.
`)
	for _, command := range []string{"run", "query", "audit", "replay", "contract", "contract infer", "contract check",
		"contract diff", "contract tables",
		"contract promote", "doctor", "completion"} {
		_, help, status := program(t, nil, append(strings.Fields(command), "-h")...)
		if status != 0 || help == "" {
			t.Fatalf("%s -h: status %d", command, status)
		}
		if strings.Contains(help, "\nOther:\n") {
			t.Errorf("%s -h: a flag is in no section of its help:\n%s", command, help)
		}
		b.WriteString("\n## " + command + "\n\n```text\n" + strings.ReplaceAll(strings.TrimRight(help, "\n"), "\t",
			"    ") + "\n```\n")
	}
	const file = "../../COMMANDS.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the commands say: run this test with -update (%v)", file, err)
	}
}

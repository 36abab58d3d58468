package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
)

// Completion is the command that prints a shell's script, which completes the names of the program's commands and, by
// asking the command itself for its help, their flags.
func Completion(program string, names []string) Command {
	return func(_ context.Context, args []string) error {
		flags := flag.NewFlagSet("completion", flag.ContinueOnError)
		flags.Usage = func() {
			fmt.Fprintf(flags.Output(), `Prints a script that completes commands and flags in bash, zsh or fish:

  source <(%[1]s completion bash)          zsh alike
  %[1]s completion fish | source
`, program)
		}
		if err := Parse(flags, args); err != nil {
			return err
		}
		if flags.NArg() != 1 {
			return UsageError("say for which shell: bash, zsh or fish")
		}
		script := map[string]string{"bash": bash, "zsh": "autoload -U +X bashcompinit && bashcompinit\n" + bash,
			"fish": fish}[flags.Arg(0)]
		if script == "" {
			return UsageError("%s is not among them: bash, zsh or fish", flags.Arg(0))
		}
		_, err := strings.NewReplacer("PROGRAM", program, "COMMANDS", strings.Join(names, " ")).WriteString(os.Stdout,
			script)
		return err
	}
}

const bash = `_PROGRAM() {
  local word=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W 'COMMANDS' -- "$word"))
  elif [ "${word#-}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" -h 2>&1 | sed -n 's/^  -\([a-z][a-z-]*\).*/--\1/p')" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -o filenames -F _PROGRAM PROGRAM
`

const fish = `complete -c PROGRAM -n __fish_use_subcommand -f -a 'COMMANDS'
complete -c PROGRAM -n 'not __fish_use_subcommand' -a '(
  set -l words (commandline -opc)
  $words[1] $words[2] -h 2>&1 | string replace -rf "^  -([a-z][a-z-]*).*" -- "--\$1"
)'
`

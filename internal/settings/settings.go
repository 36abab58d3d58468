// Package settings is how both programs take their configuration: one declaration of
// flags, each of which is an environment variable too; flags win over variables, those
// over defaults.
//
//	c := DefaultConfig()
//	c.Flags(fs)                                            // declares them; the fields are the defaults
//	err := settings.Parse(fs, args, "what it does", c.Sections(), c.Validate)
//	if errors.Is(err, flag.ErrHelp) { … }                  // -h was answered
//	fmt.Fprintln(os.Stderr, err)                           // every mistake, a line each
//
// A mistake names the setting and what to do, and never shows the value, which may be
// a secret in the wrong place.
package settings

import (
	"encoding"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3"
)

// Parse reads args and the environment into the flags of fs. The error joins every
// value that cannot be read with what validate finds in the others, which is called
// for nothing worse. For -h, what the program does and all flags are printed to
// fs.Output(), by section, and the error is flag.ErrHelp.
func Parse(fs *flag.FlagSet, args []string, does string, sections []Section, validate func() error) error {
	var mistakes []error
	out := fs.Output()
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.VisitAll(func(f *flag.Flag) { f.Value = &guarded{f.Value, f, &mistakes} })
	err := ff.Parse(fs, args, ff.WithEnvVars())
	fs.VisitAll(func(f *flag.Flag) { f.Value = f.Value.(*guarded).Value })
	fs.SetOutput(out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, "%s %s.\n\n", fs.Name(), does)
		fmt.Fprint(out, "Each flag can be set by an environment variable too, which has its name in capitals:\n"+
			"--log-level is LOG_LEVEL. Flags win over variables, those over defaults.\n\n")
		PrintSections(out, fs, sections)
		return flag.ErrHelp
	case err != nil:
		return fmt.Errorf("%w; -h lists the flags", err)
	case fs.NArg() > 0:
		return fmt.Errorf("%d words are left over after the flags: everything is set with flags or environment variables, see -h", fs.NArg())
	}
	mistakes = append(mistakes, nearMisses(fs, os.Environ())...)
	return errors.Join(append(mistakes, validate())...)
}

// Section is a group of flags with one purpose, by their names, in the order in which a reader needs them.
type Section struct {
	Title string
	Flags []string
}

// CheckSections says which flags are in no section, or in two, and which names are no flags: for tests.
func CheckSections(fs *flag.FlagSet, sections []Section) error {
	var wrong []error
	seen := make(map[string]bool)
	for _, s := range sections {
		for _, name := range s.Flags {
			switch {
			case fs.Lookup(name) == nil:
				wrong = append(wrong, fmt.Errorf("the section %s has %s, which is no flag", s.Title, name))
			case seen[name]:
				wrong = append(wrong, fmt.Errorf("%s is in two sections", name))
			}
			seen[name] = true
		}
	}
	fs.VisitAll(func(f *flag.Flag) {
		if !seen[f.Name] {
			wrong = append(wrong, fmt.Errorf("%s is in no section", f.Name))
		}
	})
	return errors.Join(wrong...)
}

// PrintSections prints the flags as package flag does, by section; what is in none comes last,
// and sections none of whose flags there are are left out.
func PrintSections(out io.Writer, fs *flag.FlagSet, sections []Section) {
	if len(sections) == 0 {
		fs.PrintDefaults()
		return
	}
	seen := map[string]bool{}
	for _, s := range sections {
		for _, name := range s.Flags {
			seen[name] = true
		}
	}
	others := Section{Title: "Other"}
	fs.VisitAll(func(f *flag.Flag) {
		if !seen[f.Name] {
			others.Flags = append(others.Flags, f.Name)
		}
	})
	sections = slices.DeleteFunc(append(slices.Clone(sections), others), func(s Section) bool {
		return !slices.ContainsFunc(s.Flags, func(name string) bool { return fs.Lookup(name) != nil })
	})
	for i, s := range sections {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%s:\n", s.Title)
		for _, name := range s.Flags {
			if f := fs.Lookup(name); f != nil {
				one := flag.NewFlagSet("", flag.ContinueOnError) // package flag sorts them by name
				one.SetOutput(out)
				one.Var(f.Value, f.Name, f.Usage)
				one.Lookup(name).DefValue = f.DefValue
				one.PrintDefaults()
			}
		}
	}
}

// Markdown is the reference of the flags, a table for each section.
func Markdown(fs *flag.FlagSet, sections []Section) string {
	var b strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| variable | default | what it is |\n|---|---|---|\n", s.Title)
		for _, name := range s.Flags {
			f := fs.Lookup(name)
			if f == nil {
				continue
			}
			_, usage := flag.UnquoteUsage(f)
			usage = strings.Join(strings.Fields(usage), " ")
			byDefault := f.DefValue
			if byDefault != "" {
				byDefault = "`" + strings.ReplaceAll(byDefault, "|", "\\|") + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", variable(f.Name), byDefault, strings.NewReplacer("|", "\\|", "<",
				"\\<").Replace(usage))
		}
	}
	return b.String()
}

// nearMisses are variables that nobody reads and that differ from one of the flags' by a letter, or by
// underscores: what was meant would not be done, without a word.
func nearMisses(fs *flag.FlagSet, environ []string) []error {
	known := map[string]bool{}
	fs.VisitAll(func(f *flag.Flag) { known[variable(f.Name)] = true })
	var mistakes []error
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if known[name] {
			continue
		}
		for _, near := range slices.Sorted(maps.Keys(known)) {
			if similar(name, near) {
				mistakes = append(mistakes, fmt.Errorf("the variable %s is read by nobody: write %s, or remove it",
					name, near))
			}
		}
	}
	return mistakes
}

// similar reports whether names of variables are the same but for their case, underscores and one letter.
func similar(a, b string) bool {
	const shortest = 6 // shorter ones are like many
	a, b = strings.ReplaceAll(strings.ToUpper(a), "_", ""), strings.ReplaceAll(b, "_", "")
	if len(b) < shortest {
		return false
	}
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	swapped := len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
	return max(len(a), len(b)) <= 1 || swapped
}

// variable is the environment variable of a flag.
func variable(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// Mistake is an error about the setting of a flag: what is wrong, a colon, what would
// be right.
func Mistake(flag, what string) error {
	return fmt.Errorf("--%s (%s): %s", flag, variable(flag), what)
}

// guarded is a flag whose value, if it cannot be parsed, is told in our words: those
// of package flag show the value and name no remedy.
type guarded struct {
	flag.Value
	flag     *flag.Flag
	mistakes *[]error
}

// Set never fails: it keeps the mistake, and the default.
func (g *guarded) Set(s string) error {
	err := g.Value.Set(s)
	if err == nil {
		return nil
	}
	what := err.Error()
	if v, ok := g.Value.(flag.Getter); ok {
		what = kind(v.Get(), what)
	}
	*g.mistakes = append(*g.mistakes, Mistake(g.flag.Name, what))
	_ = g.Value.Set(g.flag.DefValue) // a number is zero now
	return nil
}

// IsBoolFlag lets a switch go without a value.
func (g *guarded) IsBoolFlag() bool {
	b, ok := g.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// kind is what is wrong with a text that is no value of v's type; other is the answer
// for types of the program's own.
func kind(v any, other string) string {
	switch v.(type) {
	case time.Duration:
		return "is no duration: write it as 200ms, 2s or 1m30s"
	case int, int64:
		return "is no whole number: write it in digits, such as 1000"
	case bool:
		return "is neither yes nor no: use true or false"
	case *slog.Level, *slog.LevelVar:
		return "is no level: use debug, info, warn or error"
	case encoding.TextUnmarshaler:
		return "cannot be read"
	}
	return other
}

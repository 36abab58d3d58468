package settings_test

import (
	"errors"
	"flag"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sluice/internal/settings"
)

type config struct {
	Wait  time.Duration
	Count int
	Loud  bool
	Level slog.Level
	Name  string
}

func parse(t *testing.T, args ...string) (config, string, error) {
	t.Helper()
	c := config{Wait: time.Second, Count: 3, Name: "a"}
	var out strings.Builder
	fs := flag.NewFlagSet("program", flag.ContinueOnError)
	fs.SetOutput(&out)
	fs.DurationVar(&c.Wait, "wait-time", c.Wait, "how long")
	fs.IntVar(&c.Count, "count", c.Count, "how many")
	fs.BoolVar(&c.Loud, "loud", c.Loud, "whether")
	fs.TextVar(&c.Level, "level", c.Level, "least level")
	fs.StringVar(&c.Name, "name", c.Name, "who")
	err := settings.Parse(fs, args, "does nothing", nil, func() error {
		if c.Name == "" {
			return settings.Mistake("name", "is empty: name somebody")
		}
		return nil
	})
	return c, out.String(), err
}

// Protects the order of precedence, and switches without a value.
func TestPrecedence(t *testing.T) {
	t.Setenv("WAIT_TIME", "2s")
	t.Setenv("COUNT", "5")
	c, out, err := parse(t, "--count", "7", "--loud", "--level=warn")
	if want := (config{2 * time.Second, 7, true, slog.LevelWarn, "a"}); err != nil || c != want || out != "" {
		t.Errorf("got %+v, %q, %v, want %+v", c, out, err, want)
	}
}

// Protects operators from mistakes told one at a time, without a remedy or twice, and
// secrets that were set in the wrong place from being shown.
func TestMistakes(t *testing.T) {
	t.Setenv("WAIT_TIME", "hunter2")
	_, out, err := parse(t, "--count", "hunter2", "--loud=hunter2", "--level", "hunter2", "--name", "")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"--wait-time (WAIT_TIME): is no duration", "--count (COUNT): is no whole number", "--loud (LOUD): is neither", "--level (LEVEL): is no level", "--name (NAME): is empty",
	} {
		if strings.Count(err.Error(), want) != 1 {
			t.Errorf("does not say %q once:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error()+out, "hunter2") {
		t.Errorf("shows a value:\n%v%s", err, out)
	}
	for _, args := range [][]string{{"--nmae", "x"}, {"hunter2"}} {
		if _, out, err := parse(t, args...); err == nil || !strings.Contains(err.Error(), "-h") ||
			strings.Contains(err.Error()+out, "hunter2") {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
}

// Protects -h: it is no mistake, whatever else is.
func TestHelp(t *testing.T) {
	t.Setenv("COUNT", "many")
	_, out, err := parse(t, "-h")
	if !errors.Is(err, flag.ErrHelp) || !strings.Contains(out, "program does nothing.") || !strings.Contains(out,
		"-wait-time") || !strings.Contains(out, "LOG_LEVEL") {
		t.Errorf("got %v and\n%s", err, out)
	}
}

// Protects operators from a variable that nobody reads because of a slip: it is told, and one that is
// merely there is not.
func TestNearMisses(t *testing.T) {
	for name, told := range map[string]bool{
		"WAITTIME": true, "WAIT_TIMES": true, "WAIT_TIM": true, "WAIT__TIME": true, "WIAT_TIME": true, "WAIT_TYME": true, "wait_time": true,
		"WAIT_TIME_2X": false, "TIME": false, "COUNTS": false, "COUNT_ME": false, "NAME_": false, "A_WAIT_TIMES": false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "hunter2")
			_, _, err := parse(t)
			if got := err != nil; got != told {
				t.Fatalf("%v", err)
			}
			if told && (!strings.Contains(err.Error(), name+" is read by nobody: write WAIT_TIME") ||
				strings.Contains(err.Error(), "hunter2")) {
				t.Error(err)
			}
		})
	}
}

// Protects help that is complete: each flag stands in one section, in the section's order, with its default.
func TestSections(t *testing.T) {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.String("b-flag", "x|y", "the `letter` b")
	fs.Int("a-flag", 7, "the number a")
	all := []settings.Section{{Title: "One", Flags: []string{"b-flag"}}, {Title: "Two", Flags: []string{"a-flag"}}}
	if err := settings.CheckSections(fs, all); err != nil {
		t.Error(err)
	}
	for want, sections := range map[string][]settings.Section{
		"a-flag is in no section":      all[:1],
		"a-flag is in two sections":    append(all, all[1]),
		"has c-flag, which is no flag": append(all, settings.Section{Title: "Three", Flags: []string{"c-flag"}}),
	} {
		if err := settings.CheckSections(fs, sections); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	var out strings.Builder
	fs.SetOutput(&out)
	if err := settings.Parse(fs, []string{"-h"}, "does nothing", all, func() error { return nil }); !errors.Is(err,
		flag.ErrHelp) {
		t.Error(err)
	}
	for _, part := range []string{"One:\n  -b-flag letter\n    \tthe letter b (default \"x|y\")\n\nTwo:\n  -a-flag int\n    \tthe number a (default 7)\n"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%s\nwant %s", out.String(), part)
		}
	}
	if got, want := settings.Markdown(fs, all[:1]), "\n## One\n\n| variable | default | what it is |\n|---|---|---|\n| `B_FLAG` | `x\\|y` | the letter b |\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

package command

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Protects completion as a shell does it: commands by their first letters, and the flags that a command itself tells.
func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err) // the scripts need it, too
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "sluice")
	// It stands for the program: help is all that completion asks of it.
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho '  -project project'\necho '    \tof the dataset -not a flag'\necho '  -payload-bucket bucket'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := capture(t, func() error {
		return Completion("sluice", []string{"audit", "replay", "version"})(context.Background(), []string{"bash"})
	})
	for line, want := range map[string]string{
		"sluice r":          "replay",
		"sluice audit --p":  "--project --payload-bucket",
		"sluice audit --pr": "--project",
	} {
		words := strings.Fields(line)
		cmd := exec.Command(bash, "-c", script+`
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) && _sluice && echo "${COMPREPLY[*]}"`, "bash")
		cmd.Args = append(cmd.Args, words...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s completes to %q, want %q: %v", line, got, want, err)
		}
	}
	for _, args := range [][]string{nil, {"tcsh"}, {"bash", "zsh"}} {
		if err := Completion("sluice", nil)(context.Background(), args); err == nil {
			t.Errorf("%q gives no error", args)
		}
	}
	for _, shell := range []string{"zsh", "fish"} {
		if text := capture(t, func() error {
			return Completion("sluice", []string{"audit"})(context.Background(),
				[]string{shell})
		}); !strings.Contains(text, "audit") || strings.Contains(text, "PROGRAM") {
			t.Errorf("%s: %s", shell, text)
		}
	}
}

// capture returns what f writes to standard output.
func capture(t *testing.T, f func() error) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	err = f()
	os.Stdout = stdout
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

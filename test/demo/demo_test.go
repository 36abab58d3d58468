// Package demo holds the test that scripts/demo.md works.
package demo

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// block is a fenced block of a Markdown file.
type block struct {
	kind string // "sh", "sh background", "sh interrupt"
	text string
	line int
}

// blocks returns the blocks of shell commands.
func blocks(markdown string) []block {
	var all []block
	var open *block
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```"):
			open = &block{kind: strings.TrimPrefix(line, "```"), line: i + 2}
		case open != nil && line == "```":
			if strings.HasPrefix(open.kind, "sh") {
				all = append(all, *open)
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

// transcript is what a running command has said so far.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (o *transcript) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	return len(b), nil
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// address waits until the run says where its page is: the build may take minutes.
func (o *transcript) address(t *testing.T) string {
	t.Helper()
	page := regexp.MustCompile(`live page: http://(\S+)`)
	for end := time.Now().Add(15 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if found := page.FindStringSubmatch(o.String()); found != nil {
			return found[1]
		}
		if strings.Contains(o.String(), "The build failed") || strings.Contains(o.String(), "sluice run:") {
			break
		}
	}
	t.Fatalf("no live page:\n%s", o.String())
	return ""
}

// Whoever presents the demo types its commands in front of people: every one of them
// runs here, in order, and says what it must.
func TestDemo(t *testing.T) {
	const file = "../../scripts/demo.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:0" // until the run has chosen a port and said which
	data := filepath.Join(t.TempDir(), "demo")
	shell := func(b block) *exec.Cmd {
		script := strings.NewReplacer("127.0.0.1:8080", address, ".demo", data).Replace(b.text)
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = "../.."
		// A group of its own, as a terminal has: the interrupt reaches all of it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		return cmd
	}
	// What commands must say, beyond exit status 0: the demo is about it.
	says := map[string]string{
		`"event_type":"purchase"`: `"offset":`,
		"SELECT event_type":       "page_view",
		"--code row_rejected\n":   "Nothing has been sent",
		"scripts/audit":           "missing",
		"pipeline_health":         "quality_percent",
	}
	var running *exec.Cmd
	var output transcript
	for _, b := range blocks(string(text)) {
		at := fmt.Sprintf("scripts/demo.md:%d", b.line)
		switch b.kind {
		case "sh background":
			running = shell(b)
			running.Stdout, running.Stderr = &output, &output
			if err := running.Start(); err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			address = output.address(t)
			for { // until there is something to see, as a presenter waits; the test's own limit is the alarm
				r, err := http.Post("http://"+address+"/api/sql", "text/plain", strings.NewReader("SELECT DISTINCT event_type FROM fact_events"))
				if err == nil {
					answer, _ := io.ReadAll(r.Body)
					r.Body.Close()
					if bytes.Contains(answer, []byte("page_view")) {
						break
					}
				}
				time.Sleep(200 * time.Millisecond)
			}
		case "sh interrupt":
			if err := syscall.Kill(-running.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := running.Wait(); err != nil {
				t.Fatalf("%s: %v\n%s", at, err, output.String())
			}
			if !strings.Contains(output.String(), "missing                   0") {
				t.Errorf("%s: the run does not say that nothing is missing:\n%s", at, output.String())
			}
			running = nil
		default:
			out, err := shell(b).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", at, err, b.text, out)
			}
			for command, want := range says {
				if strings.Contains(b.text, command) && !strings.Contains(string(out), want) {
					t.Errorf("%s says nothing of %q:\n%s", at, want, out)
				}
			}
			t.Logf("%s\n%s", b.text, out)
		}
	}
	if running != nil {
		t.Error("scripts/demo.md does not end its run")
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Error("scripts/demo.md leaves its data behind")
	}
}

// Protects who begins: every command of the quickstarts that needs nothing but this machine runs, in order.
func TestQuickstarts(t *testing.T) {
	text, err := os.ReadFile("../../scripts/QUICKSTARTS.md")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	says := map[string]string{
		"--bad 1": "page_view", "contract infer": "events", "segment rudderstack": "track", "order.avsc": "19.9", "--transform": "Nothing is missing",
	}
	n := 0
	for _, b := range blocks(string(text)) {
		n++
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(b.text, ".quick", data))
		cmd.Dir = "../.."
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("scripts/QUICKSTARTS.md:%d: %v\n%s\n%s", b.line, err, b.text, out)
		}
		for command, want := range says {
			if strings.Contains(b.text, command) && !strings.Contains(string(out), want) {
				t.Errorf("scripts/QUICKSTARTS.md:%d says nothing of %q:\n%s", b.line, want, out)
			}
		}
	}
	if n < 6 {
		t.Errorf("%d blocks found", n)
	}
}

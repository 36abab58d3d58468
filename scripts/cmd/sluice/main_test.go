package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Protects reports of faults from a program that does not know which commit it is: the script
// that builds it stamps the variable that the command prints.
func TestVersionIsStamped(t *testing.T) {
	script, err := os.ReadFile("../../sluice")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(script), "-X main.version=$(git ") {
		t.Error("scripts/sluice stamps no version")
	}
	program := filepath.Join(t.TempDir(), "sluice")
	build := exec.Command("go", "build", "-tags", "disable_grpc_modules", "-ldflags", "-X main.version=v1-2-gabc", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(program, "version").Output(); err != nil || string(out) != "sluice v1-2-gabc\n" {
		t.Errorf("%q, %v", out, err)
	}
}

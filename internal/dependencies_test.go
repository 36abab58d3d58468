package internal

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Dependencies run down only. Each rule protects a room of the project: what it is for, and
// what must not be needed to build it.
func TestDependenciesRunDown(t *testing.T) {
	const module = "sluice/"
	for _, rule := range []struct {
		what     string
		packages string   // go list's pattern
		never    []string // prefixes of import paths that none of them may need
	}{
		{
			"the bridge never needs the functions", "sluice/bridge/...",
			[]string{"sluice/functions", "sluice/internal/local", "sluice/scripts", "sluice/test"},
		},
		{
			"the bridge's loop knows no Pub/Sub, and how librdkafka works only its settings", "sluice/bridge",
			[]string{"sluice/bridge", "cloud.google.com/go/pubsub"},
		},
		{
			"the functions never need the bridge", "sluice/functions/...",
			[]string{"sluice/bridge", "sluice/internal/local", "sluice/scripts", "sluice/test"},
		},
		{
			"what both halves share needs neither", "sluice/internal/...",
			[]string{"sluice/bridge", "sluice/functions", "sluice/scripts", "sluice/test"},
		},
		{
			"the operator's program builds in seconds", "sluice/scripts/cmd/sluice",
			[]string{"sluice/internal/local", "sluice/bridge", "github.com/duckdb", "github.com/twmb/franz-go/pkg/kgo",
				"github.com/twmb/franz-go/pkg/kfake", "github.com/twmb/franz-go/pkg/sr/srfake", "github.com/chromedp"},
		},
		{
			"what an event is needs nothing else of the project but schemas", "sluice/internal/contract",
			[]string{"sluice/internal/batch", "sluice/internal/registry", "sluice/internal/query",
				"sluice/internal/telemetry"},
		},
	} {
		out, err := exec.Command("go", "list", "-deps", rule.packages).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", rule.what, err, out)
		}
		needed := strings.Fields(string(out))
		if !slices.ContainsFunc(needed, func(p string) bool { return strings.HasPrefix(p, module) }) {
			t.Errorf("%s: %s has no packages", rule.what, rule.packages)
		}
		for _, p := range needed {
			for _, never := range rule.never {
				if p == never && p != rule.packages || strings.HasPrefix(p, never+"/") {
					t.Errorf("%s: it needs %s; go list -deps -json %s tells by which way", rule.what, p, rule.packages)
				}
			}
		}
	}
}

// Protects the size of what is deployed and of the operator's program, and the time of a cold start: the client of
// Cloud Storage brings modules for gRPC along, a fourth of the functions, unless it is told that it is used by HTTP.
func TestSizes(t *testing.T) {
	const tag = "disable_grpc_modules"
	for _, script := range []string{"../scripts/sluice", "../infra/build/binary"} {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "-tags "+tag) {
			t.Errorf("%s does not build with -tags %s", script, tag)
		}
	}
	for program, most := range map[string]int64{ // bytes
		"sluice/scripts/cmd/sluice":      60_000_000,
		"sluice/functions/cmd/functions": 45_000_000,
		"sluice/bridge/cmd/bridge":       60_000_000,
	} {
		binary := filepath.Join(t.TempDir(), "program")
		if out, err := exec.Command("go", "build", "-tags", tag, "-ldflags", "-s -w", "-o", binary,
			program).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		info, err := os.Stat(binary)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > most {
			t.Errorf("%s has %d bytes, at most %d are wanted", program, info.Size(), most)
		}
		t.Logf("%s: %d bytes", program, info.Size())
	}
}

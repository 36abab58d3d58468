package internal

import (
	"os/exec"
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

package bridge_test

import (
	"flag"
	"os"
	"testing"

	"sluice/bridge"
	"sluice/internal/settings"
)

var update = flag.Bool("update", false, "write the reference of the settings")

// Protects the reference of the settings, SETTINGS.md, from what the program does not know any more, or knows
// otherwise.
func TestSettingsReference(t *testing.T) {
	c := bridge.DefaultConfig()
	fs := flag.NewFlagSet("bridge", flag.ContinueOnError)
	c.Flags(fs)
	if err := settings.CheckSections(fs, c.Sections()); err != nil {
		t.Error(err)
	}
	want := "# Settings of the bridge\n\n" +
		"Made of the program's own declarations (`go test ./bridge -run Settings -update`). Each variable is a flag too: `KAFKA_BROKERS` is\n" +
		"`--kafka-brokers`, which wins. In a deployment Terraform sets them ([infra/bridge.tf](../infra/bridge.tf)); beside them are OpenTelemetry's `OTEL_*`.\n" + settings.Markdown(fs, c.Sections())
	if *update {
		if err := os.WriteFile("SETTINGS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile("SETTINGS.md"); err != nil || string(text) != want {
		t.Errorf("bridge/SETTINGS.md is not what the program declares (%v): run this test with -update", err)
	}
}

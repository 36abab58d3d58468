package service_test

import (
	"flag"
	"os"
	"testing"

	"sluice/functions/service"
	"sluice/internal/settings"
)

var update = flag.Bool("update", false, "write the reference of the settings")

// Protects the reference of the settings, functions/SETTINGS.md, from what the program does not know any more, or knows
// otherwise.
func TestSettingsReference(t *testing.T) {
	c := service.DefaultConfig()
	fs := flag.NewFlagSet("functions", flag.ContinueOnError)
	c.Flags(fs)
	if err := settings.CheckSections(fs, c.Sections()); err != nil {
		t.Error(err)
	}
	want := "# Settings of the functions\n\n" +
		"Made of the program's own declarations (`go test ./functions/service -run Settings -update`). Each variable is a flag too: `HANDLER_TIMEOUT` is\n" +
		"`--handler-timeout`, which wins. In a deployment Terraform sets them ([infra/functions.tf](../infra/functions.tf)); beside them are OpenTelemetry's `OTEL_*`, and\n" +
		"`SCHEMA_REGISTRY_*` for credentials ([contracts](../internal/contract/README.md#avro-and-protobuf)).\n" +
		settings.Markdown(fs, c.Sections())
	if *update {
		if err := os.WriteFile("../SETTINGS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile("../SETTINGS.md"); err != nil || string(text) != want {
		t.Errorf("functions/SETTINGS.md is not what the program declares (%v): run this test with -update", err)
	}
}

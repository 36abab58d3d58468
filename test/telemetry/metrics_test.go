package telemetry

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"sluice/bridge"
	"sluice/functions/service"
	"sluice/test/stack"
)

// collect returns the instruments that have something to tell: name → "kind, unit".
func collect(t *testing.T, r *sdkmetric.ManualReader) map[string]string {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			kind := ""
			switch m.Data.(type) {
			case metricdata.Sum[int64]:
				kind = "counter"
			case metricdata.Gauge[int64], metricdata.Gauge[float64]:
				kind = "gauge"
			case metricdata.Histogram[int64], metricdata.Histogram[float64]:
				kind = "histogram"
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
			found[m.Name] = kind + ", " + m.Unit
			if m.Description == "" {
				t.Errorf("%s has no description", m.Name)
			}
		}
	}
	return found
}

// documented returns the rows of the table of metrics: name → "kind, unit".
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../internal/telemetry/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n## Metrics\n")
	if !ok {
		t.Fatal("internal/telemetry/README.md has no section Metrics")
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		name, kind, unit := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2]), strings.Trim(cells[3], " `")
		rows[name] = kind + ", " + unit
	}
	return rows
}

// The table of metrics is what the code has, by name, kind and unit: dashboards are
// built from it.
func TestMetricsTable(t *testing.T) {
	ours, theirs := sdkmetric.NewManualReader(), sdkmetric.NewManualReader()
	s, p := start(t, stack.Config{
		TuneBridge: func(c *bridge.Config) { c.MeterOptions = []sdkmetric.Option{sdkmetric.WithReader(ours)} },
		TuneFunctions: func(c *service.Config) {
			c.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(theirs)).Meter("test")
		},
	})
	for i := range 20 {
		send(t, p, fmt.Sprint(i), []string{"search", "none of ours"}[i%2], "")
	}
	arrive(t, s, p)
	got := collect(t, theirs)
	for name, kind := range collect(t, ours) {
		got[name] = kind
	}
	want := documented(t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("internal/telemetry/README.md has %s as %q, the code as %q", name, want[name], got[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("internal/telemetry/README.md lacks | `%s` | %s |", name, strings.ReplaceAll(got[name], ", ", " | "))
		}
	}
}

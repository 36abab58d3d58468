package telemetry

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"google.golang.org/grpc/codes"

	"sluice/bridge"
	"sluice/functions/service"
	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/registry"
	"sluice/internal/local/warehouse"
	"sluice/internal/schema"
	"sluice/scripts/pipeline"
)

// row is what the table tells of a metric and a program can check.
type row struct {
	kind, unit string
	attributes map[string]bool
}

// collect adds the instruments that have something to tell to found.
func collect(t *testing.T, r *sdkmetric.ManualReader, found map[string]row) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Description == "" {
				t.Errorf("%s has no description", m.Name)
			}
			got, ok := found[m.Name]
			if !ok {
				got.attributes = map[string]bool{}
			}
			got.unit = m.Unit
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				got.kind = "updowncounter"
				if data.IsMonotonic {
					got.kind = "counter"
				}
				for _, p := range data.DataPoints {
					keys(p.Attributes, got.attributes)
				}
			case metricdata.Gauge[float64]:
				got.kind = "gauge"
				for _, p := range data.DataPoints {
					keys(p.Attributes, got.attributes)
				}
			case metricdata.Histogram[int64]:
				got.kind = "histogram"
				for _, p := range data.DataPoints {
					keys(p.Attributes, got.attributes)
				}
			case metricdata.Histogram[float64]:
				got.kind = "histogram"
				for _, p := range data.DataPoints {
					keys(p.Attributes, got.attributes)
				}
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
			found[m.Name] = got
		}
	}
}

// keys adds the keys of a set to into.
func keys(set attribute.Set, into map[string]bool) {
	for _, a := range set.ToSlice() {
		into[string(a.Key)] = true
	}
}

// names are metrics and attributes in a cell of the table.
var names = regexp.MustCompile(`[a-z]+(\.[a-z_]+)+`)

// documented returns the rows of the table of metrics by name.
func documented(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile("../../internal/telemetry/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n## Metrics\n")
	if !ok {
		t.Fatal("internal/telemetry/README.md has no section Metrics")
	}
	rows := map[string]row{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		r := row{kind: strings.TrimSpace(cells[2]), unit: strings.TrimSpace(cells[3]), attributes: map[string]bool{}}
		for _, name := range names.FindAllString(cells[4], -1) {
			r.attributes[name] = true
		}
		rows[strings.Trim(cells[1], " `")] = r
	}
	return rows
}

// The table of metrics is what the code has, by name, kind, unit and attributes:
// dashboards are built from it. Where a name is one of OpenTelemetry's conventions, so
// is its unit.
func TestMetricsTable(t *testing.T) {
	ours, theirs := sdkmetric.NewManualReader(), sdkmetric.NewManualReader()
	preset, err := contract.Preset("clickstream")
	if err != nil {
		t.Fatal(err)
	}
	dropping, err := contract.Read("dropping.yaml", []byte(preset.Text+"drop: {event_type: page_view}\n"))
	if err != nil {
		t.Fatal(err)
	}
	const avro = `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}`
	orders, err := contract.ReadIn(contract.Folder{"order.avsc": avro}, "orders.yaml",
		[]byte("contract: 1\ntopics: orders\nformat: avro\nregistry: https://registry.example.com\nschema: order.avsc\ncolumns: from schema\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, p := start(t, pipeline.Config{
		Config: local.Config{Contracts: []*contract.Contract{dropping, orders}},
		TuneBridge: func(c *bridge.Config) {
			c.MeterOptions = []sdkmetric.Option{sdkmetric.WithReader(ours)}
			c.ReferenceAbove = 0 // so that there are references to be counted
		},
		TuneFunctions: func(c *service.Config) {
			c.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(theirs)).Meter("test")
		},
	})
	// One failure of each kind, for the attributes that only failures have.
	s.PubSub.FailPublish(pubsub.PublishFault{Topic: local.Topic, Code: codes.Unavailable, Count: 1})
	s.Warehouse.Fail(warehouse.Fault{Table: "fact_events", Code: codes.Unavailable, Count: 1})
	for i := range 20 {
		send(t, p, fmt.Sprint(i), []string{"search", "none of ours", "page_view"}[i%3], "")
	}
	if err := p.Produce(t.Context(), nil, make([]byte, 11_000_000), nil); err != nil { // more than a message carries
		t.Fatal(err)
	}
	order := append(schema.ID{Number: int64(registry.ID(orders))}.Prefix(), "\x02a"...)
	topic := "orders"
	if err := p.ProduceMessage(t.Context(), &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic,
		Partition: kafka.PartitionAny}, Value: order}); err != nil {
		t.Fatal(err)
	}
	arrive(t, s, p)
	for landed, end := 0, time.Now().Add(time.Minute); landed == 0; time.Sleep(10 * time.Millisecond) {
		if err := s.Warehouse.DB().QueryRow("SELECT COUNT(*) FROM orders").Scan(&landed); err != nil ||
			time.Now().After(end) {
			t.Fatalf("the order has not landed: %v", err)
		}
	}
	got := map[string]row{}
	collect(t, theirs, got)
	collect(t, ours, got)
	if _, ok := got["go.goroutine.count"]; !ok {
		t.Error("Go's runtime is not metered")
	}
	// documented elsewhere
	maps.DeleteFunc(got, func(name string, _ row) bool { return strings.HasPrefix(name, "go.") })
	want := documented(t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, g := want[name], got[name]
		if g.kind != w.kind || g.unit != w.unit {
			t.Errorf("internal/telemetry/README.md has %s as %s of %q, the code as %s of %q", name, w.kind, w.unit,
				g.kind, g.unit)
		}
		if !maps.Equal(g.attributes, w.attributes) {
			t.Errorf("internal/telemetry/README.md has %s with %v, the code with %v", name,
				slices.Sorted(maps.Keys(w.attributes)), slices.Sorted(maps.Keys(g.attributes)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("internal/telemetry/README.md lacks | `%s` | %s | %s |", name, got[name].kind, got[name].unit)
		}
	}
	for name, unit := range map[string]string{
		messagingconv.ClientConsumedMessages{}.Name():  messagingconv.ClientConsumedMessages{}.Unit(),
		messagingconv.ClientSentMessages{}.Name():      messagingconv.ClientSentMessages{}.Unit(),
		messagingconv.ClientOperationDuration{}.Name(): messagingconv.ClientOperationDuration{}.Unit(),
		messagingconv.ProcessDuration{}.Name():         messagingconv.ProcessDuration{}.Unit(),
	} {
		if got[name].unit != unit {
			t.Errorf("%s is in %q, by the conventions in %q", name, got[name].unit, unit)
		}
	}
}

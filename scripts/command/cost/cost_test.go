package cost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/cost"
)

// thousand is 600-byte events, six-fold compressed in any batch.
var thousand = Quantities{EventBytes: 600, PackedBytes: 600, RowBytes: 600, LineBytes: 700,
	PayloadBytes: func(float64) float64 { return 100 }}

func get(t *testing.T, b Bill, name string) float64 {
	t.Helper()
	for _, i := range b.Items {
		if i.Name == name {
			return i.Dollar
		}
	}
	t.Fatalf("%s has no %s", b.Way, name)
	return 0
}

func near(got, want float64) bool { return math.Abs(got-want) <= want/1000 }

// Protects the arithmetic: a billion events, worked out by hand.
func TestBillionEvents(t *testing.T) {
	const rate = 1e9 / second
	a := assumptions()
	a.Packing.Records, a.Packing.Linger, a.References = 500, 1e6*time.Second, false // always full
	bills := Bills(thousand, a, rate)
	for _, c := range []struct {
		bill int
		item string
		want float64
	}{
		// 2,000,000 messages of 50,000 bytes, twice: 2e11 bytes, 0.1819 TiB.
		{sluice, "Pub/Sub", 2e11 / cost.TiB * 40},
		{sluice, "Cloud Run, requests", 0.80},
		// 6e11 bytes are 558.8 GiB.
		{sluice, "BigQuery, Storage Write API", 558.79 * 0.025},
		// 600 bytes published, 1,000 charged for each push.
		{oneMessage, "Pub/Sub", 1.6e12 / cost.TiB * 40},
		{oneMessage, "Cloud Run, requests", 400},
		// 1,000 bytes a row at least: 4,768 times 200 MiB.
		{insertAll, "BigQuery, insertAll", 1e12 / (200 * cost.MiB) * 0.01},
		// One worker at least, two vCPU all month.
		{dataflow, "Dataflow, workers", 730 * (2*0.069 + 7.5*0.003557 + 30*0.000054)},
		// 600 bytes published and written.
		{subscription, "Pub/Sub", 6e11 / cost.TiB * 40},
		{subscription, "Pub/Sub, written to BigQuery", 6e11 / cost.TiB * 50},
	} {
		if got := get(t, bills[c.bill], c.item); !near(got, c.want) {
			t.Errorf("%s, %s: $%.2f, want $%.2f", bills[c.bill].Way, c.item, got, c.want)
		}
	}
}

// Protects the instances: a request in a while pays its own seconds only, and many
// at a time share instances.
func TestInstances(t *testing.T) {
	a := assumptions()
	a.RequestTime, a.Concurrency, a.Busy = 0.5, 10, 0.5
	instance := second * (cost.RunCPU.Dollar + cost.RunMemory.Dollar)
	for _, c := range []struct {
		name           string
		rate, requests float64 // a second
		want           float64 // instances
	}{
		{"one request in a hundred seconds", 0.01, 0.01, 0.005},
		{"a hundred at a time", 200, 200, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			bill := thousand.pipeline("", a, c.rate, Packing{Bridges: 1, Records: c.rate / c.requests, Payload: 100},
				false)
			if got := get(t, bill, "Cloud Run, instances") / instance; math.Abs(got-c.want) > c.want/100 {
				t.Errorf("%.4f instances, want %.4f", got, c.want)
			}
		})
	}
}

// Protects the batch size, worked out by hand: the longer wait for a light batch, the shorter one for another, and both
// bounds.
func TestPacking(t *testing.T) {
	a := assumptions()
	a.FetchCPU = 0 // one bridge carries it all
	const half, full = float64(4<<20) / 600 / 2, float64(4<<20) / 600
	for _, c := range []struct{ rate, want float64 }{
		{0.1, 1.1}, {100, 101}, {400, 401}, {1_000, 1001}, {10_000, 1 + half}, {25_000, 1 + 5000}, {1e6, full},
	} {
		if got := thousand.packing(&a, c.rate); !near(got.Records, c.want) || !near(got.Payload, 100*c.want) ||
			got.Bridges != 1 {
			t.Errorf("%.1f events/s: %+v, want %.1f records", c.rate, got, c.want)
		}
	}
	a.FetchCPU = 0.6 / 2 / 100_000 // a bridge carries 100,000 a second
	if got := thousand.packing(&a, 1e6); got.Bridges != 10 || !near(got.Records, full) {
		t.Errorf("with ten bridges: %+v", got)
	}
	a.Packing.Records = 50
	if got := thousand.packing(&a, 1e6); got.Records != 50 {
		t.Errorf("with small batches: %+v", got)
	}
}

// Protects the claim that is made: nothing of a month's bill hangs on the number of partitions, and none of the other
// ways is cheaper from 400 events/s on, by the real code's bytes. Its times are three times those of infra/COSTS.md:
// neither the race detector nor a slow machine says anything of the claim, and it must not hang on a fast one.
func TestCheapest(t *testing.T) {
	q, err := Measure(20_000)
	if err != nil {
		t.Fatal(err)
	}
	q.PackCPU, q.FastCPU, q.IngestCPU = 3*4.5e-6, 3*1.6e-6, 3*0.9e-6
	for rate := 400.0; rate < 1.01e6; rate *= math.Pow(2500, 1.0/200) {
		a := assumptions()
		bills := Bills(q, a, rate)
		if best := cheapest(bills); best.Way != bills[sluice].Way {
			t.Errorf("%.0f events/s: %s costs $%.0f, %s $%.0f", rate, bills[sluice].Way, bills[sluice].Total(),
				best.Way, best.Total())
		}
		a.Partitions = 500
		if other := Bills(q, a, rate); other[sluice].Total() != bills[sluice].Total() {
			t.Errorf("%.0f events/s: $%.0f over 6 partitions, $%.0f over 500", rate, bills[sluice].Total(),
				other[sluice].Total())
		}
	}
	if bills := Bills(q, assumptions(), 100); cheapest(bills).Way != bills[subscription].Way {
		t.Errorf("at 100 events/s %s is the cheapest, and the page says where another way is", cheapest(bills).Way)
	}
}

// Protects the bill by reference, worked out by hand, and that what is free is taken off once.
func TestReferencesAndFreeTier(t *testing.T) {
	const rate = 1e9 / second
	a := assumptions()
	a.Packing.Records, a.Packing.Linger, a.Packing.ReferenceAbove = 500, 1e6*time.Second, 49_999
	bill := Bills(thousand, a, rate)[sluice] // 2,000,000 objects of 50,000 bytes
	for item, want := range map[string]float64{
		"Pub/Sub":                2e6 * 2000 / cost.TiB * 40,
		"Cloud Storage, objects": 2*5 + 2*0.40,
		"Cloud Run, requests":    0.80,
	} {
		if got := get(t, bill, item); !near(got, want) {
			t.Errorf("%s: $%.4f, want $%.4f", item, got, want)
		}
	}
	a.FreeTier = true
	bill = Bills(thousand, a, rate)[sluice]
	for item, want := range map[string]float64{
		"Pub/Sub":                     0, // of 3.7 GiB, 10 are free
		"Cloud Storage, objects":      (2-0.005)*5 + (2-0.05)*0.40,
		"Cloud Run, requests":         0, // 2 million are free
		"BigQuery, Storage Write API": 0,
	} {
		if got := get(t, bill, item); math.Abs(got-want) > want/1000 {
			t.Errorf("free tier, %s: $%.4f, want $%.4f", item, got, want)
		}
	}
}

// Protects readers from a comparison that never lets the other win.
func TestCrossover(t *testing.T) {
	a := assumptions()
	for _, ways := range [][2]int{{dataflow, sluiceInline}, {sluice, subscription}} {
		one, other := ways[0], ways[1]
		rate, ok := Crossover(thousand, a, one, other, 1e6)
		if !ok {
			t.Errorf("%v: the first is never cheaper, says the model", ways)
			continue
		}
		below, above := Bills(thousand, a, rate*0.9), Bills(thousand, a, rate*1.1)
		if below[one].Total() < below[other].Total() || above[one].Total() > above[other].Total() {
			t.Errorf("%v: at %.0f events/s neither changes: below %.0f and %.0f, above %.0f and %.0f",
				ways, rate, below[one].Total(), below[other].Total(), above[one].Total(), above[other].Total())
		}
	}
	a.DataflowWorkers = 1e6
	if rate, ok := Crossover(thousand, a, dataflow, sluice, 1e6); ok {
		t.Errorf("Dataflow with a million workers is cheaper from %.0f on", rate)
	}
}

// Protects the measurement: the quantities are those of real events through the real
// code, within what any change of the generator leaves.
func TestMeasure(t *testing.T) {
	q, err := Measure(2000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		got, low, high float64
	}{
		{"event bytes", q.EventBytes, 200, 1000},
		{"row bytes", q.RowBytes, 100, 1000},
		{"line bytes", q.LineBytes, 800, 2500},
		{"compression of 1000", q.EventBytes / q.PayloadBytes(1000), 3, 10},
	} {
		if c.got < c.low || c.got > c.high {
			t.Errorf("%s: %.1f, want %.0f to %.0f", c.name, c.got, c.low, c.high)
		}
	}
	if q.PayloadBytes(1000) >= q.PayloadBytes(10) || q.PackCPU <= 0 || q.IngestCPU <= 0 {
		t.Errorf("larger batches must compress better, and CPU is used: %+v", q)
	}
}

// Protects infra/COSTS.md from prices that have changed since it was made, and prices
// from missing where they come from.
func TestPageHasThePrices(t *testing.T) {
	b, err := os.ReadFile("../../../infra/COSTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range cost.All() {
		if _, err := time.Parse(time.DateOnly, p.Read); err != nil || p.Source == "" || p.Per == "" || p.Dollar <= 0 {
			t.Errorf("%+v lacks something: %v", p, err)
		}
		if row := fmt.Sprintf("| %s | %g | %s | %s | %s |", p.Name, p.Dollar, p.Per, p.Source,
			p.Read); !strings.Contains(string(b), row) {
			t.Errorf("infra/COSTS.md lacks %s: run ./scripts/cost --markdown > infra/COSTS.md", row)
		}
	}
	for _, heading := range []string{"### 1,000 events", "### 10,000 events", "### 100,000 events",
		"### 1,000,000 events", "## Where something else is cheaper"} {
		if !strings.Contains(string(b), heading) {
			t.Errorf("infra/COSTS.md has no %s", heading)
		}
	}
}

// Protects the three outputs and the messages about flags.
func TestRun(t *testing.T) {
	var out, err bytes.Buffer
	if status := Run([]string{"--json", "--rate", "5000", "--sample", "1000"}, &out, &err); status != 0 {
		t.Fatalf("%d: %s", status, &err)
	}
	var got map[string]any
	if e := json.Unmarshal(out.Bytes(), &got); e != nil {
		t.Fatalf("%v: %s", e, &out)
	}
	for _, name := range []string{"rate", "partitions", "sluice", "sluice_inline", "one_message_an_event", "dataflow",
		"bigquery_subscription"} {
		if v, ok := got[name].(float64); !ok || v <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	out.Reset()
	if status := Run([]string{"--json", "--rate", "1000,1000000", "--partitions", "6", "--sample", "1000"}, &out,
		&err); status != 0 || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%d, of two rates: %s", status, &out)
	}
	if !strings.Contains(err.String(), "give the topics more partitions") {
		t.Errorf("too few partitions are not named: %s", &err)
	}
	for _, c := range []struct{ args, want string }{
		{"--rate=fast", "is no number of events per second"},
		{"--rate=NaN", "is no number of events per second"},
		{"--rate=0", "is no number of events per second"},
		{"--batch-records=0", "1 or more"},
		{"--sample=0", "1 or more"},
		{"--partitions=0", "1 or more"},
		{"--nonsense", "not defined"},
	} {
		err.Reset()
		if status := Run([]string{c.args}, &out, &err); status != 2 || !strings.Contains(err.String(), c.want) {
			t.Errorf("%s: %d, %s", c.args, status, &err)
		}
	}
}

// Package cost says what the pipeline costs at list price: per month, per million
// and per billion events, at several rates, beside other ways to do it. It
// measures bytes, compression and CPU with the project's own code; internal/cost
// has the prices, model.go the rest.
//
//	./scripts/cost
//	./scripts/cost --rate 25000
//	./scripts/cost --markdown > infra/COSTS.md
package cost

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Run is the command; it returns the exit status.
func Run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("cost", flag.ContinueOnError)
	fs.SetOutput(stderr)
	rates := fs.String("rate", "1000,10000,100000,1000000", "events per `second`, several separated by commas")
	a := assumptions()
	linger := fs.Duration("linger", 0, "the bridge's linger; default 200ms")
	fs.Float64Var(&a.Records, "batch-records", a.Records, "most records in a batch")
	// Enough shapes that no cache knows them.
	sample := fs.Int("sample", 20_000, "`events` to measure")
	asJSON := fs.Bool("json", false, "print one JSON object")
	asMarkdown := fs.Bool("markdown", false, "print the page infra/COSTS.md")
	fs.Usage = func() {
		fmt.Fprint(stderr, "Says what the pipeline costs at list price, beside one message an event, insertAll, Dataflow and a BigQuery subscription.\n\n")
		fs.PrintDefaults()
	}
	switch err := fs.Parse(args); {
	case err == flag.ErrHelp:
		return 0
	case err != nil:
		return 2
	}
	if *linger > 0 {
		a.Linger = linger.Seconds()
	}
	var at []float64
	for text := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !(rate > 0) || math.IsInf(rate, 1) { // NaN is no number either
			fmt.Fprintf(stderr, "cost: --rate: %q is no number of events per second: write it as 25000\n", text)
			return 2
		}
		at = append(at, rate)
	}
	if a.Records < 1 || *sample < 1 || fs.NArg() > 0 {
		fmt.Fprintln(stderr, "cost: --batch-records and --sample are 1 or more, and there are only flags; see -h")
		return 2
	}
	q, err := Measure(*sample)
	if err != nil {
		fmt.Fprintf(stderr, "cost: %v\n", err)
		return 1
	}
	switch {
	case *asJSON:
		err = writeJSON(stdout, q, a, at)
	case *asMarkdown:
		err = writeMarkdown(stdout, q, a, at)
	default:
		err = writeTable(stdout, q, a, at)
	}
	if err != nil {
		fmt.Fprintf(stderr, "cost: %v\n", err)
		return 1
	}
	return 0
}

// perMillion is what a month's bill is for a million events.
func perMillion(dollar, rate float64) float64 { return dollar / (rate * second) * 1e6 }

func money(d float64) string {
	switch {
	case d >= 100:
		return group(fmt.Sprintf("%.0f", d))
	case d >= 1:
		return fmt.Sprintf("%.2f", d)
	}
	return fmt.Sprintf("%.4f", d)
}

// group puts commas between thousands.
func group(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func writeTable(w io.Writer, q Quantities, a Assumptions, rates []float64) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "measured: %.0f bytes an event, %.0f a row, %.2f µs CPU to pack, %.2f µs to decode\n\n", q.EventBytes, q.RowBytes, q.PackCPU*1e6, q.IngestCPU*1e6)
	for _, rate := range rates {
		batch := a.batch(rate)
		fmt.Fprintf(t, "%s events/s, %.0f a message, %.1f-fold compression\t$ a month\t$ a million\t$ a billion\t\n", group(fmt.Sprintf("%.0f", rate)), batch, q.EventBytes/q.PayloadBytes(batch))
		for _, b := range Bills(q, a, rate) {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", b.Way, money(b.Total()), money(perMillion(b.Total(), rate)), money(1000*perMillion(b.Total(), rate)))
		}
		fmt.Fprintln(t, "\t\t\t\t")
	}
	return t.Flush()
}

func writeJSON(w io.Writer, q Quantities, a Assumptions, rates []float64) error {
	type way struct {
		Way        string             `json:"way"`
		Month      float64            `json:"month"`
		PerMillion float64            `json:"per_million"`
		Items      map[string]float64 `json:"items"`
	}
	type at struct {
		Rate        float64 `json:"events_per_second"`
		Batch       float64 `json:"records_per_message"`
		Compression float64 `json:"compression"`
		Ways        []way   `json:"ways"`
	}
	out := struct {
		EventBytes  float64 `json:"event_bytes"`
		RowBytes    float64 `json:"row_bytes"`
		PackMicros  float64 `json:"pack_cpu_us"`
		IngestMicro float64 `json:"ingest_cpu_us"`
		Rates       []at    `json:"rates"`
	}{q.EventBytes, q.RowBytes, q.PackCPU * 1e6, q.IngestCPU * 1e6, nil}
	for _, rate := range rates {
		batch := a.batch(rate)
		r := at{rate, batch, q.EventBytes / q.PayloadBytes(batch), nil}
		for _, b := range Bills(q, a, rate) {
			items := map[string]float64{}
			for _, i := range b.Items {
				items[i.Name] = i.Dollar
			}
			r.Ways = append(r.Ways, way{b.Way, b.Total(), perMillion(b.Total(), rate), items})
		}
		out.Rates = append(out.Rates, r)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

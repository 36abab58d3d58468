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

	"sluice/internal/settings"
)

// Run is the command; it returns the exit status.
func Run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("cost", flag.ContinueOnError)
	fs.SetOutput(stderr)
	rates := fs.String("rate", "1000,10000,100000,1000000", "events per `second`, several separated by commas")
	a := assumptions()
	fs.Float64Var(&a.Partitions, "partitions", a.Partitions, "of the topics; a bridge works on some of them, so there "+
		"are no more bridges than that")
	fs.DurationVar(&a.Packing.Linger, "linger", a.Packing.Linger,
		"the bridge's wait of a batch that is worth a message")
	fs.DurationVar(&a.Packing.MaxLinger, "max-linger", a.Packing.MaxLinger, "the bridge's wait of a smaller one")
	fs.IntVar(&a.Packing.Records, "batch-records", a.Packing.Records, "most records in a batch")
	fs.BoolVar(&a.FreeTier, "free-tier", false, "take off what is free each month, as if nothing else in the billing account used it")
	// Enough shapes that no cache knows them.
	sample := fs.Int("sample", 20_000, "`events` to measure")
	asJSON := fs.Bool("json", false, "print one JSON object for each rate")
	asMarkdown := fs.Bool("markdown", false, "print the page infra/COSTS.md")
	fs.Usage = func() {
		fmt.Fprint(stderr, "Says what the pipeline costs at list price, beside one message an event, insertAll, Dataflow "+
			"and a BigQuery subscription.\n\n")
		settings.PrintSections(stderr, fs, []settings.Section{
			{Title: "The workload", Flags: []string{"rate", "partitions", "sample"}},
			{Title: "How it is packed", Flags: []string{"linger", "max-linger", "batch-records"}},
			{Title: "What is printed", Flags: []string{"free-tier", "json", "markdown"}},
		})
	}
	switch err := fs.Parse(args); {
	case err == flag.ErrHelp:
		return 0
	case err != nil:
		return 2
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
	if a.Packing.Records < 1 || *sample < 1 || !(a.Partitions >= 1) || a.Packing.Linger < 0 ||
		a.Packing.MaxLinger < 0 || fs.NArg() > 0 {
		fmt.Fprintln(stderr, "cost: --partitions, --batch-records and --sample are 1 or more, times are not negative, and "+
			"there are only flags; see -h")
		return 2
	}
	q, err := Measure(*sample)
	if err != nil {
		fmt.Fprintf(stderr, "cost: %v\n", err)
		return 1
	}
	for _, rate := range at {
		if need := a.bridges(rate, q.PackCPU); need > a.Partitions {
			fmt.Fprintf(stderr, "cost: %.0f events/s need %.0f bridges, and %.0f partitions feed no more than as many: give "+
				"the topics more partitions\n", rate, need, a.Partitions)
		}
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
	fmt.Fprintf(w, "measured: %.0f bytes an event, %.0f a row, %.2f µs CPU to pack, %.2f µs to decode\n\n",
		q.EventBytes, q.RowBytes, q.PackCPU*1e6, q.IngestCPU*1e6)
	for _, rate := range rates {
		p := q.packing(&a, rate)
		fmt.Fprintf(t, "%s events/s, %.0f a message, %.1f-fold compression\t$ a month\t$ a million\t$ a billion\t\n",
			group(fmt.Sprintf("%.0f", rate)), p.Records, q.EventBytes*p.Records/p.Payload)
		bills := Bills(q, a, rate)
		for _, b := range bills {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", b.Way, money(b.Total()), money(perMillion(b.Total(), rate)),
				money(1000*perMillion(b.Total(), rate)))
		}
		fmt.Fprintf(t, "%s\t\t\t\t\n\t\t\t\t\n", strings.ReplaceAll(verdict(bills), "**", ""))
	}
	return t.Flush()
}

// writeJSON writes one object for each rate, each on a line: months in dollars.
func writeJSON(w io.Writer, q Quantities, a Assumptions, rates []float64) error {
	type at struct {
		Rate         float64                       `json:"rate"` // events a second
		Partitions   float64                       `json:"partitions"`
		Sluice       float64                       `json:"sluice"`
		SluiceInline float64                       `json:"sluice_inline"` // without a bucket
		OneMessage   float64                       `json:"one_message_an_event"`
		InsertAll    float64                       `json:"sluice_insertall"`
		Dataflow     float64                       `json:"dataflow"`
		Subscription float64                       `json:"bigquery_subscription"`
		Cheapest     string                        `json:"cheapest"`
		Messages     float64                       `json:"messages_per_second"`
		Records      float64                       `json:"records_per_message"`
		PayloadBytes float64                       `json:"payload_bytes_per_event"`
		Bridges      float64                       `json:"bridges"`
		EventBytes   float64                       `json:"event_bytes"`
		RowBytes     float64                       `json:"row_bytes"`
		PackMicros   float64                       `json:"pack_cpu_us"`
		IngestMicros float64                       `json:"ingest_cpu_us"`
		Items        map[string]map[string]float64 `json:"items"` // of each way
	}
	e := json.NewEncoder(w)
	for _, rate := range rates {
		p, bills := q.packing(&a, rate), Bills(q, a, rate)
		items := map[string]map[string]float64{}
		for _, b := range bills {
			items[b.Way] = map[string]float64{}
			for _, i := range b.Items {
				items[b.Way][i.Name] = i.Dollar
			}
		}
		if err := e.Encode(at{
			Rate: rate, Partitions: a.Partitions,
			Sluice: bills[sluice].Total(), SluiceInline: bills[sluiceInline].Total(), OneMessage: bills[oneMessage].Total(),
			InsertAll: bills[insertAll].Total(), Dataflow: bills[dataflow].Total(), Subscription: bills[subscription].Total(),
			Cheapest: cheapest(bills).Way, Messages: rate / p.Records, Records: p.Records, PayloadBytes: p.Payload / p.Records, Bridges: p.Bridges,
			EventBytes: q.EventBytes, RowBytes: q.RowBytes, PackMicros: q.PackCPU * 1e6, IngestMicros: q.IngestCPU * 1e6, Items: items,
		}); err != nil {
			return err
		}
	}
	return nil
}

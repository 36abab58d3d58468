package cost

import (
	"fmt"
	"io"
	"math"
	"strings"

	"sluice/internal/cost"
)

// writeMarkdown writes the page infra/COSTS.md.
func writeMarkdown(w io.Writer, q Quantities, a Assumptions, rates []float64) error {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# Costs\n\n")
	p("Made by `./scripts/cost --markdown`; do not edit. US list prices on demand, without free\n")
	p("tiers and discounts, for a load that is the same day and night. Left out, because every\n")
	p("way needs them alike: Kafka, BigQuery's storage and queries, data transfer between zones.\n\n")
	p("## Per rate\n\n")
	for _, rate := range rates {
		bills := Bills(q, a, rate)
		packing := q.packing(&a, rate)
		p("### %s events a second\n\n", group(fmt.Sprintf("%.0f", rate)))
		p("%s messages a second of %s records, compressed %.1f-fold, %s; %s events a month.\n\n",
			number(rate/packing.Records), group(fmt.Sprintf("%.0f", packing.Records)),
			q.EventBytes*packing.Records/packing.Payload, plural(packing.Bridges, "bridge"), group(fmt.Sprintf("%.0f",
				rate*second)))
		p("| $ a month |")
		for _, bill := range bills {
			p(" %s |", bill.Way)
		}
		p("\n|---|%s\n", strings.Repeat("---:|", len(bills)))
		for _, name := range names(bills) {
			p("| %s |", name)
			for _, bill := range bills {
				p(" %s |", item(bill, name))
			}
			p("\n")
		}
		for _, sum := range []struct {
			name  string
			value func(Bill) float64
		}{
			{"**a month**", Bill.Total},
			{"**a million events**", func(bill Bill) float64 { return perMillion(bill.Total(), rate) }},
			{"**a billion events**", func(bill Bill) float64 { return 1000 * perMillion(bill.Total(), rate) }},
		} {
			p("| %s |", sum.name)
			for _, bill := range bills {
				p(" **%s** |", money(sum.value(bill)))
			}
			p("\n")
		}
		p("\n%s\n\n", verdict(bills))
	}
	p("## Where something else is cheaper\n\n")
	limit := rates[len(rates)-1]
	if rate, ok := Crossover(q, a, sluice, subscription, limit); ok {
		p("**A BigQuery subscription of Pub/Sub** up to about %s events a second: it needs no function. It pays\n",
			group(fmt.Sprintf("%.0f", round(rate))))
		p("for each event's bytes twice, uncompressed, and takes valid rows only: ALTERNATIVES.md.\n\n")
	}
	reads := "It reads Kafka itself and so pays for no\nPub/Sub, which keeps 31 days of events while something behind " +
		"it is broken. Below that rate it is dearer, because\none worker and Streaming Engine run always.\n\n"
	if rate, ok := Crossover(q, a, dataflow, sluice, limit); ok {
		p("**Dataflow** from about %s events a second on, day and night. %s", group(fmt.Sprintf("%.0f", round(rate))),
			reads)
	} else if rate, ok := Crossover(q, a, dataflow, sluiceInline, limit); ok {
		p("**Dataflow**, where no bucket is used, from about %s events a second on, day and night. %s",
			group(fmt.Sprintf("%.0f", round(rate))), reads)
	}
	p("All ways are compared at a steady rate. Kafka Connect on machines of one's own is not: what it costs is the people who run it.\n\n")
	p("## What does not scale to zero\n\n")
	p("- a running bridge: $%s a month and instance, whatever it carries; `bridge_instances = 0` stops it\n",
		money(bridgeMonth()))
	p("- functions with `function_instances.min` above 0: an idle instance costs less than a busy one, but not nothing\n")
	p("- a Google Managed Kafka cluster (`managed_kafka`): at least 3 vCPU, day and night\n")
	p("- alerts: Cloud Monitoring charges a little for each condition and for what its query reads, every minute\n")
	p("- what the tables and Pub/Sub store\n\n")
	p("The functions, Pub/Sub and BigQuery's ingestion cost nothing while nothing is sent.\n\n")
	p("## Measured\n\n")
	p("With the project's own generator (seed 1, %s events), packer and decoder, on the machine\nthat made this "+
		"page:\n\n", group(fmt.Sprint(q.Sample)))
	p("| quantity | value |\n|---|---:|\n")
	p("| bytes of an event | %.0f |\n| bytes of its row | %.0f |\n| bytes of a request's log line, with what Cloud "+
		"Logging adds | %.0f |\n", q.EventBytes, q.RowBytes, q.LineBytes)
	for _, size := range sizes {
		p("| compression of %s records | %.1f-fold |\n", group(fmt.Sprint(size)),
			q.EventBytes/q.PayloadBytes(float64(size)))
	}
	p("| CPU to pack and compress an event | %.2f µs, and fast %.2f µs |\n| CPU to decompress, check and convert it | "+
		"%.2f µs |\n\n", q.PackCPU*1e6, q.FastCPU*1e6, q.IngestCPU*1e6)
	p("## Assumed\n\n")
	p("| assumption | value |\n|---|---|\n")
	p("| packing | the bridge's defaults: a batch that is less than half full waits up to %v, a fuller one %v, at most "+
		"%s records or %d MiB |\n",
		a.Packing.MaxLinger, a.Packing.Linger, group(fmt.Sprint(a.Packing.Records)), a.Packing.Bytes>>20)
	p("| partitions | none of the figures hangs on their number, as long as there are as many as bridges |\n")
	p("| by reference | a payload above %s bytes is an object in a bucket; its message has %.0f bytes, and its request "+
		"%.0f ms more |\n", group(fmt.Sprint(a.Packing.ReferenceAbove)), a.Reference, a.ObjectTime*1000)
	p("| a request | %.0f ms, most of it waiting for BigQuery; %.0f share an instance of 1 vCPU and 1 GiB, or as many "+
		"as %.0f MiB hold |\n", a.RequestTime*1000, a.Concurrency, a.Memory/cost.MiB)
	p("| utilization | an instance is added at %.0f %% |\n", a.Busy*100)
	p("| CPU of librdkafka | %.1f µs a record: a bare consumer, measured |\n", a.FetchCPU*1e6)
	p("| overhead | HTTP, gRPC, TLS and garbage collection: the measured CPU %.0f times |\n", a.Overhead)
	p("| log lines | %.0f %% of those of acknowledged requests are stored, as in production; Cloud Run's own has %.0f "+
		"bytes |\n", a.KeptLines*100, a.RunLine)
	p("| smallest charges | Pub/Sub %.0f bytes a publish and a push, insertAll %.0f a row |\n", a.Minimum, a.InsertRow)
	p("| Dataflow | %.0f workers (2 vCPU, 7.5 GiB, 30 GiB disk) and %.0f compute units for 1 GiB/s: Google's benchmark "+
		"in \"Performance characteristics of Kafka to BigQuery pipelines\", scaled by bytes; at least one of each |\n\n", a.DataflowWorkers, a.DataflowUnits)
	p("## Prices\n\n")
	p("What others noted from the pages named, on the days given. Look one up before a decision\nthat hangs on it.\n\n")
	p("| price | $ | per | source | noted |\n|---|---:|---|---|---|\n")
	for _, price := range cost.All() {
		p("| %s | %g | %s | %s | %s |\n", price.Name, price.Dollar, price.Per, price.Source, price.Read)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// names are the items of all bills, each once, in their order.
func names(bills []Bill) []string {
	var all []string
	seen := map[string]bool{}
	for _, bill := range bills {
		for _, i := range bill.Items {
			if !seen[i.Name] {
				seen[i.Name] = true
				all = append(all, i.Name)
			}
		}
	}
	return all
}

func item(bill Bill, name string) string {
	for _, i := range bill.Items {
		if i.Name == name {
			return money(i.Dollar)
		}
	}
	return "–"
}

// round keeps two digits.
func round(x float64) float64 {
	digit := math.Pow(10, math.Floor(math.Log10(x))-1)
	return math.Round(x/digit) * digit
}

// cheapest is the bill of the cheapest way; ours, if another is no cheaper.
func cheapest(bills []Bill) Bill {
	best := bills[sluice]
	for _, bill := range bills {
		if bill.Total() < best.Total() {
			best = bill
		}
	}
	return best
}

// number has two digits, or all before the point.
func number(x float64) string {
	if x >= 10 {
		return group(fmt.Sprintf("%.0f", x))
	}
	return fmt.Sprintf("%.2g", x)
}

func plural(n float64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%.0f %ss", n, word)
}

// verdict says which way is the cheapest, also when it is not ours.
func verdict(bills []Bill) string {
	best, ours := cheapest(bills), bills[sluice]
	if best.Way == ours.Way {
		return "Sluice is the cheapest of these."
	}
	return fmt.Sprintf("**%s is cheaper** at this rate: Sluice costs %.0f %% more.", best.Way,
		100*(ours.Total()/best.Total()-1))
}

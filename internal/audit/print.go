package audit

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// maxPrinted is how many gaps a person is shown.
const maxPrinted = 20

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	bound := func(t *time.Time, open string) string {
		if t == nil {
			return open
		}
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	source := map[string]string{"kafka": "the group's committed offsets", "landed": "what has arrived"}[r.ConsumedFrom]
	fmt.Fprintf(w, "Audit of %s, records from %s to %s; consumed offsets from %s.\n\n",
		r.Dataset, bound(r.Since, "the first"), bound(r.Until, "the last"), source)

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "topic\tpartition\toffsets\tconsumed\tlanded\tdead-lettered\tboth\tmissing\tnot in Kafka\tin "+
		"flight\tduplicate rows\tquality %\t")
	line := func(topic, partition, offsets string, c Counts) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.3f\t\n", topic, partition, offsets,
			c.Consumed, c.Landed, c.DeadLettered, c.Both, c.Missing, c.NotInKafka, c.InFlight, c.DuplicateRows, c.QualityPercent)
	}
	for _, p := range r.Partitions {
		line(p.Topic, strconv.Itoa(int(p.Partition)), fmt.Sprintf("%d…%d", p.FirstOffset, p.LastOffset), p.Counts)
	}
	line("all", "", "", r.Totals)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, t := range r.Topics {
		fmt.Fprintf(w, "%s: %d events were sent more than once by their producers, in %d extra records.\n", t.Topic,
			t.RepeatedEvents, t.ProducerDuplicates)
	}
	if n := r.Totals.LeftOut; n > 0 {
		fmt.Fprintf(w, "%d of the consumed records were left out, as their contracts say.\n", n)
	}
	if n := r.WithoutKafka; n != (WithoutKafka{}) {
		fmt.Fprintf(w, "Without Kafka coordinates: %d rows landed, %d were dead-lettered, %d left out.\n", n.Landed,
			n.DeadLettered, n.LeftOut)
	}
	if o := r.Orphans; o != nil {
		fmt.Fprintf(w, "Objects that nobody has fetched for %s: %d, of %d bytes. A bridge that was killed leaves some; "+
			"with a backlog, messages wait for them.\n", o.OlderThan, o.Objects, o.Bytes)
	}
	for i, g := range r.Gaps {
		if i == maxPrinted {
			fmt.Fprintf(w, "… and %d more gaps: --json lists them.\n", len(r.Gaps)-maxPrinted)
			break
		}
		fmt.Fprintf(w, "Gap: %s/%d offsets %d…%d: %d missing, %d not in Kafka, %d in flight.\n", g.Topic, g.Partition,
			g.First, g.Last, g.Missing, g.NotInKafka, g.InFlight)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, note)
	}
	verdict := "Nothing is missing."
	if r.Totals.Missing > 0 {
		verdict = fmt.Sprintf("%d records are missing.", r.Totals.Missing)
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

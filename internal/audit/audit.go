// Package audit checks the product's promise against what stands in the tables:
// every record that was consumed from Kafka has landed in fact_events or lies in
// events_dlq.
//
//	engine := query.BigQuery{Client: client}
//	k, err := audit.OpenKafka(ctx, properties, "clickstream-to-bigquery", nil) // optional
//	report, err := audit.Run(ctx, engine, k, audit.Config{Dataset: "clickstream"})
//	report.Print(os.Stdout)
//	report.Totals.Missing                                               // 0
//
// With Kafka, the records that must be there are those below the group's committed
// offsets, and a gap is looked up in Kafka: offsets that hold no record there
// (transaction markers, aborted transactions, compacted records) are told apart.
// Without it, the records that must be there are those between the first and the
// last that have arrived, and such offsets count as missing.
//
// What is committed may still be in Pub/Sub: while the pipeline runs, audit up to a
// time (Config.Until) that lies before Pub/Sub's oldest unacknowledged message.
//
// A record is its topic, partition and offset. A topic that was deleted and created
// again begins anew at offset 0, and the audit cannot tell the two apart.
package audit

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/internal/contract"
	"sluice/internal/query"
	"sluice/internal/reference"
)

// Config says what to audit. The zero value, with a Dataset, is everything.
type Config struct {
	Dataset string // "dataset" or, in BigQuery, "project.dataset"
	// Contracts say which tables the events go to; nil: the built-in one.
	Contracts []*contract.Contract
	Topics    []string // Kafka topics; none: all that are known

	// Since and Until bound the records by Kafka's timestamp: from Since
	// (inclusive) to Until (exclusive); zero: no bound. Per partition they become a
	// range of offsets, from the first such record to the last.
	Since, Until time.Time

	// EventsSince bounds what is read: only rows of events that happened, and dead
	// letters that failed, from then on; zero: all. It is for BigQuery, where a query
	// is paid by what it reads, and the tables are partitioned by these times. A record
	// of an older event counts as missing, or, where nothing else tells of it, not at
	// all: choose a time before Since by as much as events come late.
	EventsSince time.Time

	// MaxGaps bounds the gaps that are listed, and looked up in Kafka; default 1,000.
	MaxGaps int
	// MaxRead bounds the records that are read from Kafka to look gaps up; default
	// 1,000,000.
	MaxRead int64
}

// Span is a range of offsets of one partition: from First (inclusive) to End
// (exclusive).
type Span struct {
	Topic      string
	Partition  int32
	First, End int64
}

// Report is the outcome of an audit.
type Report struct {
	Dataset string `json:"dataset"`
	// ConsumedFrom is where the consumed offsets come from: "kafka" or "landed".
	ConsumedFrom string      `json:"consumed_from"`
	Since        *time.Time  `json:"since,omitempty"`
	Until        *time.Time  `json:"until,omitempty"`
	EventsSince  *time.Time  `json:"events_since,omitempty"`
	Partitions   []Partition `json:"partitions"`
	Topics       []Topic     `json:"topics"`
	Totals       Counts      `json:"totals"`
	Gaps         []Gap       `json:"gaps"`
	// WithoutKafka are rows whose record's coordinates are unknown.
	WithoutKafka WithoutKafka `json:"without_kafka"`
	// Orphans are objects with payloads that nobody has fetched; nil: no bucket was asked.
	Orphans *Orphans `json:"orphans,omitempty"`
	// Notes say in words what the figures cannot.
	Notes []string `json:"notes"`
}

// Counts are of records, each counted once, unless they say rows.
type Counts struct {
	Consumed       int64   `json:"consumed"`        // offsets that must have arrived
	Landed         int64   `json:"landed"`          // in fact_events only
	DeadLettered   int64   `json:"dead_lettered"`   // in events_dlq only
	Both           int64   `json:"both"`            // in both: dead-lettered, and landed after all
	Missing        int64   `json:"missing"`         // in neither
	NotInKafka     int64   `json:"not_in_kafka"`    // offsets without a record in Kafka; not consumed
	InFlight       int64   `json:"in_flight"`       // not arrived, not committed either; not consumed
	LeftOut        int64   `json:"left_out"`        // as a contract says, so in no other table
	DuplicateRows  int64   `json:"duplicate_rows"`  // rows beyond the first of a record in the same table
	QualityPercent float64 `json:"quality_percent"` // landed in the end, of all that arrived
}

// Partition is the counts of one partition.
type Partition struct {
	Topic       string `json:"topic"`
	Partition   int32  `json:"partition"`
	FirstOffset int64  `json:"first_offset"`
	LastOffset  int64  `json:"last_offset"`         // below FirstOffset: nothing
	Committed   *int64 `json:"committed,omitempty"` // the group's; absent without Kafka
	Lag         *int64 `json:"lag,omitempty"`       // records in Kafka that are not committed
	Counts
}

// Topic is what is counted per topic.
type Topic struct {
	Topic              string `json:"topic"`
	RepeatedEvents     int64  `json:"repeated_events"`     // event_ids that a producer sent in more than one record
	ProducerDuplicates int64  `json:"producer_duplicates"` // records beyond the first of these
}

// Gap is a range of offsets that have not arrived, both ends inclusive.
type Gap struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	First      int64  `json:"first_offset"`
	Last       int64  `json:"last_offset"`
	Missing    int64  `json:"missing"`
	NotInKafka int64  `json:"not_in_kafka"`
	InFlight   int64  `json:"in_flight"`
	Expired    bool   `json:"expired"` // Kafka does not keep these offsets any more: nobody can look
	Leading    bool   `json:"leading"` // it begins with the first offset that Kafka keeps
}

// WithoutKafka counts rows of events published straight to Pub/Sub, and of payloads
// that could not be read.
type WithoutKafka struct {
	Landed       int64 `json:"landed_rows"`
	DeadLettered int64 `json:"dead_lettered_rows"`
	LeftOut      int64 `json:"left_out_rows"`
}

// Orphans are objects of the payloads' bucket. Each holds records that Kafka still offers to the
// bridge, or that waits in Pub/Sub.
type Orphans struct {
	OlderThan string `json:"older_than"`
	Objects   int64  `json:"objects"`
	Bytes     int64  `json:"bytes"`
}

// OrphanAge is how old an object is before it counts as one that nobody has fetched.
const OrphanAge = time.Hour

// CountOrphans counts the objects of a bucket that are older than OrphanAge.
func (r *Report) CountOrphans(ctx context.Context, bucket *reference.Bucket, now time.Time) error {
	objects, size, err := bucket.Orphans(ctx, now.Add(-OrphanAge))
	if err != nil {
		return err
	}
	r.Orphans = &Orphans{OlderThan: OrphanAge.String(), Objects: objects, Bytes: size}
	return nil
}

// Run audits. k is nil where Kafka cannot be asked.
func Run(ctx context.Context, engine query.Engine, k *Kafka, c Config) (*Report, error) {
	c.MaxGaps, c.MaxRead = cmp.Or(c.MaxGaps, 1000), cmp.Or(c.MaxRead, 1_000_000)
	r := &Report{Dataset: c.Dataset, ConsumedFrom: "landed", Partitions: []Partition{}, Topics: []Topic{},
		Gaps: []Gap{}, Notes: []string{}}
	if !c.Since.IsZero() {
		r.Since = &c.Since
	}
	if !c.Until.IsZero() {
		r.Until = &c.Until
	}
	if !c.EventsSince.IsZero() {
		r.EventsSince = &c.EventsSince
	}
	spans, err := r.arrived(ctx, engine, c)
	if err != nil {
		return nil, err
	}
	var marks map[place]consumed
	if k != nil {
		r.ConsumedFrom = "kafka"
		if marks, err = k.consumed(ctx, c); err != nil {
			return nil, err
		}
		var beyond int
		if spans, beyond = merge(spans, marks); beyond > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("In %d partitions there are rows with offsets that Kafka has not reached: "+
				"of an earlier topic of that name, or published past the bridge. They are not counted.", beyond))
		}
	}
	spans = filled(spans)
	if r.Partitions, err = c.partitions(ctx, engine, spans); err != nil {
		return nil, err
	}
	if err := r.duplicates(ctx, engine, c, spans); err != nil {
		return nil, err
	}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		if m, ok := marks[place{p.Topic, p.Partition}]; ok {
			p.Committed, p.Lag = &m.committed, &m.lag
		}
	}
	if r.missing() > 0 {
		if err := r.findGaps(ctx, engine, c, spans); err != nil {
			return nil, err
		}
		if k != nil {
			if err := r.explain(ctx, k, c, marks); err != nil {
				return nil, err
			}
		}
	}
	r.finish(k != nil)
	return r, nil
}

// Count counts the records of the spans, and looks for nothing else.
func Count(ctx context.Context, engine query.Engine, q contract.Query, spans []Span) (Counts, error) {
	c := Config{Dataset: q.Dataset, Contracts: q.Contracts}
	all, err := c.partitions(ctx, engine, filled(spans))
	if err != nil {
		return Counts{}, err
	}
	r := Report{Partitions: all}
	r.sum()
	return r.Totals, nil
}

// filled leaves out the spans that hold nothing.
func filled(spans []Span) []Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s Span) bool { return s.End <= s.First })
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// consumed is what Kafka says of one partition.
type consumed struct {
	first     int64 // of the window, or the oldest record that Kafka has
	end       int64 // of the window, at most committed
	low       int64 // the oldest offset that Kafka has
	committed int64
	lag       int64
}

// merge makes the spans out of what has arrived and what Kafka says was consumed. beyond is
// in how many partitions something has arrived that Kafka does not have yet: one row with a
// forged offset must not hide what is missing below it.
func merge(arrived []Span, marks map[place]consumed) (spans []Span, beyond int) {
	have := map[place]Span{}
	for _, s := range arrived {
		p := place{s.Topic, s.Partition}
		have[p] = s
		if _, ok := marks[p]; !ok { // the group has never committed anything there
			spans = append(spans, s)
		}
	}
	for p, m := range marks {
		s := Span{p.topic, p.partition, m.first, m.end}
		if a, ok := have[p]; ok {
			// What Kafka has let go of, what landed before it was committed, and what is
			// in the window though another record's clock ended it for Kafka.
			end := a.End
			if high := m.committed + m.lag; end > high {
				end = high
				beyond++
			}
			s.First, s.End = min(s.First, a.First), max(s.End, end)
		}
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b Span) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return spans, beyond
}

// arrived asks which offsets have arrived in the window.
func (r *Report) arrived(ctx context.Context, engine query.Engine, c Config) ([]Span, error) {
	text, err := c.text("audit_arrived")
	if err != nil {
		return nil, err
	}
	for _, bound := range []struct {
		text string
		at   time.Time
	}{{"TIMESTAMP '0001-01-01 00:00:00'", c.Since}, {"TIMESTAMP '9999-12-31 00:00:00'", c.Until}} {
		if !bound.at.IsZero() {
			text = strings.Replace(text, bound.text, contract.SQLTime(bound.at), 1)
		}
	}
	var spans []Span
	forged := 0
	defer func() {
		if forged > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("Rows of %d partitions have coordinates that Kafka cannot have (a topic's name, "+
				"a negative partition or offset): somebody published them past the bridge. They are not counted.", forged))
		}
	}()
	for row, err := range engine.Query(ctx, text) {
		if err != nil {
			return nil, err
		}
		if row[0] == nil {
			r.WithoutKafka.Landed += row[4].(int64)
			r.WithoutKafka.DeadLettered += row[5].(int64)
			r.WithoutKafka.LeftOut += row[6].(int64)
			continue
		}
		s := Span{row[0].(string), int32(row[1].(int64)), row[2].(int64), after(row[3].(int64))}
		if !topicName.MatchString(s.Topic) || s.Partition < 0 || s.First < 0 {
			// Whoever may publish to the topics can make such rows. They must not end the audit of
			// the others.
			forged++
			continue
		}
		if len(c.Topics) == 0 || slices.Contains(c.Topics, s.Topic) {
			spans = append(spans, s)
		}
	}
	return spans, nil
}

// topicName is what Kafka takes for a topic's name.
var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// after is the offset behind o. A forged row may have the largest there is, which must not
// make the span of its partition empty.
func after(o int64) int64 {
	if o == math.MaxInt64 {
		return o
	}
	return o + 1
}

// text is an audit query's.
func (c *Config) text(name string) (string, error) {
	return contract.Query{Dataset: c.Dataset, Contracts: c.Contracts, EventsSince: c.EventsSince}.SQL(name)
}

// over is the text of an audit query about spans.
func (c *Config) over(name string, spans []Span) (string, error) {
	text, err := c.text(name)
	if err != nil {
		return "", err
	}
	before, rest, ok := strings.Cut(text, "spans AS (")
	_, after, ends := strings.Cut(rest, "), -- end of spans")
	if !ok || !ends {
		return "", fmt.Errorf("audit: %s.sql has no CTE spans", name)
	}
	rows := make([]string, len(spans))
	for i, s := range spans {
		if strings.ContainsAny(s.Topic, `'\`) {
			return "", fmt.Errorf("audit: the topic %q is none: Kafka takes letters, digits, dots, underscores and hyphens", s.Topic)
		}
		rows[i] = fmt.Sprintf("SELECT '%s' AS kafka_topic, CAST(%d AS INT64) AS kafka_partition, CAST(%d AS INT64) AS "+
			"first_offset, CAST(%d AS INT64) AS last_offset",
			s.Topic, s.Partition, s.First, s.End-1)
	}
	return before + "spans AS (\n  " + strings.Join(rows, " UNION ALL\n  ") + "\n)," + after, nil
}

// partitions counts the records of each span.
func (c *Config) partitions(ctx context.Context, engine query.Engine, spans []Span) ([]Partition, error) {
	all := []Partition{}
	if len(spans) == 0 {
		return all, nil
	}
	text, err := c.over("audit_partitions", spans)
	if err != nil {
		return nil, err
	}
	for row, err := range engine.Query(ctx, text) {
		if err != nil {
			return nil, err
		}
		p := Partition{Topic: row[0].(string), Partition: int32(row[1].(int64)), FirstOffset: row[2].(int64),
			LastOffset: row[3].(int64)}
		p.Landed, p.DeadLettered, p.Both = row[4].(int64), row[5].(int64), row[6].(int64)
		p.Missing, p.DuplicateRows, p.LeftOut = row[7].(int64), row[8].(int64), row[9].(int64)
		all = append(all, p)
	}
	return all, nil
}

// duplicates counts the producers' duplicates, per topic.
func (r *Report) duplicates(ctx context.Context, engine query.Engine, c Config, spans []Span) error {
	if len(spans) == 0 {
		return nil
	}
	for _, p := range r.Partitions {
		if n := len(r.Topics); n == 0 || r.Topics[n-1].Topic != p.Topic {
			r.Topics = append(r.Topics, Topic{Topic: p.Topic})
		}
	}
	text, err := c.over("audit_duplicates", spans)
	if err != nil {
		return err
	}
	for row, err := range engine.Query(ctx, text) {
		if err != nil {
			return err
		}
		for i := range r.Topics {
			if t := &r.Topics[i]; t.Topic == row[0].(string) {
				t.RepeatedEvents, t.ProducerDuplicates = row[1].(int64), row[2].(int64)
			}
		}
	}
	return nil
}

func (r *Report) missing() (n int64) {
	for i := range r.Partitions {
		n += r.Partitions[i].Missing
	}
	return n
}

// findGaps lists the gaps in spans.
func (r *Report) findGaps(ctx context.Context, engine query.Engine, c Config, spans []Span) error {
	text, err := c.over("audit_gaps", spans)
	if err != nil {
		return err
	}
	for row, err := range engine.Query(ctx, text+fmt.Sprintf("\nLIMIT %d", c.MaxGaps+1)) {
		if err != nil {
			return err
		}
		if len(r.Gaps) == c.MaxGaps {
			r.Notes = append(r.Notes, fmt.Sprintf("More than %d gaps: the rest is not listed here, and all of it counts as missing.", c.MaxGaps))
			break
		}
		r.Gaps = append(r.Gaps, Gap{Topic: row[0].(string), Partition: int32(row[1].(int64)), First: row[2].(int64),
			Last: row[3].(int64), Missing: row[4].(int64)})
	}
	return nil
}

// explain asks Kafka about the gaps, and takes what no record is missing for out of
// the partitions' missing.
func (r *Report) explain(ctx context.Context, k *Kafka, c Config, marks map[place]consumed) error {
	partitions := map[place]*Partition{}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		partitions[place{p.Topic, p.Partition}] = p
	}
	left, skipped, unknown := c.MaxRead, false, false
	for i := range r.Gaps {
		g := &r.Gaps[i]
		at := place{g.Topic, g.Partition}
		m, ok := marks[at]
		if !ok {
			unknown = true
			continue
		}
		// Not committed: later records have overtaken these.
		if first := max(g.First, m.committed); first <= g.Last {
			g.InFlight = g.Last - first + 1
		}
		g.Expired, g.Leading = g.First < m.low, g.First <= m.low && c.Since.IsZero()
		first, last := max(g.First, m.low), min(g.Last, m.committed-1)
		switch {
		case first > last:
		case left == 0:
			skipped = true
		default:
			found, looked, err := k.records(ctx, at, first, last, left)
			if err != nil {
				return err
			}
			left -= found
			g.NotInKafka = looked - found
			skipped = skipped || looked < last-first+1
		}
		g.Missing -= g.InFlight + g.NotInKafka
		p := partitions[at]
		p.Missing -= g.InFlight + g.NotInKafka
		p.InFlight += g.InFlight
		p.NotInKafka += g.NotInKafka
	}
	if skipped {
		r.Notes = append(r.Notes, fmt.Sprintf("%d records of the gaps are in Kafka and have not arrived: what is behind "+
			"them was not looked up, and counts as missing.", c.MaxRead))
	}
	if unknown {
		r.Notes = append(r.Notes, "Some gaps are in partitions where the group has committed nothing, or nothing any "+
			"more: they were not looked up in Kafka, and count as missing.")
	}
	return nil
}

// sum fills in what follows from the partitions' counts.
func (r *Report) sum() {
	t := &r.Totals
	for i := range r.Partitions {
		c := &r.Partitions[i].Counts
		c.Consumed = c.Landed + c.DeadLettered + c.Both + c.LeftOut
		c.Consumed = min(c.Consumed, math.MaxInt64-c.Missing) + c.Missing
		c.QualityPercent = quality(*c)
		t.Consumed = min(t.Consumed, math.MaxInt64-c.Consumed) + c.Consumed
		t.Landed += c.Landed
		t.DeadLettered += c.DeadLettered
		t.Both += c.Both
		// Forged offsets can add up to more than there are numbers.
		t.Missing = min(t.Missing, math.MaxInt64-c.Missing) + c.Missing
		t.NotInKafka += c.NotInKafka
		t.InFlight += c.InFlight
		t.DuplicateRows += c.DuplicateRows
		t.LeftOut += c.LeftOut
	}
	t.QualityPercent = quality(*t)
}

// finish sums up, and says what the figures cannot.
func (r *Report) finish(kafka bool) {
	r.sum()
	t, expired, leading := r.Totals, false, false
	for _, g := range r.Gaps {
		expired, leading = expired || g.Expired, leading || g.Leading && g.Missing > 0
	}
	if t.Missing > 0 && !kafka {
		r.Notes = append(r.Notes, "Without Kafka, offsets that hold no record (transaction markers, compacted records) "+
			"and records on their way count as missing, and records before the first or after the last that arrived are not looked for: name the brokers to tell them apart.")
	}
	if t.Missing > 0 && r.EventsSince != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("Rows of events before %s were not read, and their records count as "+
			"missing: audit without that bound to know.", r.EventsSince.UTC().Format(time.RFC3339)))
	}
	if expired {
		r.Notes = append(r.Notes, "Kafka does not keep some of the missing offsets any more: whether they held records cannot be known.")
	}
	if leading {
		r.Notes = append(r.Notes, "Some of the missing records are the first that Kafka keeps. A group that began at the end (KAFKA_OFFSET_RESET=latest) has never "+
			"read such records, and rows whose partition has expired are gone: audit with --since from a time after that to know.")
	}
	if t.InFlight > 0 {
		r.Notes = append(r.Notes, "Records in flight are below others that have arrived, but their offsets are not "+
			"committed: the bridge will publish them, or publish them again.")
	}
}

// quality is the share of what arrived that landed, in percent to three decimals.
func quality(c Counts) float64 {
	arrived := c.Landed + c.Both + c.DeadLettered
	if arrived == 0 {
		return 100
	}
	return math.Round(100_000*float64(c.Landed+c.Both)/float64(arrived)) / 1000
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"sluice/functions/event"
	"sluice/internal/contract"
	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/internal/local/livepage"
	"sluice/internal/local/objects"
	"sluice/internal/query"
	"sluice/internal/settings"
	"sluice/internal/telemetry"
	"sluice/scripts/command"
	"sluice/scripts/pipeline"
)

// runFlags are the flags of run.
type runFlags struct {
	input      names
	seed       uint64
	events     int
	rate       float64
	bad        float64
	duplicate  float64
	once       bool
	json       bool
	data       string
	partitions int
	bridges    int
	wrapped    bool
	logLevel   slog.Level
	logSet     bool
	patience   time.Duration
	kafka      string
	pubsub     string
	bigquery   string
	listen     string
	listenSet  bool
	contract   string
	contracts  string
	topic      string
}

func parseRunFlags(args []string) (runFlags, error) {
	f := runFlags{logLevel: slog.LevelWarn}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.Var(&f.input, "input", "`file` of events to send: newline-delimited JSON or one JSON array, also compressed with gzip or zstd; a pattern such\n"+
		"as 'logs/*.gz'; may be repeated; - is standard input (default: generated clickstream)")
	flags.StringVar(&f.contract, "contract", "", "what the events are: the `name` of a preset ("+strings.Join(contract.Presets(), ", ")+") or a contract's file (default: what --data keeps, or the built-in one)")
	flags.StringVar(&f.contracts, "contracts", "",
		"`folder` of contracts, one file for each stream; --topic says whose the events are")
	flags.StringVar(&f.topic, "topic", "", "Kafka `topic` to send to (default: the contract's first one)")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of the generated events: the same seed makes the same events")
	flags.IntVar(&f.events, "events", -1, "send this many events (default: all of --input, or no end)")
	flags.Float64Var(&f.rate, "rate", 0, "events per second (default: 1000 generated events per second, or as fast as "+
		"it goes with --once or --input; 0 given: as fast as it goes)")
	flags.Float64Var(&f.bad, "bad", 1, "`percent` of the generated events that are bad")
	flags.Float64Var(&f.duplicate, "duplicate", 0, "`percent` of the generated events that repeat an earlier one")
	flags.BoolVar(&f.once, "once", false, "stop when every record has landed or been dead-lettered; exit status 1 if one is missing")
	flags.BoolVar(&f.json, "json", false, "print one summary object on standard output")
	flags.StringVar(&f.data, "data", "", "keep the warehouse and Kafka's topics in this `folder` (default: in memory, about 1 GB for a million events)")
	flags.IntVar(&f.partitions, "partitions", 4, "partitions of the Kafka topic")
	flags.IntVar(&f.bridges, "bridges", 1, "how many bridges share the partitions")
	flags.BoolVar(&f.wrapped, "wrapped", false, "push messages in Pub/Sub's JSON envelope instead of unwrapped")
	flags.TextVar(&f.logLevel, "log-level", f.logLevel,
		"lowest `level` of the services' own log lines on standard error: DEBUG, INFO, WARN, ERROR; unless given, similar warnings come once in five seconds")
	flags.DurationVar(&f.patience, "patience", time.Minute,
		"with --once: give up when nothing has arrived for this long")
	flags.StringVar(&f.kafka, "kafka", "", "use the Kafka at these `brokers` (host:port, separated by commas) instead of the embedded one")
	flags.StringVar(&f.pubsub, "pubsub", "", "use the Pub/Sub emulator at this `host:port` instead of the embedded one; messages are then pushed wrapped")
	flags.StringVar(&f.bigquery, "bigquery", "", "use the BigQuery emulator at these two addresses, `REST,GRPC`, instead of the embedded warehouse")
	flags.StringVar(&f.listen, "listen", livepage.DefaultAddr,
		"`host:port` of the live page, off for none (with --once: off unless given; without it another port is taken if the default one is)")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Runs the whole pipeline in one process: Kafka, bridge, Pub/Sub, functions, warehouse.
The servers are embedded, the bridge and the functions are the ones that are deployed.

  ./scripts/run                                     generated clickstream until Ctrl-C
  ./scripts/run --once --events 100000 --json       a fixed load, and its summary
  ./scripts/run --once --input events.ndjson.gz --data .data
  ./scripts/query --data .data 'SELECT * FROM pipeline_health_per_minute'

`)
		settings.PrintSections(flags.Output(), flags, []settings.Section{
			{Title: "What is sent", Flags: []string{"input", "contract", "contracts", "topic", "events", "rate", "once", "patience"}},
			{Title: "Generated events, without --input", Flags: []string{"seed", "bad", "duplicate"}},
			{Title: "The pipeline", Flags: []string{"data", "partitions", "bridges", "wrapped"}},
			{Title: "Servers in the places of the embedded ones", Flags: []string{"kafka", "pubsub", "bigquery"}},
			{Title: "What is shown", Flags: []string{"listen", "json", "log-level"}},
		})
	}
	if err := command.Parse(flags, args); err != nil {
		return f, err
	}
	if err := command.NoMore(flags); err != nil {
		return f, err
	}
	if err := command.CheckBrokers(f.kafka); err != nil {
		return f, err
	}
	given := map[string]bool{}
	flags.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	f.listenSet, f.logSet = given["listen"], given["log-level"]
	if f.listen == "" { // as other programs have it
		f.listen = "off"
	}
	switch {
	case given["events"] && f.events < 0:
		return f, command.UsageError("--events is %d, a number of events from 0 on is needed", f.events)
	case !(f.rate >= 0): // NaN neither
		return f, command.UsageError("--rate is %g, events per second from 0 on are needed", f.rate)
	case !(f.bad >= 0 && f.bad <= 100):
		return f, command.UsageError("--bad is %g, a percentage from 0 to 100 is needed", f.bad)
	case !(f.duplicate >= 0 && f.duplicate <= 100):
		return f, command.UsageError("--duplicate is %g, a percentage from 0 to 100 is needed", f.duplicate)
	case f.partitions < 1 || f.partitions > 1000:
		return f, command.UsageError("--partitions is %d, a number from 1 to 1000 is needed", f.partitions)
	case f.bridges < 1 || f.bridges > 16:
		return f, command.UsageError("--bridges is %d, a number from 1 to 16 is needed", f.bridges)
	case f.patience <= 0:
		return f, command.UsageError("--patience is %s, a time above 0 is needed", f.patience)
	case len(f.input) > 0 && (given["bad"] || given["duplicate"] || given["seed"]):
		return f, command.UsageError("--bad, --duplicate and --seed are for generated events, not for --input")
	case f.bigquery != "" && strings.Count(f.bigquery, ",") != 1:
		return f, command.UsageError("--bigquery needs two addresses, of the REST interface and of the Storage API: REST,GRPC")
	case f.attached() && f.listenSet && f.listen != "off":
		return f, command.UsageError("--listen shows the embedded servers: it goes with none of --kafka, --pubsub and --bigquery")
	case f.contract != "" && f.contracts != "":
		return f, command.UsageError("--contract and --contracts do not go together: give one file, or a folder")
	case f.once && len(f.input) == 0 && f.events < 0:
		return f, command.UsageError("--once needs an end: give --events or --input")
	}
	if info, err := os.Stat(f.data); f.data != "" && err == nil && !info.IsDir() {
		return f, command.UsageError("--data %s is a file: a folder is needed, which need not exist yet", f.data)
	}
	if (f.once || f.attached()) && !f.listenSet {
		f.listen = "off"
	}
	if !given["rate"] && len(f.input) == 0 && !f.once {
		f.rate = 1000
	}
	return f, nil
}

// names is a flag that may be repeated; commas are part of a name.
type names []string

func (n *names) String() string { return strings.Join(*n, ", ") }

// Set implements flag.Value.
func (n *names) Set(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	*n = append(*n, s)
	return nil
}

// Summary is what --json prints.
type Summary struct {
	Produced        int64   `json:"produced"`
	Landed          int64   `json:"landed"`
	DeadLettered    int64   `json:"dead_lettered"`
	LeftOut         int64   `json:"left_out,omitempty"`
	DuplicateRows   int64   `json:"duplicate_rows"`
	Missing         int64   `json:"missing"`
	Seconds         float64 `json:"seconds"`
	EventsPerSecond float64 `json:"events_per_second"`
	// of Pub/Sub, with the records; 0: another server's
	Messages     int64             `json:"messages,omitempty"`
	PayloadBytes int64             `json:"payload_bytes,omitempty"` // of them
	Rejected     []rejected        `json:"rejected_most,omitempty"`
	References   int64             `json:"references"` // of them, to objects with the records
	Latency      local.Percentiles `json:"latency_ms"`

	data        string // folder that keeps them
	interrupted bool   // before the end that --once waits for
	failed      error  // why not all of the input was sent
}

func run(ctx context.Context, args []string) error {
	f, err := parseRunFlags(args)
	if err != nil {
		return err
	}
	contracts, topic, err := f.streams()
	if err != nil {
		return err
	}
	var in source = &generated{
		generator: generate.New(generate.Config{Seed: f.seed, Bad: f.bad, Duplicate: f.duplicate}),
		left:      f.events,
	}
	if len(contracts) > 0 { // it takes what others produce, if there is no input
		in = none{}
	}
	if len(f.input) > 0 {
		read, err := openFiles(ctx, f.input, f.events)
		if err != nil {
			return err
		}
		in = read
	}
	defer in.close()
	var example []byte // for the live page's form
	if c := contract.Find(contracts, topic); c != nil && c.Format == contract.FormatJSON && len(f.input) > 0 {
		first := &peeked{source: in}
		if example, err = first.peek(); err != nil {
			return err
		}
		in = first
	}
	if in, err = f.written(ctx, in, contract.Find(contracts, topic)); err != nil {
		return err
	}

	progress := newProgress(os.Stderr)
	config := pipeline.Config{Config: local.Config{
		Dir:        f.data,
		Contracts:  contracts,
		Topic:      topic,
		Partitions: f.partitions,
		Bridges:    f.bridges,
		Wrapped:    f.wrapped || f.pubsub != "",
		Servers:    f.servers(),
		Log:        f.logger(progress),
	}}
	exports, err := openExports(ctx, &config)
	if err != nil {
		return err
	}
	defer exports.close()
	view, err := openView(f, &config)
	if err != nil {
		return err
	}
	if view != nil {
		view.example = example
	}
	defer view.release()
	s, err := pipeline.Start(ctx, config)
	if err != nil {
		return err
	}
	summary, err := drive(ctx, s, f, in, progress, view)
	// The pipeline is taken down whatever happened, under its own bound.
	stopping, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := errors.Join(err, s.Stop(stopping)); err != nil {
		return fullDisk(f.data, err)
	}
	return summary.report(f)
}

// roomLeft is the free space of a disk below which what has failed has failed for want of it, bytes.
const roomLeft = 16 << 20

// fullDisk adds to the error of a run that its disk is full, if that is so.
func fullDisk(folder string, err error) error {
	text := err.Error()
	// The embedded Kafka answers with that error, and with no other cause, when its files cannot be written.
	full := errors.Is(err, syscall.ENOSPC) || strings.Contains(text, "Could not write file") || strings.Contains(text,
		"Unknown broker error")
	var space syscall.Statfs_t
	if folder != "" && syscall.Statfs(folder, &space) == nil && space.Bavail*uint64(space.Bsize) < roomLeft {
		full = true
	}
	if folder == "" || !full {
		return err
	}
	return fmt.Errorf("the disk of %s is full, or no more may be written to it: make room and run this again, which goes on where it "+
		"stopped: %w", folder, err)
}

// servers are those that are reached by address.
func (f runFlags) servers() local.Servers {
	rest, grpc, _ := strings.Cut(f.bigquery, ",")
	return local.Servers{Kafka: f.kafka, PubSub: f.pubsub, BigQueryREST: rest, BigQueryGRPC: grpc}
}

// attached reports that some server is reached by address.
func (f runFlags) attached() bool { return f.servers().Any() }

// streams are the contracts that f names, with those that --data keeps, and the topic to send
// to; nil: the built-in one.
func (f *runFlags) streams() (all []*contract.Contract, topic string, err error) {
	switch {
	case f.contracts != "":
		all, err = contract.ReadPath(f.contracts)
	case f.contract != "":
		var one *contract.Contract
		one, err = contract.Named(f.contract)
		all = []*contract.Contract{one}
	default:
		all, err = local.KeptContracts(f.data)
	}
	if err != nil || len(all) == 0 {
		return nil, f.topic, err
	}
	switch {
	case f.topic != "":
		if contract.Find(all, f.topic) == nil {
			return nil, "", command.UsageError("--topic %s is in no contract: name one that is", f.topic)
		}
	case len(all) > 1 && (len(f.input) > 0 || f.contracts != ""):
		return nil, "", command.UsageError("there are %d contracts: say with --topic whose the events are", len(all))
	case all[0].SampleTopic() == "":
		return nil, "", fmt.Errorf("the contract %s takes no Kafka topic, which this pipeline begins with: give it topics", all[0].Name)
	}
	if len(f.input) == 0 && f.kafka == "" {
		return nil, "", command.UsageError("generated events are the built-in contract's: give --input with a contract of your own")
	}
	topic = cmp.Or(f.topic, all[0].SampleTopic())
	// Before anything is kept: what only a value shows.
	for _, c := range all {
		if _, err := event.New(c, event.Fast, time.Now); err != nil {
			return nil, "", err
		}
	}
	all, err = local.KeepContracts(f.data, all)
	return all, topic, err
}

// logger writes what the services log.
func (f runFlags) logger(w io.Writer) *slog.Logger {
	log := telemetry.NewLogger(w, f.logLevel)
	if f.logSet {
		return log
	}
	return slog.New(newCalm(log.Handler()))
}

// report prints the summary as f says. Its error is that --once has not come to its end,
// or that something is missing.
func (s Summary) report(f runFlags) error {
	if f.json {
		if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
			return err
		}
	} else {
		s.print(os.Stdout)
	}
	switch {
	case s.failed != nil:
		return fmt.Errorf("the input was sent up to here only: %w", s.failed)
	case f.once && s.interrupted:
		return errors.New("interrupted: not all of the input has been sent, or has arrived")
	case s.Missing > 0 && f.data != "" && !f.attached():
		return fmt.Errorf("%d records had not arrived: the next ./scripts/run --data %s goes on with them", s.Missing,
			f.data)
	case s.Missing > 0:
		return command.ErrFailed
	}
	return nil
}

// drive sends the input through the pipeline and waits for it as f says.
func drive(ctx context.Context, s *local.Stack, f runFlags, in source, progress *progress, view *view) (_ Summary,
	err error) {
	var summary Summary
	from, err := s.Ends(ctx)
	if err != nil {
		return summary, err
	}
	producer, err := s.NewProducer()
	if err != nil {
		return summary, err
	}
	defer producer.Close()
	if err := view.show(s, producer, progress); err != nil {
		return summary, err
	}
	defer func() { err = errors.Join(err, view.close()) }()
	if f.data == "" && !f.once && f.events < 0 {
		fmt.Fprintln(progress, "kept in memory, about 1 GB for a million events: --data DIR keeps it on disk")
	}

	begin := time.Now()
	stopProgress := progress.start(func() string { return progressLine(s, producer, begin, int64(max(f.events, 0))) })
	defer stopProgress()

	failed := produce(ctx, producer, in, f.rate)
	if !f.once && failed == nil {
		<-ctx.Done() // the input may have ended before
	}
	if ctx.Err() != nil {
		failed = nil // nobody wanted the rest
		// What the page's switches broke is mended before anything is waited for.
		if err := view.close(); err != nil {
			return summary, err
		}
	}
	flushing, cancel := context.WithTimeout(context.Background(), max(f.patience, time.Minute))
	defer cancel()
	if err := producer.Flush(flushing); err != nil {
		return summary, fmt.Errorf("producing to Kafka: %w", err)
	}
	produced := producer.Delivered()
	to, err := s.Ends(ctx)
	if err != nil {
		return summary, err
	}

	// After an interrupt the rest gets a while to land: a graceful end leaves nothing in flight.
	waiting := ctx
	if !f.once && ctx.Err() != nil {
		bounded, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		waiting = bounded
	}
	// What an earlier run on the same folder left undone is waited for too. What was in the topic of somebody's Kafka
	// counts for nothing: it may be anybody's.
	since := local.Offsets(nil)
	if f.attached() {
		since = from
	}
	all, err := s.AwaitAll(waiting, since, to, f.patience)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return summary, err
	}
	account, err := s.Account(context.WithoutCancel(ctx), from, to)
	if err != nil {
		return summary, err
	}
	most, err := rejectedMost(context.WithoutCancel(ctx), s, begin)
	if err != nil {
		return summary, err
	}
	seconds := time.Since(begin).Seconds()
	latency, err := s.Took(context.WithoutCancel(ctx), from, to)
	if err != nil {
		return summary, err
	}
	summary = Summary{
		Produced: produced, Landed: account.Landed, DeadLettered: account.DeadLettered, LeftOut: account.LeftOut,
		DuplicateRows: account.DuplicateRows, Missing: all.Missing,
		Seconds: seconds, EventsPerSecond: float64(produced) / seconds, Latency: latency,
		References: s.Objects.Count(objects.Create),
		Rejected:   most, data: f.data,
		interrupted: ctx.Err() != nil, failed: failed,
	}
	if s.PubSub != nil {
		messages := s.PubSub.Stats(local.Ingest)
		summary.Messages, summary.PayloadBytes = messages.Published, messages.Bytes
	}
	return summary, nil
}

// rejected is why events were rejected.
type rejected struct {
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"`
	Events int64  `json:"events"`
}

// rejectedMost are the reasons for which most events were rejected since a moment.
func rejectedMost(ctx context.Context, s *local.Stack, since time.Time) ([]rejected, error) {
	rows, err := query.All(ctx, s.Engine(), fmt.Sprintf(`
SELECT error_code, COALESCE(error_field, '') AS field, COUNT(*) AS events FROM %s.events_dlq
WHERE failed_at >= %s GROUP BY error_code, field ORDER BY events DESC, error_code, field LIMIT 3`,
		local.Dataset, contract.SQLTime(since)))
	if err != nil {
		return nil, fmt.Errorf("why events were rejected: %w", err)
	}
	all := make([]rejected, len(rows))
	for i, row := range rows {
		all[i] = rejected{row[0].(string), row[1].(string), row[2].(int64)}
	}
	return all, nil
}

// produce sends the input at rate events per second; 0: as fast as it goes.
func produce(ctx context.Context, p *local.Producer, in source, rate float64) error {
	begin := time.Now()
	for n := 0; ; n++ {
		if n%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if rate > 0 {
			due := begin.Add(time.Duration(float64(n) / rate * float64(time.Second)))
			if wait := time.Until(due); wait > time.Millisecond {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(wait):
				}
			}
		}
		key, value, err := in.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.Produce(ctx, key, value, nil); err != nil {
			return fmt.Errorf("producing event %d to Kafka: %w", n+1, err)
		}
	}
}

func (s Summary) print(w io.Writer) {
	fmt.Fprintf(w, `produced       %12d
landed         %12d
dead-lettered  %12d
left out       %12d
missing        %12d
duplicate rows %12d
seconds        %12.1f
events/s       %12.0f
messages       %12d of %d bytes, %d with their records in an object
latency        p50 %d ms, p95 %d ms, p99 %d ms, max %d ms
`, s.Produced, s.Landed, s.DeadLettered, s.LeftOut, s.Missing, s.DuplicateRows, s.Seconds, s.EventsPerSecond, s.Messages, s.PayloadBytes, s.References,
		s.Latency.P50, s.Latency.P95, s.Latency.P99, s.Latency.Max)
	if len(s.Rejected) == 0 {
		return
	}
	var reasons []string
	for _, r := range s.Rejected {
		reasons = append(reasons, strings.TrimSpace(fmt.Sprintf("%d × %s %s", r.Events, r.Code, r.Field)))
	}
	fmt.Fprintf(w, "rejected most  %s\n", strings.Join(reasons, ", "))
	if s.data == "" {
		fmt.Fprintln(w, "               with --data DIR the events are kept, and ./scripts/query shows them")
		return
	}
	fmt.Fprintf(w, "               ./scripts/query --data %s 'SELECT error_code, error, original_event FROM events_dlq LIMIT 10'\n", s.data)
}

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
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2"

	"sluice/bridge"
	"sluice/functions/event"
	"sluice/internal/local"
	"sluice/internal/query"
	"sluice/internal/replay"
	"sluice/internal/telemetry"
	"sluice/scripts/pipeline"
)

type replayFlags struct {
	tables  target
	filter  replay.Filter
	since   moment
	until   moment
	codes   values
	offsets string

	execute, list, json bool
	resume, transform   string
	limit               int64
	rate                float64
	types               values

	via, topic string
	producer   bridge.Config
}

func parseReplayFlags(args []string) (replayFlags, error) {
	f := replayFlags{producer: bridge.DefaultConfig(), via: replay.ViaPubSub}
	f.producer.Brokers, f.producer.Consumer = "", "sluice-replay"
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	f.tables.flags(flags)
	flags.Var(&f.codes, "code", "error `code` of the letters; may be repeated. Default: all")
	flags.StringVar(&f.filter.Field, "field", "", "the `field` at fault")
	flags.Var(&f.since, "since", "letters that failed from this `time` on: RFC 3339, a day, or how long ago (24h)")
	flags.Var(&f.until, "until", "letters that failed before this `time`")
	flags.StringVar(&f.filter.Topic, "kafka-topic", "", "Kafka `topic` that the letters came from")
	flags.Func("partition", "Kafka `partition` that they came from", func(s string) error {
		n, err := strconv.ParseInt(s, 10, 32)
		f.filter.Partition = &n
		return err
	})
	flags.StringVar(&f.offsets, "offsets", "", "`range` of Kafka offsets, both ends inclusive: 100-200, 100- or 100")
	flags.StringVar(&f.filter.EventID, "event-id", "", "`id` of one event")
	flags.BoolVar(&f.filter.Landed, "landed", false, "take letters too that have landed since they failed")
	flags.StringVar(&f.transform, "transform", "", "jq `expression` that repairs each event; why it failed is in $code and $field")
	flags.Int64Var(&f.limit, "limit", 0, "send at most so many `letters`; 0: all")
	flags.Float64Var(&f.rate, "rate", 0, "send at most so many `letters` per second; 0: as fast as it goes")
	flags.Var(&f.types, "event-types", "`values` that event_type may have, for the dry run's forecast (EVENT_TYPES of the functions)")
	flags.BoolVar(&f.execute, "execute", false, "send the letters; without it, only say what would be sent")
	flags.StringVar(&f.resume, "resume", "", "go on with the replay kept in this `file`, which a killed one leaves behind")
	flags.BoolVar(&f.list, "list", false, "list the replays so far, and what became of them")
	flags.BoolVar(&f.json, "json", false, "print JSON on standard output")
	flags.StringVar(&f.via, "via", f.via, "`way` to send them: pubsub keeps the records' Kafka coordinates, kafka gives them new ones")
	flags.StringVar(&f.topic, "topic", "", "Pub/Sub or Kafka `topic` to send to; default: the bridge's Pub/Sub topic, or each letter's own Kafka topic")
	flags.StringVar(&f.producer.Brokers, "kafka", "", "with --project and --via kafka: `servers` host:port, separated by commas")
	flags.Var(&f.producer.Properties, "kafka-config", "librdkafka property as `property=value`; secrets as KAFKA_CONFIG_<PROPERTY> in the environment")
	flags.StringVar(&f.producer.OAuth, "kafka-oauth", "", "`source` of OAUTHBEARER tokens: google (Managed Service for Apache Kafka) or empty")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Sends dead letters through the pipeline again, with their original bytes and coordinates.
Without --execute it only says what it would send.

  ./scripts/replay --data .data --code invalid_event_type --transform '.event_type = "page_view"'
  ./scripts/replay --project P --code delivery_attempts_exhausted --since 24h --rate 500 --execute
  ./scripts/replay --resume replay-20261122-120000-4f2a1b.json
  ./scripts/replay --project P --list

`)
		flags.PrintDefaults()
	}
	if err := f.producer.Properties.FromEnvironment(os.Environ(), os.ReadFile); err != nil {
		return f, err
	}
	if err := parse(flags, args); err != nil {
		return f, err
	}
	if err := noMore(flags); err != nil {
		return f, err
	}
	f.filter.Codes, f.filter.Since, f.filter.Until = f.codes, f.since.Time, f.until.Time
	if f.resume != "" {
		// The rest is kept in the file.
		own := map[string]bool{"resume": true, "execute": true, "data": true, "project": true, "dataset": true, "location": true,
			"rate": true, "json": true, "kafka": true, "kafka-config": true, "kafka-oauth": true}
		var foreign string
		flags.Visit(func(given *flag.Flag) {
			if !own[given.Name] {
				foreign = given.Name
			}
		})
		if foreign != "" {
			return f, usageError("--%s is not for --resume: the replay goes on as it began", foreign)
		}
	}
	switch {
	case f.via != replay.ViaPubSub && f.via != replay.ViaKafka:
		return f, usageError("--via is %q: use pubsub or kafka", f.via)
	case f.list && f.execute:
		return f, usageError("--list and --execute do not go together")
	case f.limit < 0 || f.rate < 0:
		return f, usageError("--limit and --rate are numbers from 0 on")
	}
	if f.offsets != "" {
		first, last, isRange := strings.Cut(f.offsets, "-")
		low, err := strconv.ParseInt(first, 10, 64)
		high := low
		if err == nil && isRange && last != "" {
			high, err = strconv.ParseInt(last, 10, 64)
		}
		if err != nil || high < low {
			return f, usageError("--offsets is %q: write 100-200, 100- or 100", f.offsets)
		}
		f.filter.FirstOffset = &low
		if !isRange || last != "" {
			f.filter.LastOffset = &high
		}
	}
	return f, nil
}

// replayLetters sends dead letters into the pipeline again.
func replayLetters(ctx context.Context, args []string) error {
	f, err := parseReplayFlags(args)
	if err != nil {
		return err
	}
	r := replay.New(f.tables.name(), f.filter)
	r.Transform, r.Limit, r.Via, r.To = f.transform, f.limit, f.via, f.topic
	file := "replay-" + r.ID + ".json"
	if f.tables.local() {
		file = filepath.Join(f.tables.data, file)
	}
	if f.resume != "" {
		file, f.execute = f.resume, true
		if r, err = replay.Load(file); err != nil {
			return err
		}
		if r.Done {
			return fmt.Errorf("the replay %s is done: it sent %s", r.ID, letters(r.Sent))
		}
		if r.Dataset != f.tables.name() {
			return usageError("the replay %s is of %s: give the same --project and --dataset, or --data", r.ID, r.Dataset)
		}
	}
	if r.Via == replay.ViaKafka && f.execute && !f.tables.local() && f.producer.Brokers == "" {
		return usageError("--via kafka needs the brokers: --kafka HOST:PORT")
	}
	if f.execute {
		return executeReplay(ctx, f, r, file)
	}
	engine, closeTables, err := f.tables.engine(ctx)
	if err != nil {
		return err
	}
	defer closeTables()
	if f.list {
		outcomes, err := replay.Outcomes(ctx, engine, r.Dataset)
		if err != nil {
			return err
		}
		return printOutcomes(os.Stdout, f.json, outcomes)
	}
	judge, err := event.Judge(f.types...)
	if err != nil {
		return err
	}
	plan, err := replay.Look(ctx, engine, r, judge)
	if err != nil {
		return err
	}
	return printPlan(os.Stdout, f.json, plan)
}

// executeReplay sends the letters of r.
func executeReplay(ctx context.Context, f replayFlags, r *replay.Replay, file string) error {
	options := replay.Options{File: file, Rate: f.rate, Progress: func(r *replay.Replay) {
		fmt.Fprintf(os.Stderr, "replay %s: %s sent\n", r.ID, letters(r.Sent))
	}}
	outcomes := []replay.Outcome{{ID: r.ID}}
	run := executeRemote
	if f.tables.local() {
		run = executeLocal
	}
	if err := run(ctx, f, r, options, &outcomes); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		if !exists(file) {
			return err
		}
		return fmt.Errorf("%w\nsent so far: %s; go on with: ./scripts/replay %s --resume %s", err, letters(r.Sent), f.tables.words(), file)
	}
	for reason, n := range r.Skipped {
		fmt.Fprintf(os.Stderr, "not sent: %s, %s.\n", letters(n), reason)
	}
	if f.tables.local() {
		return printOutcomes(os.Stdout, f.json, outcomes)
	}
	if f.json {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Printf("Replay %s: %s sent. ./scripts/replay %s --list tells what becomes of them.\n", r.ID, letters(r.Sent), f.tables.words())
	return nil
}

// executeRemote sends to Google Cloud's Pub/Sub or to a Kafka.
func executeRemote(ctx context.Context, f replayFlags, r *replay.Replay, o replay.Options, _ *[]replay.Outcome) error {
	engine, closeTables, err := f.tables.engine(ctx)
	if err != nil {
		return err
	}
	defer closeTables()
	if r.Via == replay.ViaKafka {
		return throughKafka(ctx, f, engine, r, o)
	}
	client, err := pubsub.NewClient(ctx, f.tables.project)
	if err != nil {
		return fmt.Errorf("make the Pub/Sub client: %w", err)
	}
	defer client.Close()
	target, stop := pubsubTarget(r, client)
	defer stop()
	return replay.Execute(ctx, engine, r, target, o)
}

// executeLocal runs the pipeline on the kept data for as long as the letters need.
func executeLocal(ctx context.Context, f replayFlags, r *replay.Replay, o replay.Options, outcomes *[]replay.Outcome) (err error) {
	w, err := openWarehouse(f.tables.data) // only to say so if there is none
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return err
	}
	s, err := pipeline.Start(ctx, pipeline.Config{Config: local.Config{
		Dir: f.tables.data, Log: telemetry.NewLogger(os.Stderr, slog.LevelWarn),
	}})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = errors.Join(err, s.Stop(stopping))
	}()
	engine := query.Database{DB: s.Warehouse.DB()}
	if r.Via == replay.ViaKafka {
		f.producer.Brokers = s.Kafka.Brokers()
		if err := throughKafka(ctx, f, engine, r, o); err != nil {
			return err
		}
		if _, err := s.AwaitAll(ctx, nil, s.Ends(), time.Minute); err != nil {
			return err
		}
	} else {
		client, err := pubsub.NewClient(ctx, local.Project, s.PubSub.ClientOptions()...)
		if err != nil {
			return err
		}
		defer client.Close()
		target, stop := pubsubTarget(r, client)
		defer stop()
		if err := replay.Execute(ctx, engine, r, settled{target, s}, o); err != nil {
			return err
		}
	}
	if err := s.PubSub.WaitIdle(ctx); err != nil {
		return err
	}
	all, err := replay.Outcomes(ctx, engine, r.Dataset)
	for _, outcome := range all {
		if outcome.ID == r.ID {
			*outcomes = []replay.Outcome{outcome}
		}
	}
	return err
}

// settled is a target whose letters have arrived when Send returns: the embedded
// Pub/Sub keeps its messages in memory, and a replay that is killed must not take
// them for sent.
type settled struct {
	replay.Target
	stack *local.Stack
}

func (t settled) Send(ctx context.Context, letters []*replay.Letter) error {
	if err := t.Target.Send(ctx, letters); err != nil {
		return err
	}
	return t.stack.PubSub.WaitIdle(ctx)
}

// pubsubTarget publishes to the topic until it is stopped.
func pubsubTarget(r *replay.Replay, client *pubsub.Client) (target replay.Target, stop func()) {
	publisher := client.Publisher(cmp.Or(r.To, local.Topic))
	publisher.PublishSettings.ByteThreshold = 3 << 20
	return replay.PubSub{Publisher: publisher}, publisher.Stop
}

func throughKafka(ctx context.Context, f replayFlags, engine query.Engine, r *replay.Replay, o replay.Options) error {
	properties := *f.producer.ConsumerConfig()
	for _, consumers := range []string{"group.id", "auto.offset.reset", "enable.auto.offset.store", "enable.auto.commit",
		"auto.commit.interval.ms", "partition.assignment.strategy", "fetch.queue.backoff.ms", "queued.max.messages.kbytes", "fetch.max.bytes", "statistics.interval.ms"} {
		delete(properties, consumers)
	}
	token, err := kafkaToken(ctx, f.producer)
	if err != nil {
		return err
	}
	target, err := replay.OpenKafka(properties, r.To, token)
	if err != nil {
		return err
	}
	defer target.Close()
	return replay.Execute(ctx, engine, r, target, o)
}

// letters is so many letters in words.
func letters(n int64) string {
	if n == 1 {
		return "1 letter"
	}
	return fmt.Sprintf("%d letters", n)
}

func printPlan(w io.Writer, asJSON bool, p *replay.Plan) error {
	if asJSON {
		return json.NewEncoder(w).Encode(p)
	}
	var fails int64
	rows := [][]any{}
	for _, c := range p.Codes {
		fails += c.Fails
		rows = append(rows, []any{c.Code, c.Field, c.Letters, c.Letters - c.Fails, c.Fails})
	}
	printTable(w, []string{"code", "field", "letters", "would land", "would be rejected again"}, rows)
	for _, s := range p.Skipped {
		fmt.Fprintf(w, "%s cannot be sent: %s.\n", letters(s.Letters), s.Reason)
	}
	for _, line := range p.Sample {
		fmt.Fprintln(w, " ", line)
	}
	_, err := fmt.Fprintf(w, "%s would be sent, %d would land. Nothing has been sent: --execute does.\n", letters(p.Letters), p.Letters-fails)
	return err
}

func printOutcomes(w io.Writer, asJSON bool, outcomes []replay.Outcome) error {
	if asJSON {
		for _, o := range outcomes {
			if err := json.NewEncoder(w).Encode(o); err != nil {
				return err
			}
		}
		return nil
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Format(time.DateTime)
	}
	rows := [][]any{}
	for _, o := range outcomes {
		rows = append(rows, []any{o.ID, o.Landed, o.Rejected, at(o.First), at(o.Last)})
	}
	printTable(w, []string{"replay", "landed rows", "rejected again", "first", "last"}, rows)
	return nil
}

package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2"

	"sluice/functions/event"
	"sluice/internal/contract"
	"sluice/internal/kafkaclient"
	"sluice/internal/query"
	"sluice/internal/registry"
	"sluice/internal/replay"
	"sluice/internal/settings"
)

type replayFlags struct {
	tables  target
	filter  replay.Filter
	since   moment
	events  moment
	until   moment
	codes   values
	offsets string

	execute, list, json bool
	resume, transform   string
	registry            string
	limit               int64
	rate                float64
	types               values

	via, topic, group string
	producer          kafkaclient.Connection
}

func parseReplayFlags(local *Local, args []string) (replayFlags, error) {
	f := replayFlags{tables: target{here: local}, via: replay.ViaPubSub}
	f.producer.ClientID = "sluice-replay"
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
	flags.Var(&f.events, "events-since", "read only rows of events that happened from this `time` on to find out which letters have landed: BigQuery reads, and bills, no older\n"+
		"partitions. A letter whose event is older counts as not landed, and is sent again, which the view hides")
	flags.BoolVar(&f.filter.Landed, "landed", false, "take letters too that have landed since they failed")
	flags.StringVar(&f.registry, "registry", "", "`address` of the schema registry, instead of the one that contracts "+
		"name; credentials come from SCHEMA_REGISTRY_* of the environment")
	flags.StringVar(&f.transform, "transform", "",
		"jq `expression` that repairs each event; why it failed is in $code and $field")
	flags.Int64Var(&f.limit, "limit", 0, "send at most so many `letters`; 0: all")
	flags.Float64Var(&f.rate, "rate", 0, "send at most so many `letters` per second; 0: as fast as it goes")
	flags.Var(&f.types, "event-types", "`values` that event_type may have, for the dry run's forecast (EVENT_TYPES of the functions)")
	flags.BoolVar(&f.execute, "execute", false, "send the letters; without it, only say what would be sent")
	flags.StringVar(&f.resume, "resume", "", "go on with the replay kept in this `file`, which a killed one leaves behind")
	flags.BoolVar(&f.list, "list", false, "list the replays so far, and what became of them")
	flags.BoolVar(&f.json, "json", false, "print JSON on standard output")
	flags.StringVar(&f.via, "via", f.via, "`way` to send them: pubsub keeps the records' Kafka coordinates, kafka gives them new ones")
	flags.StringVar(&f.topic, "topic", "", "Pub/Sub or Kafka `topic` to send to; default: the bridge's Pub/Sub topic, or each letter's own Kafka topic")
	flags.StringVar(&f.producer.Brokers, "kafka", "",
		"with --project and --via kafka: `servers` host:port, separated by commas")
	flags.StringVar(&f.group, "group", DefaultGroup,
		"with --via kafka: consumer `group` of the bridge. Without --topic, letters go only to topics that it has read")
	flags.Var(&f.producer.Properties, "kafka-config",
		"librdkafka property as `property=value`; secrets as KAFKA_CONFIG_<PROPERTY> in the environment")
	flags.StringVar(&f.producer.OAuth, "kafka-oauth", "",
		"`source` of OAUTHBEARER tokens: google (Managed Service for Apache Kafka) or empty")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Sends dead letters through the pipeline again, with their original bytes and coordinates.
Without --execute it only says what it would send.

  ./scripts/replay --data .data --code invalid_event_type --transform '.event_type = "page_view"'
  ./scripts/replay --project P --code delivery_attempts_exhausted --since 24h --rate 500 --execute
  ./scripts/replay --resume replay-20261122-120000-4f2a1b.json
  ./scripts/replay --project P --list

`)
		settings.PrintSections(flags.Output(), flags, []settings.Section{
			{Title: "Where the tables are", Flags: tableFlags},
			{Title: "Which letters", Flags: []string{"code", "field", "since", "until", "kafka-topic", "partition", "offsets",
				"event-id", "landed", "limit", "events-since"}},
			{Title: "What is sent", Flags: []string{"transform", "registry", "event-types"}},
			{Title: "Whether, how and where to", Flags: []string{"execute", "rate", "via", "topic", "kafka", "group",
				"kafka-config", "kafka-oauth"}},
			{Title: "Replays before, and what is printed", Flags: []string{"resume", "list", "json"}},
		})
	}
	if err := f.producer.Properties.FromEnvironment(os.Environ(), os.ReadFile); err != nil {
		return f, err
	}
	if err := Parse(flags, args); err != nil {
		return f, err
	}
	if err := NoMore(flags); err != nil {
		return f, err
	}
	if err := CheckBrokers(f.producer.Brokers); err != nil {
		return f, err
	}
	if err := f.tables.validate(); err != nil {
		return f, err
	}
	f.filter.Codes, f.filter.Since, f.filter.Until, f.filter.EventsSince = f.codes, f.since.Time, f.until.Time, f.events.Time
	if f.resume != "" {
		// The rest is kept in the file.
		own := map[string]bool{"resume": true, "execute": true, "data": true, "project": true, "dataset": true,
			"location": true, "contracts": true,
			"rate": true, "json": true, "registry": true, "kafka": true, "kafka-config": true, "kafka-oauth": true}
		var foreign string
		flags.Visit(func(given *flag.Flag) {
			if !own[given.Name] {
				foreign = given.Name
			}
		})
		if foreign != "" {
			return f, UsageError("--%s is not for --resume: the replay goes on as it began", foreign)
		}
	}
	switch {
	case f.via != replay.ViaPubSub && f.via != replay.ViaKafka:
		return f, UsageError("--via is %q: use pubsub or kafka", f.via)
	case f.list && f.execute:
		return f, UsageError("--list and --execute do not go together")
	case f.limit < 0 || f.rate < 0:
		return f, UsageError("--limit and --rate are numbers from 0 on")
	}
	if f.offsets != "" {
		first, last, isRange := strings.Cut(f.offsets, "-")
		low, err := strconv.ParseInt(first, 10, 64)
		high := low
		if err == nil && isRange && last != "" {
			high, err = strconv.ParseInt(last, 10, 64)
		}
		if err != nil || high < low {
			return f, UsageError("--offsets is %q: write 100-200, 100- or 100", f.offsets)
		}
		f.filter.FirstOffset = &low
		if !isRange || last != "" {
			f.filter.LastOffset = &high
		}
	}
	return f, nil
}

// Replay is the command that sends dead letters into the pipeline again. local is nil in a
// program that replays in Google Cloud only.
func Replay(local *Local) Command {
	return func(ctx context.Context, args []string) error { return replays(ctx, local, args) }
}

func replays(ctx context.Context, local *Local, args []string) error {
	f, err := parseReplayFlags(local, args)
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
			return UsageError("the replay %s is of %s: give the same --project and --dataset, or --data", r.ID,
				r.Dataset)
		}
	}
	if r.Contracts, err = f.tables.contracts(); err != nil {
		return err
	}
	if f.tables.local() && f.registry == "" && !f.execute {
		url, closeRegistry, err := f.tables.here.Registry(r.Contracts)
		if err != nil {
			return err
		}
		defer closeRegistry()
		f.registry = url
	}
	r.Writers = registry.NewWriters(f.registry)
	if r.Via == replay.ViaKafka && f.execute && !f.tables.local() && f.producer.Brokers == "" {
		return UsageError("--via kafka needs the brokers: --kafka HOST:PORT")
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
		outcomes, err := replay.Outcomes(ctx, engine, contract.Query{Dataset: r.Dataset, Contracts: r.Contracts})
		if err != nil {
			return err
		}
		return printOutcomes(os.Stdout, f.json, outcomes)
	}
	judge, err := event.NewJudge(r.Contracts, r.Writers, f.types...)
	if err != nil {
		return err
	}
	plan, err := replay.Look(ctx, engine, r, judge.Judge)
	if err != nil {
		return err
	}
	return printPlan(os.Stdout, f.json, plan)
}

// executeReplay sends the letters of r.
func executeReplay(ctx context.Context, f replayFlags, r *replay.Replay, file string) error {
	begin := time.Now()
	options := replay.Options{File: file, Rate: f.rate, Progress: func(r *replay.Replay) {
		left := ""
		if took, done := time.Since(begin), r.Progress(); took > time.Second && done > 0 && done < 1 {
			left = fmt.Sprintf(", about %s to go", time.Duration(float64(took)*(1-done)/done).Round(time.Second))
		}
		fmt.Fprintf(os.Stderr, "replay %s: %s sent%s\n", r.ID, letters(r.Sent), left)
	}}
	outcome := &replay.Outcome{ID: r.ID}
	var err error
	if f.tables.local() {
		outcome, err = f.tables.here.Replay(ctx, f.tables.data, r, options)
	} else {
		err = executeRemote(ctx, f, r, options)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		if !exists(file) {
			return err
		}
		return fmt.Errorf("%w\nsent so far: %s; go on with: ./scripts/replay %s --resume %s", err, letters(r.Sent),
			f.tables.words(), file)
	}
	for reason, n := range r.Skipped {
		fmt.Fprintf(os.Stderr, "not sent: %s, %s.\n", letters(n), reason)
	}
	if f.tables.local() {
		return printOutcomes(os.Stdout, f.json, []replay.Outcome{*outcome})
	}
	if f.json {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Printf("Replay %s: %s sent. ./scripts/replay %s --list tells what becomes of them.\n", r.ID, letters(r.Sent),
		f.tables.words())
	return nil
}

// executeRemote sends to Google Cloud's Pub/Sub or to a Kafka.
func executeRemote(ctx context.Context, f replayFlags, r *replay.Replay, o replay.Options) error {
	engine, closeTables, err := f.tables.engine(ctx)
	if err != nil {
		return err
	}
	defer closeTables()
	var client *pubsub.Client
	if r.Via != replay.ViaKafka {
		if client, err = pubsub.NewClient(ctx, f.tables.project); err != nil {
			return fmt.Errorf("make the Pub/Sub client: %w", err)
		}
		defer client.Close()
	}
	return Execute(ctx, engine, r, o, &f.producer, f.group, client, nil)
}

// Execute sends the letters of r to its target: through a Kafka reached by c, of whose topics group reads some, or with
// client to Pub/Sub, where wrap may put something around the target.
func Execute(
	ctx context.Context, engine query.Engine, r *replay.Replay, o replay.Options,
	c *kafkaclient.Connection, group string, client *pubsub.Client, wrap func(replay.Target) replay.Target,
) error {
	if r.Via == replay.ViaKafka {
		token, err := c.Token(ctx)
		if err != nil {
			return err
		}
		target, err := replay.OpenKafka(ctx, replay.KafkaConfig{Properties: c.ConfigMap(), Topic: r.To, Group: group,
			Token: token})
		if err != nil {
			return err
		}
		defer target.Close()
		return replay.Execute(ctx, engine, r, target, o)
	}
	publisher := client.Publisher(cmp.Or(r.To, DefaultTopic))
	defer publisher.Stop()
	publisher.PublishSettings.ByteThreshold = 3 << 20
	var target replay.Target = replay.PubSub{Publisher: publisher}
	if wrap != nil {
		target = wrap(target)
	}
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
	PrintTable(w, []string{"code", "field", "letters", "would land", "would be rejected again"}, rows)
	for _, s := range p.Skipped {
		fmt.Fprintf(w, "%s cannot be sent: %s.\n", letters(s.Letters), s.Reason)
	}
	for _, line := range p.Sample {
		fmt.Fprintln(w, " ", line)
	}
	_, err := fmt.Fprintf(w, "%s would be sent, %d would land. Nothing has been sent: --execute does.\n",
		letters(p.Letters), p.Letters-fails)
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
	PrintTable(w, []string{"replay", "landed rows", "rejected again", "first", "last"}, rows)
	return nil
}

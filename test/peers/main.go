// Command peers measures Sluice beside other ways from Kafka to Pub/Sub and BigQuery: ./scripts/bench --peers.
//
// One Apache Kafka has the events. Each way reads all of them, in turns over several rounds, and writes to a Pub/Sub
// and a BigQuery that answer at once and keep nothing (stub.go). What counts is the CPU time of its processes, user and
// system; that of Kafka and of the stubs is nobody's. The table goes to test/docs/peers.md.
//
// It needs Java 17, Maven and Python 3 with venv; what they fetch is kept in the user's cache folder.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/generate"
	"sluice/internal/local/pubsub"
	"sluice/test/thirdparty/kafka"
)

const (
	topic        = "clickstream"
	partitions   = 6
	subscription = "ingest"
)

// bench is what all runs share.
type bench struct {
	root   string // of the project
	dir    string // for what this run makes
	kept   string // what stays between runs: fetched jars, Python's packages
	kafka  *kafka.Cluster
	sink   *sink
	pubsub *pubsub.Server // pushes to the functions
	events int
	log    string // file that takes the output of the peers
}

func main() {
	events := flag.Int("events", 1_000_000, "events in Kafka")
	rounds := flag.Int("rounds", 3, "rounds")
	only := flag.String("only", "", "only the ways whose name contains this")
	out := flag.String("out", "", "file for the table; empty: standard output")
	scale := flag.Bool("scale", false, "measure Sluice at many sizes instead, for test/docs/scale.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *events, *rounds, *only, *out, *scale); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, events, rounds int, only, out string, scale bool) error {
	b := &bench{events: events}
	var err error
	if b.root, err = filepath.Abs("../.."); err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	b.kept = filepath.Join(cache, "sluice", "peers")
	if b.dir, err = os.MkdirTemp("", "sluice-peers-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.log = filepath.Join(b.dir, "log")
	if err := os.Mkdir(filepath.Join(b.dir, "kafka"), 0o755); err != nil {
		return err
	}
	if b.sink, err = startSink(); err != nil {
		return err
	}
	defer b.sink.Close()
	if b.pubsub, err = pubsub.Start(pubsub.Config{}); err != nil {
		return err
	}
	defer b.pubsub.Close()
	for _, name := range []string{"clickstream", "clickstream-dead-letter"} {
		if err := b.pubsub.CreateTopic(ctx, name); err != nil {
			return err
		}
	}
	if err := b.pubsub.CreatePushSubscription(ctx, pubsub.PushSubscription{Name: subscription, Topic: "clickstream",
		Unwrapped: true,
		Endpoint:  "http://127.0.0.1:1/", AckDeadline: time.Minute, MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second}); err != nil {
		return err
	}
	var ways []way
	for _, w := range b.ways() {
		if strings.Contains(w.name, only) && !scale {
			ways = append(ways, w)
		}
	}
	for _, w := range ways {
		log.Printf("preparing %s", w.name)
		if err := w.prepare(ctx); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	log.Print("starting Apache Kafka")
	if b.kafka, err = kafka.Start(ctx, kafka.Config{Dir: filepath.Join(b.dir, "kafka"), Brokers: 1}); err != nil {
		return err
	}
	defer b.kafka.Close()
	if scale {
		return b.scale(ctx, events, out)
	}
	size, err := b.produce(ctx)
	if err != nil {
		return err
	}
	results := make([][]result, len(ways))
	for round := range rounds {
		for i, w := range ways {
			r, err := b.measure(ctx, &w, round)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", w.name, err, b.tail())
			}
			log.Printf("round %d: %-40s %6.2f CPU s a million events", round+1, w.name, r.cpu)
			results[i] = append(results[i], *r)
		}
	}
	table := b.table(ways, results, size, rounds)
	if out == "" {
		_, err = os.Stdout.Write(table)
		return err
	}
	return os.WriteFile(out, table, 0o644)
}

// produce writes the events, and returns their mean size in bytes.
func (b *bench) produce(ctx context.Context) (int, error) {
	log.Printf("producing %d events", b.events)
	if err := b.kafka.CreateTopic(ctx, topic, partitions, nil); err != nil {
		return 0, err
	}
	config := b.kafka.Client()
	for key, value := range map[string]any{"linger.ms": 50, "batch.size": 200_000, "acks": "all"} {
		if err := config.SetKey(key, value); err != nil {
			return 0, err
		}
	}
	p, err := client.NewProducer(config)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	failed := make(chan error, 1)
	go func() {
		for e := range p.Events() {
			if m, ok := e.(*client.Message); ok && m.TopicPartition.Error != nil {
				select {
				case failed <- m.TopicPartition.Error:
				default:
				}
			}
		}
	}()
	g := generate.New(generate.Config{Seed: 1})
	to, size := topic, 0
	for range b.events {
		e := g.Next()
		size += len(e.Value)
		m := &client.Message{TopicPartition: client.TopicPartition{Topic: &to, Partition: client.PartitionAny},
			Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value)}
		for {
			err := p.Produce(m, nil)
			if e, ok := err.(client.Error); ok && e.Code() == client.ErrQueueFull {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if err != nil {
				return 0, err
			}
			break
		}
	}
	if left := p.Flush(60_000); left > 0 {
		return 0, fmt.Errorf("%d events did not reach Kafka within a minute", left)
	}
	select {
	case err := <-failed:
		return 0, err
	default:
		return size / b.events, nil
	}
}

// table writes the results as Markdown: each figure the median of the rounds.
func (b *bench) table(ways []way, results [][]result, size, rounds int) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `# Beside its peers

Written by `+"`./scripts/bench --peers`"+` on %s: %d generated events of %d bytes from one Apache Kafka with %d partitions, over
%d rounds in which the ways take turns; %s, %d cores, %s. Pub/Sub and BigQuery are stubs that answer at once, in a process
that nobody is charged for. All settings are the defaults unless the row says otherwise.

CPU is user and system time of all processes of a way from their start to their end, in seconds per million events: the
median, and the smallest and largest of the rounds. "Before the first" is what a run has spent when its first event arrives:
the start of a JVM, or a first batch that fills.

| from Kafka to | CPU s per million | of the rounds | before the first, CPU s | requests per million | bytes per event | peak memory, MiB | events/s |
|---|---|---|---|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), b.events, size, partitions, rounds, processor(), runtime.NumCPU(), runtime.Version())
	for i, w := range ways {
		rs := results[i]
		of := func(f func(r *result) float64) (low, median, high float64) {
			var all []float64
			for i := range rs {
				all = append(all, f(&rs[i]))
			}
			slices.Sort(all)
			return all[0], all[len(all)/2], all[len(all)-1]
		}
		low, cpu, high := of(func(r *result) float64 { return r.cpu })
		_, start, _ := of(func(r *result) float64 { return r.start })
		_, requests, _ := of(func(r *result) float64 { return r.requests })
		_, each, _ := of(func(r *result) float64 { return r.bytes })
		_, memory, _ := of(func(r *result) float64 { return r.memory })
		_, rate, _ := of(func(r *result) float64 { return r.rate })
		fmt.Fprintf(&out, "| %s | %.2f | %.2f–%.2f |", w.name, cpu, low, high)
		if w.floor {
			fmt.Fprintf(&out, " | | | %.0f | |\n", memory)
			continue
		}
		fmt.Fprintf(&out, " %.1f | %.0f | %.0f | %.0f | %.0f |\n", start, requests, each, memory, rate)
	}
	fmt.Fprintf(&out, `
What each is:

`)
	for _, w := range ways {
		fmt.Fprintf(&out, "- **%s**: %s\n", w.name, w.what)
	}
	return out.Bytes()
}

// processor is the model of this machine's, as Linux tells it.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

// tail is the end of what the peers wrote.
func (b *bench) tail() string {
	text, _ := os.ReadFile(b.log)
	return string(text[max(0, len(text)-4000):])
}

// command runs a program to its end, its output in the error if it fails.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, out)
	}
	return nil
}

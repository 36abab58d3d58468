package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"text/template"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/generate"
)

// Load is a size of the pipeline and what it is given. (The template reads exported fields.)
type Load struct {
	Bridges, Functions int
	Partitions         int
	Events             int // that wait in Kafka at the start
	Steady             int // events per second that come then, for Duration
	Duration           time.Duration
	Joined             bool // the events come when all processes are up and the bridges share the partitions
}

// outcome is what a load did.
type outcome struct {
	Load
	Rate                         float64 // events per second, from the first row to the last
	BridgeCPU, FunctionsCPU      float64 // seconds per million events
	BridgeMemory, FunctionMemory float64 // the largest resident memory of one process, MiB
	Messages                     float64 // appends per second
	P50, P99                     float64 // seconds from Kafka's timestamp to the row's arrival
}

// scale measures the pipeline at many sizes and writes test/docs/scale.md.
func (b *bench) scale(ctx context.Context, events int, out string) error {
	for _, w := range b.ways() {
		if w.group == "sluice" {
			if err := w.prepare(ctx); err != nil {
				return err
			}
		}
	}
	run := func(l Load) (*outcome, error) {
		o, err := b.load(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("%+v: %w\n%s", l, err, b.tail())
		}
		log.Printf("%+v", *o)
		return o, nil
	}
	all := func(loads ...Load) ([]*outcome, error) {
		var outcomes []*outcome
		for _, l := range loads {
			o, err := run(l)
			if err != nil {
				return nil, err
			}
			outcomes = append(outcomes, o)
		}
		return outcomes, nil
	}
	one := Load{Bridges: 1, Functions: 1, Partitions: 6, Events: events}
	of := func(change func(*Load)) Load { l := one; change(&l); return l }
	var r report
	var err error
	r.Backlogs, err = all(of(func(l *Load) { l.Events /= 10 }), one, of(func(l *Load) { l.Events *= 10 }))
	if err != nil {
		return err
	}
	r.Partitions, err = all(of(func(l *Load) { l.Partitions = 60 }), of(func(l *Load) { l.Partitions = 300 }),
		of(func(l *Load) { l.Partitions = 1000 }))
	if err != nil {
		return err
	}
	r.Partitions = slices.Insert(r.Partitions, 0, r.Backlogs[1])
	sized := func(bridges, functions int) Load {
		return of(func(l *Load) { l.Joined, l.Bridges, l.Functions = true, bridges, functions })
	}
	r.Instances, err = all(sized(1, 1), sized(2, 1), sized(1, 2), sized(2, 2), sized(3, 3))
	if err != nil {
		return err
	}
	span := 30 * time.Second
	if events < 1_000_000 { // a trial
		span = 3 * time.Second
	}
	steady := func(rate int) Load {
		return Load{Bridges: 1, Functions: 1, Partitions: 6, Steady: rate, Duration: span}
	}
	r.Rates, err = all(steady(1_000), steady(10_000), steady(50_000))
	if err != nil {
		return err
	}
	return r.write(out)
}

// load runs one load to its end.
func (b *bench) load(ctx context.Context, l Load) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := "scale-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := b.kafka.CreateTopic(ctx, name, l.Partitions, map[string]string{"retention.ms": "-1"}); err != nil {
		return nil, err
	}
	// What one load leaves behind is not to fill the disk, or the broker's memory, for the next.
	defer b.drop(name)
	g := generate.New(generate.Config{Seed: 1})
	if !l.Joined {
		if err := b.fill(ctx, name, g, l.Events, 0); err != nil {
			return nil, err
		}
	}
	b.sink.reset(nil)
	b.sink.record(l.Steady > 0)
	var commands []*exec.Cmd
	var urls []*url.URL
	for range l.Functions {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		functions := exec.CommandContext(ctx, b.program("functions"))
		functions.Env = append(os.Environ(), "FUNCTION_TARGET=Ingest", fmt.Sprintf("PORT=%d", port), "GOOGLE_CLOUD_PROJECT=local",
			"BIGQUERY_STORAGE_EMULATOR_HOST="+b.sink.Addr, "PUBSUB_EMULATOR_HOST="+b.pubsub.Addr())
		commands = append(commands, functions)
		urls = append(urls, &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	// In place of Cloud Run's balancer; it runs in this program and nobody is charged for it.
	var turn atomic.Int64
	balancer, err := serve(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(urls[int(turn.Add(1))%len(urls)]) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 1000},
		ErrorLog:  log.New(bytes.NewBuffer(nil), "", 0), // until the functions listen
	})
	if err != nil {
		return nil, err
	}
	defer balancer.Close()
	if err := b.pubsub.SetEndpoint(ctx, subscription, "http://"+balancer.Addr+"/"); err != nil {
		return nil, err
	}
	for range l.Bridges {
		cmd := b.bridge(ctx, name, b.pubsub.Addr())
		cmd.Env = append(cmd.Env, "KAFKA_TOPICS="+name)
		commands = append(commands, cmd)
	}
	output, err := os.OpenFile(b.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	defer func() {
		for _, cmd := range commands {
			if cmd.Process != nil && cmd.ProcessState == nil {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
		}
	}()
	for _, cmd := range commands {
		cmd.Stdout, cmd.Stderr = output, output
		if err := cmd.Start(); err != nil {
			return nil, err
		}
	}
	want := int64(l.Events)
	if l.Joined {
		// The members have joined, and hold still until there is a backlog.
		if err := b.joined(ctx, name, l.Bridges, l.Partitions); err != nil {
			return nil, err
		}
		for _, cmd := range commands {
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				return nil, err
			}
		}
		if err := b.fill(ctx, name, g, l.Events, 0); err != nil {
			return nil, err
		}
		for _, cmd := range commands {
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				return nil, err
			}
		}
	}
	if l.Steady > 0 {
		// A few events show that all is up; they are not timed.
		if err := b.fill(ctx, name, g, 100, 0); err != nil {
			return nil, err
		}
		if err := b.arrived(ctx, 100); err != nil {
			return nil, err
		}
		b.sink.reset(nil)
		b.sink.record(true)
		want = int64(float64(l.Steady) * l.Duration.Seconds())
		if err := b.fill(ctx, name, g, int(want), l.Steady); err != nil {
			return nil, err
		}
	}
	select {
	case <-b.sink.first():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	begin := time.Now()
	if err := b.arrived(ctx, want); err != nil {
		return nil, err
	}
	wall := time.Since(begin)
	if l.Steady > 0 {
		wall = l.Duration
	}
	o := &outcome{Load: l, Rate: float64(want) / wall.Seconds(), Messages: float64(b.sink.requests.Load()) / wall.Seconds()}
	if ages := b.sink.record(false); len(ages) > 0 {
		slices.Sort(ages)
		o.P50, o.P99 = ages[len(ages)/2], ages[len(ages)*99/100]
	}
	for i, cmd := range commands {
		mib, err := peak(cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		memory := &o.BridgeMemory
		if i < l.Functions {
			memory = &o.FunctionMemory
		}
		*memory = max(*memory, mib)
	}
	for _, cmd := range slices.Backward(commands) { // the bridges first
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			return nil, err
		}
	}
	for i, cmd := range commands {
		cpu := &o.BridgeCPU
		if i < l.Functions {
			cpu = &o.FunctionsCPU
		}
		*cpu += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() * 1e6 / float64(want)
	}
	return o, nil
}

// joined waits until a consumer group has so many members that share so many partitions.
func (b *bench) joined(ctx context.Context, group string, members, partitions int) error {
	admin, err := client.NewAdminClient(b.kafka.Client())
	if err != nil {
		return err
	}
	defer admin.Close()
	for {
		result, err := admin.DescribeConsumerGroups(ctx, []string{group})
		if err == nil {
			all, idle := 0, false
			described := result.ConsumerGroupDescriptions[0].Members
			for _, m := range described {
				all += len(m.Assignment.TopicPartitions)
				idle = idle || len(m.Assignment.TopicPartitions) == 0
			}
			if len(described) == members && all == partitions && !idle {
				return nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the group of %d bridges has not come together: %w", members, ctx.Err())
		}
	}
}

// arrived waits until so many rows have come since the last reset.
func (b *bench) arrived(ctx context.Context, rows int64) error {
	for b.sink.events.Load() < rows {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("after %d of %d rows: %w", b.sink.events.Load(), rows, ctx.Err())
		}
	}
	return nil
}

// record switches the timing of rows and returns what was kept so far.
func (s *sink) record(on bool) []float64 {
	s.timed.Store(on)
	s.mu.Lock()
	defer s.mu.Unlock()
	ages := s.ages
	s.ages = nil
	return ages
}

// serve runs a handler at a port of its own.
func serve(h http.Handler) (*http.Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: h}
	failed := make(chan error, 1)
	go func() { failed <- s.ListenAndServe() }()
	select {
	case err := <-failed:
		return nil, err
	case <-time.After(100 * time.Millisecond):
		return s, nil
	}
}

// fill produces events, all at once or so many per second.
func (b *bench) fill(ctx context.Context, to string, g *generate.Generator, events, rate int) error {
	config := b.kafka.Client()
	for key, value := range map[string]any{"linger.ms": 5, "batch.size": 200_000, "acks": "1", "compression.type": "lz4",
		"go.delivery.reports": false, "queue.buffering.max.kbytes": 200_000} {
		if err := config.SetKey(key, value); err != nil {
			return err
		}
	}
	p, err := client.NewProducer(config)
	if err != nil {
		return err
	}
	defer p.Close()
	begin := time.Now()
	for i := 0; i < events; i++ {
		if rate > 0 && i%(rate/100) == 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		}
		e := g.Next()
		m := &client.Message{TopicPartition: client.TopicPartition{Topic: &to, Partition: client.PartitionAny}, Key: e.Key, Value: e.Value}
		err := p.Produce(m, nil) // it copies
		if e, ok := err.(client.Error); ok && e.Code() == client.ErrQueueFull {
			p.Flush(10)
			i--
			continue
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if left := p.Flush(60_000); left > 0 {
		return fmt.Errorf("%d events did not reach Kafka within a minute", left)
	}
	return nil
}

// drop deletes a topic.
func (b *bench) drop(name string) {
	admin, err := client.NewAdminClient(b.kafka.Client())
	if err != nil {
		log.Print(err)
		return
	}
	defer admin.Close()
	if _, err := admin.DeleteTopics(context.Background(), []string{name}); err != nil {
		log.Print(err)
	}
}

// report is all that was measured, with what the model makes of it.
type report struct {
	Backlogs, Partitions, Instances, Rates []*outcome
}

// Sizes of an event in the two quotas that count bytes: test/docs/peers.md measures them.
const (
	messageBytes = 60  // in Pub/Sub, at the economic level
	rowBytes     = 365 // in an append to BigQuery
	eventBytes   = 419 // in Kafka, uncompressed
)

// planned is the model's word for a rate.
type planned struct {
	Rate                               int
	BridgeCPU, FunctionsCPU            float64 // vCPU
	Bridges, Functions                 int     // instances of one vCPU, at half load
	Kafka, Published, Appended         float64 // MB/s
	Messages                           float64 // per second, at most
	First, Setting                     string
	ShareOfAppend, ShareOfAppendSingle float64 // of BigQuery's quota, %: of a multi-region, of a region
}

// line is the processor time of a part, seconds per second: for an instance, and for each event besides.
type line struct{ instance, event float64 }

func (l line) at(rate float64, instances int) float64 {
	return float64(instances)*l.instance + rate*l.event
}

// through is the line through two steady rates.
func through(a, b *outcome, cpu func(*outcome) float64) line {
	busy := func(o *outcome) float64 { return float64(o.Steady) * cpu(o) / 1e6 }
	event := (busy(b) - busy(a)) / float64(b.Steady-a.Steady)
	return line{instance: max(0, busy(a)-float64(a.Steady)*event), event: event}
}

// enough is the count of instances of one vCPU that are half loaded at most.
func (l line) enough(rate float64) int {
	n := 1
	for l.at(rate, n) > float64(n)/2 {
		n++
	}
	return n
}

func (r *report) plan() []planned {
	low, high := r.Rates[0], r.Rates[len(r.Rates)-1]
	bridge := through(low, high, func(o *outcome) float64 { return o.BridgeCPU })
	functions := through(low, high, func(o *outcome) float64 { return o.FunctionsCPU })
	var all []planned
	for _, p := range []planned{
		{Rate: 1_000, First: "nothing: the smallest instances idle", Setting: "`linger`: latency against the count of messages"},
		{Rate: 100_000, First: "nothing by default quotas; a bridge's one vCPU is what fills first", Setting: "`bridge_instances`, up to the topic's partitions"},
		{Rate: 1_000_000, First: "BigQuery's append throughput in a region (300 MB/s); not in the multi-regions US and EU",
			Setting: "the dataset's location, or a raised quota; then `bridge_instances` and `max_instances`"},
	} {
		r := float64(p.Rate)
		p.Bridges, p.Functions = bridge.enough(r), functions.enough(r)
		p.BridgeCPU, p.FunctionsCPU = bridge.at(r, p.Bridges), functions.at(r, p.Functions)
		p.Kafka, p.Published, p.Appended = r*eventBytes/1e6, r*messageBytes/1e6, r*rowBytes/1e6
		p.ShareOfAppend, p.ShareOfAppendSingle = p.Appended/3000*100, p.Appended/300*100
		all = append(all, p)
	}
	return all
}

func (r *report) write(out string) error {
	funcs := template.FuncMap{"count": grouped, "round": func(f float64) string { return grouped(int(f + 0.5)) },
		"ms": func(s float64) string { return fmt.Sprintf("%.0f", s*1000) }}
	t, err := template.New("scale").Funcs(funcs).Parse(page)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, map[string]any{"R": r, "Plan": r.plan(), "Day": time.Now().UTC().Format(time.DateOnly), "CPU": processor(),
		"Cores": runtime.NumCPU(), "Go": runtime.Version()}); err != nil {
		return err
	}
	if out == "" {
		_, err = os.Stdout.Write(text.Bytes())
		return err
	}
	return os.WriteFile(out, bytes.ReplaceAll(text.Bytes(), []byte(" \n"), []byte("\n")), 0o644)
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

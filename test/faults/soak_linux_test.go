package faults

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

var (
	soakTime = flag.Duration("soak", 10*time.Second, "how long TestSoak runs")
	plot     = flag.String("plot", "", "file for TestSoak's plot, an SVG; empty: none")
)

// At full rate, for as long as one likes, the two programs that are deployed must
// not grow: their memory, goroutines and connections are sampled and plotted. Every
// record is accounted for on the way.
func TestSoak(t *testing.T) {
	bridge, functions := build(t, "sluice/bridge/cmd/bridge"), build(t, "sluice/functions/cmd/functions")
	// The defaults of production: nothing is made small here. Nor large: an instance of
	// Ingest is given 32 requests at a time (infra/functions.tf), and each holds its batch.
	// On disk, Kafka and the warehouse need less memory for so many records.
	w := start(t, pipeline.Config{Config: local.Config{Bridges: -1, Dir: t.TempDir(),
		Push: local.PushConfig{MaxOutstanding: 32}}})
	served := &sampled{address: freeAddress(t)}
	_, port, err := net.SplitHostPort(served.address)
	w.must(err)
	served.process = w.functionsProcess(functions, freeAddress(t),
		"OTEL_METRICS_EXPORTER=prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST=127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT="+port)
	moved := &sampled{address: freeAddress(t)}
	moved.process = w.bridgeProcess(bridge, "HTTP_ADDR="+moved.address, "BATCH_RECORDS=1000", "LINGER=200ms",
		"LOG_LEVEL=warn")
	w.until("both tell their metrics", func() bool { return answers(served.address) && answers(moved.address) })

	flooding, stop := context.WithCancel(t.Context())
	flooded := make(chan error, 1)
	go func() { flooded <- w.flood(flooding) }()

	var all series
	var from local.Offsets
	var arrived int64
	type count struct {
		arrived int64
		err     error
	}
	// Counting takes its time, and must not leave holes in the curves.
	var counting chan count
	begin, counted := time.Now(), time.Now()
	for time.Since(begin) < *soakTime {
		time.Sleep(max(time.Second, *soakTime/400))
		now := w.Now()
		all = append(all, sample{
			at: time.Since(begin), arrived: now.Rows +
				now.DeadLetters, bridge: moved.look(t), functions: served.look(t),
		})
		select {
		case c := <-counting:
			w.must(c.err)
			arrived, counting, counted = arrived+c.arrived, nil, time.Now()
		default:
		}
		if counting == nil && time.Since(counted) > 10*time.Second {
			done := make(chan count, 1)
			counting = done
			go func() {
				n, err := w.forget(&from)
				done <- count{n, err}
			}()
		}
	}
	if counting != nil {
		c := <-counting
		w.must(c.err)
		arrived += c.arrived
	}
	stop()
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	w.must(w.producer.Flush(t.Context()))
	rest, err := w.forget(&from)
	w.must(err)
	arrived += rest
	if arrived != w.produced.Load() {
		t.Errorf("%d records have arrived, %d were produced", arrived, w.produced.Load())
	}
	t.Logf("%d records in %.0f s, %.0f a second, lost 0", arrived, soakTime.Seconds(),
		float64(arrived)/soakTime.Seconds())
	all.judge(t)
	if *plot != "" {
		w.must(os.MkdirAll(filepath.Dir(*plot), 0o755))
		w.must(os.WriteFile(*plot, all.svg(), 0o644))
	}
}

// flood produces as fast as the pipeline takes it: so much may be on its way.
func (w *world) flood(ctx context.Context) error {
	const onTheWay = 100_000
	g := generate.New(generate.Config{Seed: 20, Bad: 1})
	for ctx.Err() == nil {
		now := w.Now()
		if w.produced.Load()-now.Rows-now.DeadLetters > onTheWay {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		for range 1000 {
			e := g.Next()
			if err := w.producer.Produce(context.Background(), e.Key, e.Value, nil); err != nil {
				return err
			}
			w.produced.Add(1)
		}
	}
	return nil
}

// forget waits until everything that is in Kafka now has arrived, counts it, and
// removes it there and in the warehouse, which would keep all of it.
func (w *world) forget(from *local.Offsets) (int64, error) {
	to := w.Kafka.EndOffsets(w.Topic())
	account, err := w.AwaitAll(w.t.Context(), *from, to, patience)
	if err != nil {
		return 0, err
	}
	if account.Missing > 0 {
		return 0, fmt.Errorf("%d records are missing", account.Missing)
	}
	*from = to
	admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": w.Kafka.Brokers(),
		"enable.metrics.push": false})
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	topic := local.Topic
	committed := w.Kafka.Committed("clickstream-to-bigquery", topic)
	var old []kafka.TopicPartition
	for p, end := range to {
		for _, table := range []string{"fact_events", "events_dlq"} {
			if _, err := w.Warehouse.DB().ExecContext(w.t.Context(),
				"DELETE FROM "+table+" WHERE kafka_partition = ? AND kafka_offset < ?", p, end); err != nil {
				return 0, err
			}
		}
		// What is not committed may be read again.
		if end = min(end, committed[p]); end > 0 {
			old = append(old, kafka.TopicPartition{Topic: &topic, Partition: int32(p), Offset: kafka.Offset(end)})
		}
	}
	if len(old) > 0 {
		if _, err := admin.DeleteRecords(w.t.Context(), old); err != nil {
			return 0, err
		}
	}
	return account.Landed + account.DeadLettered, nil
}

// usage is what a process holds.
type usage struct {
	memory      float64 // resident, MiB
	threads     float64
	connections float64 // open sockets
	goroutines  float64
}

// sampled is a process that is looked at.
type sampled struct {
	*process
	address string // of its metrics
}

// look reads what the kernel and the program itself say of a process.
func (p *sampled) look(t *testing.T) (u usage) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatalf("the process has ended: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			u.memory = n / 1024
		case "Threads":
			u.threads = n
		}
	}
	files, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if target, err := os.Readlink(dir + "/fd/" + f.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			u.connections++
		}
	}
	u.goroutines = goroutines(t, p.address)
	return u
}

// goroutines asks a program's metrics.
func goroutines(t *testing.T, address string) float64 {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if !strings.HasPrefix(s.Text(), "go_goroutine_count") {
			continue
		}
		n, err := strconv.ParseFloat(s.Text()[strings.LastIndexByte(s.Text(), ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("the metrics have no go_goroutine_count")
	return 0
}

// sample is one look at everything.
type sample struct {
	at                time.Duration
	arrived           int64
	bridge, functions usage
}

type series []sample

// judge compares the last quarter with the second one: the first is warming up. In
// less than two minutes there is nothing to compare.
func (s series) judge(t *testing.T) {
	t.Helper()
	if len(s) < 20 || *soakTime < 2*time.Minute {
		return
	}
	mean := func(part series, of func(sample) float64) (m float64) {
		for _, x := range part {
			m += of(x) / float64(len(part))
		}
		return m
	}
	for _, c := range curves {
		if c.free {
			continue
		}
		before, after := mean(s[len(s)/4:len(s)/2], c.of), mean(s[len(s)*3/4:], c.of)
		t.Logf("%s: %.1f, at the end %.1f", c.name, before, after)
		if after > before*1.1+c.slack {
			t.Errorf("%s grows: from %.1f to %.1f", c.name, before, after)
		}
	}
}

package faults

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/test/generate"
	"sluice/test/stack"
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
	// The defaults of production, and its window: nothing is made small here. On disk,
	// Kafka and the warehouse need less memory for so many records.
	w := start(t, stack.Config{Bridges: -1, Dir: t.TempDir()})
	served := w.functionsProcess(functions)
	address := freeAddress(t)
	moved := w.bridgeProcess(bridge, "HTTP_ADDR="+address, "BATCH_RECORDS=1000", "LINGER=200ms", "LOG_LEVEL=warn")

	w.until("the bridge tells its metrics", func() bool { return answers(address) })

	flooding, stop := context.WithCancel(t.Context())
	flooded := make(chan error, 1)
	go func() { flooded <- w.flood(flooding) }()

	var all series
	var from stack.Offsets
	var arrived int64
	begin, counted := time.Now(), time.Now()
	for time.Since(begin) < *soakTime {
		time.Sleep(max(time.Second, *soakTime/400))
		now := w.Now()
		all.add(sample{
			at: time.Since(begin), arrived: now.Rows + now.DeadLetters,
			bridge: look(t, moved), functions: look(t, served), goroutines: goroutines(t, address),
		})
		if time.Since(counted) > 10*time.Second {
			arrived, counted = arrived+w.forget(&from), time.Now()
		}
	}
	stop()
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	w.must(w.producer.Flush(t.Context()))
	arrived += w.forget(&from)
	if arrived != w.produced.Load() {
		t.Errorf("%d records have arrived, %d were produced", arrived, w.produced.Load())
	}
	left := served.goroutines(t)
	t.Logf("%d records in %.0f s, %.0f a second, lost 0; functions had %d goroutines at the end", arrived, soakTime.Seconds(), float64(arrived)/soakTime.Seconds(), left)
	if left > 300 {
		t.Errorf("the functions have %d goroutines left when nothing is to be done", left)
	}
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
func (w *world) forget(from *stack.Offsets) int64 {
	w.t.Helper()
	to := w.Ends()
	account, err := w.AwaitAll(w.t.Context(), *from, to, patience)
	w.must(err)
	if account.Missing > 0 {
		w.t.Fatalf("%d records are missing", account.Missing)
	}
	*from = to
	admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": w.Kafka.Brokers(), "enable.metrics.push": false})
	w.must(err)
	defer admin.Close()
	topic := stack.Topic
	committed := w.Kafka.Committed("clickstream-to-bigquery", topic)
	var old []kafka.TopicPartition
	for p, end := range to {
		for _, table := range []string{"fact_events", "events_dlq"} {
			_, err := w.Warehouse.DB().ExecContext(w.t.Context(), "DELETE FROM "+table+" WHERE kafka_partition = ? AND kafka_offset < ?", p, end)
			w.must(err)
		}
		// What is not committed may be read again.
		if end = min(end, committed[p]); end > 0 {
			old = append(old, kafka.TopicPartition{Topic: &topic, Partition: int32(p), Offset: kafka.Offset(end)})
		}
	}
	if len(old) > 0 {
		_, err = admin.DeleteRecords(w.t.Context(), old)
		w.must(err)
	}
	return account.Landed + account.DeadLettered
}

// functionsProcess starts the functions that are deployed, and points Pub/Sub at them.
func (w *world) functionsProcess(binary string) *process {
	w.t.Helper()
	address := freeAddress(w.t)
	_, port, err := net.SplitHostPort(address)
	w.must(err)
	f := &process{cmd: exec.Command(binary), done: make(chan struct{})}
	f.cmd.Env = append(os.Environ(), "PORT="+port, "GOOGLE_CLOUD_PROJECT="+stack.Project, "LOG_LEVEL=ERROR",
		"BIGQUERY_STORAGE_EMULATOR_HOST="+w.Warehouse.Addr(), "PUBSUB_EMULATOR_HOST="+w.PubSub.Addr())
	f.cmd.Stderr = &f.log
	w.must(f.cmd.Start())
	go func() {
		_ = f.cmd.Wait()
		close(f.done)
	}()
	w.t.Cleanup(f.kill)
	w.until("the functions listen", func() bool { return answers(address) })
	for subscription, target := range map[string]string{stack.Ingest: "/Ingest", stack.DeadLetter: "/DeadLetter"} {
		w.must(w.PubSub.SetEndpoint(w.t.Context(), subscription, "http://"+address+target))
	}
	return f
}

// goroutines ends the process with SIGQUIT, at which Go lists its goroutines.
func (p *process) goroutines(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-p.done
	return strings.Count(p.log.String(), "\ngoroutine ")
}

// answers reports whether somebody listens at the address.
func answers(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// usage is what a process holds.
type usage struct {
	memory      float64 // resident, MiB
	threads     float64
	connections float64 // open sockets
}

// look reads what the kernel says of a process.
func look(t *testing.T, p *process) (u usage) {
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
	return u
}

// goroutines asks the bridge's metrics.
func goroutines(t *testing.T, address string) float64 {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "go_goroutine_count "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the bridge's metrics have no go_goroutine_count")
	return 0
}

// sample is one look at everything.
type sample struct {
	at                time.Duration
	arrived           int64
	bridge, functions usage
	goroutines        float64 // of the bridge
}

type series []sample

func (s *series) add(x sample) { *s = append(*s, x) }

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
		if after > before*1.2+c.slack {
			t.Errorf("%s grows: from %.1f to %.1f", c.name, before, after)
		}
	}
}

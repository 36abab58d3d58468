package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

// build builds a program of the product once for all tests.
func build(t *testing.T, program string) string {
	t.Helper()
	path, err := builds(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var builds = func() func(string) (string, error) {
	var mu sync.Mutex
	built := map[string]string{}
	return func(program string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if path, ok := built[program]; ok {
			return path, nil
		}
		dir, err := os.MkdirTemp("", "sluice-faults-")
		if err != nil {
			return "", err
		}
		binaries = append(binaries, dir)
		path := filepath.Join(dir, filepath.Base(program))
		if out, err := exec.Command("go", "build", "-o", path, program).CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
		built[program] = path
		return path, nil
	}
}()

// binaries are the folders to remove at the end.
var binaries []string

func TestMain(m *testing.M) {
	status := m.Run()
	for _, dir := range binaries {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// process is a running program of the product.
type process struct {
	cmd   *exec.Cmd
	done  chan struct{}
	name  string       // its member ids begin with it, and no others: see bury
	ended atomic.Int64 // nanoseconds since the Unix epoch; 0: it runs
	log   tail
}

// tail keeps what a process said last.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text = append(l.text, b...); len(l.text) > 16<<20 {
		l.text = append([]byte(nil), l.text[8<<20:]...)
	}
	return len(b), nil
}

// String is what there is now.
func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// bridgeProcess starts the bridge that is deployed, as a process of its own.
func (w *world) bridgeProcess(binary string, env ...string) *process {
	w.t.Helper()
	w.mu.Lock()
	p := &process{cmd: exec.Command(binary), done: make(chan struct{}), name: fmt.Sprintf("process-%d",
		len(w.processes))}
	w.processes = append(w.processes, p)
	first := len(w.processes) == 1
	w.mu.Unlock()
	p.cmd.Env = append(os.Environ(),
		"KAFKA_BROKERS="+w.Kafka.Brokers(), "PUBSUB_EMULATOR_HOST="+w.PubSub.Addr(), "GOOGLE_CLOUD_PROJECT="+local.Project,
		"PAYLOAD_BUCKET="+local.Bucket, "STORAGE_EMULATOR_HOST="+w.Objects.Addr(), fmt.Sprintf("REFERENCE_ABOVE=%d",
			halfBatch),
		"HTTP_ADDR=127.0.0.1:0", "LOG_LEVEL=info", "BATCH_RECORDS=50", "LINGER=50ms", "CONSUMER_NAME="+p.name,
		fmt.Sprintf("KAFKA_CONFIG_SESSION_TIMEOUT_MS=%d",
			sessionTimeout.Milliseconds()), "KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS=500",
		fmt.Sprintf("KAFKA_CONFIG_MAX_POLL_INTERVAL_MS=%d", pollInterval.Milliseconds()))
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = &p.log
	w.must(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		p.ended.Store(time.Now().UnixNano())
		close(p.done)
	}()
	w.t.Cleanup(p.kill)
	if first {
		go w.bury()
	}
	return p
}

// sessionTimeout is how soon a dead bridge process is missed.
const sessionTimeout = 2 * time.Second

// pollInterval is their max.poll.interval.ms, after which they repeat a join that kfake
// does not answer, because their session timed out while they waited for others.
const pollInterval = 20 * time.Second

// bury makes the group miss the dead processes, some time after their sessions should
// have timed out: most do, but kfake keeps some for ever, see Evict.
func (w *world) bury() {
	const group = "clickstream-to-bigquery"
	for ctx := w.t.Context(); ctx.Err() == nil; time.Sleep(500 * time.Millisecond) {
		w.mu.Lock()
		processes := slices.Clone(w.processes)
		w.mu.Unlock()
		members := w.Kafka.Members(group)
		for _, p := range processes {
			ended := p.ended.Load()
			if ended == 0 || time.Since(time.Unix(0, ended)) < sessionTimeout+time.Second {
				continue
			}
			for _, member := range members {
				if !strings.HasPrefix(member, p.name+"-") {
					continue
				}
				// It is tried again if Kafka is away, or cannot now.
				if err := w.Kafka.Evict(ctx, group, member); err == nil {
					w.evicted.Add(1)
				}
			}
		}
	}
}

// kill ends the process at once, with its machine as it were.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// The bridge's offsets must never be ahead of what Pub/Sub has acknowledged, at
// whatever moment the process ends.
func TestBridgeKilledFiftyTimes(t *testing.T) {
	t.Parallel()
	binary := build(t, "sluice/bridge/cmd/bridge")
	w := start(t, pipeline.Config{Config: local.Config{Bridges: -1, Push: local.PushConfig{BackoffScale: 0.005}}})
	w.load(50, 1000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var rows int64
	for kill := range 50 {
		p := w.bridgeProcess(binary)
		// Every fifth time it is killed at work for sure; otherwise at any moment of its
		// life, the first ones included.
		if kill%5 == 0 {
			rows = w.Now().Rows
			w.until("the bridge works", func() bool { return w.Now().Rows > rows })
		}
		time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
		p.kill()
	}
	ended := time.Now()
	w.bridgeProcess(binary)
	w.produce(500)
	w.endLoad()
	t.Logf("%v; kfake forgot %d dead members", w.settle(ended), w.evicted.Load())
}

// A bridge that dies while partitions move must leave none of them behind.
func TestBridgeKilledInMidRebalance(t *testing.T) {
	t.Parallel()
	binary := build(t, "sluice/bridge/cmd/bridge")
	w := start(t, pipeline.Config{Config: local.Config{Bridges: -1, Partitions: 8,
		Push: local.PushConfig{BackoffScale: 0.005}}})
	w.load(51, 1000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	survivor := w.bridgeProcess(binary)
	w.flow(500)
	state := func() string { return w.Kafka.Cluster().GroupInfo("clickstream-to-bigquery").State }
	hit := 0
	for i := range 5 {
		w.until("the group is at rest", func() bool { return state() == "Stable" })
		// The second one joins: a rebalance begins. One of the two dies in it.
		joined := w.bridgeProcess(binary)
		w.until("a rebalance begins", func() bool { return state() != "Stable" })
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		victim := joined
		if i%2 == 0 {
			victim, survivor = survivor, joined
		}
		if state() != "Stable" {
			hit++
		}
		victim.kill()
		w.produce(200)
	}
	if hit == 0 {
		t.Error("no bridge was killed while the group was rebalancing")
	}
	ended := time.Now()
	w.produce(500)
	w.endLoad()
	t.Logf("%v; %d of 5 killed while partitions moved; kfake forgot %d dead members", w.settle(ended), hit,
		w.evicted.Load())
}

// functionsProcess starts the functions that are deployed, as a process of its own,
// and points Pub/Sub at it.
func (w *world) functionsProcess(binary, address string, env ...string) *process {
	w.t.Helper()
	_, port, err := net.SplitHostPort(address)
	w.must(err)
	f := &process{cmd: exec.Command(binary), done: make(chan struct{})}
	f.cmd.Env = append(os.Environ(), "PORT="+port, "GOOGLE_CLOUD_PROJECT="+local.Project, "LOG_LEVEL=ERROR",
		"BIGQUERY_STORAGE_EMULATOR_HOST="+w.Warehouse.Addr(), "PUBSUB_EMULATOR_HOST="+w.PubSub.Addr(),
		"PAYLOAD_BUCKET="+local.Bucket, "STORAGE_EMULATOR_HOST="+w.Objects.Addr())
	f.cmd.Env = append(f.cmd.Env, env...)
	f.cmd.Stderr = &f.log
	w.must(f.cmd.Start())
	go func() {
		_ = f.cmd.Wait()
		close(f.done)
	}()
	w.t.Cleanup(f.kill)
	w.until("the functions listen", func() bool { return answers(address) })
	for subscription, target := range map[string]string{local.Ingest: "/Ingest", local.DeadLetter: "/DeadLetter"} {
		w.must(w.PubSub.SetEndpoint(w.t.Context(), subscription, "http://"+address+target))
	}
	return f
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

// What the functions had not answered when their process ended must be delivered
// again, whatever they had done with it.
func TestFunctionsKilledTenTimes(t *testing.T) {
	t.Parallel()
	binary := build(t, "sluice/functions/cmd/functions")
	w := start(t, pipeline.Config{Config: local.Config{Push: local.PushConfig{BackoffScale: 0.005}},
		TuneBridge: someByReference})
	w.must(w.StopFunctions(t.Context()))
	address := freeAddress(t)
	w.load(52, 1000)
	for range 10 {
		p := w.functionsProcess(binary, address)
		w.flow(200)
		// There is always something to be served when it ends.
		before := w.failures()
		w.until("the functions serve", func() bool { return w.PubSub.Stats(local.Ingest).Outstanding > 0 })
		p.kill()
		w.until("pushes fail", func() bool { return w.failures() > before })
	}
	ended := time.Now()
	w.functionsProcess(binary, address)
	w.produce(500)
	w.endLoad()
	t.Log(w.settle(ended))
}

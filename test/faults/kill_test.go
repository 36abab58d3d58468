package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/bridge"
	"sluice/test/stack"
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
	cmd  *exec.Cmd
	done chan struct{}
}

// bridgeProcess starts the bridge that is deployed, as a process of its own.
func (w *world) bridgeProcess(binary string, env ...string) *process {
	w.t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(),
		"KAFKA_BROKERS="+w.Kafka.Brokers(), "PUBSUB_EMULATOR_HOST="+w.PubSub.Addr(), "GOOGLE_CLOUD_PROJECT="+stack.Project,
		"HTTP_ADDR=127.0.0.1:0", "LOG_LEVEL=error", "BATCH_RECORDS=50", "LINGER=50ms")
	for _, p := range groupTimeouts {
		name, value, _ := strings.Cut(p, "=")
		cmd.Env = append(cmd.Env, "KAFKA_CONFIG_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))+"="+value)
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = quiet{w.t}
	w.must(cmd.Start())
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	w.t.Cleanup(p.kill)
	return p
}

// groupTimeouts say how soon a member that was killed is missed. kfake misses one that
// was killed while it waited for a rebalance to end only after the greatest rebalance
// timeout of the group, which is max.poll.interval.ms; brokers make no difference.
var groupTimeouts = []string{"session.timeout.ms=2000", "heartbeat.interval.ms=500", "max.poll.interval.ms=3000"}

// missedSoon sets them for a bridge in this process.
func missedSoon(c *bridge.Config) {
	for _, p := range groupTimeouts {
		if err := c.Properties.Set(p); err != nil {
			panic(err)
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
	w := start(t, stack.Config{Bridges: -1, Push: stack.PushConfig{BackoffScale: 0.005}})
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
	t.Log(w.settle(ended))
}

// A bridge that dies while partitions move must leave none of them behind.
func TestBridgeKilledInMidRebalance(t *testing.T) {
	t.Parallel()
	binary := build(t, "sluice/bridge/cmd/bridge")
	w := start(t, stack.Config{Bridges: -1, Partitions: 8, Push: stack.PushConfig{BackoffScale: 0.005}})
	w.load(51, 1000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	survivor := w.bridgeProcess(binary, "CONSUMER_NAME=bridge-0")
	w.flow(500)
	for i := range 5 {
		// The second one joins: a rebalance begins. One of the two dies in it.
		joined := w.bridgeProcess(binary, fmt.Sprintf("CONSUMER_NAME=bridge-%d", i+1))
		time.Sleep(time.Duration(50+r.IntN(600)) * time.Millisecond)
		victim := joined
		if i%2 == 0 {
			victim, survivor = survivor, joined
		}
		victim.kill()
		w.produce(200)
	}
	ended := time.Now()
	w.produce(500)
	w.endLoad()
	t.Log(w.settle(ended))
	runtime.KeepAlive(survivor)
}

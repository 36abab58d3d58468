package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/bridge/internal/servers"
	"sluice/internal/batch"
)

// mainVariable makes the test binary be the program itself: the tests run, signal
// and kill real processes.
const mainVariable = "SLUICE_BRIDGE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		os.Unsetenv(mainVariable)
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a bridge in a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string // of its status server
	mu   sync.Mutex
	log  bytes.Buffer
	done chan struct{}
}

// command is the program with an environment of nothing but what is given.
func command(environment []string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append([]string{mainVariable + "=1"}, environment...)
	return cmd
}

// environment configures a bridge for the servers.
func environment(s *servers.Servers, more ...string) []string {
	return append([]string{
		"KAFKA_BROKERS=" + s.Brokers,
		"GOOGLE_CLOUD_PROJECT=" + servers.Project,
		"PUBSUB_EMULATOR_HOST=" + s.PubSub.Addr,
		"LINGER=20ms", "MAX_LINGER=20ms", "RETRY_MIN=10ms", "RETRY_MAX=100ms",
		// A starved machine must not cut an orderly end short: tests count on its commits.
		"REVOKE_TIMEOUT=30s", "DRAIN_TIMEOUT=30s", "COMMIT_TIMEOUT=15s", "CLOSE_TIMEOUT=15s",
		"KAFKA_CONFIG_SESSION_TIMEOUT_MS=5000", "KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS=100",
	}, more...)
}

// start starts the program and waits until its status server answers.
func start(t *testing.T, s *servers.Servers, more ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(environment(s, more...), "--http-addr", "127.0.0.1:0", "--log-level", "debug"),
		done: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.mu.Lock()
			p.log.Write(append(lines.Bytes(), '\n'))
			p.mu.Unlock()
			if _, rest, ok := strings.Cut(lines.Text(), `"status_address":"`); ok {
				a, _, _ := strings.Cut(rest, `"`)
				addr <- a
			}
		}
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Log(p.output())
		}
	})
	select {
	case p.addr = <-addr:
	case <-p.done:
		t.Fatal("the bridge ended at once")
	}
	return p
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// kill ends the process as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// end waits for the process and returns its exit status.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		p.t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) get(path string) (int, string) {
	res, err := http.Get("http://" + p.addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// metric is the sum of a metric's series, -1 if there are none.
func (p *process) metric(name string) float64 {
	return p.series(func(series string) bool { return series == name || strings.HasPrefix(series, name+"{") })
}

// published is how many publish requests Pub/Sub has acknowledged, or refused.
func (p *process) published(acknowledged bool) float64 {
	return p.series(func(series string) bool {
		return strings.HasPrefix(series, "messaging_client_sent_messages_total{") && strings.Contains(series,
			"error_type=") != acknowledged
	})
}

// series is the sum of the series that want wants, -1 if there are none.
func (p *process) series(want func(series string) bool) float64 {
	_, body := p.get("/metrics")
	sum, any := 0.0, false
	for line := range strings.Lines(body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !want(series) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		sum, any = sum+v, true
	}
	if !any {
		return -1
	}
	return sum
}

// Members are killed without warning, again and again, and others join: every
// record comes, and each duplicate lies where it must, at or behind the offset that
// was committed when a member was killed.
func TestKilledMembersLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: it is in ./scripts/test without --quick")
	}
	const partitions, rounds, perRound = 4, 40, 1000
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { time.Sleep(5 * time.Millisecond); return nil })
	s := servers.New(t, partitions, fault.Option())
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for r := range rounds {
			s.Produce(s.Numbered(r*perRound, perRound)...)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	// All partitions' offsets, with which duplicates are explained: what is published
	// twice was not committed at some kill.
	var atKill [][partitions]int64
	kill := func(p *process) {
		var at [partitions]int64
		for i := range at {
			at[i] = max(0, s.Committed(int32(i)))
		}
		p.kill()
		atKill = append(atKill, at)
	}
	working := func(ps ...*process) {
		t.Helper()
		for _, p := range ps {
			servers.Wait(t, "work", func() bool { return p.published(true) > 3 })
		}
	}
	const small = "BATCH_RECORDS=250" // many batches, so that kills fall among them
	a, b := start(t, s, small), start(t, s, small)
	working(a, b)
	kill(a)
	c := start(t, s, small)
	working(c)
	kill(b)
	kill(c)
	d := start(t, s, small)
	working(d)
	e := start(t, s, small)
	<-produced
	servers.Wait(t, "all commits", func() bool {
		for p := range int32(partitions) {
			if s.Committed(p) != rounds*perRound/partitions {
				return false
			}
		}
		return true
	})
	d.signal(syscall.SIGTERM)
	e.signal(syscall.SIGTERM)
	if status := d.end(); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	if status := e.end(); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	duplicates := s.CheckAll(rounds * perRound)
	copies, _, _ := s.Published(servers.Topic)
	unexplained := 0
	for at, n := range copies {
		kills := 0
		for _, committed := range atKill {
			if at.Offset >= committed[at.Partition] {
				kills++
			}
		}
		if n-1 > kills {
			unexplained++
		}
	}
	if unexplained > 0 {
		t.Errorf("%d records came more often than the kills explain", unexplained)
	}
	t.Logf("%d records, %d kills, %d duplicates", rounds*perRound, len(atKill), duplicates)
}

// A first signal drains and ends with status 0; it is what a platform sends.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := servers.New(t, 2)
			s.Produce(s.Numbered(0, 1000)...)
			p := start(t, s, "LINGER=1h", "BATCH_RECORDS=400") // 2 × 400 leave, 200 wait
			servers.Wait(t, "two batches", func() bool { return p.published(true) == 2 })
			servers.Wait(t, "the rest", func() bool { return p.metric("messaging_client_consumed_messages_total") == 1000 })
			p.signal(sig)
			if status := p.end(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
			if d := s.CheckAll(1000); d != 0 {
				t.Errorf("%d duplicates", d)
			}
			// Log-based metrics are made of these lines, also of the last one.
			batches := 0
			for line := range strings.Lines(p.output()) {
				var stats struct {
					Message string
					Batches int
				}
				if err := json.Unmarshal([]byte(line), &stats); err == nil && stats.Message == "bridge" {
					batches += stats.Batches
				}
			}
			if batches != 3 {
				t.Errorf("the log lines tell of %d batches, want 3", batches)
			}
			for i := range int32(2) {
				if got := s.Committed(i); got != 500 {
					t.Errorf("partition %d: committed %d, want 500", i, got)
				}
			}
		})
	}
}

// A second signal does not wait for anything.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, 1, fault.Option())
	s.Produce(s.Numbered(0, 10)...)
	p := start(t, s, "DRAIN_TIMEOUT=1h")
	servers.Wait(t, "refusals", func() bool { return p.published(false) > 3 })
	p.signal(syscall.SIGTERM)
	servers.Wait(t, "the drain", func() bool { return strings.Contains(p.output(), "bridge is stopping") })
	p.signal(syscall.SIGTERM)
	if status := p.end(); status == 0 {
		t.Error("exit status 0, although records were not published")
	}
	if got := s.Committed(0); got >= 0 {
		t.Errorf("%d is committed, and nothing acknowledged", got)
	}
}

// A fatal error of the Kafka client while a signal is being obeyed is no graceful end: what
// was acknowledged meanwhile could not be committed.
func TestFatalErrorWhileDraining(t *testing.T) {
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, 1, fault.Option())
	s.Produce(s.Numbered(0, 10)...)
	p := start(t, s, "DRAIN_TIMEOUT=1h", "COMMIT_TIMEOUT=1s", "CLOSE_TIMEOUT=1s", "KAFKA_CONFIG_GROUP_INSTANCE_ID=one")
	servers.Wait(t, "refusals", func() bool { return p.published(false) > 3 })
	p.signal(syscall.SIGTERM)
	servers.Wait(t, "the drain", func() bool { return strings.Contains(p.output(), "bridge is stopping") })
	start(t, s, "KAFKA_CONFIG_GROUP_INSTANCE_ID=one") // takes the first one's place
	servers.Wait(t, "the fatal error", func() bool { return strings.Contains(p.output(), "Fatal error") })
	fault.Set(nil)
	if status := p.end(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	if !strings.Contains(p.output(), "bridge failed") {
		t.Error("the log does not tell of the failure")
	}
}

// A shutdown ends in its time, whatever has gone away, with status 0: what is not
// acknowledged is not committed and comes again.
func TestShutdownIsBounded(t *testing.T) {
	bounds := []string{"DRAIN_TIMEOUT=500ms", "COMMIT_TIMEOUT=300ms", "CLOSE_TIMEOUT=300ms"}
	// Without a timer of its own, a commit would wait for this long.
	patient := append(bounds[:len(bounds):len(bounds)], "KAFKA_CONFIG_SESSION_TIMEOUT_MS=300000",
		"KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS=3000",
		"KAFKA_CONFIG_AUTO_COMMIT_INTERVAL_MS=3600000")
	t.Run("Pub/Sub refuses", func(t *testing.T) {
		var fault servers.PublishFault
		fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
		s := servers.New(t, 1, fault.Option())
		s.Produce(s.Numbered(0, 100)...)
		p := start(t, s, bounds...)
		servers.Wait(t, "refusals", func() bool { return p.published(false) > 3 })
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		fault.Set(nil)
		start(t, s)
		servers.Wait(t, "the replay", func() bool { return s.Committed(0) == 100 })
		s.CheckAll(100)
	})
	t.Run("Pub/Sub does not answer", func(t *testing.T) {
		var fault servers.PublishFault
		var asked atomic.Bool
		hang := make(chan struct{})
		fault.Set(func(string, *batch.Batch) error { asked.Store(true); <-hang; return nil })
		s := servers.New(t, 1, fault.Option())
		t.Cleanup(func() { close(hang) })
		s.Produce(s.Numbered(0, 100)...)
		p := start(t, s, bounds...)
		servers.Wait(t, "a request", asked.Load)
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		if got := s.Committed(0); got >= 0 {
			t.Errorf("%d is committed, and nothing acknowledged", got)
		}
	})
	t.Run("the coordinator does not answer", func(t *testing.T) {
		s := servers.New(t, 1)
		hang := make(chan struct{})
		t.Cleanup(func() { close(hang) })
		for _, key := range []kmsg.Key{kmsg.OffsetCommit, kmsg.LeaveGroup} {
			s.Broker.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				s.Broker.KeepControl()
				s.Broker.SleepControl(func() { <-hang })
				return nil, nil, false
			})
		}
		s.Produce(s.Numbered(0, 100)...)
		p := start(t, s, patient...)
		servers.Wait(t, "the records", func() bool { return p.published(true) >= 1 })
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		if !strings.Contains(p.output(), `"committed":false`) {
			t.Error("the log does not tell that the last commit is missing")
		}
	})
	t.Run("Kafka is gone", func(t *testing.T) {
		s := servers.New(t, 1)
		s.Produce(s.Numbered(0, 100)...)
		p := start(t, s, patient...)
		servers.Wait(t, "the records", func() bool { return p.published(true) >= 1 })
		s.Broker.Close()
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		if !strings.Contains(p.output(), `"committed":false`) {
			t.Error("the log does not tell that the last commit is missing")
		}
	})
}

// A configuration that cannot work ends the program with status 2 and a sentence,
// before it connects, also when it is librdkafka that refuses it; an address that
// cannot be listened on is a fault of the machine's, with status 1.
func TestConfigurationErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		env    []string
		args   []string
		status int
		want   string
	}{
		{"nothing set", nil, nil, 2, "--kafka-brokers (KAFKA_BROKERS)"},
		{"unknown flag", nil, []string{"--brokers", "x"}, 2, "brokers"},
		{"left over", []string{"KAFKA_BROKERS=localhost:1", "GOOGLE_CLOUD_PROJECT=p"}, []string{"extra"}, 2, "left over"},
		{"unknown property", []string{"KAFKA_BROKERS=localhost:1", "GOOGLE_CLOUD_PROJECT=p", "PUBSUB_EMULATOR_HOST=localhost:1", "KAFKA_CONFIG_NO_SUCH_THING=1", "HTTP_ADDR=127.0.0.1:0"}, nil, 2, "no.such.thing"},
		{"CA file that is not there", []string{"KAFKA_BROKERS=localhost:1", "GOOGLE_CLOUD_PROJECT=p", "PUBSUB_EMULATOR_HOST=localhost:1", "KAFKA_CONFIG_SECURITY_PROTOCOL=SSL", "KAFKA_CONFIG_SSL_CA_LOCATION=/nowhere.pem", "HTTP_ADDR=127.0.0.1:0"}, nil, 2, "ssl.ca.location"},
		{"near miss", []string{"KAFKA_BROKERS=localhost:1", "GOOGLE_CLOUD_PROJECT=p", "MAX_IN_FLIGHT_BYTES=1"}, nil, 2, "MAX_IN_FLIGHT_BYTES is read by nobody: write MAX_INFLIGHT_BYTES"},
		{"address in use", []string{"KAFKA_BROKERS=localhost:1", "GOOGLE_CLOUD_PROJECT=p", "PUBSUB_EMULATOR_HOST=localhost:1", "HTTP_ADDR=256.0.0.1:1"}, nil, 1, "--http-addr (HTTP_ADDR)"},
		{"help", nil, []string{"-h"}, 0, "kafka-brokers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := command(test.env, test.args...)
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != test.status {
				t.Errorf("exit status %d, want %d", got, test.status)
			}
			if !strings.Contains(string(out), test.want) {
				t.Errorf("the output does not contain %q:\n%s", test.want, out)
			}
		})
	}
}

// The memory test may be run for longer and with more, as for docs/adr-003:
//
//	go test ./bridge/cmd/bridge -run Memory -v -args -refuse 1m -inflight 67108864
var (
	refuseFlag   = flag.Duration("refuse", 10*time.Second, "how long Pub/Sub refuses everything in the memory test")
	inflightFlag = flag.Int64("inflight", 16<<20, "bytes in flight in the memory test")
)

// With Pub/Sub refusing everything under full load, memory stays under a stated
// figure, fetching pauses, and the member stays in its group, polling: its
// max.poll.interval.ms passes more than twice. Then everything comes.
func TestMemoryIsBoundedWhilePubSubRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: it is in ./scripts/test without --quick")
	}
	const partitions, valueBytes = 4, 400
	inflight := *inflightFlag
	n := int(12 * inflight / valueBytes / partitions * partitions) // twelve times the budget
	limit := memoryFactor * (4*inflight + 128<<20)                 // what the README tells operators to provide
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, partitions, fault.Option())
	messages := s.Numbered(0, n)
	for i, m := range messages {
		m.Value = fmt.Appendf(nil, "%0*d", valueBytes, i*7919)
	}
	s.Produce(messages...)
	p := start(t, s, fmt.Sprint("MAX_INFLIGHT_BYTES=", inflight), "KAFKA_CONFIG_MAX_POLL_INTERVAL_MS=4000",
		"KAFKA_CONFIG_SESSION_TIMEOUT_MS=4000")
	servers.Wait(t, "the pause", func() bool { return p.metric("sluice_bridge_partitions_paused") == partitions })
	taken := p.metric("messaging_client_consumed_messages_total")
	// More than twice max.poll.interval.ms; what is waited for is that nothing happens.
	time.Sleep(*refuseFlag)
	if got := p.metric("sluice_bridge_inflight_bytes"); got < float64(inflight) || got > float64(2*inflight) {
		t.Errorf("%.0f bytes are in flight, want a little more than %d", got, inflight)
	}
	if got := p.metric("messaging_client_consumed_messages_total"); got != taken {
		t.Errorf("%.0f records were taken while fetching was paused", got-taken)
	}
	if a, l, r := p.metric("sluice_bridge_partitions_assigned"), p.metric("sluice_bridge_partitions_lost_total"), p.metric("sluice_bridge_rebalances_total"); a != partitions || l != 0 || r != 1 {
		t.Errorf("%.0f partitions are assigned, %.0f lost, after %.0f rebalances; want all, none, one", a, l, r)
	}
	if code, body := p.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez answers %d %s", code, body)
	}
	fault.Set(nil)
	// More than n if the member was too starved to stay in its group meanwhile.
	servers.Wait(t, "all records", func() bool {
		return p.metric("messaging_client_consumed_messages_total") >= float64(n) &&
			p.metric("sluice_bridge_inflight_batches") == 0
	})
	peak := peakMemory(t, p.cmd.Process.Pid)
	t.Logf("peak resident memory %d MiB with %d MiB in flight", peak>>20, inflight>>20)
	if peak > limit {
		t.Errorf("resident memory reached %d MiB, more than %d MiB", peak>>20, limit>>20)
	}
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if d := s.CheckAll(n); d != 0 {
		t.Errorf("%d duplicates, although nothing that was refused had been taken", d)
	}
}

// peakMemory is the largest resident set that the process has had.
func peakMemory(t *testing.T, pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}

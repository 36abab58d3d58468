package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/internal/contract"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
)

// Protects operators: a wrong configuration is told before anything listens, all
// mistakes at once and each by its name; help is no mistake.
func TestConfiguration(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		env    map[string]string
		status int
		says   []string
	}{
		{"help", []string{"-h"}, nil, 0, []string{"-google-cloud-project", "-handler-timeout", "LOG_LEVEL"}},
		{"no project", nil, nil, 2, []string{"GOOGLE_CLOUD_PROJECT"}},
		{"all at once", nil, map[string]string{"PORT": "http", "FUNCTION_TARGET": "Ingress", "EVENT_TYPES": " , "}, 2,
			[]string{"--port (PORT)", "--function-target (FUNCTION_TARGET)", "use Ingest, DeadLetter", "EVENT_TYPES"}},
		{"secrets in the wrong place", []string{"-google-cloud-project=hunter2!", "-bigquery-dataset=hunter2!",
			"-fact-events-table=hunter2!", "-events-dlq-table=hunter2!",
			"-pubsub-dead-letter-topic=hunter2!", "-event-decoder=hunter2", "-push-service-account=hunter2", "-port=hunter2", "-function-target=hunter2"}, nil, 2,
			[]string{"--google-cloud-project", "--bigquery-dataset", "--event-decoder", "--push-audience", "--port"}},
		{"no duration", nil, map[string]string{"HANDLER_TIMEOUT": "50"}, 2, []string{"--handler-timeout (HANDLER_TIMEOUT)", "no duration"}},
		{"append timeout above the handler's", []string{"-google-cloud-project=p1", "-append-timeout=60s"}, nil, 2, []string{"append-timeout"}},
		{"a flag that does not exist", []string{"-prot=1"}, nil, 2, []string{"prot"}},
		{"an argument", []string{"-google-cloud-project=p1", "serve"}, nil, 2, []string{"left over", "-h"}},
		{"half a token check", []string{"-google-cloud-project=p1", "-push-audience=a"}, nil, 2, []string{"push-service-account"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			var stderr bytes.Buffer
			if status := run(test.args, &stderr); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			for _, words := range test.says {
				if !strings.Contains(stderr.String(), words) {
					t.Errorf("does not say %q:\n%s", words, stderr.String())
				}
			}
			if strings.Contains(stderr.String(), "hunter2") {
				t.Errorf("shows a value:\n%s", stderr.String())
			}
		})
	}
}

// Protects the order of precedence: flags, environment, defaults.
func TestFlagsBeforeEnvironment(t *testing.T) {
	t.Setenv("GOOGLE_CLOUD_PROJECT", "env-project")
	t.Setenv("BIGQUERY_DATASET", "env_dataset")
	t.Setenv("EVENT_TYPES", "click, view")
	c, err := configure([]string{"-bigquery-dataset=flag_dataset"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Project != "env-project" || c.Dataset != "flag_dataset" || c.FactEventsTable != "fact_events" ||
		c.EventTypes.String() != "click,view" {
		t.Errorf("%+v", c)
	}
}

// program is the built program, running.
type program struct {
	cmd    *exec.Cmd
	url    string
	stderr *bytes.Buffer
	exited chan struct{}
}

// build builds the program once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "functions-test")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "functions")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if bin, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(status)
}

// start starts the program against the servers and waits until it listens.
func start(t *testing.T, w *warehouse.Server, p *pubsub.Server, env ...string) *program {
	t.Helper()
	bin, err := build()
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	check(t, l.Close())
	g := &program{cmd: exec.Command(bin), url: fmt.Sprintf("http://127.0.0.1:%d", port), stderr: new(bytes.Buffer),
		exited: make(chan struct{})}
	g.cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(port), "GOOGLE_CLOUD_PROJECT=local",
		"BIGQUERY_STORAGE_EMULATOR_HOST="+w.Addr(), "PUBSUB_EMULATOR_HOST="+p.Addr())
	g.cmd.Env = append(g.cmd.Env, env...)
	g.cmd.Stderr = g.stderr
	check(t, g.cmd.Start())
	go func() {
		defer close(g.exited)
		_ = g.cmd.Wait() // ProcessState tells
	}()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		<-g.exited
	})
	for {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			check(t, c.Close())
			return g
		}
		select {
		case <-g.exited:
			t.Fatalf("the program ended: %s", g.stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func servers(t *testing.T) (*warehouse.Server, *pubsub.Server) {
	t.Helper()
	w, err := warehouse.Start(warehouse.Config{Tables: []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}})
	check(t, err)
	t.Cleanup(func() { w.Close() })
	p, err := pubsub.Start(pubsub.Config{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return w, p
}

// post pushes one event; status 0 is no answer.
func post(url, id string) int {
	body := fmt.Sprintf(`{"event_id":%q,"event_timestamp":%q,"event_type":"search","user_id":"u"}`, id,
		time.Now().UTC().Format(time.RFC3339))
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0
	}
	r.Header.Set("X-Goog-Pubsub-Message-Id", id)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// Protects deployments: at SIGTERM under load, what is running ends and is
// acknowledged, what comes later is sent away, what was acknowledged has landed,
// and the program exits 0.
func TestSIGTERMUnderLoad(t *testing.T) {
	w, p := servers(t)
	g := start(t, w, p, "FUNCTION_TARGET=Ingest")
	if status := post(g.url, "warm"); status != 204 {
		t.Fatalf("answered %d: %s", status, g.stderr)
	}
	w.Fail(warehouse.Fault{Count: -1, Wait: 20 * time.Millisecond}) // so that requests are under way
	var mu sync.Mutex
	answers := make(map[int]int)
	acked := []string{"warm"}
	var running, afterwards atomic.Int32
	var terminated atomic.Bool
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", n, i)
				before := !terminated.Load()
				status := post(g.url, id)
				mu.Lock()
				answers[status]++
				if status == 204 {
					acked = append(acked, id)
				}
				mu.Unlock()
				if before && terminated.Load() && status == 204 {
					running.Add(1)
				}
				if !before {
					afterwards.Add(1)
				}
				if status == 0 {
					return // it has exited
				}
			}
		})
	}
	for {
		mu.Lock()
		n := answers[204]
		mu.Unlock()
		if n > 200 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	terminated.Store(true)
	check(t, g.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-g.exited:
	case <-time.After(time.Minute): // far more than it takes
		t.Fatalf("still running: %s", g.stderr)
	}
	wg.Wait()
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, g.stderr)
	}
	for status, n := range answers {
		if status != 204 && status != 503 && status != 0 {
			t.Errorf("%d requests were answered %d", n, status)
		}
	}
	if running.Load() == 0 {
		t.Error("no request that was under way at SIGTERM was acknowledged")
	}
	if afterwards.Load() == 0 {
		t.Error("no request came after SIGTERM: this test has tested nothing")
	}
	for _, id := range acked {
		var n int
		check(t, w.DB().QueryRow("SELECT COUNT(*) FROM fact_events WHERE event_id = ?", id).Scan(&n))
		if n == 0 {
			t.Errorf("%s was acknowledged and has not landed", id)
		}
	}
	t.Logf("answers %v, under way at SIGTERM and acknowledged %d", answers, running.Load())
}

// Protects Cloud Run's limit from a request that does not end: it is left to Pub/Sub.
func TestSIGTERMWhileBigQueryIsSilent(t *testing.T) {
	w, p := servers(t)
	g := start(t, w, p, "FUNCTION_TARGET=Ingest", "HANDLER_TIMEOUT=10m", "APPEND_TIMEOUT=9m")
	hang := w.Fail(warehouse.Fault{Hang: true})
	answered := make(chan int, 1)
	go func() { answered <- post(g.url, "hangs") }()
	for hang.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	check(t, g.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-g.exited:
	case <-time.After(time.Minute): // far more than it takes
		t.Fatalf("still running: %s", g.stderr)
	}
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, g.stderr)
	}
	if status := <-answered; status == 204 {
		t.Error("the request was acknowledged")
	}
}

// Protects the two ways to serve: one function at /, or both at their paths.
func TestTargets(t *testing.T) {
	w, p := servers(t)
	for _, test := range []struct {
		target string
		paths  map[string]int
	}{
		{"Ingest", map[string]int{"/": 204, "/anything": 204}},
		{"DeadLetter", map[string]int{"/": 204}},
		{"", map[string]int{"/Ingest": 204, "/DeadLetter": 204, "/": 404, "/ingest": 404}},
	} {
		g := start(t, w, p, "FUNCTION_TARGET="+test.target)
		for path, want := range test.paths {
			if status := post(g.url+path, "a"); status != want {
				t.Errorf("%q %s: answered %d, want %d: %s", test.target, path, status, want, g.stderr)
			}
		}
		check(t, g.cmd.Process.Signal(syscall.SIGTERM))
		<-g.exited
	}
	var facts, letters int
	check(t, w.DB().QueryRow("SELECT COUNT(*) FROM fact_events").Scan(&facts))
	check(t, w.DB().QueryRow("SELECT COUNT(*) FROM events_dlq").Scan(&letters))
	if facts != 3 || letters != 2 {
		t.Errorf("%d rows and %d letters, want 3 and 2", facts, letters)
	}
}

// Protects the exit status of a program that cannot serve.
func TestPortInUse(t *testing.T) {
	w, p := servers(t)
	g := start(t, w, p)
	bin, err := build()
	check(t, err)
	second := exec.Command(bin)
	second.Env = g.cmd.Env
	out, _ := second.CombinedOutput()
	if second.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "address already in use") {
		t.Errorf("exit status %d: %s", second.ProcessState.ExitCode(), out)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

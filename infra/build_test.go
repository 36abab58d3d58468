package infra_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"go/version"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/contract"
	embeddedkafka "sluice/internal/local/kafka"
	embeddedpubsub "sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
)

// step is a step of cloudbuild.yaml.
type step struct {
	ID, Name, Entrypoint string
	Args, Env            []string
	WaitFor              []string `yaml:"waitFor"`
}

type build struct {
	Substitutions map[string]string
	Options       struct {
		DynamicSubstitutions bool `yaml:"dynamicSubstitutions"`
	}
	Tags  []string
	Steps []step
}

func cloudbuild(t *testing.T) build {
	t.Helper()
	var b build
	decode(t, "../cloudbuild.yaml", &b)
	return b
}

// environment is what the build gives a step, with Cloud Build's substitutions, which
// are for steps and images only.
func (b *build) environment(s step) map[string]string {
	given := map[string]string{"PROJECT_ID": "acme-clickstream", "BUILD_ID": "8c6d2f0a", "SHORT_SHA": "0123abc"}
	expand := func(s string) string {
		for range 2 { // substitutions may use others
			s = os.Expand(s, func(name string) string {
				if v, ok := b.Substitutions[name]; ok {
					return v
				}
				return given[name]
			})
		}
		return s
	}
	env := map[string]string{}
	for _, entry := range s.Env {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = expand(value)
	}
	return env
}

// script is the repository's script that a step runs, or "".
func (s step) script() string {
	m := regexp.MustCompile(`(scripts|infra)/[a-z/]+`).FindString(strings.Join(s.Args, " "))
	return m
}

// Protects the build: its steps run scripts that exist, have all that these need in
// their environment, wait for what they use, and use images of a stated version.
func TestCloudBuild(t *testing.T) {
	b := cloudbuild(t)
	if !b.Options.DynamicSubstitutions {
		t.Error("substitutions use others: dynamicSubstitutions must be on")
	}
	var before []string
	for _, s := range b.Steps {
		for _, id := range s.WaitFor {
			if id != "-" && !slices.Contains(before, id) {
				t.Errorf("step %s waits for %s, which is no step before it", s.ID, id)
			}
		}
		before = append(before, s.ID)
		env := b.environment(s)
		for name, value := range env {
			if value == "" || strings.Contains(value, "$") {
				t.Errorf("step %s: %s is %q", s.ID, name, value)
			}
		}
		// Google's own builder image has no versions.
		if _, tag, ok := strings.Cut(s.Name, ":"); (!ok || tag == "latest") &&
			s.Name != "gcr.io/cloud-builders/docker" {
			t.Errorf("step %s: the image %s has no version", s.ID, s.Name)
		}
		script := s.script()
		if script == "" {
			if s.ID != "terraform" {
				t.Errorf("step %s runs no script of the repository, so that nobody can run it by hand", s.ID)
			}
			continue
		}
		info, err := os.Stat("../" + script)
		if err != nil {
			t.Errorf("step %s: %v", s.ID, err)
			continue
		}
		if info.Mode()&0o100 == 0 {
			t.Errorf("%s is not executable", script)
		}
		needs := read(t, "../"+script)
		if s.ID == "apply" { // which plans anew if it must
			needs += read(t, "build/plan")
		}
		for _, m := range regexp.MustCompile(`(?m)^need (.+)$`).FindAllStringSubmatch(needs, -1) {
			for _, name := range strings.Fields(m[1]) {
				if env[name] == "" {
					t.Errorf("%s needs %s, which step %s does not set", script, name, s.ID)
				}
			}
		}
	}
	// Nothing is pushed that did not pass, nothing applied that was not pushed.
	for _, s := range b.Steps {
		if slices.Contains(s.Args, "--push") && !slices.Contains(s.WaitFor, "test") {
			t.Errorf("step %s pushes without waiting for the tests", s.ID)
		}
		if s.ID == "turn" && (!slices.Contains(s.WaitFor, "push-functions") || !slices.Contains(s.WaitFor,
			"push-bridge")) {
			t.Error("step turn does not wait for both images")
		}
	}
	// infra/build/turn finds other builds by it.
	if !slices.Contains(b.Tags, "sluice") || strings.Contains(strings.Join(b.Tags, ""), "$") {
		t.Errorf("the build's tags are %v", b.Tags)
	}
}

// Protects builds from a compiler that is older than the module asks for.
func TestGoVersions(t *testing.T) {
	wanted := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "../go.mod"))[1]
	for _, file := range []string{"../cloudbuild.yaml", "../functions/Dockerfile", "../bridge/Dockerfile"} {
		m := regexp.MustCompile(`golang:([0-9.]+)-`).FindStringSubmatch(read(t, file))
		if m == nil || version.Compare("go"+m[1], "go"+wanted) < 0 {
			t.Errorf("%s has %q, go.mod wants Go %s", file, m, wanted)
		}
	}
}

// Protects the step that needs no cloud, and the message of those that do: what is
// missing is named.
func TestStepsOutsideCloudBuild(t *testing.T) {
	b := cloudbuild(t)
	var env []string
	for name, value := range b.environment(b.Steps[len(b.Steps)-1]) {
		env = append(env, name+"="+value)
	}
	out, err := command(t, env, "../infra/build/summary")
	if err != nil || !strings.Contains(out, "acme-clickstream") || !strings.Contains(out, "infra/RUNBOOK.md") {
		t.Errorf("summary: %v\n%s", err, out)
	}
	for _, s := range b.Steps {
		script := s.script()
		if !strings.HasPrefix(script, "infra/build/") || !strings.Contains(read(t, "../"+script), "\nneed ") {
			continue
		}
		args := s.Args[slices.IndexFunc(s.Args, func(a string) bool { return strings.Contains(a, script) })+1:]
		out, err := command(t, nil, append([]string{"../" + script}, args...)...)
		if err == nil || !strings.Contains(out, "not set: ") {
			t.Errorf("%s without its variables: %v\n%s", script, err, out)
		}
	}
}

// command runs a program with PATH, HOME and env only.
func command(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// image is what a Dockerfile says, as far as it can be checked without an engine.
type image struct {
	from   []string
	copied []string // of the repository, into the build stage
	run    []string // the one command of the build stage
	user   string
}

func dockerfile(t *testing.T, name string) image {
	t.Helper()
	var i image
	for line := range strings.Lines(read(t, "../"+name+"/Dockerfile")) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "FROM":
			i.from = append(i.from, words[1])
		case "COPY":
			if !strings.HasPrefix(words[1], "--from") {
				i.copied = append(i.copied, words[1:len(words)-1]...)
			}
		case "RUN":
			i.run = slices.DeleteFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "--") })
		case "USER":
			i.user = words[1]
		}
	}
	return i
}

// buildImage does what the build stage does: it copies what the Dockerfile copies,
// less what .dockerignore leaves out, and runs its command. It returns the binary.
func buildImage(t *testing.T, name string) string {
	t.Helper()
	i := dockerfile(t, name)
	if len(i.from) != 2 || len(i.run) != 4 {
		t.Fatalf("%s/Dockerfile: %+v: want two stages and one command", name, i)
	}
	if i.user != "nonroot" {
		t.Errorf("%s/Dockerfile runs as %q", name, i.user)
	}
	for _, from := range i.from {
		if _, tag, ok := strings.Cut(from, ":"); !ok || tag == "latest" {
			t.Errorf("%s/Dockerfile: the image %s has no version", name, from)
		}
	}
	allowed := strings.Fields(read(t, "../"+name+"/Dockerfile.dockerignore"))
	dir := t.TempDir()
	for _, source := range i.copied {
		if !slices.Contains(allowed, "!"+source) && !slices.Contains(allowed, "!"+strings.Split(source, "/")[0]) {
			t.Errorf("%s/Dockerfile copies %s, which Dockerfile.dockerignore leaves out", name, source)
		}
		check(t, filepath.WalkDir("../"+source, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if d != nil && d.Name() == "testdata" {
					return fs.SkipDir
				}
				return err
			}
			if strings.HasSuffix(path, "_test.go") {
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			to := filepath.Join(dir, strings.TrimPrefix(path, "../"))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, b, info.Mode())
		}))
	}
	binary := filepath.Join(t.TempDir(), name)
	c := exec.CommandContext(t.Context(), filepath.Join(dir, i.run[0]), i.run[1], binary, "0123abc")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", i.run, err, out)
	}
	return binary
}

// process is a running program with its log.
type process struct {
	*exec.Cmd
	log  buffer
	once sync.Once
}

func run(t *testing.T, binary string, env ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(binary)}
	p.Env, p.Stdout, p.Stderr = env, &p.log, &p.log
	check(t, p.Start())
	t.Cleanup(func() { p.stop(t) })
	return p
}

// stop ends the program as Cloud Run does, and wants it to end well.
func (p *process) stop(t *testing.T) {
	p.once.Do(func() {
		_ = p.Process.Signal(syscall.SIGTERM)
		killed := time.AfterFunc(time.Minute, func() { _ = p.Process.Kill() })
		defer killed.Stop()
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", p.Path, err, p.log.String())
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// Protects the images: what their Dockerfiles build, from no more than they copy,
// starts and moves an event from Kafka into BigQuery; Ingest needs no libraries, the
// bridge no more than its base image has.
func TestImagesWork(t *testing.T) {
	functions, bridge := buildImage(t, "functions"), buildImage(t, "bridge")
	needsNoMoreThan(t, functions)
	needsNoMoreThan(t, bridge, "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1",
		"libresolv.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1")

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	k, err := embeddedkafka.Start(embeddedkafka.Config{Topics: map[string]int32{"clickstream": 1}})
	check(t, err)
	t.Cleanup(func() { k.Close() })
	p, err := embeddedpubsub.Start(embeddedpubsub.Config{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	landed := make(chan int, 1)
	w, err := warehouse.Start(warehouse.Config{
		Tables:   []*contract.Table{contract.FactEvents(), contract.EventsDLQ()},
		OnAppend: func(_ string, rows int, _ []int64) { landed <- rows },
	})
	check(t, err)
	t.Cleanup(func() { w.Close() })

	serving := freeAddress(t)
	_, port, _ := net.SplitHostPort(serving)
	ingest := run(t, functions, "PORT="+port, "FUNCTION_TARGET=Ingest", "GOOGLE_CLOUD_PROJECT=local",
		"BIGQUERY_STORAGE_EMULATOR_HOST="+w.Addr(), "PUBSUB_EMULATOR_HOST="+p.Addr())
	if status := get(ctx, t, ingest, "http://"+serving+"/"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET answers %d, want 405: only Pub/Sub's POST is served", status)
	}
	check(t, p.CreateTopic(ctx, "clickstream"))
	check(t, p.CreateTopic(ctx, "clickstream-dead-letter"))
	check(t, p.CreatePushSubscription(ctx, embeddedpubsub.PushSubscription{Name: "clickstream-ingest",
		Topic: "clickstream", Endpoint: "http://" + serving, Unwrapped: true}))

	health := freeAddress(t)
	b := run(t, bridge, "KAFKA_BROKERS="+k.Brokers(), "KAFKA_TOPICS=clickstream", "GOOGLE_CLOUD_PROJECT=local",
		"PUBSUB_EMULATOR_HOST="+p.Addr(), "HTTP_ADDR="+health)
	if status := get(ctx, t, b, "http://"+health+"/livez"); status != http.StatusOK {
		t.Errorf("/livez answers %d", status)
	}

	producer, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": k.Brokers(), "enable.metrics.push": false})
	check(t, err)
	defer producer.Close()
	topic := "clickstream"
	check(t, producer.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic,
		Partition: kafka.PartitionAny}, Value: []byte(good("1", ""))}, nil))
	select {
	case n := <-landed:
		if n != 1 {
			t.Errorf("%d rows landed", n)
		}
	case <-ctx.Done():
		t.Errorf("the event did not land\nbridge: %s\nIngest: %s", b.log.String(), ingest.log.String())
	}

	for _, p := range []*process{b, ingest} {
		p.stop(t)
		if !bytes.Contains(p.log.Bytes(), []byte(`"version":"0123abc"`)) {
			t.Errorf("%s does not say its version", p.Path)
		}
		for line := range bytes.Lines(p.log.Bytes()) {
			if !json.Valid(line) {
				t.Errorf("%s writes a line that Cloud Logging cannot read: %s", p.Path, line)
			}
		}
	}
}

// get asks until the program serves, and returns the status of the answer.
func get(ctx context.Context, t *testing.T, p *process, url string) int {
	t.Helper()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		check(t, err)
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			answer.Body.Close()
			return answer.StatusCode
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s does not serve: %v\n%s", p.Path, err, p.log.String())
		}
	}
}

// needsNoMoreThan checks the shared libraries of a binary; none: it is static.
func needsNoMoreThan(t *testing.T, binary string, libraries ...string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		return // another system's binary: the images are Linux's
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	check(t, err)
	for _, name := range needed {
		if !slices.Contains(libraries, name) {
			t.Errorf("%s needs %s, which its base image has not got", filepath.Base(binary), name)
		}
	}
	if len(libraries) == 0 && slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("%s is not static", filepath.Base(binary))
	}
}

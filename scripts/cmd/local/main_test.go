package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"sluice/internal/telemetry/collector"
	"sluice/scripts/command"
	"sluice/scripts/command/cost"
)

// TestMain lets the test binary be the program, so that exit statuses and output
// streams are the real ones.
func TestMain(m *testing.M) {
	if os.Getenv("SLUICE_BE_THE_PROGRAM") != "" {
		os.Exit(execute())
	}
	os.Exit(m.Run())
}

// startCommand is sluice with the arguments.
func startCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, args...)
	cmd.Env = append(os.Environ(), "SLUICE_BE_THE_PROGRAM=1")
	return cmd
}

// program runs sluice with the arguments.
func program(t *testing.T, stdin []byte, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := startCommand(t, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status = exit.ExitCode()
	}
	return out.String(), errs.String(), status
}

// summarize runs sluice run --once --json and returns its summary.
func summarize(t *testing.T, stdin []byte, args ...string) Summary {
	t.Helper()
	out, errs, status := program(t, stdin, append([]string{"run", "--once", "--json"}, args...)...)
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, errs)
	}
	var s Summary
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return s
}

// input is newline-delimited JSON as people have it: an empty line, a Windows line
// end, no newline at the end, and one line that is no event.
func input() []byte {
	var b bytes.Buffer
	for i := range 5 {
		fmt.Fprintf(&b, `{"event_id":"in-%d","event_timestamp":%q,"event_type":"search","user_id":"u"}`, i,
			time.Now().UTC().Format(time.RFC3339))
		b.WriteString([]string{"\n", "\r\n", "\n\n", "\n", "\n"}[i])
	}
	b.WriteString("no event")
	return b.Bytes()
}

// price is what ./scripts/cost --json says of a rate.
func price(t *testing.T, rate string, into any) {
	t.Helper()
	var out, errs bytes.Buffer
	if status := cost.Run([]string{"--json", "--rate", rate, "--partitions", "100"}, &out, &errs); status != 0 {
		t.Fatalf("status %d: %s", status, &errs)
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
}

// Protects the bill that ./scripts/cost makes from saying what the pipeline does not do: over 100 partitions, messages
// follow the traffic as the model says, and have the bytes that it says.
func TestCostModelAgainstARun(t *testing.T) {
	var model struct {
		Messages float64 `json:"messages_per_second"`
		Bytes    float64 `json:"payload_bytes_per_event"`
	}
	price(t, "1000", &model)
	const seconds = 15
	s := summarize(t, nil, "--events", strconv.Itoa(1000*seconds), "--rate", "1000", "--partitions", "100")
	// On a starved machine a burst may fill a batch, which then goes by an object.
	if s.Missing != 0 || s.DuplicateRows != 0 || s.References > s.Messages/4 {
		t.Errorf("%+v", s)
	}
	// The first and the last batch are whatever they are.
	if got, want := float64(s.Messages), model.Messages*seconds; got < 0.9*want-1 || got > 1.1*want+1 {
		t.Errorf("%.0f messages in %d s, the model says %.1f", got, seconds, want)
	}
	// On a starved machine events are made in bursts, of nearly the same moment: they compress better.
	if got := float64(s.PayloadBytes) / float64(s.Produced); got < 0.8*model.Bytes || got > 1.1*model.Bytes {
		t.Errorf("%.1f bytes an event, the model says %.1f", got, model.Bytes)
	}
}

// The same for a rate whose batches are full, and so are objects.
func TestCostModelAgainstFullBatches(t *testing.T) {
	var model struct {
		Records float64 `json:"records_per_message"`
	}
	price(t, "1000000", &model)
	s := summarize(t, nil, "--events", "200000", "--partitions", "100")
	if s.Missing != 0 || s.DuplicateRows != 0 || s.Messages == 0 {
		t.Fatalf("%+v", s)
	}
	// The last batch is whatever it is, and so are those of the first moments, while producer and consumer find their
	// pace.
	if got := 200_000 / float64(s.Messages); got < 0.7*model.Records || got > 1.1*model.Records ||
		float64(s.References) < 0.8*float64(s.Messages) {
		t.Errorf("%d messages of %.0f records, %d of them refer to objects; the model says %.0f", s.Messages, got,
			s.References, model.Records)
	}
}

// --input reads what people have, from files and from standard input, packed or
// not; and --data keeps what landed over runs for query.
func TestInputLandsAndIsQueried(t *testing.T) {
	dir := t.TempDir()
	plain := input()
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(plain)
	g.Close()
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(plain)
	z.Close()
	data := filepath.Join(dir, "data")
	forms := []struct {
		name    string
		content []byte
	}{
		{"in.ndjson", plain}, {"in.ndjson.gz", gz.Bytes()}, {"in.ndjson.zst", zst.Bytes()}, {"-", nil},
		{"PACKED.GZ", gz.Bytes()}, {"packed", zst.Bytes()}, {"marked.ndjson", append([]byte("\xef\xbb\xbf"), plain...)},
	}
	for _, f := range forms {
		name, stdin := f.name, plain
		if name != "-" {
			name, stdin = filepath.Join(dir, f.name), nil
			if err := os.WriteFile(name, f.content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := summarize(t, stdin, "--input", name, "--data", data)
		if s.Produced != 6 || s.Landed != 5 || s.DeadLettered != 1 || s.Missing != 0 {
			t.Errorf("%s: %+v", f.name, s)
		}
	}
	// Several at once: a pattern finds three of them.
	if s := summarize(t, nil, "--input", filepath.Join(dir, "in.*"), "--input", filepath.Join(dir, "packed"), "--data",
		data); s.Produced != 24 || s.Landed != 20 || s.Missing != 0 {
		t.Errorf("several files: %+v", s)
	} else if len(s.Rejected) != 1 || s.Rejected[0] != (rejected{Code: "invalid_json", Events: 4}) {
		t.Errorf("rejected most: %+v", s.Rejected)
	}
	out, errs, status := program(t, nil, "query", "--data", data, "--json",
		"SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids, MAX(kafka_offset) >= 0 AS placed FROM fact_events")
	if want := `{"n":55,"ids":5,"placed":true}` + "\n"; out != want || status != 0 {
		t.Errorf("query printed %s%s with status %d, want %s", out, errs, status, want)
	}
	out, _, _ = program(t, nil, "query", "SELECT original_event, error_code FROM events_dlq", "--data", data)
	if !strings.Contains(out, "no event        invalid_json") || !strings.Contains(out, "(11 rows)") {
		t.Errorf("the table is\n%s", out)
	}

	// Who looks changes nothing.
	for _, statement := range []string{"DELETE FROM fact_events", "DROP TABLE fact_events", "CREATE TABLE mine AS SELECT 1",
		"UPDATE fact_events SET user_id = 'x'", "BEGIN; DELETE FROM fact_events; COMMIT"} {
		_, errs, status := program(t, nil, "query", "--data", data, statement)
		if status != 1 || !strings.Contains(errs, "read-only") {
			t.Errorf("%s: status %d, %q; want it refused", statement, status, errs)
		}
	}
	out, _, _ = program(t, nil, "query", "--data", data, "--json", "SELECT COUNT(*) AS n FROM fact_events")
	if want := `{"n":55}` + "\n"; out != want {
		t.Errorf("after statements that write there are %s rows, want %s", out, want)
	}
}

// Input that breaks off is an error that says where; what stood before it lands, and half
// an event is none.
func TestInputThatBreaksOff(t *testing.T) {
	var whole bytes.Buffer
	g := gzip.NewWriter(&whole)
	for i := range 20_000 {
		fmt.Fprintf(g, `{"event_id":"in-%d","event_timestamp":%q,"event_type":"search","user_id":"u"}`+"\n", i,
			time.Now().UTC().Format(time.RFC3339))
	}
	g.Close()
	file := filepath.Join(t.TempDir(), "cut.ndjson.gz")
	if err := os.WriteFile(file, whole.Bytes()[:whole.Len()*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, status := program(t, nil, "run", "--json", "--input", file, "--listen", "off")
	var s Summary
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v in %q\n%s", err, out, errs)
	}
	if s.Produced < 1000 || s.Landed != s.Produced || s.DeadLettered != 0 || s.Missing != 0 {
		t.Errorf("%+v", s)
	}
	if want := fmt.Sprintf("%s, line %d: unexpected EOF", file, s.Produced+1); status != 1 || !strings.Contains(errs,
		want) {
		t.Errorf("status %d, want 1 and %s:\n%s", status, want, errs)
	}
}

// Ctrl-C ends a run whose input waits, as a terminal's or a FIFO's does; what came before
// has landed.
func TestInterruptedWhileInputWaits(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := command.OpenLines(ended, fifo, -1); err == nil || !strings.Contains(err.Error(),
		"interrupted before somebody wrote to it") {
		t.Errorf("a FIFO that nobody has written to: %v", err)
	}

	// Who has taken enough does not wait for more.
	packed := fifo + ".zst"
	if err := syscall.Mkfifo(packed, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan *command.Lines, 1)
	go func() {
		l, err := command.OpenLines(t.Context(), packed, 1)
		if err != nil {
			t.Error(err)
		}
		opened <- l
	}()
	idle, err := os.OpenFile(packed, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	z, err := zstd.NewWriter(idle)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(z, "one")
	if err := z.Flush(); err != nil {
		t.Fatal(err)
	}
	l := <-opened
	if value, err := l.Next(); err != nil || string(value) != "one" {
		t.Errorf("%q, %v", value, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}

	run := startCommand(t, "run", "--json", "--input", fifo, "--listen", "off")
	var out strings.Builder
	run.Stdout = &out
	progress, err := run.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the run to open it
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fmt.Fprintf(w, `{"event_id":"1","event_timestamp":%q,"event_type":"search","user_id":"u"}`+"\n",
		time.Now().UTC().Format(time.RFC3339))
	lines := bufio.NewScanner(progress)
	for lines.Scan() && !strings.Contains(lines.Text(), "rows 1 ") {
	}
	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	_ = run.Wait()
	if status := run.ProcessState.ExitCode(); status != 0 || !strings.Contains(out.String(),
		`"produced":1,"landed":1,`) {
		t.Errorf("status %d, %s", status, &out)
	}
}

// A generated load with bad and repeated events is accounted for to the record.
func TestGeneratedLoadIsAccountedFor(t *testing.T) {
	s := summarize(t, nil, "--events", "5000", "--bad", "5", "--duplicate", "5", "--seed", "2", "--bridges", "2",
		"--wrapped")
	if s.Produced != 5000 || s.Missing != 0 || s.Landed+s.DeadLettered != 5000 {
		t.Errorf("%+v", s)
	}
	if s.DeadLettered < 150 || s.DeadLettered > 350 {
		t.Errorf("%d dead-lettered of 5000 events with 5 %% bad ones", s.DeadLettered)
	}
	if s.EventsPerSecond <= 0 || s.Latency.Max < s.Latency.P50 || s.Latency.P50 <= 0 {
		t.Errorf("figures make no sense: %+v", s)
	}
}

// A run tells a receiver what its bridges and its functions do, every bridge for itself.
func TestRunExports(t *testing.T) {
	c := collector.Start()
	defer c.Close()
	for _, variable := range c.Environment() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	summarize(t, nil, "--events", "2000", "--bridges", "2")
	metrics, spans := c.Metrics(), c.Spans()
	for _, want := range []string{"sluice.ingest.records", "sluice.bridge.records.out", "sluice.bridge.batch.records"} {
		if !slices.Contains(metrics, "sluice-local: "+want) {
			t.Errorf("no metric %s", want)
		}
	}
	for _, want := range []string{"send clickstream", "process Ingest"} {
		if !slices.Contains(spans, "sluice-local: "+want) {
			t.Errorf("no span %s", want)
		}
	}
}

// Scripts trust the exit status of --once: it is 1 when a record has not arrived, and
// when somebody has interrupted it. The summary is printed all the same.
func TestOnceFailsWhenSomethingIsMissing(t *testing.T) {
	missing := func(out string) int64 {
		var s Summary
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Errorf("%v in %q", err, out)
		}
		return s.Missing
	}
	// Without patience nothing can have arrived.
	out, errs, status := program(t, nil, "run", "--once", "--json", "--events", "5000", "--patience", "1ns")
	if status != 1 || missing(out) == 0 {
		t.Errorf("given up: status %d, %s%s", status, out, errs)
	}

	run := startCommand(t, "run", "--once", "--json", "--events", "1000000", "--rate", "100")
	progress, err := run.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var summary strings.Builder
	run.Stdout = &summary
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(progress)
	for said.Scan() && !strings.Contains(said.Text(), " rows ") {
	}
	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	last := ""
	for said.Scan() {
		last = said.Text()
	}
	_ = run.Wait()
	missing(summary.String())
	if status := run.ProcessState.ExitCode(); status != 1 || !strings.Contains(last, "interrupted") {
		t.Errorf("interrupted: status %d, %q", status, last)
	}
}

// Ending a run without mercy loses nothing: the next run on the same folder picks up
// what had not arrived.
func TestKilledRunIsMadeUpForByTheNext(t *testing.T) {
	data := t.TempDir()
	killed := startCommand(t, "run", "--once", "--events", "10000000", "--data", data)
	progress, err := killed.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	// Killed in mid-stream: after a line of progress that tells of rows.
	lines := bufio.NewScanner(progress)
	for tells := regexp.MustCompile(` rows [1-9][0-9]{3}`); lines.Scan() && !tells.MatchString(lines.Text()); {
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	summarize(t, nil, "--events", "10", "--data", data)
	out, errs, status := program(t, nil, "query", "--data", data, "--json", `
		WITH arrived AS (
		  SELECT kafka_partition AS p, kafka_offset AS o FROM fact_events UNION SELECT kafka_partition, kafka_offset FROM events_dlq)
		SELECT SUM(n) > 1000 AS many, SUM(missing) = 0 AS complete
		FROM (SELECT COUNT(*) AS n, MAX(o) + 1 - COUNT(*) AS missing FROM arrived GROUP BY p)`)
	if want := `{"many":true,"complete":true}` + "\n"; out != want || status != 0 {
		t.Errorf("query printed %s%s with status %d, want %s", out, errs, status, want)
	}
}

// Every question of the cookbook has an answer.
func TestCookbook(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../internal/contract/COOKBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	summarize(t, nil, "--events", "2000", "--bad", "5", "--duplicate", "2", "--data", data)
	questions := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(questions) < 10 {
		t.Fatalf("%d questions found", len(questions))
	}
	for _, q := range questions {
		out, errs, status := program(t, nil, "query", "--data", data, "--json", q[1])
		if status != 0 || !strings.HasPrefix(out, "{") {
			t.Errorf("%s\n%s%s", q[1], out, errs)
		}
	}
}

// A disk that is full ends a run with the reason, and loses nothing: with room again, the next run on the folder goes
// on. What a process may write to a file stands for the disk: its files end in the middle of a write, as on a full one.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	full := startCommand(t, "run", "--once", "--events", "100000", "--data", data)
	full.Args = append([]string{"sh", "-c", "ulimit -f 3000; exec \"$@\"", "sh"}, append([]string{full.Path},
		full.Args[1:]...)...)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	full.Path = sh
	var errs strings.Builder
	full.Stderr = &errs
	if err := full.Run(); err == nil || !strings.Contains(errs.String(), "make room and run this again") {
		t.Fatalf("ended with %v\n%s", err, errs.String()[max(0, errs.Len()-2000):])
	}
	summarize(t, nil, "--events", "10", "--data", data)
	if out, errs, status := program(t, nil, "audit", "--data", data); status != 0 || !strings.Contains(out,
		"Nothing is missing.") {
		t.Errorf("audit: status %d\n%s%s", status, out, errs)
	}
}

// A folder that is damaged is told, with the file and what to do, and is left as it is.
func TestDamagedFolder(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	summarize(t, nil, "--events", "100", "--data", data)
	for _, file := range []string{"warehouse.duckdb", "kafka/topics.json", "kafka/meta.json"} {
		path := filepath.Join(data, filepath.FromSlash(file))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := append([]byte("garbage garbage"), whole[min(15, len(whole)):]...)
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		_, errs, status := program(t, nil, "run", "--once", "--events", "10", "--data", data)
		if status != 1 || !strings.Contains(errs, filepath.Base(file)) || !strings.Contains(errs, "bring a copy back") {
			t.Errorf("%s: status %d, %s", file, status, errs)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, damaged) {
			t.Errorf("%s was changed: %v", file, err)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	summarize(t, nil, "--events", "10", "--data", data)
}

// A folder that another process has open is not called damaged: who has it is told.
func TestFolderInUse(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	summarize(t, nil, "--events", "10", "--data", data)
	w, err := openWarehouse(data)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("process %d has it open", os.Getpid())
	for _, args := range [][]string{{"run", "--once", "--events", "10"}, {"query", "SELECT 1"}, {"audit"}, {"replay"}} {
		_, errs, status := program(t, nil, append(args, "--data", data)...)
		if status == 0 || !strings.Contains(errs, want) || strings.Contains(errs, "damaged") {
			t.Errorf("%s: status %d, %q; want %q", args[0], status, errs, want)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, errs, status := program(t, nil, "query", "SELECT 1", "--data", data); status != 0 {
		t.Errorf("after it was closed: %s", errs)
	}
}

// A run is audited, its dead letters are looked at and replayed, and the exit status
// says when something is missing.
func TestAuditAndReplay(t *testing.T) {
	data := t.TempDir()
	s := summarize(t, nil, "--events", "2000", "--bad", "10", "--seed", "5", "--data", data)
	out, errs, status := program(t, nil, "audit", "--data", data)
	if status != 0 || !strings.Contains(out, "Nothing is missing.") || !strings.Contains(out, "committed offsets") {
		t.Fatalf("audit: status %d\n%s%s", status, out, errs)
	}
	repair := []string{"replay", "--data", data, "--code", "invalid_event_type", "--transform",
		`.event_type = "search"`, "--json"}
	var plan struct {
		Letters int64
		Codes   []struct{ Letters, Fails int64 }
	}
	out, errs, status = program(t, nil, repair...)
	if err := json.Unmarshal([]byte(out), &plan); err != nil || status != 0 || plan.Letters == 0 ||
		len(plan.Codes) != 1 || plan.Codes[0].Fails != 0 {
		t.Fatalf("replay: status %d, %v\n%s%s", status, err, out, errs)
	}
	var outcome struct {
		Landed   int64 `json:"landed_rows"`
		Rejected int64 `json:"rejected_rows"`
	}
	out, errs, status = program(t, nil, append(repair, "--execute")...)
	if err := json.Unmarshal([]byte(out), &outcome); err != nil || status != 0 || outcome.Landed != plan.Letters ||
		outcome.Rejected != 0 {
		t.Fatalf("replay --execute: status %d, %v, want %d rows\n%s%s", status, err, plan.Letters, out, errs)
	}
	kept, err := filepath.Glob(filepath.Join(data, "replay-*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %q, %v", kept, err)
	}
	if _, errs, status = program(t, nil, "replay", "--data", data, "--resume", kept[0]); status != 1 ||
		!strings.Contains(errs, "is done") {
		t.Errorf("resuming what is done: status %d, %s", status, errs)
	}
	var report struct {
		Totals struct {
			Landed       int64
			DeadLettered int64 `json:"dead_lettered"`
			Both         int64
			Missing      int64
		}
	}
	out, errs, status = program(t, nil, "audit", "--data", data, "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 {
		t.Fatalf("audit: status %d, %v\n%s%s", status, err, out, errs)
	}
	if c := report.Totals; c.Landed != s.Landed || c.Both != plan.Letters ||
		c.DeadLettered != s.DeadLettered-plan.Letters {
		t.Errorf("after the replay %+v, before %+v", c, s)
	}
	w, err := openWarehouse(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.DB().ExecContext(t.Context(),
		"DELETE FROM fact_events WHERE kafka_partition = 1 AND kafka_offset BETWEEN 10 AND 12"); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out, _, status = program(t, nil, "audit", "--data", data); status != 1 || !strings.Contains(out,
		"records are missing.") || !strings.Contains(out, "the next ./scripts/run --data "+data) ||
		!strings.Contains(out, "Gap: clickstream/1 offsets 1") {
		t.Errorf("audit of a table with holes: status %d\n%s", status, out)
	}
}

// A replay that is killed is resumed where it was: every letter lands, and a replay of
// what is left finds nothing.
func TestKilledReplayIsResumed(t *testing.T) {
	data := t.TempDir()
	summarize(t, nil, "--events", "3000", "--bad", "100", "--seed", "8", "--data", data)
	whole := `{event_id: "r", event_timestamp: (now | todate), event_type: "search", user_id: "u"}`
	killed := startCommand(t, "replay", "--data", data, "--code", "wrong_type,empty_field,missing_field",
		"--transform", whole, "--rate", "50", "--execute")
	progress, err := killed.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(progress); lines.Scan() && !strings.Contains(lines.Text(), "100 letters sent"); {
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	kept, err := filepath.Glob(filepath.Join(data, "replay-*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %q, %v", kept, err)
	}
	out, errs, status := program(t, nil, "replay", "--data", data, "--resume", kept[0], "--json")
	var outcome struct {
		Landed int64 `json:"landed_rows"`
	}
	if err := json.Unmarshal([]byte(out), &outcome); err != nil || status != 0 {
		t.Fatalf("resuming: status %d, %v\n%s%s", status, err, out, errs)
	}
	out, errs, _ = program(t, nil, "query", "--data", data, "--json", `
		SELECT COUNT(*) > 150 AS many, COUNT(*) = COUNT(f.kafka_offset) AS complete
		FROM (SELECT DISTINCT kafka_partition, kafka_offset FROM events_dlq WHERE error_code IN ('wrong_type', 'empty_field', 'missing_field')) AS d
		LEFT JOIN (SELECT DISTINCT kafka_partition, kafka_offset FROM fact_events WHERE replay_id IS NOT NULL) AS f USING (kafka_partition, kafka_offset)`)
	if want := `{"many":true,"complete":true}` + "\n"; out != want {
		t.Errorf("query printed %s%s, want %s", out, errs, want)
	}
	if out, errs, _ = program(t, nil, "audit", "--data", data); !strings.Contains(out, "Nothing is missing.") {
		t.Errorf("audit printed %s%s", out, errs)
	}
}

// Words that cannot be meant are refused before anything starts, with the remedy.
func TestUsageErrors(t *testing.T) {
	cases := []struct {
		args, says string
		status     int
	}{
		{"run --once", "--once needs an end", 2},
		{"run --rate -1", "--rate is -1", 2},
		{"run --bad 101", "--bad is 101", 2},
		{"run --bad NaN", "--bad is NaN", 2},
		{"run --patience 0s", "--patience is 0s", 2},
		{"run --input x --bad 1", "not for --input", 2},
		{"run --partitions 0", "--partitions is 0", 2},
		{"run --data main.go", "--data main.go is a file", 2},
		{"run what", `unexpected argument "what"`, 2},
		{"run --evnets 5", "not defined: -evnets", 2},
		{"run --rate fast", `"fast"`, 2},
		{"run --once --input does-not-exist.ndjson", "does-not-exist.ndjson", 1},
		{"run --once --input .", ". is a folder", 1},
		{"run --input does-not-exist.gz", "does-not-exist.gz", 1},
		{"audit --kafka 127.0.0.1:99999", "server 1 of 1 has a port that is none", 2},
		{"replay --project p --via kafka --kafka a:1,b", "server 2 of 2 is not host:port", 2},
		{"doctor --kafka nowhere", "server 1 of 1 is not host:port", 2},
		{"run --once --events 1 --kafka nowhere", "server 1 of 1 is not host:port", 2},
		{"query", "give one SQL statement", 2},
		{"query --data does-not-exist SELECT", "holds no warehouse", 1},
		{"audit what", `unexpected argument "what"`, 2},
		{"audit --data does-not-exist", "holds no warehouse", 2},
		{"audit --since yesterday", "how long ago", 2},
		{"audit --nosuchflag", "-nosuchflag", 2},
		{"replay what", `unexpected argument "what"`, 2},
		{"replay --via carrier", "use pubsub or kafka", 2},
		{"replay --list --execute", "do not go together", 2},
		{"replay --offsets 9-3", "write 100-200", 2},
		{"replay --partition one", "-partition", 2},
		{"replay --project p --via kafka --execute", "--kafka HOST:PORT", 2},
		{"replay --resume r.json --code invalid_json", "--code is not for --resume", 2},
		{"replay --resume does-not-exist.json", "does-not-exist.json", 1},
		{"fly", "usage: sluice", 2},
	}
	for _, c := range cases {
		_, errs, status := program(t, nil, strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(errs, c.says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: status %d and %q, want %d and %q", c.args, status, errs, c.status, c.says)
		}
	}
	if _, errs, status := program(t, nil, "run", "-h"); status != 0 || !strings.Contains(errs, "-duplicate") {
		t.Errorf("-h: status %d and %q", status, errs)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A port that somebody chose and that is taken is an error with a remedy; --once
// opens no port that nobody asked for.
func TestListenFlag(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, errs, status := program(t, nil, "run", "--once", "--events", "1", "--listen", taken.Addr().String())
	if status != 1 || !strings.Contains(errs, "--listen "+taken.Addr().String()) || !strings.Contains(errs,
		"--listen off") {
		t.Errorf("exit status %d\n%s", status, errs)
	}
	if _, errs, status := program(t, nil, "run", "--once", "--events", "1"); status != 0 || strings.Contains(errs,
		"live page") {
		t.Errorf("--once without --listen: exit status %d\n%s", status, errs)
	}
}

// The live page of a run is where it says, shows the run, and ends with it: outages
// that somebody switched on there lose nothing at the end.
func TestRunWithALivePage(t *testing.T) {
	cmd := startCommand(t, "run", "--json", "--rate", "200", "--listen", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout strings.Builder
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	url := ""
	for url == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("no live page: %v", err)
		}
		if found := regexp.MustCompile(`^live page: (http://\S+)`).FindStringSubmatch(line); found != nil {
			url = found[1]
		}
	}
	rest := make(chan string)
	go func() { text, _ := io.ReadAll(lines); rest <- string(text) }()

	stream, err := http.Get(url + "/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	events := bufio.NewScanner(stream.Body)
	events.Buffer(nil, 1<<20)
	for events.Scan() {
		var tick struct {
			Rows int64 `json:"rows"`
		}
		if data, ok := strings.CutPrefix(events.Text(), "data: "); ok && json.Unmarshal([]byte(data), &tick) == nil && tick.Rows > 0 {
			break
		}
	}
	if err := events.Err(); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"warehouse-down", "kafka-down"} {
		off, err := http.Post(url+"/api/switches/"+id, "application/json", strings.NewReader(`{"on": true}`))
		if err != nil || off.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", id, off, err)
		}
		off.Body.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stream.Body) // ends with the run
	stream.Body.Close()
	text := <-rest
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var s Summary
	if err := json.Unmarshal([]byte(stdout.String()), &s); err != nil {
		t.Fatalf("%v in %q", err, stdout.String())
	}
	if s.Missing != 0 || s.Landed == 0 {
		t.Errorf("%+v\n%s", s, text)
	}
	if !strings.Contains(text, "--data DIR") {
		t.Errorf("a run without an end and without --data does not say that its memory grows:\n%s", text)
	}
	if c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", strings.TrimPrefix(url, "http://")); err == nil {
		c.Close()
		t.Error("the page is still there after the end")
	}
}

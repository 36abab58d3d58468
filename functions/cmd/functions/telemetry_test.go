package main

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/internal/telemetry/collector"
)

// With an endpoint in the environment the program's spans and metrics arrive there,
// within its requests and not only at its end.
func TestTelemetryArrives(t *testing.T) {
	w, p := servers(t)
	c := collector.Start()
	defer c.Close()
	// The exporters' own timers are as good as off, as where there is no CPU between requests.
	env := append(c.Environment(), "OTEL_BSP_SCHEDULE_DELAY=3600000", "OTEL_METRIC_EXPORT_INTERVAL=3600000",
		"FUNCTION_TARGET=Ingest")
	g := start(t, w, p, env...)
	for !slices.Contains(c.Spans(), "sluice-ingest: process Ingest") || !slices.Contains(c.Metrics(),
		"sluice-ingest: sluice.ingest.records") ||
		!slices.Contains(c.Metrics(), "sluice-ingest: go.goroutine.count") {
		if status := post(g.url, "a"); status != 204 {
			t.Fatalf("answered %d", status)
		}
		time.Sleep(20 * time.Millisecond)
	}
	check(t, g.cmd.Process.Signal(syscall.SIGTERM))
	<-g.exited
	if status := g.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d: %s", status, g.stderr)
	}
}

// A collector that is not there is no reason to fail, to wait, or to acknowledge less.
func TestTelemetryWithoutACollector(t *testing.T) {
	w, p := servers(t)
	c := collector.Start()
	c.Close()
	g := start(t, w, p, append(c.Environment(), "FUNCTION_TARGET=Ingest")...)
	for range 3 {
		if status := post(g.url, "a"); status != 204 {
			t.Errorf("answered %d", status)
		}
	}
	check(t, g.cmd.Process.Signal(syscall.SIGTERM))
	<-g.exited
	if status := g.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d: %s", status, g.stderr)
	}
}

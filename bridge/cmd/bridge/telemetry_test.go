package main

import (
	"slices"
	"testing"

	"sluice/bridge/internal/servers"
	"sluice/internal/telemetry/collector"
)

// With an endpoint in the environment the bridge's spans and metrics arrive there.
func TestTelemetryArrives(t *testing.T) {
	s := servers.New(t, 1)
	c := collector.Start()
	defer c.Close()
	start(t, s, c.Environment()...)
	s.Produce(s.Numbered(0, 10)...)
	servers.Wait(t, "a span and a metric", func() bool {
		return slices.Contains(c.Spans(), "sluice-bridge: send clickstream") && slices.Contains(c.Metrics(),
			"sluice-bridge: messaging.client.consumed.messages") &&
			slices.Contains(c.Metrics(), "sluice-bridge: go.goroutine.count")
	})
}

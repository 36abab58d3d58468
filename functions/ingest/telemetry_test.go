package ingest

import (
	"testing"
	"time"

	"sluice/functions/push"
)

// A message costs no allocation on account of telemetry that nobody receives.
func TestTelemetryCostsNothingWhenNobodyWantsIt(t *testing.T) {
	f := &Function{}
	m, l, begin := &push.Message{}, &line{records: 500, landed: 499, rejected: map[string]int{"missing_field": 1}}, time.Now()
	if n := testing.AllocsPerRun(100, func() { f.tell(m, l, begin, nil) }); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

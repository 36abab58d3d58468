package ingest

import (
	"testing"
	"time"

	"sluice/functions/push"
	"sluice/internal/batch"
)

// A message costs no allocation on account of telemetry that nobody receives.
func TestTelemetryCostsNothingWhenNobodyWantsIt(t *testing.T) {
	f := &Function{}
	m, l, begin := &push.Message{}, &line{records: 500}, time.Now()
	parts := []part{{landed: 499, rejected: map[string]int{"missing_field": 1}}}
	if n := testing.AllocsPerRun(100, func() { f.count(parts); f.span(m, l, begin, nil) }); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

// Protects the latency alert from producers that stamp records in seconds, which seem to be of
// 1970: their batch is not 56 years late.
func TestAgeLeavesOutWhatIsNoTime(t *testing.T) {
	now := time.UnixMilli(1_795_000_000_000)
	for want, timestamps := range map[time.Duration][]int64{
		2 * time.Second: {1_795_000_000, 0, -1, 1_794_999_998_000, 1_794_999_999_000},
		0:               {1_795_000_000},
	} {
		b := &batch.Batch{}
		for _, at := range timestamps {
			b.Records = append(b.Records, batch.Record{Timestamp: at})
		}
		var p part
		if p.age(b, now); p.oldest != want {
			t.Errorf("the oldest of %v is %v old, want %v", timestamps, p.oldest, want)
		}
	}
}

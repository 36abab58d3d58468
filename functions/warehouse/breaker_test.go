package warehouse

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"sluice/internal/contract"
)

// Protects the way back from an outage: a probe that panics gives its place to the
// next one. Otherwise every later request would be refused without a call.
func TestProbeThatPanics(t *testing.T) {
	a := NewAppender(nil, contract.FactEvents(), AppenderConfig{Table: "t", BreakerFailures: 1,
		BreakerOpen: time.Nanosecond}, slog.New(slog.DiscardHandler))
	done, err := a.breaker.Allow()
	if err != nil {
		t.Fatal(err)
	}
	done(errors.New("outage")) // opens it
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("an appender without a client did not panic")
			}
		}()
		_ = a.Append(t.Context(), nil)
	}()
	if _, err := a.breaker.Allow(); err != nil {
		t.Errorf("after the probe: %v", err)
	}
}

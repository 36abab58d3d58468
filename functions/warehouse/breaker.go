package warehouse

import (
	"errors"
	"log/slog"

	"github.com/sony/gobreaker/v2"
)

// errCallerLeft stands for every failure of a request whose caller has ended: its
// deadline was short, or its client is gone. That says nothing about BigQuery.
var errCallerLeft = errors.New("the caller has ended")

// newBreaker returns the circuit breaker of one table: after consecutive failures
// requests fail at once, which leaves Pub/Sub to back off, until one probe at a
// time has shown that BigQuery answers again.
func newBreaker(c AppenderConfig, log *slog.Logger) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     c.BreakerOpen,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= uint32(c.BreakerFailures) },
		// A refusal of rows is an answer: the service works.
		IsSuccessful: func(err error) bool { return err == nil || isRows(err) },
		// One stream that fails takes all its requests with it: that is one failure.
		IsExcluded: func(err error) bool {
			if errors.Is(err, errCallerLeft) || errors.Is(err, errClosed) {
				return true
			}
			f, ok := errors.AsType[*StreamError](err)
			return ok && f.counted()
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			log.Warn("circuit breaker", slog.String("from", from.String()), slog.String("to", to.String()))
		},
	})
}

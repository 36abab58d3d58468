package bridge

import (
	"fmt"
	"net/http"
	"time"
)

// Handler serves /livez, /readyz and /metrics.
func (b *Bridge) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", b.answer(b.live))
	mux.HandleFunc("GET /readyz", b.answer(b.ready))
	mux.Handle("GET /metrics", b.metrics.handler)
	return mux
}

// answer turns a check into 200 "ok" or 503 with the reason.
func (b *Bridge) answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// live fails when the poll loop is stuck: only a restart helps then.
func (b *Bridge) live() error {
	turn := b.counters.turn.Load()
	if turn == nil {
		return nil // not started yet
	}
	// By the clock that nobody sets: a correction of the day's would restart every bridge.
	if since := time.Since(*turn); since > b.cfg.StuckAfter {
		return fmt.Errorf("the poll loop has not turned for %s", since.Round(time.Second))
	}
	return nil
}

// ready fails while records do not flow, whoever is to blame.
func (b *Bridge) ready() error {
	switch {
	case !b.counters.joined.Load():
		return fmt.Errorf("the consumer group has assigned nothing to this member: it has not joined yet, or was thrown out and joins again")
	case b.publisher.Stats().Failing:
		return fmt.Errorf("publishing fails and is tried again")
	}
	return nil
}

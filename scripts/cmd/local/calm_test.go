package main

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An outage does not flood the terminal, and nothing is kept back in silence: warnings of
// another kind and errors come at once, and the next of a kind says how many it stands for.
func TestWarningsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := slog.New(newCalm(slog.NewTextHandler(&out, nil)))
		for range 100 {
			log.Warn("push", "function", "Ingest", "outcome", "retry")
		}
		log.With("x", 1).Warn("push", "function", "DeadLetter", "outcome", "retry")
		log.Error("push", "function", "Ingest", "outcome", "crashed")
		log.Error("push", "function", "Ingest", "outcome", "crashed")
		log.Info("push")
		if got := strings.Count(out.String(), "\n"); got != 5 || strings.Contains(out.String(), "similar_before") {
			t.Errorf("%d lines, want 5:\n%s", got, &out)
		}
		out.Reset()
		time.Sleep(time.Minute)
		log.Warn("push", "function", "Ingest", "outcome", "retry")
		if !strings.Contains(out.String(), "similar_before=99") {
			t.Errorf("the next one says nothing of the 99 before it: %s", &out)
		}
	})
}

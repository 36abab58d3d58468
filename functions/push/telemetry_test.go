package push

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Sending telemetry never delays an acknowledgement: the answer has left before it begins.
func TestAfterComesAfterTheAnswer(t *testing.T) {
	answered := make(chan struct{})
	began := make(chan struct{}, 1)
	gate := NewGate(slog.New(slog.NewTextHandler(io.Discard, nil)))
	server := httptest.NewServer(gate.Handler(Config{Function: "Test", After: func() {
		began <- struct{}{}
		<-answered // a receiver that hangs until the caller has its answer
	}}, func(context.Context, *Message) error { return nil }))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Goog-Pubsub-Message-Id", "1")
	response, err := http.DefaultClient.Do(r) // hangs for ever if the answer waits
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", response.StatusCode)
	}
	<-began
	close(answered)
}

// Nobody who receives metrics costs nothing.
func TestNoMetricsCostNothing(t *testing.T) {
	m, err := NewMetrics(nil)
	if err != nil || m != nil {
		t.Fatalf("%v %v", m, err)
	}
}

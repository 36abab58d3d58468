package pubsub_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"

	"sluice/internal/local/pubsub"
)

// world is a running service with the topics "events" and "dead" and an endpoint
// that remembers what was pushed to it.
type world struct {
	*pubsub.Server
	client   *client.Client
	endpoint *httptest.Server

	mu       sync.Mutex
	requests []pushed
	answer   func(n int) int // by number of the request, from 1; nil: 204
}

type pushed struct {
	header http.Header
	body   []byte
	at     time.Time
}

func newWorld(t *testing.T, c pubsub.Config) *world {
	t.Helper()
	w := &world{}
	var err error
	if w.Server, err = pubsub.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Server.Close() })
	w.endpoint = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.endpoint.Close)
	for _, topic := range []string{"events", "dead"} {
		if err := w.CreateTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	if w.client, err = client.NewClient(context.Background(), "local", w.ClientOptions()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.client.Close() })
	return w
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.mu.Lock()
	w.requests = append(w.requests, pushed{r.Header.Clone(), body, time.Now()})
	status := http.StatusNoContent
	if w.answer != nil {
		status = w.answer(len(w.requests))
	}
	w.mu.Unlock()
	rw.WriteHeader(status)
}

func (w *world) pushes() []pushed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]pushed(nil), w.requests...)
}

func (w *world) subscribe(t *testing.T, p pubsub.PushSubscription) {
	t.Helper()
	if p.Endpoint == "" {
		p.Endpoint = w.endpoint.URL
	}
	if err := w.CreatePushSubscription(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// publish publishes one message through the client and returns its id.
func (w *world) publish(t *testing.T, topic string, m *client.Message) string {
	t.Helper()
	p := w.client.Publisher(topic)
	defer p.Stop()
	id, err := p.Publish(t.Context(), m).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := w.WaitIdle(ctx); err != nil {
		t.Fatal(err)
	}
}

// flood publishes n messages at once.
func (w *world) flood(t *testing.T, topic string, n int) {
	t.Helper()
	p := w.client.Publisher(topic)
	defer p.Stop()
	results := make([]*client.PublishResult, n)
	for i := range results {
		results[i] = p.Publish(t.Context(), &client.Message{Data: []byte("x")})
	}
	for _, r := range results {
		if _, err := r.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

package pubsub_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"
	"github.com/google/go-cmp/cmp"

	"sluice/internal/local/pubsub"
)

// Protects the two shapes of a push request that functions/push must take.
func TestPushWrappedAndUnwrapped(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	w.subscribe(t, pubsub.PushSubscription{Name: "unwrapped", Topic: "events", Unwrapped: true})
	data := []byte("\xffSLB\x01\x00binary")
	id := w.publish(t, "events", &client.Message{Data: data, Attributes: map[string]string{"trace": "abc",
		"not a header": "x", "value": "línea\n"}})
	w.settle(t)
	got := w.pushes()
	if len(got) != 1 || string(got[0].body) != string(data) {
		t.Fatalf("%d pushes: %+v", len(got), got)
	}
	h := got[0].header
	for name, want := range map[string]string{
		"X-Goog-Pubsub-Message-Id":        id,
		"X-Goog-Pubsub-Subscription-Name": "projects/local/subscriptions/unwrapped",
		"Trace":                           "abc",
		"Not A Header":                    "",
		"Value":                           "",
	} {
		if h.Get(name) != want {
			t.Errorf("header %s = %q, want %q", name, h.Get(name), want)
		}
	}
	if _, err := time.Parse(time.RFC3339, h.Get("X-Goog-Pubsub-Publish-Time")); err != nil {
		t.Error(err)
	}

	w.subscribe(t, pubsub.PushSubscription{Name: "wrapped", Topic: "dead", DeadLetterTopic: "events",
		MaxDeliveryAttempts: 5})
	id = w.publish(t, "dead", &client.Message{Data: data, Attributes: map[string]string{"a": `"x"`}})
	w.settle(t)
	var envelope map[string]any
	if err := json.Unmarshal(w.pushes()[1].body, &envelope); err != nil {
		t.Fatal(err)
	}
	message := envelope["message"].(map[string]any)
	at := message["publishTime"]
	if message["publish_time"] != at || at == "" {
		t.Errorf("publish times %v", message)
	}
	delete(message, "publishTime")
	delete(message, "publish_time")
	if diff := cmp.Diff(map[string]any{
		"message":         map[string]any{"data": "/1NMQgEAYmluYXJ5", "attributes": map[string]any{"a": `"x"`}, "messageId": id, "message_id": id},
		"subscription":    "projects/local/subscriptions/wrapped",
		"deliveryAttempt": 1.0,
	}, envelope); diff != "" {
		t.Error(diff)
	}
}

// Protects which final answers ack: these four and no other.
func TestAckStatuses(t *testing.T) {
	for _, test := range []struct {
		status int
		ack    bool
	}{
		{200, true}, {201, true}, {202, true}, {204, true},
		{203, false}, {206, false}, {301, false}, {400, false}, {404, false}, {429, false}, {500, false}, {503, false},
	} {
		t.Run(http.StatusText(test.status), func(t *testing.T) {
			w := newWorld(t, pubsub.Config{BackoffScale: 0.01})
			w.answer = func(n int) int {
				if n == 1 {
					return test.status
				}
				return 204
			}
			w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events"})
			w.publish(t, "events", &client.Message{Data: []byte("x")})
			w.settle(t)
			if got, want := len(w.pushes()) == 1, test.ack; got != want {
				t.Errorf("status %d acked: %v, want %v", test.status, got, want)
			}
		})
	}
}

// Protects what becomes of a message that keeps failing: it is tried as often as
// the policy says, arrives in the dead-letter topic with the service's attributes
// and its own, and is gone from the source.
func TestDeadLetter(t *testing.T) {
	w := newWorld(t, pubsub.Config{BackoffScale: 0.001})
	w.answer = func(n int) int {
		if n <= 5 {
			return 503
		}
		return 204
	}
	w.subscribe(t, pubsub.PushSubscription{Name: "source", Topic: "events", Unwrapped: true,
		MinBackoff: 10 * time.Second, MaxBackoff: 600 * time.Second, DeadLetterTopic: "dead", MaxDeliveryAttempts: 5})
	w.subscribe(t, pubsub.PushSubscription{Name: "graveyard", Topic: "dead", Unwrapped: true})
	w.publish(t, "events", &client.Message{Data: []byte("x"), Attributes: map[string]string{"own": "1"}})
	w.settle(t)
	got := w.pushes()
	if len(got) != 6 {
		t.Fatalf("%d pushes, want 5 tries and the dead letter", len(got))
	}
	h := got[5].header
	for name, want := range map[string]string{
		"Own":                             "1",
		"X-Goog-Pubsub-Subscription-Name": "projects/local/subscriptions/graveyard",
		"CloudPubSubDeadLetterSourceDeliveryCount":       "5",
		"CloudPubSubDeadLetterSourceSubscription":        "source",
		"CloudPubSubDeadLetterSourceSubscriptionProject": "local",
	} {
		if h.Get(name) != want {
			t.Errorf("header %s = %q, want %q", name, h.Get(name), want)
		}
	}
	s := w.Stats("source")
	if s.Delivered != 5 || s.Failed != 5 || s.DeadLettered != 1 || s.Backlog != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Protects 102 Processing, which acks although it is not a final answer.
func TestProcessingAcks(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	hold := make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusProcessing)
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(endpoint.Close)
	t.Cleanup(func() { close(hold) })
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events", Endpoint: endpoint.URL})
	w.publish(t, "events", &client.Message{Data: []byte("x")})
	w.settle(t)
	if s := w.Stats("sub"); s.Acked != 1 || s.Failed != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Protects the end of a delivery: silence beyond the ack deadline is a failure,
// the request is cancelled, and the message comes again.
func TestAckDeadline(t *testing.T) {
	w := newWorld(t, pubsub.Config{BackoffScale: 0.01})
	var requests atomic.Int32
	cancelled := make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if requests.Add(1) == 1 {
			<-r.Context().Done()
			close(cancelled)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(endpoint.Close)
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events", Endpoint: endpoint.URL,
		AckDeadline: time.Second})
	w.publish(t, "events", &client.Message{Data: []byte("x")})
	w.settle(t)
	<-cancelled // the test's own limit is the alarm
	// A slow machine may miss the deadline more than once.
	if s := w.Stats("sub"); s.Failed < 1 || s.Delivered != s.Failed+1 || s.Acked != 1 {
		t.Errorf("stats %+v", s)
	}
}

// Protects redelivery: waits grow from the policy's least to its greatest, and a
// failing message does not hold up the others.
func TestRetryPolicy(t *testing.T) {
	w := newWorld(t, pubsub.Config{BackoffScale: 0.01})
	var mu sync.Mutex
	var tries []time.Time
	endpoint := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if string(body) == "bad" {
			if tries = append(tries, time.Now()); len(tries) < 5 {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		rw.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(endpoint.Close)
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events", Endpoint: endpoint.URL, Unwrapped: true,
		MinBackoff: 10 * time.Second, MaxBackoff: 20 * time.Second})
	w.publish(t, "events", &client.Message{Data: []byte("bad")})
	for range 20 {
		w.publish(t, "events", &client.Message{Data: []byte("good")})
	}
	w.settle(t)
	if s := w.Stats("sub"); s.Delivered != 25 || s.Failed != 4 || s.Acked != 21 || s.Backlog != 0 ||
		s.BacklogBytes != 0 {
		t.Errorf("stats %+v", s)
	}
	for i, least := range []time.Duration{80 * time.Millisecond, 160 * time.Millisecond, 160 * time.Millisecond,
		160 * time.Millisecond} {
		if waited := tries[i+1].Sub(tries[i]); waited < least {
			t.Errorf("wait %d: %v, want at least %v", i+1, waited, least)
		}
	}
}

// Protects throughput tests: the window opens with success, and closes with failure.
func TestWindow(t *testing.T) {
	w := newWorld(t, pubsub.Config{MaxOutstanding: 16, BackoffScale: 0.01})
	var failing atomic.Bool
	var most, current atomic.Int32
	endpoint := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := current.Add(1)
		defer current.Add(-1)
		for {
			seen := most.Load()
			if n <= seen || most.CompareAndSwap(seen, n) {
				break
			}
		}
		time.Sleep(time.Millisecond)
		if failing.Load() {
			rw.WriteHeader(http.StatusTooManyRequests)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(endpoint.Close)
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events", Endpoint: endpoint.URL})
	if s := w.Stats("sub"); s.Window != 4 {
		t.Errorf("window %d at the beginning, want 4", s.Window)
	}
	w.flood(t, "events", 300)
	w.Pause("sub")
	w.flood(t, "events", 300)
	w.Resume("sub")
	w.settle(t)
	if s := w.Stats("sub"); s.Window != 16 || most.Load() > 16 {
		t.Errorf("window %d, at most %d requests at once, want 16", s.Window, most.Load())
	}
	failing.Store(true)
	w.flood(t, "events", 100)
	for w.Stats("sub").Failed < 100 {
		time.Sleep(time.Millisecond)
	}
	if s := w.Stats("sub"); s.Window > 4 {
		t.Errorf("window %d after failures", s.Window)
	}
	failing.Store(false)
	w.settle(t)
}

// Protects the deployment of a new endpoint: what is waiting goes there.
func TestSetEndpoint(t *testing.T) {
	w := newWorld(t, pubsub.Config{BackoffScale: 0.01})
	w.subscribe(t, pubsub.PushSubscription{Name: "sub", Topic: "events", Endpoint: "http://127.0.0.1:1/",
		Unwrapped: true})
	w.publish(t, "events", &client.Message{Data: []byte("x")})
	for w.Stats("sub").Failed == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := w.SetEndpoint(t.Context(), "sub", w.endpoint.URL); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	if got := w.pushes(); len(got) != 1 || string(got[0].body) != "x" {
		t.Errorf("%d pushes: %+v", len(got), got)
	}
}

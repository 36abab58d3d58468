package pubsub_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"
	"github.com/google/go-cmp/cmp"

	"sluice/test/embedded/pubsub"
)

// Protects the two shapes of a push request that functions/push must take.
func TestPushWrappedAndUnwrapped(t *testing.T) {
	w := newWorld(t, pubsub.Config{})
	w.subscribe(t, pubsub.PushSubscription{Name: "unwrapped", Topic: "events", Unwrapped: true})
	data := []byte("\xffSLB\x01\x00binary")
	id := w.publish(t, "events", &client.Message{Data: data, Attributes: map[string]string{"trace": "abc", "not a header": "x", "value": "línea\n"}})
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

	w.subscribe(t, pubsub.PushSubscription{Name: "wrapped", Topic: "dead", DeadLetterTopic: "events", MaxDeliveryAttempts: 5})
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

// Protects which answers ack: these five and no other.
func TestAckStatuses(t *testing.T) {
	for _, test := range []struct {
		status int
		ack    bool
	}{
		{102, true}, {200, true}, {201, true}, {202, true}, {204, true},
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
			w.subscribe(t, pubsub.PushSubscription{Name: "s", Topic: "events"})
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
	w.subscribe(t, pubsub.PushSubscription{Name: "source", Topic: "events", Unwrapped: true, MinBackoff: 10 * time.Second, MaxBackoff: 600 * time.Second, DeadLetterTopic: "dead", MaxDeliveryAttempts: 5})
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

//go:build thirdparty

package pubsub_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/types/known/durationpb"

	embedded "sluice/internal/local/pubsub"
	"sluice/test/thirdparty/pubsub"
)

// service is either of the two Pub/Subs.
type service struct {
	name     string
	emulator bool
	options  []option.ClientOption
}

// each runs a test on the emulator and on our own server: what both do the same
// is what the project may rely on, what differs is said in the test.
func each(t *testing.T, test func(t *testing.T, s service)) {
	t.Run("emulator", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		e, err := pubsub.Start(ctx, pubsub.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		test(t, service{"emulator", true, e.ClientOptions()})
	})
	t.Run("embedded", func(t *testing.T) {
		s, err := embedded.Start(embedded.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		test(t, service{"embedded", false, s.ClientOptions()})
	})
}

// received is what an endpoint got.
type received struct {
	header http.Header
	body   []byte
	at     time.Time
}

// endpoint answers pushes with answer(n) for the n-th, from 1, and remembers them.
type endpoint struct {
	*httptest.Server
	mu  sync.Mutex
	got []received
}

func newEndpoint(t *testing.T, answer func(n int, r received) int) *endpoint {
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got = append(e.got, received{r.Header.Clone(), body, time.Now()})
		w.WriteHeader(answer(len(e.got), e.got[len(e.got)-1]))
	}))
	t.Cleanup(e.Close)
	return e
}

// await waits for n pushes and then a little for one too many.
func (e *endpoint) await(t *testing.T, n int) []received {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		e.mu.Lock()
		got := slices.Clone(e.got)
		e.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%d pushes, want %d", len(got), n)
		}
	}
}

type world struct {
	*client.Client
	t *testing.T
}

func connect(t *testing.T, s service) world {
	t.Helper()
	c, err := client.NewClient(context.Background(), "p", s.options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return world{c, t}
}

func (w world) topic(name string) {
	w.t.Helper()
	if _, err := w.TopicAdminClient.CreateTopic(w.t.Context(), &pubsubpb.Topic{Name: "projects/p/topics/" +
		name}); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) subscribe(name, topic, url string, change func(s *pubsubpb.Subscription)) {
	w.t.Helper()
	s := &pubsubpb.Subscription{
		Name: "projects/p/subscriptions/" + name, Topic: "projects/p/topics/" + topic, AckDeadlineSeconds: 10,
		PushConfig: &pubsubpb.PushConfig{PushEndpoint: url, Wrapper: &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}},
	}
	if change != nil {
		change(s)
	}
	if _, err := w.SubscriptionAdminClient.CreateSubscription(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) publish(topic string, m *client.Message) string {
	w.t.Helper()
	p := w.Publisher(topic)
	p.EnableMessageOrdering = m.OrderingKey != ""
	defer p.Stop()
	id, err := p.Publish(w.t.Context(), m).Get(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func acknowledge(int, received) int { return http.StatusNoContent }

// Settles what an unwrapped push looks like.
func TestUnwrapped(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		w, e := connect(t, s), newEndpoint(t, acknowledge)
		w.topic("topic")
		w.subscribe("sub", "topic", e.URL, nil)
		id := w.publish("topic", &client.Message{Data: []byte(`{"a": "ü"}`),
			Attributes: map[string]string{"mixedCase": "v 1", "dash-ed": "x"}, OrderingKey: "k"})
		r := e.await(t, 1)[0]
		if string(r.body) != `{"a": "ü"}` {
			t.Errorf("body %q", r.body)
		}
		ordering := "X-Goog-Pubsub-Ordering-Key"
		if s.emulator { // a deviation of the emulator from the documentation
			ordering = "X-Goog-Ordering-Key"
		}
		for name, want := range map[string]string{
			"X-Goog-Pubsub-Message-Id": id, "X-Goog-Pubsub-Subscription-Name": "projects/p/subscriptions/sub",
			"Mixedcase": "v 1", "Dash-Ed": "x", ordering: "k", "Content-Type": "application/x-www-form-urlencoded", "Authorization": "",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", r.header.Get("X-Goog-Pubsub-Publish-Time")); err != nil {
			t.Error(err)
		}
	})
}

// Settles why the emulator must push binary payloads wrapped: unwrapped it
// replaces what is not UTF-8, where our server, like the service, keeps the bytes.
func TestBinaryPayloads(t *testing.T) {
	data := "\xffSLB\x01\x00\x80\xfe zstd"
	each(t, func(t *testing.T, s service) {
		w, unwrapped, wrapped := connect(t, s), newEndpoint(t, acknowledge), newEndpoint(t, acknowledge)
		w.topic("topic")
		w.subscribe("unwrapped", "topic", unwrapped.URL, nil)
		w.subscribe("wrapped", "topic", wrapped.URL, func(s *pubsubpb.Subscription) { s.PushConfig.Wrapper = nil })
		id := w.publish("topic", &client.Message{Data: []byte(data), Attributes: map[string]string{"a": "b"}})
		want := data
		if s.emulator {
			want = strings.ToValidUTF8("\xff", "�") + "SLB\x01\x00��" + " zstd"
		}
		if got := string(unwrapped.await(t, 1)[0].body); got != want {
			t.Errorf("unwrapped %q, want %q", got, want)
		}
		var envelope struct {
			Message struct {
				Data                      string
				Attributes                map[string]string
				MessageID, Message_id     string //nolint:revive // the service's names
				PublishTime, Publish_time string
			}
			Subscription    string
			DeliveryAttempt *int
		}
		r := wrapped.await(t, 1)[0]
		if err := json.Unmarshal(r.body, &envelope); err != nil {
			t.Fatal(err)
		}
		m := envelope.Message
		if m.Data != base64.StdEncoding.EncodeToString([]byte(data)) || m.MessageID != id || m.Message_id != id ||
			m.PublishTime != m.Publish_time || m.PublishTime == "" ||
			m.Attributes["a"] != "b" || envelope.Subscription != "projects/p/subscriptions/wrapped" ||
			envelope.DeliveryAttempt != nil {
			t.Errorf("envelope %s", r.body)
		}
		if got := r.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q", got)
		}
	})
}

// Settles which answers ack. The service acks 102, 200, 201, 202 and 204.
func TestAckCodes(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		w := connect(t, s)
		for _, test := range []struct {
			status   int
			ack      bool
			emulator bool // the emulator's word, where it differs
		}{
			{200, true, true}, {201, true, true}, {202, true, false}, {203, false, true}, {204, true, true},
			{400, false, false}, {404, false, false}, {429, false, false}, {500, false, false}, {503, false, false},
		} {
			name := fmt.Sprint("status-", test.status)
			e := newEndpoint(t, func(n int, _ received) int {
				if n == 1 {
					return test.status
				}
				return 204
			})
			w.topic(name)
			w.subscribe(name, name, e.URL, func(s *pubsubpb.Subscription) {
				s.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(0),
					MaximumBackoff: durationpb.New(time.Second)}
			})
			w.publish(name, &client.Message{Data: []byte("x")})
			want := test.ack
			if s.emulator {
				want = test.emulator
			}
			if want {
				e.await(t, 1)
				time.Sleep(500 * time.Millisecond)
				if n := len(e.await(t, 1)); n != 1 {
					t.Errorf("%d: %d pushes of an acked message", test.status, n)
				}
			} else {
				e.await(t, 2)
			}
		}
	})
}

// Settles what a dead-lettered message carries, and after how many deliveries.
func TestDeadLetterAttributes(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		w := connect(t, s)
		failing, dead := newEndpoint(t, func(int, received) int { return 503 }), newEndpoint(t, acknowledge)
		w.topic("topic")
		w.topic("dead")
		w.subscribe("dead", "dead", dead.URL, nil)
		w.subscribe("sub", "topic", failing.URL, func(s *pubsubpb.Subscription) {
			s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: "projects/p/topics/dead",
				MaxDeliveryAttempts: 5}
			s.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(0),
				MaximumBackoff: durationpb.New(100 * time.Millisecond)}
		})
		w.publish("topic", &client.Message{Data: []byte("x"), Attributes: map[string]string{"own": "1"}})
		r := dead.await(t, 1)[0]
		if n := len(failing.await(t, 5)); n != 5 {
			t.Errorf("%d deliveries, want 5", n)
		}
		for name, want := range map[string]string{
			"Own": "1",
			"CloudPubSubDeadLetterSourceDeliveryCount":       "5",
			"CloudPubSubDeadLetterSourceSubscription":        "sub",
			"CloudPubSubDeadLetterSourceSubscriptionProject": "p",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		if _, err := time.Parse(time.RFC3339Nano, r.header.Get("CloudPubSubDeadLetterSourceTopicPublishTime")); err != nil {
			t.Error(err)
		}
	})
}

// Settles redelivery: a failing message waits at least the policy's minimum, and
// the deadline of a silent endpoint counts as a failure.
func TestRetryPolicy(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		w := connect(t, s)
		e := newEndpoint(t, func(n int, _ received) int {
			if n < 3 {
				return 503
			}
			return 204
		})
		w.topic("topic")
		w.subscribe("sub", "topic", e.URL, func(s *pubsubpb.Subscription) {
			s.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(time.Second),
				MaximumBackoff: durationpb.New(2 * time.Second)}
		})
		w.publish("topic", &client.Message{Data: []byte("x")})
		got := e.await(t, 3)
		for i := range 2 {
			// The waits are spread around the policy's.
			if waited := got[i+1].at.Sub(got[i].at); waited < 500*time.Millisecond {
				t.Errorf("wait %d is %v, want about a second", i+1, waited)
			}
		}
	})
}

// Settles what the envelope says of deliveries: the service counts them where
// there is a dead-letter policy, the emulator never says.
func TestDeliveryAttempt(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		w := connect(t, s)
		e := newEndpoint(t, func(n int, _ received) int {
			if n < 3 {
				return 503
			}
			return 204
		})
		w.topic("topic")
		w.topic("dead")
		w.subscribe("sub", "topic", e.URL, func(s *pubsubpb.Subscription) {
			s.PushConfig.Wrapper = nil
			s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: "projects/p/topics/dead",
				MaxDeliveryAttempts: 5}
			s.RetryPolicy = &pubsubpb.RetryPolicy{MinimumBackoff: durationpb.New(0),
				MaximumBackoff: durationpb.New(100 * time.Millisecond)}
		})
		w.publish("topic", &client.Message{Data: []byte("x")})
		for i, r := range e.await(t, 3) {
			var envelope struct{ DeliveryAttempt *int }
			if err := json.Unmarshal(r.body, &envelope); err != nil {
				t.Fatal(err)
			}
			switch {
			case s.emulator:
				if envelope.DeliveryAttempt != nil {
					t.Errorf("delivery %d says %d: the emulator has learnt to count", i+1, *envelope.DeliveryAttempt)
				}
			case envelope.DeliveryAttempt == nil || *envelope.DeliveryAttempt != i+1:
				t.Errorf("delivery %d says %v", i+1, envelope.DeliveryAttempt)
			}
		}
	})
}

// Settles why attributes must be plain ones: what no HTTP header can hold is left
// out by our server, and in the emulator the message is never pushed at all.
func TestAttributesThatAreNoHeaders(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		w := connect(t, s)
		for i, test := range []struct {
			name, key, value string
			header           bool
		}{
			{"umlauts in the value", "key", "ü", true},
			{"an empty value", "key", "", true},
			{"a space in the key", "not a header", "x", false},
			{"a line break in the value", "key", "a\nb", false},
		} {
			e, name := newEndpoint(t, acknowledge), fmt.Sprint("topic-", i)
			w.topic(name)
			w.subscribe(name, name, e.URL, nil)
			w.publish(name, &client.Message{Data: []byte("x"), Attributes: map[string]string{test.key: test.value}})
			if s.emulator && !test.header {
				time.Sleep(time.Second)
				if n := len(e.await(t, 0)); n != 0 {
					t.Errorf("%s: %d pushes, the emulator makes none of such a message", test.name, n)
				}
				continue
			}
			got := e.await(t, 1)[0].header.Values(test.key)
			if want := []string{test.value}; test.header != slices.Equal(got, want) {
				t.Errorf("%s: header %q", test.name, got)
			}
		}
	})
}

package push_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"sluice/functions/push"
	"sluice/internal/batch"
)

// serve starts a server whose one function is f. log receives the lines.
func serve(t *testing.T, c push.Config, f push.Func) (url string, gate *push.Gate, log *lines) {
	t.Helper()
	log = new(lines)
	gate = push.NewGate(slog.New(slog.NewJSONHandler(log, nil)))
	c.Function = "Test"
	s := httptest.NewServer(gate.Handler(c, f))
	t.Cleanup(s.Close)
	return s.URL, gate, log
}

// post makes an unwrapped push and returns the status and the body of the answer.
func post(t *testing.T, url, body string, header ...string) (int, string) {
	t.Helper()
	r := request(t, url, body)
	r.Header.Set("X-Goog-Pubsub-Message-Id", "42")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, r)
}

// request is a POST without a header of Pub/Sub's.
func request(t *testing.T, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func do(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	all []map[string]any
	raw bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw.Write(p)
	line := map[string]any{}
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	l.all = append(l.all, line)
	return len(p), nil
}

// push returns the only line of a request.
func (l *lines) push(t *testing.T) map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for _, line := range l.all {
		if line["msg"] == "push" {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines for one request: %v", len(found), l.all)
	}
	return found[0]
}

// Protects the acknowledgement: only a function that returns nil is one, whatever
// else it does.
func TestHowAFunctionEndsIsTheAnswer(t *testing.T) {
	for _, test := range []struct {
		name    string
		f       push.Func
		status  int
		outcome string
	}{
		{"nil", func(context.Context, *push.Message) error { return nil }, 204, "ack"},
		{"an error", func(context.Context, *push.Message) error { return errors.New("later") }, 503, "retry"},
		{"busy", func(context.Context, *push.Message) error { return fmt.Errorf("no: %w", push.ErrBusy) }, 429, "busy"},
		{"a panic", func(context.Context, *push.Message) error { panic("secret value") }, 500, "crashed"},
		{"a panic of the runtime", func(_ context.Context, m *push.Message) error { _ = m.Data[1000]; return nil }, 500, "crashed"},
		{"silence", func(context.Context, *push.Message) error { runtime.Goexit(); return nil }, 500, "crashed"},
		{"the deadline", func(ctx context.Context, _ *push.Message) error { <-ctx.Done(); return context.Cause(ctx) }, 503, "retry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, _, log := serve(t, push.Config{Timeout: 50 * time.Millisecond}, test.f)
			status, body := post(t, url, "data")
			if status != test.status || strings.Contains(body, "secret") {
				t.Errorf("answered %d %q, want %d", status, body, test.status)
			}
			line := log.push(t)
			if line["outcome"] != test.outcome || line["status"] != float64(test.status) {
				t.Errorf("line %v", line)
			}
			if test.status != 204 && line["error"] == nil {
				t.Error("the line does not say why")
			}
			if strings.Contains(log.raw.String(), "secret") {
				t.Errorf("the log holds the value of a panic: %s", log.raw.String())
			}
		})
	}
}

// Protects the ack deadline, which runs from the push on, not from the end of its body.
func TestSlowBodyCountsForTheDeadline(t *testing.T) {
	left := make(chan time.Duration, 1)
	url, _, _ := serve(t, push.Config{Timeout: time.Hour}, func(ctx context.Context, _ *push.Message) error {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		return nil
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Goog-Pubsub-Message-Id: 1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	answer := bufio.NewReader(c)
	// it waits for the body
	if line, err := answer.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("answered %q, %v", line, err)
	}
	time.Sleep(50 * time.Millisecond)
	fmt.Fprint(c, "a")
	if <-left > time.Hour-50*time.Millisecond {
		t.Error("the time in which the body arrived was not counted")
	}
}

// Protects messages from a caller that leaves: its function's context ends.
func TestLostCaller(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan struct{})
	url, _, _ := serve(t, push.Config{}, func(ctx context.Context, _ *push.Message) error {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("data"))
	r.Header.Set("X-Goog-Pubsub-Message-Id", "1")
	go func() {
		<-began
		cancel()
	}()
	if _, err := http.DefaultClient.Do(r); err == nil {
		t.Error("want an error")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the function's context ended with %v", err)
	}
}

// Protects the two shapes of a push: the same message comes out of both.
func TestUnwrappedAndWrapped(t *testing.T) {
	data := "\xffSLB\x01 any bytes \x00"
	at := time.Date(2026, 11, 22, 10, 11, 12, 345e6, time.UTC)
	type seen struct {
		ID, Subscription, OrderingKey, Data, Source string
		At                                          time.Time
		Attempt                                     int
	}
	want := seen{ID: "42", Subscription: "projects/p/subscriptions/s", OrderingKey: "k", Data: data, Source: "source/7",
		At: at}
	encoded := base64.StdEncoding.EncodeToString([]byte(data))
	envelope := `{"message":{"attributes":{"CloudPubSubDeadLetterSourceSubscription":"source\/7","b":"ü\u00e9"},"data":"` + encoded + `","messageId":"42","message_id":"42",` +
		`"publishTime":"2026-11-22T10:11:12.345Z","publish_time":"2026-11-22T10:11:12.345Z","orderingKey":"k"},"subscription":"projects/p/subscriptions/s","deliveryAttempt":7,"more":{"x":[1,{}]}}`
	for _, test := range []struct {
		name    string
		body    string
		header  map[string]string
		attempt int
	}{
		{"unwrapped", data, map[string]string{
			"Content-Type": "application/x-www-form-urlencoded", "X-Goog-Pubsub-Message-Id": "42", "X-Goog-Pubsub-Subscription-Name": "projects/p/subscriptions/s",
			"X-Goog-Pubsub-Publish-Time": "2026-11-22T10:11:12.345Z", "X-Goog-Pubsub-Ordering-Key": "k", "CloudPubSubDeadLetterSourceSubscription": "source/7",
		}, 0},
		{"wrapped", envelope, map[string]string{"Content-Type": "application/json"}, 7},
		{"wrapped, with escapes in the data", strings.NewReplacer("=", `\u003d`, `"/`, `"\/`).Replace(envelope), nil, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got seen
			url, _, _ := serve(t, push.Config{}, func(_ context.Context, m *push.Message) error {
				got = seen{m.ID, m.Subscription, m.OrderingKey, string(m.Data),
					m.Attribute("CloudPubSubDeadLetterSourceSubscription"), m.PublishTime, m.DeliveryAttempt}
				return nil
			})
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(test.body))
			for k, v := range test.header {
				r.Header.Set(k, v)
			}
			if status, body := do(t, r); status != 204 {
				t.Fatalf("answered %d %s", status, body)
			}
			want := want
			want.Attempt = test.attempt
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Protects operators: what is no push is refused with a hint that repairs it, and
// the function is not called.
func TestNoPush(t *testing.T) {
	for _, test := range []struct {
		name   string
		method string
		body   string
		header map[string]string
		status int
		hint   string
	}{
		{"unwrapped without metadata", "POST", "\xffSLB", nil, 400, "--push-no-wrapper-write-metadata"},
		{"a bare event without metadata", "POST", `{"event_id":"a"}`, nil, 400, "--push-no-wrapper-write-metadata"},
		{"nothing", "POST", "", nil, 400, "--push-no-wrapper-write-metadata"},
		{"a message without an id", "POST", `{"message":{"data":""}}`, nil, 400, "metadata"},
		{"broken JSON", "POST", `{"message":{"data":"c2VjcmV0"`, nil, 400, "no valid JSON at byte"},
		{"data that is no base64", "POST", `{"message":{"messageId":"1","data":"secret!"}}`, nil, 400, "no base64"},
		{"data that is no string", "POST", `{"message":{"messageId":"1","data":{}}}`, nil, 400, "no string"},
		{"an id that is no string", "POST", `{"message":{"messageId":1}}`, nil, 400, "messageId is no string"},
		{"an attribute that is no string", "POST", `{"message":{"messageId":"1","attributes":{"a":[]}}}`, nil, 400, "attributes.a is no string"},
		{"an attempt that is no number", "POST", `{"message":{"messageId":"1"},"deliveryAttempt":"x"}`, nil, 400, "deliveryAttempt is no whole number"},
		{"a message that is no object", "POST", `{"message":[]}`, nil, 400, "message is no JSON object"},
		{"null for a message", "POST", `{"message":null}`, nil, 400, "message is no JSON object"},
		{"duplicate names", "POST", `{"message":{"messageId":"1"},"message":{"messageId":"2"}}`, nil, 400, "no valid JSON"},
		{"something behind", "POST", `{"message":{"messageId":"1"}} x`, nil, 400, "followed by something else"},
		{"GET", "GET", "", nil, 405, "POST"},
		{"too large", "POST", strings.Repeat("x", 2000), nil, 413, "larger"},
		{"headers too large", "POST", "x", map[string]string{"A": strings.Repeat("x", 5000)}, 431, "headers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, _, log := serve(t, push.Config{MaxBody: 1000, MaxHeader: 4000},
				func(context.Context, *push.Message) error {
					t.Error("the function was called")
					return nil
				})
			r, _ := http.NewRequestWithContext(t.Context(), test.method, url, strings.NewReader(test.body))
			for k, v := range test.header {
				r.Header.Set(k, v)
			}
			status, body := do(t, r)
			if status != test.status || !strings.Contains(body, test.hint) || strings.Contains(body, "secret") {
				t.Errorf("answered %d %q, want %d with %q", status, body, test.status, test.hint)
			}
			if line := log.push(t); line["outcome"] != "malformed" || strings.Contains(fmt.Sprint(line), "secret") {
				t.Errorf("line %v", line)
			}
		})
	}
}

// Protects messages whose attributes have the names of HTTP's own headers: an unwrapped
// push carries them as such, and one that is refused for them is refused for ever.
func TestAttributesLikeHeaders(t *testing.T) {
	var got []byte
	url, _, _ := serve(t, push.Config{}, func(_ context.Context, m *push.Message) error {
		got = bytes.Clone(m.Data)
		return nil
	})
	status, _ := post(t, url, "as it is", "Content-Encoding", "gzip", "Content-Type", "text/plain", "Accept", "nothing")
	if status != 204 || string(got) != "as it is" {
		t.Errorf("answered %d, the function got %q", status, got)
	}
}

// Protects memory from a body that does not announce its length.
func TestBodyOfUnknownLength(t *testing.T) {
	for _, test := range []struct {
		size, status int
	}{{1000, 204}, {1001, 413}, {100_000, 413}} {
		url, _, _ := serve(t, push.Config{MaxBody: 1000}, func(_ context.Context, m *push.Message) error {
			if len(m.Data) != test.size {
				t.Errorf("%d bytes of %d", len(m.Data), test.size)
			}
			return nil
		})
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url,
			io.MultiReader(strings.NewReader(strings.Repeat("x", test.size))))
		r.Header.Set("X-Goog-Pubsub-Message-Id", "1")
		if status, _ := do(t, r); status != test.status {
			t.Errorf("%d bytes: answered %d, want %d", test.size, status, test.status)
		}
	}
}

// Protects the server, which has no timeouts, from a body that never ends.
func TestSlowBody(t *testing.T) {
	url, _, log := serve(t, push.Config{ReadTimeout: 50 * time.Millisecond},
		func(context.Context, *push.Message) error {
			t.Error("the function was called")
			return nil
		})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Goog-Pubsub-Message-Id: 1\r\nContent-Length: 10\r\n\r\nabc")
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("answered %q, %v", answer, err)
	}
	if line := log.push(t); line["outcome"] != "retry" {
		t.Errorf("line %v", line)
	}
}

// Protects the messages of requests that run at the same time, whose buffers are
// reused: each sees its own bytes until it returns.
func TestBuffersAreNotShared(t *testing.T) {
	url, _, _ := serve(t, push.Config{}, func(_ context.Context, m *push.Message) error {
		before := string(m.Data)
		runtime.Gosched()
		if string(m.Data) != before || before != strings.Repeat(m.Attribute("Fill"), len(before)) {
			return errors.New("mixed up")
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			fill := string(rune('a' + i))
			for n := range 50 {
				if status, _ := post(t, url, strings.Repeat(fill, 100*n), "Fill", fill); status != 204 {
					t.Errorf("answered %d", status)
				}
			}
		})
	}
	wg.Wait()
}

// Protects the budget: what is reserved comes back, however the function ends, and
// a request larger than all of it has its turn when it is alone.
func TestBudget(t *testing.T) {
	budget := push.NewBudget(1000)
	inside, leave := make(chan struct{}), make(chan struct{})
	url, _, _ := serve(t, push.Config{Budget: budget}, func(_ context.Context, m *push.Message) error {
		switch m.Attribute("Do") {
		case "panic":
			_ = m.Reserve(500)
			panic("x")
		case "more":
			return m.Reserve(100_000)
		case "stay":
			inside <- struct{}{}
			<-leave
		}
		return nil
	})
	for range 3 {
		if status, _ := post(t, url, strings.Repeat("x", 900), "Do", "panic"); status != 500 {
			t.Errorf("answered %d, want 500", status)
		}
	}
	if status, _ := post(t, url, strings.Repeat("x", 900), "Do", "more"); status != 204 {
		t.Errorf("alone: answered %d, want 204", status)
	}
	done := make(chan int)
	go func() {
		status, _ := post(t, url, strings.Repeat("x", 600), "Do", "stay")
		done <- status
	}()
	<-inside
	if status, _ := post(t, url, strings.Repeat("x", 600)); status != 429 {
		t.Errorf("beside another: answered %d, want 429", status)
	}
	if status, _ := post(t, url, strings.Repeat("x", 300)); status != 204 {
		t.Errorf("small, beside another: answered %d, want 204", status)
	}
	// 300 bytes and more, and 198 of data
	envelope := `{"message":{"messageId":"1","data":"` + strings.Repeat("x", 264) + `"}}`
	if status, _ := do(t, request(t, url, envelope)); status != 429 {
		t.Errorf("wrapped, beside another: answered %d, want 429", status)
	}
	close(leave)
	if status := <-done; status != 204 {
		t.Errorf("answered %d", status)
	}
	if status, _ := post(t, url, strings.Repeat("x", 1000)); status != 204 {
		t.Errorf("afterwards: answered %d, want 204", status)
	}
}

// Protects shutdown: running requests end, new ones are sent away, and Drain waits
// no longer than it may.
func TestDrain(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	url, gate, log := serve(t, push.Config{}, func(context.Context, *push.Message) error {
		inside <- struct{}{}
		<-leave
		return nil
	})
	done := make(chan int)
	go func() {
		status, _ := post(t, url, "x")
		done <- status
	}()
	<-inside
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := gate.Drain(short); err == nil || !strings.Contains(err.Error(), "1 requests are still running") {
		t.Errorf("got %v", err)
	}
	if status, _ := post(t, url, "x"); status != 503 {
		t.Errorf("while draining: answered %d, want 503", status)
	}
	if line := log.push(t); line["outcome"] != "draining" {
		t.Errorf("line %v", line)
	}
	close(leave)
	if err := gate.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if status := <-done; status != 204 {
		t.Errorf("answered %d, want 204", status)
	}
}

// Protects the join of log lines with Cloud Run's own: both forms of a trace.
func TestTraceCorrelation(t *testing.T) {
	for _, test := range []struct{ name, value, trace, span string }{
		{"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"},
		{"X-Cloud-Trace-Context", "0af7651916cd43dd8448eb211c80319c/123;o=1", "0af7651916cd43dd8448eb211c80319c", ""},
		{"Traceparent", "nonsense", "", ""},
	} {
		url, _, log := serve(t, push.Config{Project: "p"}, func(_ context.Context, m *push.Message) error {
			m.Note(slog.Int("records", 3))
			return nil
		})
		post(t, url, "data", test.name, test.value)
		line := log.push(t)
		trace, _ := line["logging.googleapis.com/trace"].(string)
		span, _ := line["logging.googleapis.com/spanId"].(string)
		if test.trace != "" && trace != "projects/p/traces/"+test.trace || test.trace == "" && trace != "" ||
			span != test.span {
			t.Errorf("%s %s: trace %q, span %q", test.name, test.value, trace, span)
		}
		if line["records"] != 3.0 || line["message_id"] != "42" || line["body_bytes"] != 4.0 {
			t.Errorf("line %v", line)
		}
	}
}

// Protects the parser of envelopes: it never panics, and what it takes is JSON
// with the data that a JSON library finds in it.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"message":{"data":"aGk=","messageId":"1","attributes":{"a":"b"}},"subscription":"s"}`))
	f.Add([]byte(`{"message":{"data":"aG\u006b\u003d","message_id":"1"},"deliveryAttempt":3}`))
	f.Add([]byte(`{"message":null}`))
	f.Add([]byte(`[]`))
	gate := push.NewGate(slog.New(slog.DiscardHandler))
	var got *push.Message
	var data string
	h := gate.Handler(push.Config{}, func(_ context.Context, m *push.Message) error {
		got, data = m, string(m.Data)
		return nil
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		got = nil
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)))
		if w.Code != 204 && w.Code != 400 {
			t.Fatalf("answered %d", w.Code)
		}
		if got == nil {
			return
		}
		if !jsontext.Value(body).IsValid() {
			t.Fatal("took what is no JSON")
		}
		var want struct {
			Message struct {
				Data []byte `json:"data"`
			} `json:"message"`
		}
		if err := jsonv2.Unmarshal(body, &want); err == nil && string(want.Message.Data) != data {
			t.Fatalf("data %q, want %q", data, want.Message.Data)
		}
	})
}

// The wrapped form costs a scan and base64; encoding/json into a struct, the usual
// way, about four times as much.
func BenchmarkEnvelope(b *testing.B) {
	body := []byte(`{"message":{"data":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("\x01\xfe\x7f"),
		33_000)) + `","messageId":"1"},"subscription":"s"}`)
	h := push.NewGate(slog.New(slog.DiscardHandler)).Handler(push.Config{},
		func(context.Context, *push.Message) error { return nil })
	run := func(name string, body []byte, header string) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
				if header != "" {
					r.Header.Set("X-Goog-Pubsub-Message-Id", header)
				}
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 204 {
					b.Fatal(w.Code)
				}
			}
		})
	}
	run("wrapped", body, "")
	run("unwrapped", body, "1")
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			var v struct{ Message struct{ Data []byte } }
			if err := json.Unmarshal(body, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Protects what is looked for in the log: where the records of a message lie in Kafka, if they lie in few partitions or
// the message comes again. An acknowledged message of many is told by their number, because lines are paid for.
func TestOffsetsOfTheLine(t *testing.T) {
	ranges := []batch.Range{{First: batch.NoOffset, Last: batch.NoOffset}} // an event without a topic
	for i := range int32(9) {
		ranges = append(ranges, batch.Range{Topic: "clicks", Partition: i, First: 5, Last: 7})
	}
	for _, c := range []struct {
		name    string
		ranges  []batch.Range
		err     error
		offsets int // -1: none are told
	}{
		{"acknowledged, of few partitions", ranges[:9], nil, 8},
		{"acknowledged, of many", ranges, nil, -1},
		{"to come again, of many", ranges, errors.New("not now"), 9},
		{"no Kafka", ranges[:1], nil, -1},
	} {
		url, _, log := serve(t, push.Config{}, func(_ context.Context, m *push.Message) error {
			m.NoteRanges(c.ranges)
			return c.err
		})
		post(t, url, "x")
		line := log.push(t)
		offsets, told := line["offsets"].([]any)
		if told != (c.offsets >= 0) || told && (len(offsets) != c.offsets || offsets[0] != "clicks/0:5-7") {
			t.Errorf("%s: offsets %v", c.name, line["offsets"])
		}
		if want := len(c.ranges) - 1; want > 0 && (line["topic"] != "clicks" || line["partitions"] != float64(want)) {
			t.Errorf("%s: topic %v, partitions %v, want %d", c.name, line["topic"], line["partitions"], want)
		}
	}
}

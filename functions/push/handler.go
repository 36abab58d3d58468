package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// Config says how a function is served. The zero value of a limit is the default
// of DefaultConfig.
type Config struct {
	// Function names the function in the log lines.
	Function string
	// Project is the Google Cloud project, for the names of traces; may be empty.
	Project string
	// Timeout bounds the function, from the request's headers on. It must be below the
	// subscription's ack deadline: a message whose deadline has passed is pushed again
	// while the first delivery still works on it.
	Timeout time.Duration
	// ReadTimeout bounds the arrival of the body.
	ReadTimeout time.Duration
	// MaxBody bounds the body, bytes. A message has at most 10 MB, which base64
	// makes 13.4 MB of envelope.
	MaxBody int64
	// MaxHeader bounds the headers, bytes: a message has at most 100 attributes of
	// at most 256 + 1024 bytes.
	MaxHeader int
	// Budget is what all requests of this process may hold at a time, bytes; a
	// request that does not fit is answered 429. nil: no bound.
	Budget *Budget
	// Metrics are told of every request, if not nil.
	Metrics *Metrics
	// After is called when a request's answer has been written, if not nil: the place
	// to send telemetry from, because between requests there is no CPU. It must be bounded.
	After func()
	// Caller checks who calls. nil: whoever reaches the function may call it.
	Caller *Caller
}

// DefaultConfig returns the limits that suit a subscription with an ack deadline
// of 60 seconds.
func DefaultConfig() Config {
	return Config{
		Timeout:     50 * time.Second,
		ReadTimeout: 10 * time.Second,
		MaxBody:     16 << 20,
		MaxHeader:   192 << 10,
	}
}

// Handler returns the HTTP handler that serves f behind the gate.
func (g *Gate) Handler(c Config, f Func) http.Handler {
	d := DefaultConfig()
	c.Timeout = cmp.Or(c.Timeout, d.Timeout)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, d.ReadTimeout)
	c.MaxBody = cmp.Or(c.MaxBody, d.MaxBody)
	c.MaxHeader = cmp.Or(c.MaxHeader, d.MaxHeader)
	return &handler{Config: c, gate: g, f: f, log: g.log}
}

type handler struct {
	Config
	gate *Gate
	f    Func
	log  *slog.Logger
}

// answer is how a request ends.
type answer struct {
	status  int
	outcome string // stable, for log-based metrics
	hint    string // the body, a constant: it tells a caller nothing about others
	err     error  // for the log line
}

// ServeHTTP handles one push. Whatever happens in between, the answer is written
// here, last.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	m := &Message{budget: h.Budget}
	// The server of functions-framework-go has no timeouts. This one ends with the
	// body; where the body is not wanted it still holds, because net/http reads on
	// behind the answer. Recorders in tests have no connection: no error matters.
	_ = http.NewResponseController(w).SetReadDeadline(start.Add(h.ReadTimeout))
	if !h.gate.enter() {
		w.Header().Set("Connection", "close")
		h.end(w, r, m, start, answer{status: http.StatusServiceUnavailable, outcome: "draining", hint: "shutting down"})
		return
	}
	defer h.gate.leave()
	// What remains when the function panics or leaves by runtime.Goexit: silence is
	// never an acknowledgement.
	a := answer{status: http.StatusInternalServerError, outcome: "crashed", hint: "internal error",
		err: errors.New("the function ended without an answer")}
	defer func() {
		if p := recover(); p != nil {
			a.err = PanicError(p)
			h.log.LogAttrs(r.Context(), slog.LevelError, "panic", slog.String("function", h.Function),
				slog.String("error", a.err.Error()), slog.String("stack_trace", string(debug.Stack())))
		}
		m.release()
		h.end(w, r, m, start, a)
	}()
	a = h.serve(w, r, m, start)
}

// serve runs the function and turns its end into an answer.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, m *Message, start time.Time) answer {
	if a, ok := h.admit(w, r); !ok {
		return a
	}
	b := buffers.Get().(*buffer)
	if a, ok := h.read(w, r, m, b); !ok {
		b.reuse()
		return a
	}
	if err := b.parse(r, m); err != nil {
		b.reuse()
		return answer{status: http.StatusBadRequest, outcome: "malformed", err: err, hint: "this is no Pub/Sub push: " +
			err.Error()}
	}
	// Pub/Sub's clock runs while the body arrives, too.
	ctx, cancel := context.WithDeadlineCause(r.Context(), start.Add(h.Timeout), fmt.Errorf("the request's %v are over",
		h.Timeout))
	defer cancel()
	err := h.f(ctx, m)
	// Only here, not deferred: after a panic nobody knows who still holds the data.
	m.Data = nil
	b.reuse()
	switch {
	case err == nil:
		return answer{status: http.StatusNoContent, outcome: "ack"}
	case errors.Is(err, ErrBusy):
		return answer{status: http.StatusTooManyRequests, outcome: "busy", hint: "busy", err: err}
	}
	return answer{status: http.StatusServiceUnavailable, outcome: "retry", hint: "retry", err: err}
}

// admit checks what can be checked before the body is read.
func (h *handler) admit(w http.ResponseWriter, r *http.Request) (answer, bool) {
	malformed := func(status int, hint string) (answer, bool) {
		return answer{status: status, outcome: "malformed", hint: hint, err: errors.New(hint)}, false
	}
	if n := headerSize(r.Header); n > h.MaxHeader {
		return malformed(http.StatusRequestHeaderFieldsTooLarge, "the headers are larger than a push's can be")
	}
	if h.Caller != nil {
		if status, err := h.Caller.check(r); err != nil {
			return answer{status: status, outcome: "denied", hint: http.StatusText(status), err: err}, false
		}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return malformed(http.StatusMethodNotAllowed, "Pub/Sub pushes with POST")
	}
	if r.ContentLength > h.MaxBody {
		return malformed(http.StatusRequestEntityTooLarge, "the body is larger than a push's can be")
	}
	return answer{}, true
}

// read fills b with the body.
func (h *handler) read(w http.ResponseWriter, r *http.Request, m *Message, b *buffer) (answer, bool) {
	size := r.ContentLength
	if size < 0 {
		size = h.MaxBody
	}
	if r.Header.Get(messageID) == "" {
		size += size * 3 / 4 // what the base64 of an envelope decodes to
	}
	if err := m.Reserve(size); err != nil {
		return answer{status: http.StatusTooManyRequests, outcome: "busy", hint: "busy", err: err}, false
	}
	err := b.read(r.Body, r.ContentLength, h.MaxBody)
	switch {
	case err == nil:
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		return answer{}, true
	case errors.Is(err, errTooLarge):
		w.Header().Set("Connection", "close")
		return answer{status: http.StatusRequestEntityTooLarge, outcome: "malformed", hint: err.Error(), err: err},
			false
	}
	w.Header().Set("Connection", "close")
	return answer{status: http.StatusRequestTimeout, outcome: "retry", hint: "the body did not arrive",
		err: fmt.Errorf("read the body: %w", err)}, false
}

// end writes the answer and the request's log line.
func (h *handler) end(w http.ResponseWriter, r *http.Request, m *Message, start time.Time, a answer) {
	total := time.Since(start)
	h.logLine(r, m, a, total)
	h.Metrics.record(h.Function, m, a, start, total)
	if a.hint != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(a.hint)+1))
	}
	w.WriteHeader(a.status)
	if a.hint != "" {
		fmt.Fprintln(w, a.hint)
	}
	// The gate counts the request as running until its answer is on the way:
	// otherwise a process that has drained could leave with answers in its buffers.
	_ = http.NewResponseController(w).Flush()
	if h.After != nil {
		h.After()
	}
}

// PanicError describes a panic without its value, which may be an event's, unless
// the value is the runtime's.
func PanicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic with a %T", p)
}

// headerSize is the sum of names and values, bytes.
func headerSize(header http.Header) int {
	n := 0
	for name, values := range header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}

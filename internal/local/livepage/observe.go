package livepage

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"sluice/internal/batch"
)

// Observer sees the push requests of a stack's functions: when each came and what
// the functions logged about it.
type Observer struct {
	next slog.Handler

	mu      sync.Mutex
	ring    []Delivery // the latest, in the order of their answers
	at      int        // where the next goes once the ring is full
	count   int64      // of all requests
	started time.Time
	running int
	began   time.Time     // when the functions last had nothing to do
	busy    time.Duration // with at least one request running, since the start
}

// remembered is how many deliveries the ring holds: minutes of a full load.
const remembered = 8192

// Delivery is one push request and what became of it.
type Delivery struct {
	Function  string
	MessageID string
	Published time.Time // by Pub/Sub's clock, to the millisecond; zero: not told
	Received  time.Time
	Answered  time.Time
	Outcome   string
	Status    int64
	Error     string
	Bytes     int64
	Topic     string        // of the first record
	Parts     int64         // partitions that its records are of
	Ranges    []batch.Range // of the partitions; none: not told
	Records   int64
	Landed    int64
	Refused   int64 // rows that BigQuery refused
	DecodeMS  float64
	AppendMS  float64
	PublishMS float64
}

// NewObserver returns an Observer that passes log records on to next.
func NewObserver(next slog.Handler) *Observer { return &Observer{next: next, started: time.Now()} }

type deliveryKey struct{}

// Around observes a stack's functions: local.Config.Around.
func (o *Observer) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &Delivery{Received: time.Now()}
		// Told in an unwrapped push; an envelope's stays unknown.
		if t, err := time.Parse(time.RFC3339Nano, r.Header.Get("X-Goog-Pubsub-Publish-Time")); err == nil {
			d.Published = t
		}
		o.begin(d.Received)
		defer o.end(d)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), deliveryKey{}, d)))
	})
}

func (o *Observer) begin(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running++; o.running == 1 {
		o.began = now
	}
}

func (o *Observer) end(d *Delivery) {
	d.Answered = time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	if o.running--; o.running == 0 {
		o.busy += d.Answered.Sub(o.began)
	}
	if len(o.ring) < remembered {
		o.ring = append(o.ring, *d)
		return
	}
	o.ring[o.at] = *d
	o.at = (o.at + 1) % remembered
}

// load is the number of requests and the time with at least one running.
func (o *Observer) load() (requests int64, busy time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	busy = o.busy
	if o.running > 0 {
		busy += time.Since(o.began)
	}
	return o.count, busy
}

// each calls f with the remembered deliveries, the latest first, until f is false.
func (o *Observer) each(f func(d *Delivery) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.ring {
		if !f(&o.ring[(o.at-1-i+2*len(o.ring))%len(o.ring)]) {
			return
		}
	}
}

// since is from when on every answered delivery is remembered.
func (o *Observer) since() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ring) < remembered {
		return o.started
	}
	return o.ring[o.at].Answered
}

// find returns the deliveries that f chooses, in the order of their answers.
func (o *Observer) find(f func(d *Delivery) bool) []Delivery {
	var found []Delivery
	o.each(func(d *Delivery) bool {
		if f(d) {
			found = append(found, *d)
		}
		return true
	})
	slices.Reverse(found)
	return found
}

// LogHandler is the handler that the stack must log to.
func (o *Observer) LogHandler() slog.Handler { return tee{o.next} }

// tee reads the functions' log lines on their way, of every level from INFO on.
type tee struct{ slog.Handler }

func (t tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || t.Handler.Enabled(ctx, level)
}

func (t tee) Handle(ctx context.Context, r slog.Record) error {
	if d, ok := ctx.Value(deliveryKey{}).(*Delivery); ok && r.Message == "push" {
		r.Attrs(d.take)
	}
	if !t.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, r)
}

func (t tee) WithAttrs(a []slog.Attr) slog.Handler { return tee{t.Handler.WithAttrs(a)} }
func (t tee) WithGroup(name string) slog.Handler   { return tee{t.Handler.WithGroup(name)} }

// take takes over a field of the log line; push/logline.go lists them.
func (d *Delivery) take(a slog.Attr) bool {
	switch a.Key {
	case "function":
		d.Function = a.Value.String()
	case "message_id":
		d.MessageID = a.Value.String()
	case "outcome":
		d.Outcome = a.Value.String()
	case "status":
		d.Status = a.Value.Int64()
	case "error":
		d.Error = a.Value.String()
	case "body_bytes":
		d.Bytes = a.Value.Int64()
	case "topic":
		d.Topic = a.Value.String()
	case "partitions":
		d.Parts = a.Value.Int64()
	case "offsets":
		d.Ranges, _ = a.Value.Any().([]batch.Range)
	case "records":
		d.Records = a.Value.Int64()
	case "landed":
		d.Landed = a.Value.Int64()
	case "decode_ms":
		d.DecodeMS = a.Value.Float64()
	case "append_ms":
		d.AppendMS = a.Value.Float64()
	case "publish_ms":
		d.PublishMS = a.Value.Float64()
	case "rejected":
		for _, code := range a.Value.Group() {
			if code.Key == "row_rejected" {
				d.Refused = code.Value.Int64()
			}
		}
	}
	return true
}

package livepage

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sluice/internal/local"
	"sluice/internal/local/objects"
)

const (
	interval = time.Second
	history  = 300 // points: five minutes
	window   = 60  // points over which quality and cost are taken
	readers  = 32  // streams at a time
)

// Tick is what the page is told every interval.
type Tick struct {
	Point
	Produced    int64      `json:"produced"` // records in Kafka
	Rows        int64      `json:"rows"`     // appended since the start
	DeadLetters int64      `json:"dead_letters"`
	Bridged     float64    `json:"bridged"` // records a second into Pub/Sub
	Pushed      float64    `json:"pushed"`  // messages a second to Ingest, whatever it answers
	Parts       []Part     `json:"parts"`
	Switches    []Switch   `json:"switches"`
	Events      []Event    `json:"events"` // the latest, newest first
	Rejected    []Rejected `json:"rejected"`
}

// Point is a moment in the charts; null is unknown.
type Point struct {
	Time    int64    `json:"t"` // Unix milliseconds
	In      float64  `json:"in"`
	Landed  float64  `json:"landed"`
	Dead    float64  `json:"dead"`
	P50     *float64 `json:"p50"` // milliseconds, of the rows of the interval
	P99     *float64 `json:"p99"`
	Lag     float64  `json:"lag"`
	Backlog float64  `json:"backlog"`
	Quality *float64 `json:"quality"` // percent
	Cost    *float64 `json:"cost"`    // dollars for a million events
}

// counts are the totals that rates are made of.
type counts struct {
	at                   time.Time
	produced, rows, dead int64
	bridged              int64 // records that the bridges have sent
	pushed               int64 // messages pushed to Ingest, again and again
	dlPushed             int64 // and to DeadLetter
	usage                usage
}

// sampler looks at everything once in an interval and tells all readers.
type sampler struct {
	page *Page
	soon chan struct{}
	feed *feed

	past   []counts // the latest window, the oldest first
	points []Point
	rates  rates

	mu      sync.Mutex
	readers map[chan []byte]bool
	latest  []byte
	backlog []byte // the history as JSON
}

func newSampler(p *Page) *sampler {
	return &sampler{page: p, soon: make(chan struct{}, 1), feed: newFeed(p.stack, p.streams),
		readers: make(map[chan []byte]bool)}
}

// refresh makes the next sample come at once.
func (s *sampler) refresh() {
	select {
	case s.soon <- struct{}{}:
	default:
	}
}

func (s *sampler) run(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		s.send(s.sample(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.soon:
		}
	}
}

// send hands a sample to the readers; who has not taken the last one misses this one.
func (s *sampler) send(t Tick) {
	text, err := json.Marshal(t)
	if err != nil {
		s.page.log.Error("live page", "error", err.Error())
		return
	}
	points, err := json.Marshal(s.points)
	if err != nil {
		s.page.log.Error("live page", "error", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest, s.backlog = text, points
	for reader := range s.readers {
		select {
		case reader <- text:
		default:
		}
	}
}

func (s *sampler) join() (reader chan []byte, latest, backlog []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.readers) >= readers {
		return nil, nil, nil, false
	}
	reader = make(chan []byte, 1)
	s.readers[reader] = true
	return reader, s.latest, s.backlog, true
}

func (s *sampler) leave(reader chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.readers, reader)
}

func (s *sampler) watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers) > 0
}

// sample looks at everything.
func (s *sampler) sample(ctx context.Context) Tick {
	p := s.page
	now := time.Now()
	ingest, dead := p.stack.PubSub.Stats(local.Ingest), p.stack.PubSub.Stats(local.DeadLetter)
	total := p.stack.Now()
	bridges := p.stack.Bridges()
	sum := p.switches.past()
	y := symptoms{
		kafkaUp: reachable(ctx, p.stack.Kafka.Brokers()), warehouseUp: reachable(ctx, p.stack.Warehouse.Addr()),
		functionsUp: p.stack.Serving(), bridges: len(bridges), joined: true,
		lag: total.Lag, backlog: ingest.Backlog, dlBacklog: dead.Backlog,
	}
	inflight := int64(0)
	for _, b := range bridges {
		one := b.Stats()
		addStats(&sum, one)
		y.joined = y.joined && one.Joined
		y.failing = y.failing || one.Failing
		y.oldest = max(y.oldest, one.OldestUnacknowledged)
		inflight += one.InflightBatches
	}
	horizon := now.Add(-4 * time.Second)
	p.observer.each(func(d *Delivery) bool {
		if d.Answered.Before(horizon) {
			return false
		}
		if d.Function == deadLetter {
			y.dead.add(d)
		} else {
			y.ingest.add(d)
		}
		return true
	})

	c := counts{at: now, rows: total.Rows, dead: total.DeadLetters, bridged: sum.RecordsOut,
		pushed: ingest.Acked + ingest.Failed, dlPushed: dead.Acked + dead.Failed}
	for _, end := range p.stack.Kafka.EndOffsets(p.stack.Topic()) {
		c.produced += end
	}
	requests, busy := p.observer.load()
	c.usage = usage{
		events: c.rows + c.dead, messages: ingest.Published + dead.Published, messageBytes: ingest.Bytes + dead.Bytes,
		written: p.stack.Objects.Count(objects.Create), fetched: p.stack.Objects.Count(objects.Read),
		requests: requests, busy: busy, rowBytes: sum.PackedBytes,
	}
	if len(s.past) == 0 {
		s.past = append(s.past, c)
	}
	point, rates := s.point(c, y.lag, ingest.Backlog+dead.Backlog)
	y.arriving = point.In

	t := Tick{Point: point, Produced: c.produced, Rows: c.rows, DeadLetters: c.dead, Bridged: rates.bridged,
		Pushed: rates.pushed, Switches: p.switches.list()}
	part := func(id string, state State, says string, numbers ...Number) {
		t.Parts = append(t.Parts, Part{id, state, says, numbers})
	}
	count := func(label string, n int64) Number { return Number{label, float64(n), ""} }
	rate := func(label string, n float64) Number { return Number{label, n, "/s"} }
	milliseconds := func(label string, r *recent) Number {
		if len(r.appends) == 0 {
			return Number{label, -1, "ms"} // unknown
		}
		return Number{label, float64(r.typicalAppend().Microseconds()) / 1000, "ms"}
	}
	state, says := y.kafka()
	part("kafka", state, says, rate("records in", point.In), count("records", c.produced))
	state, says = y.bridge()
	part("bridge", state, says, count("lag", y.lag), count("in flight", inflight), count("batches", sum.Batches))
	state, says = y.pubsub()
	part("pubsub", state, says, count("backlog", int64(ingest.Backlog)), count("pushing", int64(ingest.Outstanding)),
		count("delivered again", ingest.Failed))
	state, says = function(y.functionsUp, &y.ingest)
	part("ingest", state, says, rate("requests", rates.pushed), count("acknowledged", ingest.Acked),
		count("answered 503", ingest.Failed))
	state, says = table(y.warehouseUp, y.functionsUp, &y.ingest)
	part("warehouse", state, says, rate("landing", point.Landed), count("rows", c.rows), milliseconds("append",
		&y.ingest))
	state, says = y.deadLetterTopic()
	part("dead-letter-topic", state, says, count("backlog", int64(dead.Backlog)), count("messages", dead.Published))
	state, says = function(y.functionsUp, &y.dead)
	part("dead-letter", state, says, rate("requests", rates.dlPushed), count("acknowledged", dead.Acked))
	state, says = table(y.warehouseUp, y.functionsUp, &y.dead)
	part("dead-letters", state, says, rate("landing", point.Dead), count("rows", c.dead))

	if s.watched() {
		var err error
		if t.Events, t.Rejected, err = s.feed.latest(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("live page: the latest rows", "error", err.Error())
		}
	}
	return t
}

type rates struct{ bridged, pushed, dlPushed float64 }

// point makes the rates of c against the sample before it, and takes c into the window.
func (s *sampler) point(c counts, lag int64, backlog int) (Point, rates) {
	last, first := s.past[len(s.past)-1], s.past[0]
	seconds := c.at.Sub(last.at).Seconds()
	// Rates over a moment say nothing: a sample that was hurried repeats the last ones.
	if seconds < interval.Seconds()/2 {
		point := Point{Time: c.at.UnixMilli()}
		if len(s.points) > 0 {
			point = s.points[len(s.points)-1]
		}
		point.Lag, point.Backlog = float64(lag), float64(backlog)
		return point, s.rates
	}
	per := func(now, before int64) float64 { return float64(now-before) / seconds }
	point := Point{
		Time: c.at.UnixMilli(), In: per(c.produced, last.produced), Landed: per(c.rows, last.rows), Dead: per(c.dead,
			last.dead),
		Lag: float64(lag), Backlog: float64(backlog),
	}
	// An interval without rows has no latency, and none is drawn.
	if p, n := s.page.stack.Latency.Interval(); n > 0 {
		p50, p99 := float64(p.P50), float64(p.P99)
		point.P50, point.P99 = &p50, &p99
	}
	if landed, dead := c.rows-first.rows, c.dead-first.dead; landed+dead > 0 {
		quality := 100 * float64(landed) / float64(landed+dead)
		point.Quality = &quality
	}
	if cost, ok := c.usage.minus(first.usage).perMillion(); ok {
		point.Cost = &cost
	}
	s.past = append(s.past, c)
	if len(s.past) > window {
		s.past = s.past[1:]
	}
	s.points = append(s.points, point)
	if len(s.points) > history {
		s.points = s.points[1:]
	}
	s.rates = rates{per(c.bridged, last.bridged), per(c.pushed, last.pushed), per(c.dlPushed, last.dlPushed)}
	return point, s.rates
}

// reachable reports whether the first of the addresses takes a connection.
func reachable(ctx context.Context, addresses string) bool {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	address, _, _ := strings.Cut(addresses, ",")
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// stream is GET /api/stream: server-sent events, first hello, then a tick per
// interval.
func (p *Page) stream(g *guard) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reader, latest, backlog, ok := p.sampler.join()
		if !ok {
			refuse(w, http.StatusServiceUnavailable, "Too many pages are open: close one.")
			return
		}
		defer p.sampler.leave(reader)
		hello, err := json.Marshal(map[string]any{
			"read_only": g.readOnly(), "queries": p.offers, "history": json.RawMessage(orNull(backlog)),
			"project": local.Project, "dataset": local.Dataset, "topic": strings.Join(p.topics(), ", "),
		})
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no")
		out := http.NewResponseController(w)
		send := func(event string, data []byte) error {
			_ = out.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data); err != nil {
				return err
			}
			return out.Flush()
		}
		if send("hello", hello) != nil {
			return
		}
		if latest != nil && send("tick", latest) != nil {
			return
		}
		p.sampler.refresh() // the lists are read only while somebody looks
		for {
			select {
			case <-r.Context().Done():
				return
			case tick := <-reader:
				if send("tick", tick) != nil {
					return
				}
			}
		}
	}
}

func orNull(b []byte) []byte {
	if b == nil {
		return []byte("null")
	}
	return b
}

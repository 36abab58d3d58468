package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"sluice/bridge"
	"sluice/functions/deadletter"
	"sluice/functions/ingest"
	"sluice/functions/push"
	deployed "sluice/functions/warehouse"
	"sluice/internal/batch"
	"sluice/internal/contract"
)

// member is a bridge.
type member struct {
	consumer  *consumer
	publisher *publisher
	bridge    *bridge.Bridge
	stop      context.CancelFunc
	stopped   time.Time // when it was told to end; zero: it was not
	done      chan struct{}
	err       error
}

// instance is one of the functions', with both handlers.
type instance struct {
	w       *world
	name    string
	gate    *push.Gate
	ingest  http.Handler
	letters http.Handler
	tables  [2]*deployed.Appender
	crashed bool          // under the world's lock
	dead    chan struct{} // closed when it crashes
}

// alive reports whether the instance can still answer.
func (i *instance) alive() bool {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	return !i.crashed
}

// Result is what came of a history.
type Result struct {
	Violation *Violation     // the first; nil: every invariant held
	Story     []string       // what was done on purpose
	Reached   map[string]int // how often each of the situations came about
}

// Run runs the history of a plan. It must be called within a bubble of testing/synctest.
func Run(p Plan) (*Result, error) {
	w := &world{Plan: p, start: time.Now(), counts: map[string]uint64{}, reached: map[string]int{}}
	w.kafka, w.messages = newBroker(w), &service{w: w}
	w.tables = &warehouse{w: w, replayed: map[place]int{}}
	for range p.Instances {
		i, err := w.newInstance()
		if err != nil {
			return nil, err
		}
		w.places = append(w.places, i)
	}
	for range p.Bridges {
		if err := w.startBridge(); err != nil {
			return nil, err
		}
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range p.Records {
			time.Sleep(between(w.roll("write"), 0, 2*p.Span/time.Duration(p.Records)))
			w.kafka.produce()
			w.mu.Lock()
			for _, m := range w.bridges {
				m.consumer.stir()
			}
			w.mu.Unlock()
		}
	}()
	for time.Since(w.start) < p.Span {
		r := w.roll("fate")
		time.Sleep(between(r, 10*time.Millisecond, p.Span/4))
		if err := w.strike(r); err != nil {
			return nil, err
		}
	}
	<-written
	w.mu.Lock()
	w.calm = true
	w.log("nothing fails any more")
	w.mu.Unlock()
	w.settle()
	w.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judge()
	return &Result{w.violation, w.story, w.reached}, nil
}

func (w *world) startBridge() error {
	w.mu.Lock()
	name := fmt.Sprintf("bridge-%d", w.counts["bridge"])
	r := w.dice("bridge")
	w.mu.Unlock()
	c := bridge.DefaultConfig()
	c.Brokers, c.Project, c.Consumer, c.HTTPAddr = "kafka:9092", "p", name, ""
	c.Topics = topic
	c.MaxMessageBytes = 128 << 10 // a record has half of it at most
	c.BatchBytes, c.BatchRecords = 4096, 1+r.IntN(12)
	c.Linger = between(r, 0, 100*time.Millisecond)
	c.MaxLinger = c.Linger + between(r, 0, 500*time.Millisecond)
	if w.Faults&Backpressure != 0 {
		c.MaxInflightBytes = 16 << 10
	}
	m := &member{consumer: newConsumer(w, name), publisher: &publisher{w: w, name: name, dead: make(chan struct{})},
		done: make(chan struct{})}
	var err error
	if m.bridge, err = bridge.New(c, m.consumer, m.publisher, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	m.consumer.full = func() error {
		if held := m.bridge.Stats().InflightBytes; held >= c.MaxInflightBytes {
			return fmt.Errorf("%s asks for records while it holds %d bytes, and may hold %d", name, held,
				c.MaxInflightBytes)
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	w.mu.Lock()
	w.bridges = append(w.bridges, m)
	w.mu.Unlock()
	w.others.Go(func() {
		defer close(m.done)
		m.err = m.bridge.Run(ctx)
		s := m.bridge.Stats()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reached[lateResult] += int(s.LateResults)
		if s.InflightBatches > 0 && !m.consumer.crashed {
			w.reached[cutShort]++
		}
		if m.consumer.crashed {
			return
		}
		if m.err != nil {
			w.violated("end", "%s: %v", name, m.err)
		}
		// Revoking, draining, committing and leaving are bounded each.
		if limit := c.RevokeTimeout + c.DrainTimeout + c.CommitTimeout + c.CloseTimeout +
			time.Second; time.Since(m.stopped) > limit {
			w.violated("end", "%s took %v to end", name, time.Since(m.stopped))
		}
	})
	w.others.Go(func() {
		for {
			select {
			case <-m.done:
				return
			case <-time.After(500 * time.Millisecond):
			}
			if m.bridge.Stats().Paused > 0 {
				w.mu.Lock()
				w.reached[paused]++
				w.mu.Unlock()
			}
		}
	})
	return nil
}

func (w *world) newInstance() (*instance, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := &instance{w: w, name: fmt.Sprintf("instance-%d", w.counts["instance"]), dead: make(chan struct{})}
	r := w.dice("instance")
	log := slog.New(slog.DiscardHandler)
	for n, t := range tables {
		i.tables[n] = deployed.NewAppender(&client{w: w, at: i, table: n}, t, deployed.AppenderConfig{
			Table: "projects/p/datasets/d/tables/" + t.Name, Timeout: 8 * time.Second}, log)
	}
	contracts := []*contract.Contract{builtIn}
	in, err := ingest.New(ingest.Config{Streams: []ingest.Stream{{Contract: builtIn, Table: i.tables[facts]}},
		Consumer: i.name}, letters{w, i})
	if err != nil {
		return nil, err
	}
	dead, err := deadletter.New(deadletter.Config{Table: tables[dlq], Contracts: contracts}, i.tables[dlq])
	if err != nil {
		return nil, err
	}
	i.gate = push.NewGate(log)
	c := push.Config{Project: "p", Timeout: between(r, 3*time.Second, handlerTimeout), Budget: push.NewBudget(64 << 20)}
	c.Function = "Ingest"
	i.ingest = i.gate.Handler(c, in.Handle)
	c.Function = "DeadLetter"
	i.letters = i.gate.Handler(c, dead.Handle)
	return i, nil
}

var (
	tables  = [...]*contract.Table{facts: contract.FactEvents(), dlq: contract.EventsDLQ()}
	builtIn = func() *contract.Contract {
		c, err := contract.Preset("clickstream")
		if err != nil {
			panic(err) // it is in the program
		}
		return c
	}()
)

// What the deployed code makes once in a process must not be made within a bubble, where its channels would belong to
// that.
func init() {
	e := batch.NewEncoder(batch.Header{})
	e.Append(&batch.Record{Value: []byte("x")})
	payload, err := e.Payload(nil)
	if err == nil {
		_, err = new(batch.Decoder).Decode(payload, batch.DefaultLimits)
	}
	if err != nil {
		panic(err)
	}
}

// strike has one thing go wrong.
func (w *world) strike(r *rand.Rand) error {
	kind := Faults(1) << r.IntN(len(faultNames))
	w.mu.Lock()
	if w.Faults&kind == 0 {
		w.mu.Unlock()
		return nil
	}
	var after func() error // outside of the lock
	switch kind {
	case Rebalances:
		w.kafka.move(r, false)
	case Losses:
		w.kafka.move(r, true)
	case BridgeCrashes, BridgeStops:
		m := w.bridges[len(w.bridges)-1-r.IntN(w.Bridges)]
		if m.consumer.gone || !m.stopped.IsZero() {
			break
		}
		m.stopped = time.Now()
		if kind == BridgeCrashes {
			w.log("%s crashes", m.consumer.name)
			m.consumer.crashed = true
			close(m.publisher.dead)
			m.consumer.leave(between(r, time.Second, 10*time.Second))
		} else {
			w.log("%s is told to end", m.consumer.name)
		}
		after = func() error {
			m.stop()
			return w.startBridge()
		}
	case InstanceCrashes, InstanceStops:
		n := r.IntN(len(w.places))
		i := w.places[n]
		after = func() error {
			next, err := w.newInstance()
			if err != nil {
				return err
			}
			w.mu.Lock()
			w.places[n] = next
			if kind == InstanceCrashes {
				w.log("%s crashes", i.name)
				i.crashed = true
				close(i.dead)
			} else {
				w.log("%s is drained", i.name)
			}
			w.mu.Unlock()
			w.others.Go(i.close)
			return nil
		}
	case MissingTables:
		n := r.IntN(2)
		w.tables.missing[n] = time.Now().Add(between(r, 100*time.Millisecond, 20*time.Second))
		w.log("table %s is missing until %v", tables[n].Name, w.tables.missing[n].Sub(w.start))
	case Replays:
		if n := len(w.tables.letters); n > 0 {
			w.replay(w.tables.letters[r.IntN(n)])
		}
	}
	w.mu.Unlock()
	if after != nil {
		return after()
	}
	return nil
}

// replay sends a dead letter again, repaired. The lock is held.
func (w *world) replay(p place) {
	rec := w.kafka.find(p.partition, p.offset)
	p.replay = fmt.Sprintf("replay-%d", w.counts["replay"])
	w.dice("replay")
	w.log("%s sends %d/%d again", p.replay, p.partition, p.offset)
	e := batch.NewEncoder(batch.Header{ReplayID: p.replay})
	e.Append(&batch.Record{Topic: topic, Partition: p.partition, Offset: p.offset, Timestamp: rec.timestamp,
		Value: event(rec.id, "repaired", time.Now())})
	payload, err := e.Payload(nil)
	if err != nil {
		w.violated("replays", "%v", err)
		return
	}
	w.tables.replayed[p] = 0
	w.messages.store(payload, false, nil)
}

// close drains an instance.
func (i *instance) close() {
	ctx, cancel := context.WithTimeout(context.Background(), handlerTimeout+5*time.Second)
	defer cancel()
	if err := i.gate.Drain(ctx); err != nil && i.alive() {
		i.w.mu.Lock()
		i.w.violated("end", "%s: %v", i.name, err)
		i.w.mu.Unlock()
	}
	for _, t := range i.tables {
		_ = t.Close(ctx)
	}
}

// patience is how long a calm world may take to come to rest: a message that a lost answer, a deadline and the breaker
// hold up needs minutes.
const patience = 15 * time.Minute

// settle waits until everything is at its place.
func (w *world) settle() {
	for end := time.Now().Add(patience); ; {
		time.Sleep(time.Second)
		w.mu.Lock()
		waits := w.waits()
		if waits != "" && time.Now().After(end) {
			w.violated("progress", "after %v in which nothing failed, %s", patience, waits)
		}
		over := waits == "" || w.violation != nil
		w.mu.Unlock()
		if over {
			return
		}
	}
}

// waits is what is not at its place yet. The lock is held.
func (w *world) waits() string {
	for p, log := range w.kafka.logs {
		if n := len(log); n > 0 && w.kafka.committed[p] <= log[n-1].offset {
			return fmt.Sprintf("offset %d of partition %d is committed, and its last record is %d",
				w.kafka.committed[p],
				p, log[n-1].offset)
		}
	}
	if n := w.messages.open; n > 0 {
		return fmt.Sprintf("%d messages are not acknowledged", n)
	}
	return ""
}

// end stops everything.
func (w *world) end() {
	w.mu.Lock()
	for _, m := range w.bridges {
		if m.stopped.IsZero() {
			m.stopped = time.Now()
		}
		m.stop()
	}
	all, places := w.bridges, w.places
	w.mu.Unlock()
	for _, m := range all {
		select {
		case <-m.done:
		case <-time.After(patience):
			// Nothing can be gone on with: the bubble would never end.
			panic(fmt.Sprintf("%v\nend: %s has not ended %v after it was told to", w.Plan, m.consumer.name, patience))
		}
	}
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	for _, i := range places {
		i.close()
	}
	w.others.Wait()
}

// judge looks at where everything has come to. The lock is held.
func (w *world) judge() {
	for p, log := range w.kafka.logs {
		for _, r := range log {
			switch {
			case r.kind == good && r.rows == 0 && (!r.givenUp || r.letters == 0):
				w.violated("places", "record %d/%d can be a row, and is none", p, r.offset)
			case r.kind != good && r.letters == 0:
				w.violated("places", "record %d/%d can be no row, and is no dead letter", p, r.offset)
			}
		}
	}
	for p, n := range w.tables.replayed {
		if rec := w.kafka.find(p.partition, p.offset); n == 0 && !rec.givenUp {
			w.violated("replays", "%s of %d/%d is no row", p.replay, p.partition, p.offset)
		}
	}
}

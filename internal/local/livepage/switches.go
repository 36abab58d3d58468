package livepage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"sluice/internal/local"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
)

// Switch is one way to break the pipeline.
type Switch struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	About string `json:"about"` // what to expect
	On    bool   `json:"on"`

	// breaks starts the trouble and returns what ends it. On an error nothing is broken.
	breaks func(context.Context) (mend func(context.Context) error, err error)
	mend   func(context.Context) error
}

// switches are all of them. One is flipped at a time.
type switches struct {
	stack *local.Stack

	turn sync.Mutex // held while one is flipped

	mu      sync.Mutex
	all     []*Switch
	retired local.BridgeStats // counters of the bridges that were stopped
}

// downer is a server that can be made unreachable.
type downer interface {
	Down() error
	Up() error
}

func takeDown(d downer) func(context.Context) (func(context.Context) error, error) {
	return func(context.Context) (func(context.Context) error, error) {
		return func(context.Context) error { return d.Up() }, d.Down()
	}
}

func newSwitches(s *local.Stack) *switches {
	w := &switches{stack: s}
	faulty := func(f warehouse.Fault) func(context.Context) (func(context.Context) error, error) {
		return func(context.Context) (func(context.Context) error, error) {
			h := s.Warehouse.Fail(f)
			return func(context.Context) error { h.Remove(); return nil }, nil
		}
	}
	w.all = []*Switch{
		{ID: "warehouse-down", Name: "BigQuery down", breaks: takeDown(s.Warehouse),
			About: "No connection to BigQuery. Ingest answers 503, messages wait in Pub/Sub, nothing is dead-lettered."},
		{ID: "warehouse-slow", Name: "BigQuery slow", breaks: faulty(warehouse.Fault{Wait: 3 * time.Second, Count: -1}),
			About: "Every append waits three seconds. Latency grows, Pub/Sub narrows its push window, nothing fails."},
		{ID: "warehouse-rejects", Name: "BigQuery rejects rows", breaks: faulty(warehouse.Fault{Count: -1,
			Table: "fact_events", BadRow: oneInTwenty}),
			About: "One row in twenty is refused, and its whole request with it. The others land, the refused become dead letters."},
		{ID: "publish-refused", Name: "Pub/Sub refuses", breaks: func(context.Context) (func(context.Context) error,
			error) {
			h := s.PubSub.FailPublish(pubsub.PublishFault{Topic: local.Topic, Code: codes.Unavailable, Count: -1})
			return func(context.Context) error { h.Remove(); return nil }, nil
		}, About: "Every publish fails. The bridge tries again for ever and stops fetching; records wait in Kafka."},
		{ID: "functions-down", Name: "Functions down", breaks: func(ctx context.Context) (func(context.Context) error,
			error) {
			return s.StartFunctions, s.StopFunctions(ctx)
		}, About: "No instance of Ingest or DeadLetter runs. Pub/Sub keeps pushing and backs off."},
		{ID: "bridge-killed", Name: "Bridge killed", breaks: w.killBridge,
			About: "kill -9: nothing is drained or committed. Its group misses it after some seconds, and the next bridge " +
				"begins at the last commit: a few records come twice, none is missing."},
		{ID: "kafka-down", Name: "Kafka down", breaks: takeDown(s.Kafka),
			About: "No broker can be reached. Producers keep their records, the bridge waits."},
	}
	return w
}

// oneInTwenty chooses rows by their bytes: a row that is tried again in another
// request meets the same judgement.
func oneInTwenty(row []byte) bool { return crc32.ChecksumIEEE(row)%20 == 0 }

// killBridge kills one bridge and starts another one.
func (w *switches) killBridge(context.Context) (func(context.Context) error, error) {
	if running := w.stack.Bridges(); len(running) > 0 {
		w.stack.KillBridge(running[0])
		w.mu.Lock()
		addStats(&w.retired, running[0].Stats())
		w.mu.Unlock()
	}
	return func(ctx context.Context) error {
		_, err := w.stack.StartBridge(ctx)
		return err
	}, nil
}

// addStats adds what counts up.
func addStats(sum *local.BridgeStats, s local.BridgeStats) {
	sum.RecordsIn += s.RecordsIn
	sum.RecordsOut += s.RecordsOut
	sum.Batches += s.Batches
	sum.PackedBytes += s.PackedBytes
	sum.PayloadBytes += s.PayloadBytes
	sum.Acknowledged += s.Acknowledged
	sum.Retries += s.Retries
}

// past is the counters of bridges that are no more.
func (w *switches) past() local.BridgeStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.retired
}

// list returns the switches as they are.
func (w *switches) list() []Switch {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Switch
	for _, s := range w.all {
		all = append(all, *s)
	}
	return all
}

var errNoSwitch = errors.New("there is no such switch")

// set turns a switch on or off; what it is already it stays.
func (w *switches) set(ctx context.Context, id string, on bool) error {
	w.turn.Lock()
	defer w.turn.Unlock()
	i := slices.IndexFunc(w.all, func(s *Switch) bool { return s.ID == id })
	if i < 0 {
		return errNoSwitch
	}
	s := w.all[i]
	w.mu.Lock()
	was, mend := s.On, s.mend
	w.mu.Unlock()
	if was == on {
		return nil
	}
	var err error
	if on {
		mend, err = s.breaks(ctx)
		if err != nil && mend != nil {
			err = errors.Join(err, mend(ctx))
		}
	} else {
		err = mend(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.On, s.mend = on, mend
	return nil
}

// mend turns every switch off.
func (w *switches) mend(ctx context.Context) error {
	var errs []error
	for _, s := range w.list() {
		errs = append(errs, w.set(ctx, s.ID, false))
	}
	return errors.Join(errs...)
}

// flip is POST /api/switches/{id}, with {"on": true} or {"on": false}.
func (p *Page) flip(w http.ResponseWriter, r *http.Request) {
	var body struct {
		On *bool `json:"on"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&body); err != nil || body.On == nil {
		refuse(w, http.StatusBadRequest, `The body must be {"on": true} or {"on": false}.`)
		return
	}
	// Who leaves does not leave a switch half flipped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 15*time.Second)
	defer cancel()
	switch err := p.switches.set(ctx, r.PathValue("id"), *body.On); {
	case errors.Is(err, errNoSwitch):
		refuse(w, http.StatusNotFound, "There is no such switch.")
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error())
	default:
		p.sampler.refresh()
		reply(w, p.switches.list())
	}
}

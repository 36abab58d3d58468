package livepage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloud.google.com/go/pubsub/v2"

	"sluice/internal/audit"
	"sluice/internal/local"
	"sluice/internal/query"
	"sluice/internal/replay"
)

// Verdict is the audit's outcome.
type Verdict struct {
	audit.Counts
	WaitedMS float64 `json:"waited_ms"` // for what was still on its way
	Backlog  int     `json:"backlog"`   // messages in Pub/Sub at the end
}

// auditTime is how long the audit waits for what is on its way.
const auditTime = 15 * time.Second

// audit is POST /api/audit: whether every record that the bridges had committed when
// the button was pressed has arrived.
func (p *Page) audit(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), auditTime+10*time.Second)
	defer cancel()
	var spans []audit.Span
	for _, topic := range p.topics() {
		for partition, end := range p.stack.Kafka.Committed(p.stack.Group(), topic) {
			if end > 0 {
				spans = append(spans, audit.Span{Topic: topic, Partition: int32(partition), End: end})
			}
		}
	}
	engine := query.Database{DB: p.stack.Warehouse.DB()}
	begun := time.Now()
	for {
		counts, err := audit.Count(ctx, engine, p.stack.Query(), spans)
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		waited := time.Since(begun)
		if counts.Missing == 0 || waited > auditTime {
			reply(w, Verdict{counts, float64(waited.Milliseconds()),
				p.stack.PubSub.Stats(local.Ingest).Backlog + p.stack.PubSub.Stats(local.DeadLetter).Backlog})
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// replayRequest is the body of both replay requests.
type replayRequest struct {
	Code      string `json:"code"`      // letters of this code; empty: all
	Transform string `json:"transform"` // a jq expression that repairs them, or empty
}

// replayed is what became of a replay.
type replayed struct {
	ID       string           `json:"id"`
	Sent     int64            `json:"sent"`
	Skipped  map[string]int64 `json:"skipped"`
	Landed   int64            `json:"landed"`
	Rejected int64            `json:"rejected"`
}

// newReplay reads the request's body.
func (p *Page) newReplay(w http.ResponseWriter, r *http.Request) (*replay.Replay, bool) {
	var q replayRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, `The body must be {"code": …, "transform": …}.`)
		return nil, false
	}
	var f replay.Filter
	if q.Code != "" {
		f.Codes = []string{q.Code}
	}
	made := replay.New(local.Dataset, f)
	made.Transform = q.Transform
	made.Contracts, made.Writers = p.stack.Contracts(), p.stack.Writers()
	return made, true
}

// plan is POST /api/replay/plan: what a replay would send, and what today's contract
// would say to it. Nothing is sent.
func (p *Page) plan(w http.ResponseWriter, r *http.Request) {
	made, ok := p.newReplay(w, r)
	if !ok {
		return
	}
	judge, err := p.stack.Judge()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	plan, err := replay.Look(ctx, query.Database{DB: p.stack.Warehouse.DB()}, made, judge)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		refuse(w, http.StatusRequestTimeout, "Looking was ended after 20 seconds: is the repair one that ends?")
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
	default:
		reply(w, plan)
	}
}

// replay is POST /api/replay: sends the letters and waits for what becomes of them.
func (p *Page) replay(w http.ResponseWriter, r *http.Request) {
	made, ok := p.newReplay(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	outcome, err := p.send(ctx, made)
	switch {
	case err != nil && made.Sent == 0:
		refuse(w, http.StatusInternalServerError, err.Error())
	case err != nil:
		refuse(w, http.StatusInternalServerError, fmt.Sprintf("%s sent, then: %v", plural(made.Sent, "letter"), err))
	default:
		reply(w, outcome)
	}
}

func (p *Page) send(ctx context.Context, made *replay.Replay) (*replayed, error) {
	client, err := pubsub.NewClient(ctx, local.Project, p.stack.PubSub.ClientOptions()...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	publisher := client.Publisher(local.Topic)
	defer publisher.Stop()
	publisher.PublishSettings.ByteThreshold = 3 << 20
	engine := query.Database{DB: p.stack.Warehouse.DB()}
	if err := replay.Execute(ctx, engine, made, replay.PubSub{Publisher: publisher}, replay.Options{}); err != nil {
		return nil, err
	}
	result := &replayed{ID: made.ID, Sent: made.Sent, Skipped: made.Skipped}
	for deadline := time.Now().Add(auditTime); ; {
		outcomes, err := replay.Outcomes(ctx, engine, p.stack.Query())
		if err != nil {
			return nil, err
		}
		for _, o := range outcomes {
			if o.ID == made.ID {
				result.Landed, result.Rejected = o.Landed, o.Rejected
			}
		}
		if result.Landed+result.Rejected >= result.Sent || time.Now().After(deadline) {
			return result, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

package livepage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/internal/contract"
	"sluice/internal/generate"
)

// examples makes events for the form.
type examples struct {
	mu        sync.Mutex
	generator *generate.Generator // of the built-in contract's events; nil: there is only own
	own       []byte
}

// ownExamples returns an event of the user's; nil: it cannot be typed into a form.
func ownExamples(event []byte) *examples { return &examples{own: event} }

func newExamples() *examples {
	// Another seed at every start: a kept warehouse must not take them for copies.
	return &examples{generator: generate.New(generate.Config{Seed: uint64(time.Now().UnixNano())})}
}

// Example is an event to publish.
type Example struct {
	Name  string `json:"name"`
	Code  string `json:"code,omitempty"` // the rejection that it meets; empty: it lands
	Event string `json:"event"`
}

// list returns fresh examples: a good one, and one for each kind of bad event that
// can be typed into a form.
func (e *examples) list() []Example {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.generator == nil && e.own == nil {
		return []Example{}
	}
	if e.generator == nil {
		return []Example{{Name: "an event of yours", Event: string(e.own)},
			{Name: "no JSON", Code: string(contract.CodeInvalidJSON), Event: `{"this": is no JSON}`}}
	}
	good := e.generator.Next()
	list := []Example{{Name: "a good event", Event: string(good.Value)}}
	for _, f := range generate.Faults() {
		_, value := e.generator.Spoil(&f)
		if text := string(value); text != "" && len(text) < 4096 && utf8.ValidString(text) &&
			!strings.ContainsFunc(text, control) {
			list = append(list, Example{Name: f.Name, Code: f.Code, Event: text})
		}
	}
	return list
}

func control(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }

// example is GET /api/examples.
func (p *Page) example(w http.ResponseWriter, _ *http.Request) { reply(w, p.examples.list()) }

// maxEvent is the most that the form may publish, bytes.
const maxEvent = 1 << 20

// publish is POST /api/events: the body is the record's value, byte for byte.
func (p *Page) publish(w http.ResponseWriter, r *http.Request) {
	if p.examples.generator == nil && p.examples.own == nil {
		refuse(w, http.StatusConflict, "This pipeline's events are written with a schema, which a form is not: produce them with its serializer.")
		return
	}
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "This form takes events of up to 1 MiB.")
		return
	} else if err != nil {
		refuse(w, http.StatusBadRequest, "The event did not arrive whole.")
		return
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	at, err := p.producer.ProduceAcked(ctx, nil, value, nil)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "Kafka has not taken the event: "+err.Error())
		return
	}
	c := Coordinates{*at.Topic, int64(at.Partition), int64(at.Offset)}
	p.sent.add(c, sentTimes{begun, time.Now()})
	reply(w, c)
}

// Package schemas keeps the schemas that the events of a contract were written with, as programs that read them.
//
//	s, err := schemas.New(contract, client, schemas.Config{}, meter, log)
//	view, err := s.View(ctx, ids)  // of a message: asks the registry for those that are not known; outages are errors
//	decoder.Use(view)              // gets them from there, without asking anybody
//	defer view.Close()
//	err = view.Wait(ctx)           // gives those that the registry does not know a little time to arrive
//
// Schemas never change: what is known stays, until there are too many. That the registry is down, or slow, says nothing
// about an event: View fails, and the message comes again. That it does not know an id may be for its replicas' being
// behind; so events with the id wait until Config.Wait has passed since the first one came, and only then they are
// rejected, for Config.Reject, after which the registry is asked again. A few messages wait here, so that their other
// events are not kept; more would be all that an instance does: View fails for those. Where many ids turn out to be
// unknown the values are not what they seem, and no more is waited.
package schemas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"sluice/functions/event"
	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/registry"
	"sluice/internal/schema"
)

// Registry is what answers for ids: a *registry.Client.
type Registry interface {
	Schema(ctx context.Context, id schema.ID) (*registry.Schema, error)
	Latest(ctx context.Context, subject string) (*registry.Schema, error)
}

// Config bounds what is kept and waited for. Zero fields mean those of DefaultConfig.
type Config struct {
	Keep        int           // programs
	Fetch       time.Duration // for the schemas of a message, all together
	Wait        time.Duration // for ids that the registry does not know
	Poll        time.Duration // while waiting
	Reject      time.Duration // how long an id counts as unknown
	MaxUnknown  int           // so many of them at a time: then nothing is waited for
	MaxWaiting  int           // messages that wait at a time
	BreakerOpen time.Duration // how long a registry that fails is left alone
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Keep: 500, Fetch: 8 * time.Second, Wait: 3 * time.Second, Poll: 500 * time.Millisecond,
		Reject: time.Minute, MaxUnknown: 8, MaxWaiting: 8, BreakerOpen: 5 * time.Second,
	}
}

// breakerFailures is how many failures in a row open the breaker.
const breakerFailures = 5

// parallel is how many ids of a message are asked for at once.
const parallel = 4

// Schemas has the programs of one contract's schemas. It is an event.Schemas.
type Schemas struct {
	contract *contract.Contract
	registry Registry
	config   Config
	breaker  *gobreaker.CircuitBreaker[*registry.Schema]
	flight   singleflight.Group
	fetched  metric.Int64Counter

	mu      sync.Mutex
	known   map[schema.ID]*known
	clock   uint64                  // counts uses
	first   map[schema.ID]time.Time // of the ids that are waited for: when they came first
	waiting int                     // messages
}

// known is what is known of an id: one of the two.
type known struct {
	program  *event.Program
	rejected *event.Rejection
	until    time.Time // of a rejection; zero: for good
	subject  string    // of the schema; empty: unknown
	version  int
	used     uint64
}

// errMissing is Program's error for an id that has to be fetched.
var errMissing = errors.New("schemas: not fetched")

// Missing reports whether an error of a decoder means that the schema has to be fetched first.
func Missing(err error) bool { return errors.Is(err, errMissing) }

// New returns the Schemas of a contract. meter may be nil.
func New(c *contract.Contract, r Registry, config Config, meter metric.Meter, log *slog.Logger) (*Schemas, error) {
	config = config.withDefaults()
	s := &Schemas{contract: c, registry: r, config: config, known: make(map[schema.ID]*known),
		first: make(map[schema.ID]time.Time)}
	s.breaker = gobreaker.NewCircuitBreaker[*registry.Schema](gobreaker.Settings{
		MaxRequests:  1,
		Timeout:      config.BreakerOpen,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
		IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, registry.ErrUnknown) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) }, // whoever asked has left
		OnStateChange: func(_ string, from, to gobreaker.State) {
			log.Warn("circuit breaker of the schema registry", slog.String("contract", c.Name), slog.String("from",
				from.String()), slog.String("to", to.String()))
		},
	})
	if meter == nil {
		return s, nil
	}
	var err error
	s.fetched, err = meter.Int64Counter("sluice.functions.schemas", metric.WithUnit("{schema}"),
		metric.WithDescription("Schemas that the registry was asked for: of result found, unknown, unusable (it cannot be "+
			"compiled for its contract) or failed."))
	return s, err
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	for _, pair := range []struct{ to, from *time.Duration }{
		{&c.Fetch, &d.Fetch}, {&c.Wait, &d.Wait}, {&c.Poll, &d.Poll}, {&c.Reject, &d.Reject}, {&c.BreakerOpen, &d.BreakerOpen},
	} {
		if *pair.to == 0 {
			*pair.to = *pair.from
		}
	}
	if c.Keep == 0 {
		c.Keep = d.Keep
	}
	if c.MaxUnknown == 0 {
		c.MaxUnknown = d.MaxUnknown
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = d.MaxWaiting
	}
	return c
}

// View is what is known of the schemas that the events of one message name. It is an event.Schemas.
type View struct {
	of      *Schemas
	known   map[schema.ID]*known
	missing []schema.ID // that the registry does not know, so far
	waiting bool        // counts among Schemas.waiting
}

// Program is event.Schemas'. An id that the registry does not know, so far, gives an error that Missing knows.
func (v *View) Program(id schema.ID) (*event.Program, error) {
	k := v.known[id]
	switch {
	case k == nil:
		return nil, errMissing
	case k.rejected != nil:
		return nil, k.rejected
	}
	return k.program, nil
}

// lookup returns what is known of an id, nil if nothing is.
func (s *Schemas) lookup(id schema.ID) *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[id]
	if k == nil {
		return nil
	}
	if !k.until.IsZero() && time.Now().After(k.until) {
		delete(s.known, id)
		return nil
	}
	s.clock++
	k.used = s.clock
	return k
}

// keep adds what is known of an id, and forgets what was used least recently if that is too much.
func (s *Schemas) keep(id schema.ID, k *known) *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	k.used = s.clock
	s.known[id] = k
	delete(s.first, id)
	for len(s.known) > s.config.Keep {
		var oldest schema.ID
		least := s.clock + 1
		for id, k := range s.known {
			if k.used < least {
				oldest, least = id, k.used
			}
		}
		delete(s.known, oldest)
	}
	return k
}

// Named returns the subject and the version of the schema that a value names; "" if they are not known. s may be nil.
func (s *Schemas) Named(value []byte, headers []batch.RecordHeader) (subject string, version int) {
	if s == nil {
		return "", 0
	}
	id, _, err := s.contract.SplitID(value, batch.HeaderOf(headers, s.contract.IDHeader))
	if err != nil {
		return "", 0
	}
	if k := s.lookup(id); k != nil {
		return k.subject, k.version
	}
	return "", 0
}

// Warm fetches the schemas that most events of an instance that starts will name: the newest of the contract's subject,
// or else of the subjects under which serializers register the values of its topics unless they are told otherwise.
// Nothing depends on it: whatever goes wrong, the first message asks again.
func (s *Schemas) Warm(ctx context.Context) {
	subjects := []string{s.contract.Registry.Subject}
	if subjects[0] == "" {
		subjects = nil
		for _, topic := range s.contract.Topics {
			subjects = append(subjects, topic+"-value")
		}
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, subject := range subjects[:min(len(subjects), s.config.Keep)] {
		group.Go(func() error {
			found, err := s.registry.Latest(ctx, subject)
			if err != nil {
				return nil
			}
			id := found.ID
			if found.Type == contract.FormatProtobuf {
				id.Message = firstMessage
			}
			s.compile(ctx, id, found)
			return nil
		})
	}
	_ = group.Wait()
}

// firstMessage is what stands for the first message of a Protobuf schema, see schema.SplitIndexes.
const firstMessage = "\x00"

// View returns what is known of the ids, of which the registry is asked for those that are new. The error is that it
// could not be asked.
func (s *Schemas) View(ctx context.Context, ids []schema.ID) (*View, error) {
	v := &View{of: s, known: make(map[schema.ID]*known, len(ids)), missing: ids}
	if err := v.fetch(ctx); err != nil {
		return v, err
	}
	return v, v.begin()
}

// begin takes one of the places to wait, if anything is to be waited for.
func (v *View) begin() error {
	s := v.of
	v.giveUp()
	if len(v.missing) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= s.config.MaxWaiting {
		return fmt.Errorf("the schema registry does not know the schema %s, which %d messages wait for already: this one "+
			"comes again", v.missing[0], s.waiting)
	}
	s.waiting++
	v.waiting = true
	return nil
}

// Close gives up what a View holds. It may be called several times, and for nil.
func (v *View) Close() {
	if v == nil || !v.waiting {
		return
	}
	v.of.mu.Lock()
	v.of.waiting--
	v.of.mu.Unlock()
	v.waiting = false
}

// giveUp rejects the missing ids that have been waited for long enough.
func (v *View) giveUp() {
	s := v.of
	now := time.Now()
	many := s.unknown() >= s.config.MaxUnknown
	var left []schema.ID
	for _, id := range v.missing {
		s.mu.Lock()
		first, ok := s.first[id]
		if !ok {
			first = now
			s.first[id] = now
		}
		s.mu.Unlock()
		if many || now.Sub(first) >= s.config.Wait {
			v.known[id] = s.reject(id)
		} else {
			left = append(left, id)
		}
	}
	v.missing = left
}

// fetch asks for the ids that are missing, and keeps those that stay so.
func (v *View) fetch(ctx context.Context) error {
	s := v.of
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Fetch,
		fmt.Errorf("the schema registry did not answer within %v", s.config.Fetch))
	defer cancel()
	var mu sync.Mutex
	var unknown []schema.ID
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, id := range v.missing {
		if k := s.lookup(id); k != nil {
			mu.Lock()
			v.known[id] = k
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			k, err := s.one(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, registry.ErrUnknown) && len(unknown) >= s.config.MaxUnknown:
				v.known[id] = s.reject(id)
			case errors.Is(err, registry.ErrUnknown):
				unknown = append(unknown, id)
			case err != nil:
				return err
			default:
				v.known[id] = k
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	v.missing = unknown
	return nil
}

// one fetches one schema, whoever and how many ask for it.
func (s *Schemas) one(ctx context.Context, id schema.ID) (*known, error) {
	// The request is not the first caller's alone: it goes on if that one leaves.
	answer := s.flight.DoChan(id.String()+id.Message, func() (any, error) {
		if k := s.lookup(id); k != nil { // by a request that has ended since
			return k, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Fetch)
		defer cancel()
		found, err := s.breaker.Execute(func() (*registry.Schema, error) { return s.registry.Schema(ctx, id) })
		if err != nil {
			s.count(ctx, err)
			return nil, err
		}
		return s.compile(ctx, id, found), nil
	})
	select {
	case result := <-answer:
		k, _ := result.Val.(*known)
		return k, result.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// compile keeps the program of a schema, or that there can be none.
func (s *Schemas) compile(ctx context.Context, id schema.ID, found *registry.Schema) *known {
	refuse := func(format string, args ...any) *known {
		s.add(ctx, "unusable")
		return s.keep(id, &known{subject: found.Subject, version: found.Version, rejected: &event.Rejection{
			Code: contract.CodeUndecodableValue, Message: fmt.Sprintf(format, args...)}})
	}
	if found.Type != s.contract.Format {
		return refuse("the event was written with %s, which is of the type %s, and the contract says format: %s: give its "+
			"topic a contract of that format",
			found, found.Type, s.contract.Format)
	}
	p, err := found.Program(id.Indexes())
	var program *event.Program
	if err == nil {
		program, err = event.Compile(s.contract, p, found.String())
	}
	if err != nil {
		return refuse("the event was written with %s, which cannot be used: %v", found, err)
	}
	s.add(ctx, "found")
	return s.keep(id, &known{program: program, subject: found.Subject, version: found.Version})
}

func (s *Schemas) count(ctx context.Context, err error) {
	if errors.Is(err, registry.ErrUnknown) {
		s.add(ctx, "unknown")
		return
	}
	s.add(ctx, "failed")
}

func (s *Schemas) add(ctx context.Context, result string) {
	if s.fetched != nil {
		s.fetched.Add(ctx, 1, metric.WithAttributes(attribute.String("sluice.contract", s.contract.Name),
			attribute.String("sluice.result", result)))
	}
}

// Wait asks for the ids that the registry did not know until it knows all, or the time is up; then events with them are
// rejected. The error is that the registry could not be asked, or ctx has ended.
func (v *View) Wait(ctx context.Context) error {
	for len(v.missing) > 0 {
		select {
		case <-time.After(v.of.config.Poll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := v.fetch(ctx); err != nil {
			return err
		}
		v.giveUp()
	}
	v.Close()
	return nil
}

// reject keeps for a while that events which name the id are rejected.
func (s *Schemas) reject(id schema.ID) *known {
	what := fmt.Sprintf("the event names the schema %s, which the registry %s does not know: register it there, or "+
		"have the producer use that registry; then replay", id, s.contract.Registry.URL)
	if id.Glue {
		what = fmt.Sprintf("the event names the schema %s of AWS Glue, which is not asked: give the contract the schema's "+
			"file and this id (ids of schema) instead of registry", id)
	}
	return s.keep(id, &known{until: time.Now().Add(s.config.Reject),
		rejected: &event.Rejection{Code: contract.CodeUnknownSchema, Message: what}})
}

// unknown is how many ids are rejected because the registry does not know them.
func (s *Schemas) unknown() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.known {
		if !k.until.IsZero() && time.Now().Before(k.until) {
			n++
		}
	}
	return n
}

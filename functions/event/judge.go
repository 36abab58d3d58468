package event

import (
	"context"
	"errors"
	"time"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/registry"
	"sluice/internal/schema"
)

// A Judge says whether the contracts of a deployment would reject an event. It is not safe
// for concurrent use.
type Judge struct {
	contracts []*contract.Contract
	decoders  []*Decoder
}

// Writers finds the schemas that events of a contract were written with: a *registry.Writers. The error wraps
// registry.ErrUnknown or registry.ErrWritten if it is the event's fault.
type Writers interface {
	Find(ctx context.Context, c *contract.Contract, id schema.ID) (*registry.Writer, error)
}

// asking is the Schemas of a contract that asks its registry whenever it does not know one.
type asking struct {
	contract *contract.Contract
	writers  Writers
	known    map[schema.ID]*Program
}

// Program is Schemas'.
func (a *asking) Program(id schema.ID) (*Program, error) {
	if p := a.known[id]; p != nil {
		return p, nil
	}
	w, err := a.writers.Find(context.Background(), a.contract, id) // a request has a bound of its own
	switch {
	case errors.Is(err, registry.ErrUnknown):
		return nil, &Rejection{Code: contract.CodeUnknownSchema, Message: err.Error()}
	case errors.Is(err, registry.ErrWritten):
		return nil, &Rejection{Code: contract.CodeUndecodableValue, Message: err.Error()}
	case err != nil:
		return nil, err
	}
	p, err := Compile(a.contract, w.Program, w.Name)
	if err == nil {
		a.known[id] = p
	}
	return p, err
}

// NewJudge returns a Judge of the contracts; none: of the built-in one, of which types are
// the values that event_type may have, or else the default ones. writers is needed by contracts with a registry.
func NewJudge(contracts []*contract.Contract, writers Writers, types ...string) (*Judge, error) {
	if len(contracts) == 0 {
		c := DefaultConfig()
		if len(types) > 0 {
			c.Types = types
		}
		builtIn, err := contract.Clickstream(contract.FactEvents(), c.Types, c.MaxAge, c.MaxAhead)
		if err != nil {
			return nil, err
		}
		contracts = []*contract.Contract{builtIn}
	}
	j := &Judge{contracts: contracts}
	for _, c := range contracts {
		d, err := New(c, Fast, time.Now)
		if err != nil {
			return nil, err
		}
		if c.Registry != nil {
			d.Use(&asking{c, writers, make(map[schema.ID]*Program)})
		}
		j.decoders = append(j.decoders, d)
	}
	return j, nil
}

// Judge reports whether a record of that Kafka topic, empty for an event that did not come through Kafka, would be
// rejected; if not, it lands or is left out. The error is that of a registry that cannot be asked.
func (j *Judge) Judge(topic string, r *batch.Record) (rejected bool, err error) {
	for i, c := range j.contracts {
		if !c.Serves(topic) {
			continue
		}
		_, err := j.decoders[i].AppendRow(nil, r.Value, Meta{Topic: topic, Offset: r.Offset, Timestamp: r.Timestamp,
			Key: r.Key, Headers: r.Headers})
		if err == nil || errors.Is(err, ErrDropped) || errors.Is(err, ErrSampled) {
			return false, nil
		}
		if _, ok := errors.AsType[*Rejection](err); ok {
			return true, nil
		}
		return false, err
	}
	return true, nil // no contract takes it
}

package event

import (
	"errors"
	"fmt"
	"time"

	"sluice/internal/batch"
	"sluice/internal/contract"
)

// A Judge says whether the contracts of a deployment would reject an event. It is not safe
// for concurrent use.
type Judge struct {
	contracts []*contract.Contract
	decoders  []*Decoder
}

// NewJudge returns a Judge of the contracts; none: of the built-in one, of which types are
// the values that event_type may have, or else the default ones.
func NewJudge(contracts []*contract.Contract, types ...string) (*Judge, error) {
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
		j.decoders = append(j.decoders, d)
	}
	return j, nil
}

// Judge returns the Rejection of a record of that Kafka topic, empty for an event that did not
// come through Kafka; nil if it lands or is left out.
func (j *Judge) Judge(topic string, r *batch.Record) error {
	for i, c := range j.contracts {
		if !c.Serves(topic) {
			continue
		}
		_, err := j.decoders[i].AppendRow(nil, r.Value, Meta{Topic: topic, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Headers: r.Headers})
		if errors.Is(err, ErrDropped) || errors.Is(err, ErrSampled) {
			return nil
		}
		return err
	}
	return &Rejection{Code: contract.CodeNoContract, Message: fmt.Sprintf("No contract takes the topic %q.", topic)}
}

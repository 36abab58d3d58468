package event

import "sluice/internal/contract"

// Judge returns a function that says whether the built-in contract would reject an event:
// its error is the *Rejection. offset is the record's, batch.NoOffset if it did not come
// through Kafka. types are the values that event_type may have, none: the default ones. The
// function is not safe for concurrent use.
func Judge(types ...string) (func(value []byte, offset int64) error, error) {
	c := DefaultConfig()
	if len(types) > 0 {
		c.Types = types
	}
	d, err := NewDecoder(contract.FactEvents(), c)
	if err != nil {
		return nil, err
	}
	return func(value []byte, offset int64) error {
		_, err := d.AppendRow(nil, value, Meta{Offset: offset})
		return err
	}, nil
}

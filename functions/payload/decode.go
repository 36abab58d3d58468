package payload

import (
	"errors"

	"sluice/functions/push"
	"sluice/internal/batch"
)

// Decode decodes a message's payload with d, whose memory the batch is valid in, and accounts
// for what the batch and all that is made of it will hold until the function returns.
//
// damage says why no function will ever read this payload, nil if d has; it is m.Damage, or a
// *batch.Error. err is push.ErrBusy, or another reason to try again later.
func Decode(m *push.Message, d *batch.Decoder, l batch.Limits) (b *batch.Batch, damage, err error) {
	// The records, their rows, and the request that carries them.
	if err := m.Reserve(3 * int64(batch.DeclaredSize(m.Data, l))); err != nil {
		return nil, nil, err
	}
	if m.Damage != nil {
		return nil, m.Damage, nil
	}
	d.Before = func(records, headers int) error {
		return m.Reserve(int64(records)*batch.RecordOverhead + int64(headers)*batch.HeaderOverhead)
	}
	b, err = d.Decode(m.Data, l)
	d.Before = nil
	if wrong, ok := errors.AsType[*batch.Error](err); ok {
		return nil, wrong, nil
	}
	return b, nil, err
}

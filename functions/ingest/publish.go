package ingest

import (
	"context"
	"fmt"
	"time"

	"sluice/functions/push"
	"sluice/internal/batch"
	"sluice/internal/deadletter"
)

const (
	// bundle is how many bytes of rejected records, before compression, go into one
	// message. The emulators of Pub/Sub take requests of 4 MB.
	bundle = 3 << 20
	// maxPayload is the most bytes that a message may have: Pub/Sub's limit is
	// 10,000,000 for the request.
	maxPayload = 9_500_000
	// head is how much is kept of each part of a record that does not fit.
	head = 1 << 20
)

// publish publishes the rejected records of b in the batch format, in as few
// messages as they fit into, and waits until all are acknowledged. They were meant for the
// stream of p, which counts them.
func (f *Function) publish(ctx context.Context, m *push.Message, b *batch.Batch, p *part, rejects []reject) error {
	if len(rejects) == 0 {
		return nil
	}
	h := b.Header
	h.Origin = batch.Origin{
		Consumer:        batch.Clip(f.config.Consumer, batch.MaxName),
		FailedAt:        time.Now().UnixMicro(),
		MessageID:       batch.Clip(m.ID, batch.MaxName),
		DeliveryAttempt: int32(m.DeliveryAttempt),
	}
	if to := p.to; to != nil {
		h.Origin.Contract, h.Origin.Table = to.Contract.Name, batch.Clip(to.Contract.Table.Name, batch.MaxName)
	}
	if !m.PublishTime.IsZero() {
		h.Origin.PublishTime = m.PublishTime.UnixMicro()
	}
	enc := batch.NewEncoder(h)
	var results []func(context.Context) error
	send := func() error {
		payload, err := enc.Payload(nil)
		if err == nil && len(payload) > maxPayload {
			err = fmt.Errorf("a batch of rejected records has %d bytes", len(payload))
		}
		if err == nil {
			results = append(results, f.deadLetters.Publish(ctx, payload))
		}
		enc.Reset(h)
		return err
	}
	if p.rejected == nil {
		p.rejected = make(map[string]int)
	}
	for _, j := range rejects {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.rejected[j.why.Code]++
		r := b.Records[j.record]
		whole := r.Rejection // of a dead letter that comes again, whose value may be a head only
		r.Rejection = j.why
		r.Rejection.Message = batch.Clip(j.why.Message, batch.MaxMessage)
		r.Rejection.Size, r.Rejection.SHA256, r.Rejection.Left = whole.Size, whole.SHA256, whole.Left
		if p.to != nil {
			subject, version := p.to.Schemas.Named(r.Value, r.Headers)
			r.Rejection.Subject, r.Rejection.Version = batch.Clip(subject, batch.MaxName), int32(version)
		}
		n := size(&r)
		if enc.Len() > 0 && enc.Size()+n > bundle {
			if err := send(); err != nil {
				return err
			}
		}
		if n > bundle { // alone, and perhaps too large all the same
			enc.Append(&r)
			payload, err := enc.Payload(nil)
			if err != nil {
				return err
			}
			if len(payload) > maxPayload {
				enc.Reset(h)
				deadletter.Trim(&r, head)
				enc.Append(&r)
			}
			if err := send(); err != nil {
				return err
			}
			continue
		}
		enc.Append(&r)
	}
	if enc.Len() > 0 {
		if err := send(); err != nil {
			return err
		}
	}
	for _, result := range results {
		if err := result(ctx); err != nil {
			return fmt.Errorf("publish %d rejected records to %w", len(rejects), err)
		}
	}
	return nil
}

// size is about what r adds to a batch, bytes.
func size(r *batch.Record) int {
	return 64 + len(r.Key) + len(r.Value) + len(r.Rejection.Message) + len(r.Rejection.Subject) +
		deadletter.HeadersSize(r.Headers)
}

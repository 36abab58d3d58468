package bridge

import (
	"fmt"
	"time"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/deadletter"
)

// headBytes is how much of a value, of a key and of headers goes to the dead-letter topic
// with a record that is too large.
const headBytes = 64 << 10

// deadLetter sends a record that no Pub/Sub message can carry to the dead-letter
// topic, trimmed. Once that is acknowledged the record is done, and the partition moves on.
func (b *Bridge) deadLetter(p *partition, r *batch.Record, now time.Time) {
	_, n := size(r)
	head := *r
	head.Rejection = batch.Rejection{Code: string(contract.CodeTooLarge)}
	deadletter.Trim(&head, headBytes)
	what := ""
	if head.Rejection.Size > 0 {
		what = fmt.Sprintf("its value of %d bytes is cut to its first %d; ", len(r.Value), headBytes)
	}
	if head.Rejection.Left&batch.LeftKey != 0 {
		what += fmt.Sprintf("its key of %d bytes is left out; ", len(r.Key))
	}
	if head.Rejection.Left&batch.LeftHeaders != 0 {
		what += fmt.Sprintf("its %d headers are left out; ", len(r.Headers))
	}
	head.Rejection.Message = fmt.Sprintf("the record takes %d bytes, more than the %d that fit into a Pub/Sub message; "+
		"%sread it from Kafka, or have the producer send less",
		n, b.cfg.maxRecordBytes(), what)
	enc := b.encoders.get()
	enc.Reset(batch.Header{Traceparent: recordTrace(r), Origin: batch.Origin{Consumer: b.cfg.Consumer,
		FailedAt: now.UnixMicro()}})
	enc.Append(&head)
	b.inflight += int64(enc.Size())
	b.log.Warn("a record is too large for Pub/Sub and goes to the dead-letter topic",
		"topic", p.key.Topic, "partition", p.key.Partition, "offset", r.Offset, "bytes", n)
	p.since = now
	f := b.ledger.begin(b.publishCtx, []*partition{p}, now)
	f.to = ToDeadLetters
	b.send(f, enc, nil, func(acked bool) {
		if acked {
			b.counters.deadLettered.Add(1)
		}
	})
}

package bridge

import (
	"crypto/sha256"
	"fmt"
	"time"

	"sluice/internal/batch"
)

// headBytes is how much of a value, and of a key, goes to the dead-letter topic
// with a record that is too large.
const headBytes = 64 << 10

// deadLetter sends a record that no Pub/Sub message can carry to the dead-letter
// topic: its coordinates, its size and hash, its first 64 KiB, and its headers if they
// are no more than that. Once that is acknowledged the record is done, and the
// partition moves on.
func (b *Bridge) deadLetter(p *partition, r *batch.Record, now time.Time) {
	sum := sha256.Sum256(r.Value)
	whole := len(r.Value)
	content, n := size(r)
	head := batch.Record{
		Offset:    r.Offset,
		Timestamp: r.Timestamp,
		Key:       cut(r.Key),
		Value:     cut(r.Value),
		Rejection: batch.Rejection{
			Code: "too_large",
			Message: fmt.Sprintf("the record takes %d bytes, more than the %d that fit into a Pub/Sub message; "+
				"its value of %d bytes is cut to its first %d: read it from Kafka, or have the producer send less",
				n, b.cfg.maxRecordBytes(), whole, min(whole, headBytes)),
			Size:   int64(whole),
			SHA256: sum[:],
		},
	}
	if content-len(r.Key)-whole <= headBytes {
		head.Headers = r.Headers
	}
	enc := b.encoders.get()
	enc.Reset(batch.Header{
		Topic: p.key.topic, Partition: p.key.id, Traceparent: recordTrace(r),
		Origin: batch.Origin{Consumer: b.cfg.Consumer, FailedAt: now.UnixMicro()},
	})
	enc.Append(&head)
	b.inflight += int64(enc.Size())
	result := b.begin(p, r.Offset+1, int64(enc.Size()), now)
	b.log.Warn("a record is too large for Pub/Sub and goes to the dead-letter topic",
		"topic", p.key.topic, "partition", p.key.id, "offset", r.Offset, "bytes", n)
	compressor := <-b.compressors
	go func() {
		payload := b.payloads.get()
		result.err = b.encode(compressor, enc, payload)
		b.releaseEncoder(enc)
		b.compressors <- compressor
		if result.err == nil {
			result.acked = b.publisher.publish(p.ctx, b.publisher.deadLetter, *payload)
		}
		b.release(payload)
		if result.acked {
			b.counters.deadLettered.Add(1)
		}
		b.inbox.put(result)
	}()
}

func cut(b []byte) []byte {
	if len(b) > headBytes {
		return b[:headBytes]
	}
	return b
}

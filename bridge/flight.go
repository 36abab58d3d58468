package bridge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"sluice/internal/batch"
	"sluice/internal/zstd"
)

// flight is a batch on its way to Pub/Sub. It carries a claim on the offsets of each
// partition that it has records of. When a partition is given up its claim is void, and the
// flight flies on for the others; without a claim that counts it is given up.
type flight struct {
	to      Destination
	claims  []claim
	valid   int // claims whose partitions are still assigned
	bytes   int64
	records int
	since   time.Time // when its first record was taken
	ctx     context.Context
	cancel  context.CancelFunc // nobody needs the result any more

	// Written by the goroutine that sends it, before it comes back.
	acked bool  // false: given up
	err   error // what no other try would mend; it ends Run
}

// claim says that the records of one assignment of a partition up to an offset are in a flight.
type claim struct {
	partition *partition
	span      *span // in the partition's tracker
}

// batchOverhead is what a batch on its way is charged beyond its records: its
// goroutine, its buffers, its request. Without it an outage at low traffic would
// collect batches of one record without limit.
const batchOverhead = 8 << 10

// send compresses enc and publishes it as f, in a goroutine whose result comes back through the
// inbox. done is called with the result, in that goroutine.
func (b *Bridge) send(f *flight, enc *batch.Encoder, span trace.Span, done func(acked bool)) {
	f.records = enc.Len()
	packed := enc.Size()
	b.inflight += batchOverhead
	f.bytes = int64(packed) + batchOverhead
	b.counters.inflightBytes.Store(b.inflight)
	b.counters.inflightBatches.Add(1)
	// Compressing waits for nothing but a processor, so that waiting here for one
	// of the batches before is short. It keeps the batches few that are being
	// compressed, and their memory warm.
	compressor, level := <-b.compressors, b.level(packed)
	go func() {
		payload := b.payloads.get()
		f.err = b.encode(compressor, level, enc, payload)
		b.releaseEncoder(enc) // what is on its way is compressed
		b.compressors <- compressor
		reusable := false
		if f.err == nil {
			f.acked, reusable = b.publisher.Publish(f.ctx, f.to, *payload)
		}
		if reusable {
			b.release(payload)
		}
		done(f.acked)
		endTrace(span, f.records, packed, f.acked)
		b.inbox.put(f)
	}()
}

// exceptional is the size from which on buffers are not kept for reuse.
const exceptional = 6 << 20

// release gives a payload's memory back, unless an exceptional record has made it
// exceptionally large.
func (b *Bridge) release(payload *[]byte) {
	if cap(*payload) <= exceptional {
		b.payloads.put(payload)
	}
}

// releaseEncoder does the same for an encoder whose batch is no longer needed.
func (b *Bridge) releaseEncoder(enc *batch.Encoder) {
	if enc.Size() <= exceptional {
		b.encoders.put(enc)
	}
}

// level is the one at which a batch of so many bytes costs least: small, because Pub/Sub bills each byte, and fast
// where nothing is billed by size or records wait for a processor. docs/adr-008 has the sum.
func (b *Bridge) level(packed int) int {
	packing := b.cfg.packing()
	if b.behind || b.publisher.Objects() && packing.Object(packed) {
		return zstd.Fast
	}
	return zstd.Small
}

// encode compresses a batch into payload. It fails only for want of memory.
func (b *Bridge) encode(c *zstd.Compressor, level int, enc *batch.Encoder, payload *[]byte) error {
	var err error
	if c != nil {
		*payload, err = enc.PayloadWith((*payload)[:0], func(dst, src []byte) ([]byte, error) {
			return c.Append(dst,
				src, level)
		})
	} else {
		*payload, err = enc.Payload((*payload)[:0])
	}
	if err != nil {
		return fmt.Errorf("bridge: a batch cannot be encoded: %w", err)
	}
	b.counters.packedBytes.Add(int64(enc.Size()))
	b.counters.payloadBytes.Add(int64(len(*payload)))
	return nil
}

// inbox carries flights from the publishing goroutines back to the owner. Putting never
// blocks, whatever the owner is doing, and whether or not there still is one.
type inbox struct {
	mu     sync.Mutex
	landed []*flight
	spare  []*flight
	wake   chan struct{}
}

func (in *inbox) put(f *flight) {
	in.mu.Lock()
	in.landed = append(in.landed, f)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default: // the owner has not looked since the last one
	}
}

// take returns what has come.
func (in *inbox) take() []*flight {
	in.mu.Lock()
	defer in.mu.Unlock()
	got := in.landed
	in.landed, in.spare = in.spare, nil
	return got
}

// recycle gives a slice that take has returned back.
func (in *inbox) recycle(flights []*flight) {
	clear(flights)
	in.mu.Lock()
	in.spare = flights[:0]
	in.mu.Unlock()
}

// wait returns when a flight comes, and after d at the latest.
func (in *inbox) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-in.wake:
	case <-t.C:
	}
}

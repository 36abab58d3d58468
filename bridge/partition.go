package bridge

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"sluice/bridge/zstd"
	"sluice/internal/batch"
)

// partition is one assignment of one partition: its unfinished batch, and the
// tracker of those on their way.
type partition struct {
	key    partitionKey
	epoch  int64              // tells this assignment from others of the same partition
	ctx    context.Context    // of its publishing goroutines
	cancel context.CancelFunc // ends them: the partition is no longer ours
	taken  *atomic.Int64      // counts its topic's records

	enc     *batch.Encoder // the unfinished batch, or nil
	since   time.Time      // when its first record came
	next    int64          // offset after its last record
	headers int            // of all its records
	span    trace.Span     // of it, nil: not traced
	links   int            // of span

	// leaders are the leader epochs in which the records that are not stored were written, each
	// with the first offset of its. There is one, but behind an election.
	leaders []leader

	track    tracker
	inflight int  // batches whose result has not come back
	dirty    bool // the tracker's offset has advanced since it was stored last

	clear position  // for the lag: before it there is nothing to acknowledge
	still time.Time // since when it is assigned and not fetched from; zero: it is fetched from
	doubt int64     // until the record at this offset was taken, librdkafka's position may be ahead of what was
}

// leader is a leader epoch and the offset of the first record that was taken of it.
type leader struct {
	from  int64
	epoch int32
}

// led notes in which leader epoch the record at offset was written.
func (p *partition) led(offset int64, epoch int32) {
	if n := len(p.leaders); n == 0 || p.leaders[n-1].epoch != epoch {
		p.leaders = append(p.leaders, leader{offset, epoch})
	}
}

// leaderBefore is the leader epoch of the last record before offset next, nil if it is not
// known, and forgets earlier ones. It is stored with the offset (KIP-320): after an
// unclean election Kafka tells by it that the log was cut off below, and where. Without it a
// member that starts then goes on at the offset, if the log has grown past it by that time, and
// passes over what was written in between.
func (p *partition) leaderBefore(next int64) *int32 {
	for len(p.leaders) > 1 && p.leaders[1].from < next {
		p.leaders = p.leaders[1:]
	}
	if len(p.leaders) == 0 || p.leaders[0].from >= next || p.leaders[0].epoch < 0 {
		return nil
	}
	epoch := p.leaders[0].epoch
	return &epoch
}

// recordOverhead is an upper bound of what the wire format adds to the bytes of a
// record without headers, and to each header.
const recordOverhead = 48

// size is the bytes of r's key, value and headers, and a bound of what it takes in
// a batch.
func size(r *batch.Record) (content, bound int) {
	content = len(r.Key) + len(r.Value)
	for i := range r.Headers {
		content += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return content, content + recordOverhead*(1+len(r.Headers))
}

// add packs a record and sends what is full.
func (b *Bridge) add(p *partition, r *batch.Record, now time.Time) {
	content, n := size(r)
	p.taken.Add(1)
	b.counters.bytesIn.Add(int64(content))
	if r.Offset < p.next {
		b.rewound(p, r.Offset)
	}
	p.clear.began(r.Offset)
	if n > b.cfg.maxRecordBytes() {
		b.flush(p) // ranges enter the tracker in the order of their offsets
		p.next = r.Offset + 1
		b.deadLetter(p, r, now)
		return
	}
	// Headers may be so small that the bytes do not bound how many there are.
	if p.enc != nil && (p.enc.Size()+n > b.cfg.BatchBytes || p.headers+len(r.Headers) > batch.DefaultLimits.Headers) {
		b.flush(p)
	}
	if p.enc == nil {
		p.enc = b.encoders.get()
		p.enc.Reset(batch.Header{Topic: p.key.topic, Partition: p.key.id, Traceparent: b.beginTrace(p, r, now)})
		p.since, p.headers = now, 0
		b.metrics.began(r.Timestamp, now)
		b.inflight += int64(p.enc.Size())
	} else if p.span != nil {
		p.linkTrace(r)
	}
	before := p.enc.Size()
	p.enc.Append(r)
	b.inflight += int64(p.enc.Size() - before)
	p.next = r.Offset + 1
	p.headers += len(r.Headers)
	if p.enc.Len() >= b.cfg.BatchRecords || p.enc.Size() >= b.cfg.BatchBytes {
		b.flush(p)
	}
}

// rewound notes that the records of p begin anew at an offset that was taken before:
// Kafka has lost the end of the partition's log, or the topic was deleted and created
// again. librdkafka's position stays where it was, and it commits nothing before the
// offset that is committed already.
func (b *Bridge) rewound(p *partition, offset int64) {
	b.flush(p) // a batch is a run of ascending offsets
	b.log.Warn("a partition's offsets went back: its log was cut off or its topic created anew; its committed offset stays until they have caught up",
		"topic", p.key.topic, "partition", p.key.id, "from", p.next, "to", offset)
	p.clear, p.doubt, p.leaders = position{}, math.MaxInt64, nil
}

// batchOverhead is what a batch on its way is charged beyond its records: its
// goroutine, its buffers, its request. Without it an outage at low traffic would
// collect batches of one record without limit.
const batchOverhead = 8 << 10

// flush sends p's unfinished batch, if there is one.
func (b *Bridge) flush(p *partition) {
	enc := p.enc
	if enc == nil {
		return
	}
	p.enc = nil
	span, records, bytes, since := p.takeTrace(), enc.Len(), enc.Size(), p.since
	r := b.begin(p, p.next, int64(enc.Size()), p.since)
	b.counters.batches.Add(1)
	b.metrics.packed(enc.Len(), enc.Size())
	b.counters.recordsOut.Add(int64(enc.Len()))
	// Compressing waits for nothing but a processor, so that waiting here for one
	// of the batches before is short. It keeps the batches few that are being
	// compressed, and their memory warm.
	compressor := <-b.compressors
	go func() {
		payload := b.payloads.get()
		r.err = b.encode(compressor, enc, payload)
		b.releaseEncoder(enc) // what is on its way is compressed
		b.compressors <- compressor
		if r.err == nil {
			r.acked = b.publisher.publish(p.ctx, b.publisher.topic, *payload)
		}
		b.release(payload)
		if r.acked {
			b.metrics.acked(since)
		}
		endTrace(span, records, bytes, r.acked)
		b.inbox.put(r)
	}()
}

// flushAll sends all unfinished batches.
func (b *Bridge) flushAll() {
	for _, p := range b.ledger.partitions {
		b.flush(p)
	}
}

// exceptional is the size from which on buffers are not kept for reuse.
const exceptional = 2 << 20

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

// encode compresses a batch into payload. It fails only for want of memory.
func (b *Bridge) encode(c *zstd.Compressor, enc *batch.Encoder, payload *[]byte) error {
	var err error
	if c != nil {
		*payload, err = enc.PayloadWith((*payload)[:0], c.Append)
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

// discard drops p's unfinished batch: nobody has seen it, and the partition's next
// owner reads its records again.
func (b *Bridge) discard(p *partition) {
	if p.enc == nil {
		return
	}
	b.inflight -= int64(p.enc.Size())
	b.releaseEncoder(p.enc)
	p.enc = nil
	p.takeTrace() // what was not sent is not told either
}

// begin enters a range into the ledger and charges the batch that carries it.
func (b *Bridge) begin(p *partition, next, bytes int64, since time.Time) result {
	b.inflight += batchOverhead
	b.counters.inflightBytes.Store(b.inflight)
	b.counters.inflightBatches.Add(1)
	return b.ledger.begin(p, next, bytes+batchOverhead, since)
}

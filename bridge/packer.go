package bridge

import (
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"sluice/internal/batch"
)

// packer has the unfinished batch of one group of topics, whose records may share a
// message, whatever partitions they are of.
type packer struct {
	enc     *batch.Encoder // nil: there is none
	since   time.Time      // when its first record came
	members []*partition   // assigned ones that it has records of
	headers int            // of all its records
	span    trace.Span     // of it, nil: not traced
	links   int            // of span
}

// due is when the unfinished batch leaves.
func (k *packer) due(p *batch.Packing) time.Time {
	return k.since.Add(p.Wait(k.enc.Len(), k.enc.Size()))
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

// add packs a record of p and sends what is full.
func (b *Bridge) add(p *partition, r *batch.Record, now time.Time) {
	content, n := size(r)
	p.taken.Add(1)
	b.counters.bytesIn.Add(int64(content))
	if r.Offset < p.next {
		b.rewound(p, r.Offset)
	}
	p.clear.began(r.Offset)
	k := p.packer
	if n > b.cfg.maxRecordBytes() {
		if p.packed { // ranges enter the tracker in the order of their offsets
			b.flush(k)
		}
		p.next = r.Offset + 1
		b.deadLetter(p, r, now)
		return
	}
	// Headers may be so small that the bytes do not bound how many there are.
	if k.enc != nil && (k.enc.Size()+n > b.cfg.BatchBytes || k.headers+len(r.Headers) > batch.DefaultLimits.Headers) {
		b.flush(k)
	}
	before := 0
	if k.enc == nil {
		k.enc = b.encoders.get()
		k.enc.Reset(batch.Header{Traceparent: b.beginTrace(k, r, now)})
		k.since, k.headers = now, 0
		b.metrics.began(r.Timestamp, now)
	} else {
		before = k.enc.Size()
		if k.span != nil {
			k.linkTrace(r)
		}
	}
	if !p.packed {
		p.packed, p.since = true, now
		k.members = append(k.members, p)
	}
	k.enc.Append(r)
	after := k.enc.Size()
	b.inflight += int64(after - before)
	p.next = r.Offset + 1
	k.headers += len(r.Headers)
	if k.enc.Len() >= b.cfg.BatchRecords || after >= b.cfg.BatchBytes {
		b.flush(k)
	}
}

// rewound notes that the records of p begin anew at an offset that was taken before:
// Kafka has lost the end of the partition's log, or the topic was deleted and created
// again. librdkafka's position stays where it was, and it commits nothing before the
// offset that is committed already.
func (b *Bridge) rewound(p *partition, offset int64) {
	if p.packed {
		b.flush(p.packer) // a claim is a run of ascending offsets
	}
	b.log.Warn("a partition's offsets went back: its log was cut off or its topic created anew; its committed offset "+
		"stays until they have caught up",
		"topic", p.key.Topic, "partition", p.key.Partition, "from", p.next, "to", offset)
	p.clear, p.doubt, p.leaders = position{}, math.MaxInt64, nil
}

// flush sends k's unfinished batch, if there is one.
func (b *Bridge) flush(k *packer) {
	enc := k.enc
	if enc == nil {
		return
	}
	f := b.ledger.begin(b.publishCtx, k.members, k.since)
	f.to = ToFunctions
	span := k.takeTrace()
	k.empty()
	b.counters.batches.Add(1)
	b.metrics.packed(enc.Len(), enc.Size())
	b.counters.recordsOut.Add(int64(enc.Len()))
	since := f.since
	b.send(f, enc, span, func(acked bool) {
		if acked {
			b.metrics.acked(since)
		}
	})
}

// empty forgets the batch that was sent or dropped.
func (k *packer) empty() {
	for _, p := range k.members {
		p.packed = false
	}
	clear(k.members)
	k.enc, k.members = nil, k.members[:0]
}

// flushAll sends all unfinished batches.
func (b *Bridge) flushAll() {
	for _, k := range b.packers {
		b.flush(k)
	}
}

// flushDue sends the batches whose linger has passed and returns how long the
// next one has left.
func (b *Bridge) flushDue(now time.Time) time.Duration {
	due, packing := idle, b.cfg.packing()
	for _, k := range b.packers {
		if k.enc == nil {
			continue
		}
		left := k.due(&packing).Sub(now)
		if left <= 0 {
			b.flush(k)
			continue
		}
		due = min(due, left)
	}
	return due
}

// leave takes the claim of p, which is given up, off the unfinished batch. Its records stay
// in it, and the partition's next owner reads them again. Nobody has seen a batch that is
// nobody's then, and it is dropped.
func (b *Bridge) leave(p *partition) {
	if !p.packed {
		return
	}
	k := p.packer
	p.packed = false
	k.members = slices.DeleteFunc(k.members, func(m *partition) bool { return m == p })
	if len(k.members) > 0 {
		return
	}
	b.inflight -= int64(k.enc.Size())
	b.releaseEncoder(k.enc)
	k.takeTrace() // what was not sent is not told either
	k.empty()
}

// packer returns the one of the topic's group.
func (b *Bridge) packer(topic string) *packer {
	group := b.groups.of(topic)
	k := b.packers[group]
	if k == nil {
		k = new(packer)
		b.packers[group] = k
	}
	return k
}

package bridge

import "time"

// lagInterval is how often the lag and the ages are computed.
const lagInterval = 250 * time.Millisecond

// position is an offset before which there is nothing to acknowledge, whatever the
// tracker says: where the consumption of an assignment began, and later where it
// found nothing more.
type position struct {
	offset int64
	known  bool
}

// began notes the first record of an assignment.
func (s *position) began(offset int64) {
	if !s.known {
		s.offset, s.known = offset, true
	}
}

// reached notes that there is nothing before offset that is not acknowledged.
func (s *position) reached(offset int64) {
	if !s.known || offset > s.offset {
		s.offset, s.known = offset, true
	}
}

// position is the first offset that is not acknowledged, if it is known.
// librdkafka's own consumer_lag is −1 until the first commit, and counts what is
// fetched as done.
func (p *partition) position() (int64, bool) {
	next, ok := p.track.offset()
	if p.clear.known && (!ok || p.clear.offset > next) {
		return p.clear.offset, true
	}
	return next, ok
}

// observe computes what others may read of the owner's state.
func (b *Bridge) observe() {
	v := &view{lag: make(map[TopicPartition]int64, len(b.ledger.partitions)), oldest: b.ledger.oldest()}
	for _, p := range b.ledger.partitions {
		end, known := b.consumer.End(p.key)
		if next, ok := p.position(); ok && known {
			v.lag[p.key] = max(0, end-next)
		}
	}
	b.counters.view.Store(v)
}

// Standing is Member's: it learns where idle partitions stand. With nothing prefetched and
// nothing on its way, the next offset to fetch is the first one not acknowledged
// (before fetching is active it reads as zero). So a partition without traffic has a
// lag of zero and not an unknown one, and one that ends with a transaction's marker,
// which is an offset but no record, has no lag of one for ever.
func (b member) Standing(steady bool, parts []Standing) {
	if len(b.ledger.partitions) == 0 {
		// A member without partitions has none to lose: that it was thrown out shows
		// only here.
		b.counters.joined.Store(steady)
	}
	now := time.Now()
	var quiet []TopicPartition
	for i := range parts {
		s := &parts[i]
		p := b.ledger.partitions[s.TopicPartition]
		if p == nil {
			continue
		}
		if !p.packed && p.inflight == 0 && s.Active && s.Queued == 0 && s.Next >= 0 {
			p.clear.reached(s.Next)
		}
		if !p.packed && p.inflight == 0 && p.next > p.doubt {
			quiet = append(quiet, p.key)
		}
		b.revive(p, s, now)
	}
	b.pass(quiet)
	b.counters.standings.Add(1)
}

// pass stores offsets behind the markers of transactions with which partitions end:
// the marker is an offset but no record, and the group would lag by it for ever. The
// partitions must have nothing unfinished and nothing on its way, and a record of this
// assignment must have been taken, behind the latest error. Then the consumer's position,
// which advances with what was fetched, errors included, is of this assignment and of
// records, and everything before it is acknowledged.
func (b *Bridge) pass(quiet []TopicPartition) {
	if len(quiet) == 0 {
		return
	}
	for _, at := range b.consumer.Positions(quiet) {
		if p := b.ledger.partitions[at.TopicPartition]; p != nil && p.track.pass(at.Next) {
			p.dirty = true
		}
	}
	b.store()
}

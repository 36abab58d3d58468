package bridge

import (
	"time"
)

// lagInterval is how often the lag and the ages are computed.
const lagInterval = 250 * time.Millisecond

// position is where the consumption of an assignment began.
type position struct {
	offset int64
	known  bool
}

// seen notes that the record at offset was fetched.
func (s *position) seen(offset int64) {
	if !s.known {
		s.offset, s.known = offset, true
	}
}

// observe computes what others may read of the owner's state.
func (b *Bridge) observe() {
	v := &view{lag: make(map[TopicPartition]int64, len(b.ledger.partitions)), oldest: b.ledger.oldest()}
	for _, p := range b.ledger.partitions {
		// The high watermark comes with every fetch response; reading it asks nobody.
		_, high, err := b.consumer.GetWatermarkOffsets(p.key.topic, p.key.id)
		if next, ok := p.position(); ok && err == nil && high >= 0 {
			v.lag[TopicPartition{p.key.topic, p.key.id}] = max(0, high-next)
		}
	}
	b.counters.view.Store(v)
}

// position is the first offset that is not acknowledged: the tracker's, or until it
// has one, where consumption began.
func (p *partition) position() (int64, bool) {
	if next, ok := p.track.offset(); ok {
		return next, true
	}
	return p.start.offset, p.start.known
}

package bridge

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

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
		// The high watermark comes with every fetch response; reading it asks nobody.
		_, high, err := b.consumer.GetWatermarkOffsets(p.key.topic, p.key.id)
		if next, ok := p.position(); ok && err == nil && high >= 0 {
			v.lag[TopicPartition{p.key.topic, p.key.id}] = max(0, high-next)
		}
	}
	b.counters.view.Store(v)
}

// librdkafkaStats are the few of librdkafka's statistics that are of use here.
// See https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md.
type librdkafkaStats struct {
	Group struct {
		State string `json:"join_state"`
	} `json:"cgrp"`
	Topics map[string]struct {
		Partitions map[string]struct {
			State  string `json:"fetch_state"`
			Queued int64  `json:"fetchq_cnt"`
			Next   int64  `json:"next_offset"`
		} `json:"partitions"`
	} `json:"topics"`
}

// statistics learns where idle partitions stand: with nothing prefetched and
// nothing on its way, the next offset to fetch is the first one not acknowledged
// (before fetching is active it reads as zero). So a partition without traffic has a
// lag of zero and not an unknown one, and one that ends with a transaction's marker,
// which is an offset but no record, has no lag of one for ever.
func (b *Bridge) statistics(text string) {
	var stats librdkafkaStats
	if err := json.Unmarshal([]byte(text), &stats); err != nil {
		b.log.Warn("librdkafka's statistics cannot be read", "error", err.Error())
		return
	}
	if len(b.ledger.partitions) == 0 {
		// A member without partitions has none to lose: that it was thrown out shows
		// only here.
		b.counters.joined.Store(stats.Group.State == "steady")
	}
	now := time.Now()
	var quiet []kafka.TopicPartition
	for topic, t := range stats.Topics {
		for id, s := range t.Partitions {
			n, err := strconv.ParseInt(id, 10, 32)
			p := b.ledger.partitions[partitionKey{topic, int32(n)}]
			if err != nil || p == nil {
				continue
			}
			if !p.packed && p.inflight == 0 && s.State == "active" && s.Queued == 0 && s.Next >= 0 {
				p.clear.reached(s.Next)
			}
			if !p.packed && p.inflight == 0 && p.next > p.doubt {
				quiet = append(quiet, kafka.TopicPartition{Topic: &p.key.topic, Partition: p.key.id})
			}
			b.revive(p, s.State, now)
		}
	}
	b.pass(quiet)
}

// pass stores offsets behind the markers of transactions with which partitions end:
// the marker is an offset but no record, and the group would lag by it for ever. The
// partitions must have nothing unfinished and nothing on its way, and a record of this
// assignment must have been taken, behind the latest error. Then librdkafka's position,
// which advances with what was fetched, errors included, is of this assignment and of
// records, and everything before it is acknowledged.
func (b *Bridge) pass(quiet []kafka.TopicPartition) {
	if len(quiet) == 0 {
		return
	}
	positions, err := b.consumer.Position(quiet)
	if err != nil {
		b.log.Debug("positions cannot be read", "error", err.Error())
		return
	}
	for _, at := range positions {
		p := b.ledger.partitions[partitionKey{*at.Topic, at.Partition}]
		if p != nil && at.Error == nil && at.Offset >= 0 && p.track.pass(int64(at.Offset)) {
			p.dirty = true
		}
	}
	b.store()
}

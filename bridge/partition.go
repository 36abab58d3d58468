package bridge

import (
	"sync/atomic"
	"time"
)

// partition is one assignment of one partition: what of it is in an unfinished batch, and
// the tracker of what is on its way.
type partition struct {
	key    TopicPartition
	taken  *atomic.Int64 // counts its topic's records
	packer *packer       // of its topic's group

	packed bool      // some of its records are in the packer's unfinished batch
	since  time.Time // when the first of those came
	next   int64     // offset after the last record taken

	// leaders are the leader epochs in which the records that are not stored were written, each
	// with the first offset of its. There is one, but behind an election.
	leaders []leader

	track    tracker
	inflight int  // flights with a claim of it
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

// leaderBefore is the leader epoch of the last record before offset next, -1 if it is not
// known, and forgets earlier ones. It is stored with the offset (KIP-320): after an
// unclean election Kafka tells by it that the log was cut off below, and where. Without it a
// member that starts then goes on at the offset, if the log has grown past it by that time, and
// passes over what was written in between.
func (p *partition) leaderBefore(next int64) int32 {
	for len(p.leaders) > 1 && p.leaders[1].from < next {
		p.leaders = p.leaders[1:]
	}
	if len(p.leaders) == 0 || p.leaders[0].from >= next || p.leaders[0].epoch < 0 {
		return -1
	}
	return p.leaders[0].epoch
}

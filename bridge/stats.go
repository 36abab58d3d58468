package bridge

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Stats is what a bridge has done since it was created, and what it holds now.
type Stats struct {
	PublishStats
	RecordsIn       int64 // taken from Kafka, the sum of TopicRecords
	BytesIn         int64 // their keys, values and headers
	RecordsOut      int64 // put into batches that were sent
	Batches         int64 // sent
	PackedBytes     int64 // of batches, before compression
	PayloadBytes    int64 // of batches, after compression
	DeadLettered    int64 // records too large to publish, acknowledged by the dead-letter topic
	InflightBytes   int64 // packed and unacknowledged
	InflightBatches int64
	Assigned        int64 // partitions
	Paused          int64 // partitions: all assigned ones while fetching pauses
	Rebalances      int64
	Lost            int64 // partitions that the group took away without asking
	Revived         int64 // partitions that stood still and were assigned anew
	KafkaErrors     int64
	CommitErrors    int64
	LateResults     int64 // results of batches whose assignment had ended
	Joined          bool  // in the group: it has assigned partitions, or has none to spare

	// Standings is how often the consumer has told where partitions stand: without that the
	// lag of idle ones is not known.
	Standings int64
	// TopicRecords is the records taken from Kafka, by topic.
	TopicRecords map[string]int64
	// Lag is the records in Kafka that are not acknowledged, per partition assigned.
	// A partition whose lag is not known is not in it.
	Lag map[TopicPartition]int64
	// OldestUnacknowledged is the age of the oldest record taken and not acknowledged;
	// 0: there is none.
	OldestUnacknowledged time.Duration
}

// TopicPartition names a partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// TotalLag is the sum of the known lags; known is how many there are.
func (s *Stats) TotalLag() (lag int64, known int) {
	for _, l := range s.Lag {
		lag += l
	}
	return lag, len(s.Lag)
}

// counters are the numbers behind Stats. They are written by the owner and by
// publishing goroutines, and read by anyone.
type counters struct {
	bytesIn, recordsOut, batches             atomic.Int64
	packedBytes, payloadBytes                atomic.Int64
	deadLettered                             atomic.Int64
	inflightBytes, inflightBatches, assigned atomic.Int64
	rebalances, lost, revived                atomic.Int64
	kafkaErrors, commitErrors, lateResults   atomic.Int64
	standings                                atomic.Int64
	started, joined, full                    atomic.Bool
	turn                                     atomic.Pointer[time.Time] // of the poll loop, the last one
	view                                     atomic.Pointer[view]
	topics                                   sync.Map // topic → *atomic.Int64: records taken
}

// recordsIn is the counter of the records of a topic.
func (c *counters) recordsIn(topic string) *atomic.Int64 {
	n, _ := c.topics.LoadOrStore(topic, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// view is what the owner computes for others from time to time.
type view struct {
	lag    map[TopicPartition]int64
	oldest time.Time // when the oldest unacknowledged record was taken; zero: there is none
}

func (c *counters) setFull(full bool) {
	if c.full.Load() != full {
		c.full.Store(full)
	}
}

// Stats returns the numbers of now.
func (b *Bridge) Stats() Stats {
	c := &b.counters
	s := Stats{
		Standings:       c.standings.Load(),
		PublishStats:    b.publisher.Stats(),
		BytesIn:         c.bytesIn.Load(),
		RecordsOut:      c.recordsOut.Load(),
		Batches:         c.batches.Load(),
		PackedBytes:     c.packedBytes.Load(),
		PayloadBytes:    c.payloadBytes.Load(),
		DeadLettered:    c.deadLettered.Load(),
		InflightBytes:   c.inflightBytes.Load(),
		InflightBatches: c.inflightBatches.Load(),
		Assigned:        c.assigned.Load(),
		Rebalances:      c.rebalances.Load(),
		Lost:            c.lost.Load(),
		Revived:         c.revived.Load(),
		KafkaErrors:     c.kafkaErrors.Load(),
		CommitErrors:    c.commitErrors.Load(),
		LateResults:     c.lateResults.Load(),
		Joined:          c.joined.Load(),
		TopicRecords:    map[string]int64{},
	}
	c.topics.Range(func(topic, counter any) bool {
		n := counter.(*atomic.Int64).Load()
		s.TopicRecords[topic.(string)] = n
		s.RecordsIn += n
		return true
	})
	if c.full.Load() {
		s.Paused = s.Assigned
	}
	if v := c.view.Load(); v != nil {
		s.Lag = maps.Clone(v.lag)
		if !v.oldest.IsZero() {
			s.OldestUnacknowledged = time.Since(v.oldest)
		}
	}
	return s
}

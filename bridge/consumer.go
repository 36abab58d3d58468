package bridge

import (
	"time"

	"sluice/internal/batch"
)

// Consumer is a member of a Kafka consumer group, as the owner's loop needs one; package bridge/kafka has it on
// librdkafka. Only the owner's goroutine calls it.
type Consumer interface {
	// Join subscribes to the topics. m is told of what happens within Poll, in the caller's goroutine. The error wraps
	// ErrConfig if the configuration cannot work.
	Join(m Member) error
	// Poll tells of what has happened, and waits for nothing. An error is fatal: only a restart helps.
	Poll() error

	// Fetch waits up to d for records of the assigned partitions, and returns how many there are; they are numbered
	// from 0 and stay until Release, which follows each Fetch.
	Fetch(d time.Duration) int
	Release()
	// Source tells the partition of record i. That of something else than a record has no Topic; Fault tells what it
	// is.
	Source(i int) Source
	// Topic is the topic's name. It costs more than Source.
	Topic(i int) string
	Offset(i int) int64
	// LeaderEpoch is the epoch of the partition's leader when it wrote the record; -1: unknown.
	LeaderEpoch(i int) int32
	// Fault is the name of Kafka's error that came instead of a record; empty: it is one.
	Fault(i int) string
	// Read reads record i into r, but for topic and partition. Its bytes stay until Release. fault is why it has no
	// headers.
	Read(i int, r *batch.Record) (fault string)

	// Store has offsets committed within a second, and when a partition is given up. Those of partitions that are no
	// longer assigned are left out.
	Store(offsets []Offset) error
	// End is the offset behind a partition's last record, as the last fetch told it.
	End(p TopicPartition) (offset int64, known bool)
	// Positions returns the next offsets to fetch, of those partitions of which they are known.
	Positions(parts []TopicPartition) []Offset
	// Reassign takes a partition out of the assignment and into it again. It is false while a rebalance goes on, which
	// does the same.
	Reassign(p TopicPartition) (bool, error)

	// Leave commits what is stored and leaves the group, in a goroutine of its own. Each channel gets whether that was
	// done. No other method may be called after it.
	Leave() (committed, left <-chan bool)
}

// Source identifies the partition that a record came from as long as its assignment lasts. It is quick to compare.
type Source struct {
	Topic     uintptr // a handle
	Partition int32
}

// Offset is the next record of a partition that is to be read.
type Offset struct {
	TopicPartition
	Next        int64
	LeaderEpoch int32 // of the record before it; -1: unknown
}

// NoOffset stands for an offset that is not known.
const NoOffset = batch.NoOffset

// Member is who a Consumer tells of what happens to it.
type Member interface {
	// Assigned comes when partitions are assigned, before their first record. Next is where a partition begins, if it
	// begins where the group has committed nothing: at the end of its log as it was then; else it is NoOffset.
	Assigned(parts []Offset)
	// Revoked comes before partitions are given up: what is stored until it returns is committed. lost says that others
	// have them already.
	Revoked(parts []TopicPartition, lost bool)
	// Standing comes about every five seconds. steady: the group is not being rebalanced, and this is a member of it.
	Standing(steady bool, parts []Standing)
	// CommitFailed comes when offsets could not be committed; they are with the next ones.
	CommitFailed(err error)
	// Troubled comes when the client has an error that it mends itself, with its name.
	Troubled(code string, err error)
}

// Standing is where the reading of a partition stands.
type Standing struct {
	TopicPartition
	State  string // of the client, for log lines
	Active bool   // it is being read
	Idle   bool   // nobody reads it, although it is assigned
	Queued int64  // records that wait for Fetch
	Next   int64  // the offset to ask Kafka for next; negative: unknown
}

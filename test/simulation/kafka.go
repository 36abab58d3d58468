package simulation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sluice/bridge"
	"sluice/internal/batch"
)

const topic = "clickstream"

// kind says what must become of a record.
type kind int

const (
	good    kind = iota // a row
	broken              // a dead letter: it is no event
	refused             // a dead letter: BigQuery refuses its row
	large               // a dead letter: no message can carry it
)

// record is a record of Kafka, and what is known of its fate.
type record struct {
	offset    int64
	timestamp int64
	id        string
	value     []byte
	kind      kind

	kept     bool // Pub/Sub has it, in one topic or the other
	lettered bool // the dead-letter topic has it
	rows     int
	letters  int
	givenUp  bool // Pub/Sub has given up a message with it
}

// broker is Kafka with one topic and one group.
type broker struct {
	w         *world
	logs      [][]*record
	ends      []int64 // the next offset; offsets have gaps, as compaction and transactions leave them
	committed []int64
	owners    []*consumer // nil: none
	epochs    []int       // of the ownership: Kafka takes commits of the present one only
	target    []*consumer // who is to get the partition; nil: whoever
	freeAt    []time.Time // when a partition of a dead member is free
}

func newBroker(w *world) *broker {
	n := w.Partitions
	return &broker{w: w, logs: make([][]*record, n), ends: make([]int64, n), committed: make([]int64, n),
		owners: make([]*consumer, n), epochs: make([]int, n),
		target: make([]*consumer, n), freeAt: make([]time.Time, n)}
}

// produce writes one record.
func (k *broker) produce() {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.dice("produce")
	p := r.IntN(w.Partitions)
	if r.IntN(8) == 0 {
		k.ends[p] += r.Int64N(5)
	}
	now := time.Now()
	rec := &record{offset: k.ends[p], timestamp: now.UnixMilli(), id: fmt.Sprintf("%d-%d", p, k.ends[p])}
	if w.fails(SkewedClock, r, 3) {
		rec.timestamp = []int64{0, -5, now.Unix(), now.Add(1000 * time.Hour).UnixMilli()}[r.IntN(4)]
	}
	switch {
	case r.IntN(10) == 0:
		rec.kind = broken
		rec.value = []byte([]string{`{"event_id":"` + rec.id + `"}`, `{"event_id":`, ``, `[1]`}[r.IntN(4)])
	case w.fails(LargeRecords, r, 15):
		rec.kind = large
		rec.value = event(rec.id, strings.Repeat("x", 70_000), now)
	case w.fails(RefusedRows, r, 6):
		rec.kind = refused
		rec.value = event(rec.id, refusedUser, now)
	default:
		rec.value = event(rec.id, "somebody", now)
	}
	k.ends[p]++
	k.logs[p] = append(k.logs[p], rec)
}

// refusedUser is a user whose rows BigQuery refuses.
const refusedUser = "refused"

func event(id, user string, now time.Time) []byte {
	return fmt.Appendf(nil, `{"event_id":%q,"event_timestamp":%q,"event_type":"page_view","user_id":%q,"more":1}`, id,
		now.UTC().Format(time.RFC3339), user)
}

// find returns the record at a place, nil if there is none. The lock is held.
func (k *broker) find(partition int32, offset int64) *record {
	if partition < 0 || int(partition) >= len(k.logs) {
		return nil
	}
	i, ok := slices.BinarySearchFunc(k.logs[partition], offset,
		func(r *record, o int64) int { return int(r.offset - o) })
	if !ok {
		return nil
	}
	return k.logs[partition][i]
}

// commit takes the next offset of a partition from one of the members. The lock is held.
func (k *broker) commit(c *consumer, p int32, next int64) {
	if k.owners[p] != c || k.epochs[p] != c.epochs[p] { // another generation: Kafka refuses
		k.w.reached[oldCommit]++
		return
	}
	for _, r := range k.logs[p] {
		if r.offset < next && !r.kept {
			k.w.violated("offsets", "offset %d of partition %d is committed, and record %d is not kept by Pub/Sub",
				next, p, r.offset)
		}
	}
	if next < k.committed[p] {
		k.w.violated("offsets", "the committed offset of partition %d goes back from %d to %d", p, k.committed[p], next)
	}
	if next > k.ends[p] {
		k.w.violated("offsets", "offset %d of partition %d is committed, and its log ends at %d", next, p, k.ends[p])
	}
	k.committed[p] = next
}

// distribute gives partitions that are free to members. The lock is held.
func (k *broker) distribute() {
	var alive []*consumer
	for _, m := range k.w.bridges {
		if m.consumer.joined && !m.consumer.gone {
			alive = append(alive, m.consumer)
		}
	}
	if len(alive) == 0 {
		return
	}
	now := time.Now()
	for p := range k.owners {
		if k.owners[p] != nil || now.Before(k.freeAt[p]) {
			continue
		}
		to := k.target[p]
		if to == nil || !slices.Contains(alive, to) {
			to = alive[k.w.dice("assign").IntN(len(alive))]
		}
		k.owners[p], k.target[p] = to, nil
		k.epochs[p]++
		to.pending = append(to.pending, occurrence{assigned: []int32{int32(p)}})
		to.stir()
	}
}

// move has a partition go from its owner to another. The lock is held.
func (k *broker) move(r *rand.Rand, lose bool) {
	p := int32(r.IntN(len(k.owners)))
	from := k.owners[p]
	if from == nil || slices.ContainsFunc(from.pending, func(o occurrence) bool {
		return slices.Contains(o.assigned, p) || slices.Contains(o.revoked, p)
	}) {
		return
	}
	var others []*consumer
	for _, m := range k.w.bridges {
		if m.consumer != from && m.consumer.joined && !m.consumer.gone {
			others = append(others, m.consumer)
		}
	}
	if len(others) > 0 {
		k.target[p] = others[r.IntN(len(others))]
	}
	k.w.log("partition %d leaves %s, lost: %t", p, from.name, lose)
	from.pending = append(from.pending, occurrence{revoked: []int32{p}, lost: lose})
	from.stir()
	if lose {
		k.owners[p] = nil
		k.freeAt[p] = time.Now().Add(between(r, 0, 200*time.Millisecond))
	}
}

// occurrence is what a member is told of in Poll.
type occurrence struct {
	assigned, revoked []int32
	lost              bool
}

// consumer is a bridge.Consumer on the broker.
type consumer struct {
	w    *world
	name string
	m    bridge.Member
	wake chan struct{}
	full func() error // its bridge may take no more

	// Under the world's lock.
	joined, gone bool // gone: it has left, or crashed
	crashed      bool
	pending      []occurrence
	position     map[int32]int64 // of the partitions that it believes to have
	stored       map[int32]int64
	epochs       map[int32]int
	fetched      []fetched
	committedAt  time.Time
	stoodAt      time.Time
	noCommits    time.Time // until then commits fail
}

type fetched struct {
	partition int32
	record    *record
}

func newConsumer(w *world, name string) *consumer {
	return &consumer{w: w, name: name, wake: make(chan struct{}, 1), position: map[int32]int64{},
		stored: map[int32]int64{}, epochs: map[int32]int{}}
}

// stir ends a Fetch that waits.
func (c *consumer) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *consumer) Join(m bridge.Member) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.m, c.joined = m, true
	c.w.kafka.distribute()
	return nil
}

var errCrashed = errors.New("the simulation has ended this bridge")

func (c *consumer) Poll() error {
	w := c.w
	w.mu.Lock()
	if c.crashed {
		w.mu.Unlock()
		return errCrashed
	}
	w.kafka.distribute() // what has become free by now
	if len(c.pending) > 0 {
		o := c.pending[0]
		c.pending = c.pending[1:]
		w.mu.Unlock()
		c.happen(o)
		return nil
	}
	now := time.Now()
	if now.Sub(c.committedAt) >= time.Second {
		c.committedAt = now
		if w.fails(CommitFailures, w.dice("commit"+c.name), 5) {
			c.noCommits = now.Add(3 * time.Second)
		}
		if now.Before(c.noCommits) && !w.calm {
			w.mu.Unlock()
			c.m.CommitFailed(errors.New("the coordinator is not available"))
			return nil
		}
		c.commit()
	}
	if now.Sub(c.stoodAt) >= 5*time.Second {
		c.stoodAt = now
		var parts []bridge.Standing
		for p, at := range c.position {
			parts = append(parts, bridge.Standing{TopicPartition: bridge.TopicPartition{Topic: topic, Partition: p},
				State: "active", Active: true, Next: at})
		}
		w.mu.Unlock()
		c.m.Standing(true, parts)
		return nil
	}
	w.mu.Unlock()
	return nil
}

// commit commits what is stored. The lock is held.
func (c *consumer) commit() {
	for p, next := range c.stored {
		c.w.kafka.commit(c, p, next)
	}
}

// happen tells the member of o, as librdkafka does.
func (c *consumer) happen(o occurrence) {
	w, k := c.w, c.w.kafka
	if o.assigned != nil {
		var parts []bridge.Offset
		w.mu.Lock()
		for _, p := range o.assigned {
			if k.owners[p] != c { // lost again before it was told
				continue
			}
			c.position[p], c.epochs[p] = k.committed[p], k.epochs[p]
			parts = append(parts, bridge.Offset{TopicPartition: bridge.TopicPartition{Topic: topic, Partition: p},
				Next: bridge.NoOffset, LeaderEpoch: -1})
		}
		w.mu.Unlock()
		if parts != nil {
			c.m.Assigned(parts)
		}
		return
	}
	var parts []bridge.TopicPartition
	w.mu.Lock()
	for _, p := range o.revoked {
		if _, mine := c.position[p]; mine {
			parts = append(parts, bridge.TopicPartition{Topic: topic, Partition: p})
		}
	}
	w.mu.Unlock()
	if parts != nil {
		c.m.Revoked(parts, o.lost)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range o.revoked {
		if next, ok := c.stored[p]; ok && !o.lost && !time.Now().Before(c.noCommits) {
			k.commit(c, p, next)
		}
		delete(c.position, p)
		delete(c.stored, p)
		if k.owners[p] == c && !o.lost {
			k.owners[p] = nil
		}
	}
	k.distribute()
}

// nap is how long a member without anything to do sleeps: the history would be turns of its loop otherwise. A bridge
// that looks after its timers late is allowed.
const nap = 200 * time.Millisecond

func (c *consumer) Fetch(d time.Duration) int {
	if err := c.full(); err != nil {
		c.w.mu.Lock()
		c.w.violated("memory", "%v", err)
		c.w.mu.Unlock()
	}
	if n := c.fetch(); n > 0 {
		return n
	}
	if d >= 20*time.Millisecond {
		d = nap
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.wake:
	}
	return 0
}

// fetch takes some of the records that wait.
func (c *consumer) fetch() int {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	c.fetched = c.fetched[:0]
	if c.crashed {
		return 0
	}
	r := w.dice("fetch" + c.name)
	for _, p := range r.Perm(w.Partitions) {
		at, mine := c.position[int32(p)]
		if !mine || r.IntN(4) == 0 {
			continue
		}
		log := w.kafka.logs[p]
		i, _ := slices.BinarySearchFunc(log, at, func(r *record, o int64) int { return int(r.offset - o) })
		for _, rec := range log[i:min(len(log), i+1+r.IntN(12))] {
			c.fetched = append(c.fetched, fetched{int32(p), rec})
			c.position[int32(p)] = rec.offset + 1
		}
	}
	return len(c.fetched)
}

func (c *consumer) Release() { c.fetched = c.fetched[:0] }
func (c *consumer) Source(i int) bridge.Source {
	return bridge.Source{Topic: 1, Partition: c.fetched[i].partition}
}
func (c *consumer) Topic(int) string      { return topic }
func (c *consumer) Offset(i int) int64    { return c.fetched[i].record.offset }
func (c *consumer) LeaderEpoch(int) int32 { return -1 }
func (c *consumer) Fault(int) string      { return "" }

func (c *consumer) Read(i int, r *batch.Record) string {
	from := c.fetched[i].record
	r.Offset, r.Timestamp, r.Key, r.Value, r.Headers = from.offset, from.timestamp, nil, from.value, r.Headers[:0]
	return ""
}

func (c *consumer) Store(offsets []bridge.Offset) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, o := range offsets {
		if _, mine := c.position[o.Partition]; mine && !c.crashed {
			c.stored[o.Partition] = o.Next
		}
	}
	return nil
}

func (c *consumer) End(p bridge.TopicPartition) (int64, bool) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.kafka.ends[p.Partition], true
}

func (c *consumer) Positions(parts []bridge.TopicPartition) []bridge.Offset {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	var known []bridge.Offset
	for _, p := range parts {
		if at, ok := c.position[p.Partition]; ok {
			known = append(known, bridge.Offset{TopicPartition: p, Next: at, LeaderEpoch: -1})
		}
	}
	return known
}

func (c *consumer) Reassign(bridge.TopicPartition) (bool, error) { return false, nil }

func (c *consumer) Leave() (committed, left <-chan bool) {
	committing, leaving := make(chan bool, 1), make(chan bool, 1)
	c.w.others.Go(func() {
		r := c.w.roll("leave" + c.name)
		time.Sleep(between(r, time.Millisecond, 3*time.Second)) // it may take longer than the bridge waits
		w := c.w
		w.mu.Lock()
		defer w.mu.Unlock()
		done := !c.crashed && !w.fails(CommitFailures, r, 2)
		if done {
			c.commit()
		}
		committing <- done
		if !c.crashed {
			c.leave(0)
		}
		leaving <- true
	})
	return committing, leaving
}

// leave takes a member out of the group; its partitions are free after d. The lock is held.
func (c *consumer) leave(d time.Duration) {
	c.gone = true
	for p, owner := range c.w.kafka.owners {
		if owner == c {
			c.w.kafka.owners[p] = nil
			c.w.kafka.freeAt[p] = time.Now().Add(d)
		}
	}
	c.w.kafka.distribute()
}

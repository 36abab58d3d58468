// Package simulation runs the pipeline's protocol in histories: the bridge's loop, its packer, ledger and flights, the
// push handler, Ingest, DeadLetter and the appender are the deployed code, and Kafka, Pub/Sub and BigQuery are models
// that answer in memory, late, twice, or not at all. A history runs on a virtual clock (testing/synctest) without a
// socket, takes some milliseconds, and is drawn from a seed: how many members, records and instances there are, what
// fails and when.
//
//	r, err := simulation.Run(simulation.Draw(seed))   // within a synctest bubble
//	r.Violation                                       // nil: every invariant held
//
// # Invariants
//
//	offsets     no offset is committed before every record below it is kept by Pub/Sub, and none goes back
//	acks        no message is acknowledged before every record of it is durable: in the table, among the dead letters, or in
//	            the dead-letter topic
//	rows        every row has the coordinates, the id and the replay of a record that there was; copies have the same
//	places      what can be a row is one, and what cannot is a dead letter and no row; an event becomes a dead letter only if
//	            it cannot be a row, or Pub/Sub has given its message up
//	replays     a repaired dead letter that was sent again is a row with the replay's id
//	memory      a bridge that holds as many bytes as it may asks for no more records
//	progress    when nothing fails any more, everything ends at its place, the group has no lag, and no message is left
//	end         a bridge that is told to end does so within the sum of its time limits, and an instance drains
//
// # Determinism
//
// Each decision is drawn from the seed, its place and a count of its own, not from one sequence: what happens at one
// place does not move the others. What the seed does not decide is which of several goroutines that become ready at the
// same virtual instant runs first, and Go's own choices in select and in maps. A violation is therefore looked for
// again several times with its seed, and shrinking does the same.
package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Faults are kinds of what may go wrong in a history.
type Faults uint32

// The kinds.
const (
	Rebalances      Faults = 1 << iota // partitions move between members
	Losses                             // the group takes partitions without asking
	BridgeCrashes                      // a bridge is gone from one moment to the next
	BridgeStops                        // a bridge is told to end, and another starts
	CommitFailures                     // Kafka takes no offsets for a while
	PublishRefusals                    // Pub/Sub refuses, or does not answer
	LostAnswers                        // what Pub/Sub or BigQuery did is not told
	Duplicates                         // a message is delivered twice, to two instances at once
	SlowPushes                         // a push outlasts its deadline and goes on beside the next delivery
	InstanceCrashes                    // an instance of the functions is gone from one moment to the next
	InstanceStops                      // an instance is drained, and another starts
	StreamFailures                     // BigQuery ends the stream
	Silence                            // BigQuery does not answer
	MissingTables                      // the table is not there for a while
	RefusedRows                        // BigQuery refuses rows
	LargeRecords                       // records that no message can carry
	Backpressure                       // the bridge may hold little
	Replays                            // dead letters are repaired and sent again
	SkewedClock                        // timestamps of records are far off
	allFaults       = 1<<iota - 1
)

var faultNames = []string{"rebalances", "losses", "bridge crashes", "bridge stops", "commit failures",
	"publish refusals",
	"lost answers", "duplicates", "slow pushes", "instance crashes", "instance stops", "stream failures", "silence", "missing tables",
	"refused rows", "large records", "back-pressure", "replays", "skewed clock"}

func (f Faults) String() string {
	var names []string
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Plan is what a history is made of.
type Plan struct {
	Seed       uint64
	Partitions int
	Records    int // in all partitions
	Bridges    int
	Instances  int
	Span       time.Duration // in which records are written and things fail
	Faults     Faults
}

func (p Plan) String() string {
	return fmt.Sprintf("seed %d: %d records in %d partitions over %v, %d bridges, %d instances; %s", p.Seed, p.Records,
		p.Partitions, p.Span, p.Bridges, p.Instances, p.Faults)
}

// Draw draws the plan of a seed.
func Draw(seed uint64) Plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := Plan{Seed: seed, Partitions: 1 + r.IntN(4), Records: 1 + r.IntN(60), Bridges: 1 + r.IntN(3), Instances: 1 +
		r.IntN(3),
		Span: time.Duration(500+r.IntN(8000)) * time.Millisecond}
	for i := range faultNames {
		if r.IntN(3) == 0 {
			p.Faults |= 1 << i
		}
	}
	return p
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string // its name in the package's comment
	What      string
}

func (v *Violation) Error() string { return v.Invariant + ": " + v.What }

// world is what all parts of a history share. Its lock guards the models' state; no deployed code runs under it.
type world struct {
	Plan
	start time.Time

	mu        sync.Mutex
	violation *Violation // the first
	calm      bool       // nothing fails any more
	over      bool       // after a violation there may be messages that nobody waits for
	story     []string   // what was done on purpose, for people
	reached   map[string]int

	others sync.WaitGroup // all goroutines of the models: the clock stands still when the history's own has ended

	kafka    *broker
	messages *service
	tables   *warehouse
	bridges  []*member
	places   []*instance
	counts   map[string]uint64
}

// violated notes a violation; the lock is held.
func (w *world) violated(invariant, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{invariant, fmt.Sprintf(format, args...)}
	}
}

// The situations that histories must reach, or they prove nothing of them.
const (
	givenUp       = "Pub/Sub gives a message up"
	rowTwice      = "a record has two rows"
	letterTwice   = "a record has two dead letters"
	replayLanded  = "a replay has landed"
	rowRefused    = "BigQuery refuses a row"
	largeLettered = "a record that is too large is a dead letter"
	oldCommit     = "a member commits a partition that is another's"
	ackedTwice    = "a message is acknowledged twice"
	lateAnswer    = "a push succeeds behind its deadline"
	untold        = "rows are written, and nobody hears of it"
	lateResult    = "a batch comes back for partitions that are gone"
	paused        = "a bridge holds all that it may"
	unanswered    = "BigQuery does not answer"
	cutShort      = "a bridge ends with batches on their way"
)

var situations = []string{givenUp, rowTwice, letterTwice, replayLanded, rowRefused, largeLettered, oldCommit,
	ackedTwice,
	lateAnswer, untold,
	lateResult, paused, unanswered, cutShort}

// log notes what was done on purpose; the lock is held.
func (w *world) log(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%8.3fs  ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

// dice are for one decision at a place: the n-th there.
func (w *world) dice(place string) *rand.Rand {
	n := w.counts[place]
	w.counts[place] = n + 1
	// FNV-1a, which is the same in every process.
	h := uint64(14695981039346656037)
	for i := range len(place) {
		h = (h ^ uint64(place[i])) * 1099511628211
	}
	return rand.New(rand.NewPCG(w.Seed^h, n))
}

// roll draws at a place under the lock.
func (w *world) roll(place string) *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dice(place)
}

func (w *world) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// fails reports whether a fault of the kind happens at this throw, once in so many.
func (w *world) fails(kind Faults, r *rand.Rand, once int) bool {
	return w.Faults&kind != 0 && !w.calm && r.IntN(once) == 0
}

// between draws a time.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)+1))
}

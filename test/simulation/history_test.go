package simulation

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seed  = flag.Uint64("seed", 1, "first seed")
	count = flag.Int("histories", 0, "histories; 0: as many as -for allows")
	small = flag.Bool("shrink", true, "look for a smaller history with the same violation")
	long  = flag.Duration("for", 10*time.Second, "how long to run histories")
)

// run runs a history in a bubble of its own.
func run(t *testing.T, p Plan) (r *Result) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = Run(p); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

// again is how often a violation is looked for with one plan: see the package's comment on determinism.
const again = 5

// TestHistories protects every invariant of the package's comment, over histories of random faults.
func TestHistories(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	begin := time.Now()
	n, reached := 0, map[string]int{}
	for s := *seed; *count > 0 && n < *count || *count == 0 && time.Since(begin) < *long; s++ {
		p := Draw(s)
		r := run(t, p)
		for situation, times := range r.Reached {
			reached[situation] += times
		}
		if n++; r.Violation == nil {
			continue
		}
		t.Errorf("%v\n%v\n%s\n\ngo test ./test/simulation -seed %d -histories 1", p, r.Violation,
			strings.Join(r.Story, "\n"), s)
		if *small {
			p, r := shrink(t, p, r)
			t.Errorf("shrunk: %v\n%v\n%s", p, r.Violation, strings.Join(r.Story, "\n"))
		}
		return
	}
	for _, situation := range situations {
		t.Logf("%8d times %s", reached[situation], situation)
		if n >= 1000 && reached[situation] == 0 {
			t.Errorf("no history reaches this: %s", situation)
		}
	}
	t.Logf("%d histories in %v, seeds %d to %d", n, time.Since(begin).Round(time.Second), *seed, *seed+uint64(n)-1)
}

// shrink makes a plan smaller as long as the same invariant is violated.
func shrink(t *testing.T, p Plan, r *Result) (Plan, *Result) {
	invariant := r.Violation.Invariant
	fails := func(p Plan) bool {
		for range again {
			if got := run(t, p); got.Violation != nil && got.Violation.Invariant == invariant {
				r = got
				return true
			}
		}
		return false
	}
	for smaller := true; smaller; {
		smaller = false
		var tries []Plan
		for i := range faultNames {
			if p.Faults&(1<<i) != 0 {
				q := p
				q.Faults &^= 1 << i
				tries = append(tries, q)
			}
		}
		for _, less := range []func(q *Plan){
			func(q *Plan) { q.Records /= 2 }, func(q *Plan) { q.Records-- }, func(q *Plan) { q.Partitions-- },
			func(q *Plan) { q.Bridges-- },
			func(q *Plan) { q.Instances-- }, func(q *Plan) { q.Span /= 2 },
		} {
			q := p
			less(&q)
			if q.Records > 0 && q.Partitions > 0 && q.Bridges > 0 && q.Instances > 0 && q.Span > 100*time.Millisecond {
				tries = append(tries, q)
			}
		}
		for _, q := range tries {
			if fails(q) {
				p, smaller = q, true
				break
			}
		}
	}
	return p, r
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

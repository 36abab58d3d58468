package bridge

import (
	"sync"
	"time"
)

// result is what became of one batch.
type result struct {
	key   partitionKey
	epoch int64 // of the assignment that the batch belongs to
	span  *span // its range in the partition's tracker
	bytes int64 // to take off the bytes in flight
	acked bool  // false: given up, because the partition or the bridge is going
	err   error // what no other try would mend; it ends Run
}

// inbox carries results from the publishing goroutines to the owner. Putting never
// blocks, whatever the owner is doing, and whether or not there still is one.
type inbox struct {
	mu      sync.Mutex
	results []result
	spare   []result
	wake    chan struct{}
}

func (in *inbox) put(r result) {
	in.mu.Lock()
	in.results = append(in.results, r)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default: // the owner has not looked since the last one
	}
}

// take returns what has come.
func (in *inbox) take() []result {
	in.mu.Lock()
	defer in.mu.Unlock()
	got := in.results
	in.results, in.spare = in.spare, nil
	return got
}

// recycle gives a slice that take has returned back.
func (in *inbox) recycle(r []result) {
	clear(r)
	in.mu.Lock()
	in.spare = r[:0]
	in.mu.Unlock()
}

// wait returns when a result comes, and after d at the latest.
func (in *inbox) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-in.wake:
	case <-t.C:
	}
}

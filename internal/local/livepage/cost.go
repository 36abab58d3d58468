package livepage

import (
	"time"

	"sluice/internal/cost"
)

// pubsubLeast is how many bytes Pub/Sub bills for a publish or push request at least.
const pubsubLeast = 1000

// usage is what is billed by use, counted from the start.
type usage struct {
	events       int64         // that landed or were dead-lettered
	messages     int64         // published and pushed, of both topics
	messageBytes int64         // of their data
	written      int64         // objects
	fetched      int64         // objects
	requests     int64         // to the functions
	busy         time.Duration // of one instance
	rowBytes     int64         // of rows, about: records before compression
}

func (u usage) minus(o usage) usage {
	return usage{u.events - o.events, u.messages - o.messages, u.messageBytes - o.messageBytes,
		u.written - o.written, u.fetched - o.fetched,
		u.requests - o.requests, u.busy - o.busy, u.rowBytes - o.rowBytes}
}

// perMillion is the cost of a million events in dollars at list price, by the formula
// of the dashboard in infra/monitoring: without what costs the same however much flows
// (the bridge's instance, Kafka), without storage and without free tiers; false if
// there were no events.
func (u usage) perMillion() (float64, bool) {
	if u.events <= 0 {
		return 0, false
	}
	billed := max(u.messageBytes, u.messages*pubsubLeast)
	dollars := 2*float64(billed)/cost.TiB*cost.PubSubThroughput.Dollar + // published, and again delivered
		float64(u.written)/1e6*cost.StorageClassA.Dollar + float64(u.fetched)/1e6*cost.StorageClassB.Dollar +
		float64(u.requests)/1e6*cost.RunRequests.Dollar +
		u.busy.Seconds()*(cost.RunCPU.Dollar+cost.RunMemory.Dollar) + // of one vCPU and one GiB
		float64(u.rowBytes)/cost.GiB*cost.BigQueryWrite.Dollar
	return dollars / float64(u.events) * 1_000_000, true
}

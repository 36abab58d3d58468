package livepage

import "time"

// List prices in US dollars, us-central1. The dashboard in infra/monitoring has the
// same formula over Google's own metrics.
const (
	pubsubPerByte   = 40.0 / (1 << 40)     // published, and again delivered: cloud.google.com/pubsub/pricing
	runPerRequest   = 0.40 / 1_000_000     // cloud.google.com/run/pricing, request-based billing
	runPerSecond    = 0.000024 + 0.0000025 // one vCPU and one GiB of a running instance
	bigQueryPerByte = 0.025 / (1 << 30)    // Storage Write API: cloud.google.com/bigquery/pricing
	pubsubLeast     = 1000                 // bytes billed for a publish or push request, at least
)

// usage is what is billed by use, counted from the start.
type usage struct {
	events       int64         // that landed or were dead-lettered
	messages     int64         // published and pushed, of both topics
	messageBytes int64         // of their payloads
	requests     int64         // to the functions
	busy         time.Duration // of one instance
	rowBytes     int64         // of rows, about: records before compression
}

func (u usage) minus(o usage) usage {
	return usage{u.events - o.events, u.messages - o.messages, u.messageBytes - o.messageBytes,
		u.requests - o.requests, u.busy - o.busy, u.rowBytes - o.rowBytes}
}

// perMillion is the cost of a million events in dollars, without what costs the
// same however much flows (the bridge's instance, Kafka), without storage and
// without free tiers; false if there were no events.
func (u usage) perMillion() (float64, bool) {
	if u.events <= 0 {
		return 0, false
	}
	billed := max(u.messageBytes, u.messages*pubsubLeast)
	dollars := 2*float64(billed)*pubsubPerByte +
		float64(u.requests)*runPerRequest +
		u.busy.Seconds()*runPerSecond +
		float64(u.rowBytes)*bigQueryPerByte
	return dollars / float64(u.events) * 1_000_000, true
}

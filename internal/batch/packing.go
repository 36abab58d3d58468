package batch

import "time"

// Packing says when a bridge's batch leaves, and how.
type Packing struct {
	Records, Bytes    int           // of a full batch, bytes before compression: it leaves at once
	Linger, MaxLinger time.Duration // waits of one that is half full or fuller, and of a lighter one
	ReferenceAbove    int           // bytes, compressed, above which it becomes an object if there is a bucket
}

// DefaultPacking is the bridge's. bridge/docs/adr-006 and adr-007 have the measurements.
var DefaultPacking = Packing{
	Records: 10_000, Bytes: 4 << 20,
	Linger: 200 * time.Millisecond, MaxLinger: time.Second,
	ReferenceAbove: 100_000,
}

// Wait is how long a batch waits for more records from its first one on. One that is half full is worth its
// message; a lighter one waits longer.
func (p *Packing) Wait(records, bytes int) time.Duration {
	if 2*records < p.Records && 2*bytes < p.Bytes {
		return max(p.Linger, p.MaxLinger)
	}
	return p.Linger
}

// Object reports whether a batch of so many bytes before compression is taken for one that becomes an
// object: hardly any events are compressed more than eightfold.
func (p *Packing) Object(bytes int) bool { return bytes > 8*p.ReferenceAbove }

package cost

import (
	"math"

	"sluice/functions/push"
	"sluice/internal/batch"
	"sluice/internal/cost"
)

const (
	hours  = 730 // of a month
	second = hours * 3600
)

// Quantities are what was measured of the events and of the code that carries them.
type Quantities struct {
	Sample      int     // events measured
	EventBytes  float64 // of an event as JSON, mean
	PackedBytes float64 // of an event in a batch before compression, with key and headers, mean
	RowBytes    float64 // of its row in the Storage Write API, mean
	LineBytes   float64 // of a request's log line
	// PayloadBytes are the bytes that one event has in a compressed batch of so many.
	PayloadBytes func(records float64) float64
	PackCPU      float64 // seconds to pack an event and compress it to those bytes
	FastCPU      float64 // and to compress it fast, which a batch is that becomes an object
	IngestCPU    float64 // seconds to decompress, check and convert an event
}

// Assumptions are what was not measured, with where it comes from.
type Assumptions struct {
	Packing     batch.Packing // the bridge's: its defaults
	Partitions  float64       // of the topics: each goes to one bridge
	References  bool          // large batches go to a bucket
	FreeTier    bool          // what is free each month is taken off
	RequestTime float64       // seconds of a request, most of it BigQuery's; the latency budget
	ObjectTime  float64       // seconds that fetching and deleting an object adds to it
	Concurrency float64       // requests that share an instance at most; infra/functions.tf
	Memory      float64       // bytes that the requests of an instance may hold; the functions' default
	Busy        float64       // share of an instance's CPU and concurrency at which Cloud Run adds another
	FetchCPU    float64       // seconds of librdkafka for a record; a bare consumer does 450,000 a second
	Overhead    float64       // HTTP, gRPC, TLS and garbage collection, as a multiple of the measured CPU
	RunLine     float64       // bytes of Cloud Run's own line of a request
	KeptLines   float64       // share of acknowledged requests whose lines are stored; infra/monitoring/metrics.yaml
	Minimum     float64       // bytes that Pub/Sub charges for a publish and for a push at least
	Reference   float64       // bytes of a message that refers to an object
	InsertRow   float64       // bytes that insertAll charges for a row at least

	// Google's own benchmark of Dataflow from Kafka to BigQuery ("Performance
	// characteristics of Kafka to BigQuery pipelines"): 63 workers and 58 compute
	// units for 1 GiB/s of JSON. Scaled by bytes, which is kinder to Dataflow than by
	// events. A worker is the default for Streaming Engine: 2 vCPU, 7.5 GiB, 30 GiB disk.
	DataflowWorkers float64 // for 1 GiB/s
	DataflowUnits   float64
}

func assumptions() Assumptions {
	return Assumptions{
		Packing: batch.DefaultPacking, Partitions: 6, References: true,
		RequestTime: 0.35, ObjectTime: 0.1, Concurrency: 32, Memory: float64(push.DefaultBudget), Busy: 0.6,
		FetchCPU: 1.0 / 450_000, Overhead: 2,
		RunLine: 1000, KeptLines: 0.01,
		Minimum: 1000, Reference: 100, InsertRow: 1000,
		DataflowWorkers: 63, DataflowUnits: 58,
	}
}

// Item is a line of a month's bill.
type Item struct {
	Name   string
	Dollar float64
}

// Bill is a month's bill of one way to move events.
type Bill struct {
	Way   string
	Items []Item
}

// Total is the sum.
func (b Bill) Total() float64 {
	sum := 0.0
	for _, i := range b.Items {
		sum += i.Dollar
	}
	return sum
}

// Bills are the months of all ways at a rate of events per second, day and night, by the places of
// the constants below.
func Bills(q Quantities, a Assumptions, rate float64) []Bill {
	packed := q.packing(&a, rate)
	inline := a
	inline.References = false
	return []Bill{
		sluice:       q.pipeline("Sluice", a, rate, packed, false),
		sluiceInline: q.pipeline("Sluice without a bucket", inline, rate, q.packing(&inline, rate), false),
		oneMessage: q.pipeline("One message an event", inline, rate, Packing{Records: 1, Bridges: a.bridges(rate, 0)},
			false),
		insertAll:    q.pipeline("Sluice with insertAll", a, rate, packed, true),
		dataflow:     q.dataflow(a, rate),
		subscription: q.subscription(a, rate),
	}
}

// The ways that are compared, by their places in Bills.
const (
	sluice = iota
	sluiceInline
	oneMessage
	insertAll
	dataflow
	subscription
)

// Packing is how the bridges pack a rate.
type Packing struct {
	Bridges float64 // instances
	Records float64 // in a message, mean
	Payload float64 // bytes of it, compressed; 0: a single event, neither packed nor compressed
}

// packing is what the bridge does, as bridge/packer.go has it: a batch begins with a record, waits for
// the longer time while it is light, and for the shorter one when it is not, unless it is full before.
func (q *Quantities) packing(a *Assumptions, rate float64) Packing {
	p := q.packed(a, rate, a.bridges(rate, q.PackCPU))
	if q.object(a, p) {
		p = q.packed(a, rate, a.bridges(rate, q.FastCPU))
	}
	return p
}

// object reports whether the bridge takes it for granted that a batch becomes an object: bridge/flight.go.
func (q *Quantities) object(a *Assumptions, p Packing) bool {
	return a.References && a.Packing.Object(int(q.PackedBytes*p.Records))
}

func (q *Quantities) packed(a *Assumptions, rate, bridges float64) Packing {
	own := rate / bridges // of one bridge
	most := math.Min(float64(a.Packing.Records), float64(a.Packing.Bytes)/q.PackedBytes)
	half := most / 2 / own // seconds until it is half full: batch.Packing.Wait
	wait := math.Min(math.Max(half, a.Packing.Linger.Seconds()), a.Packing.Wait(0, 0).Seconds())
	records := math.Max(1, math.Min(most, 1+own*wait))
	return Packing{Bridges: bridges, Records: records, Payload: q.PayloadBytes(records) * records}
}

// charge is what a quantity costs in a month.
func (a *Assumptions) charge(price cost.Price, quantity float64) float64 {
	if a.FreeTier {
		quantity = math.Max(0, quantity-price.Free)
	}
	return quantity * price.Dollar
}

// pipeline is the bill of Kafka, bridge, Pub/Sub, Cloud Run, BigQuery.
func (q *Quantities) pipeline(way string, a Assumptions, rate float64, p Packing, byInsertAll bool) Bill {
	events, requests := rate*second, rate/p.Records*second
	payload, referred := p.Payload, 0.0
	publish := math.Max(payload, a.Minimum)
	if payload == 0 {
		payload = q.EventBytes
		publish = payload // clients publish many in a request
	}
	time, held := a.RequestTime, 3*q.PackedBytes*p.Records+batch.RecordOverhead*p.Records
	if a.References && payload > float64(a.Packing.ReferenceAbove) {
		referred = requests / 1e6
		held += payload
		payload = a.Reference
		publish = a.Minimum
		time += a.ObjectTime
	}

	// An instance is paid for while at least one request runs on it. Few requests
	// leave gaps; many need as many instances as their number, their memory or their CPU asks for.
	at := rate / p.Records * time
	together := math.Max(1, math.Min(a.Concurrency, a.Memory/held))
	busy := math.Max(rate*q.IngestCPU*a.Overhead, at/together) / a.Busy
	instances := math.Max(1-math.Exp(-at), busy)

	write := Item{"BigQuery, Storage Write API", a.charge(cost.BigQueryWrite, events*q.RowBytes/cost.GiB)}
	if byInsertAll {
		write = Item{"BigQuery, insertAll", a.charge(cost.BigQueryInsert, events*math.Max(q.RowBytes,
			a.InsertRow)/(200*cost.MiB))}
	}
	return Bill{way, []Item{
		{"Bridge", p.Bridges * bridgeMonth()},
		{"Pub/Sub", a.charge(cost.PubSubThroughput, requests*(publish+math.Max(payload, a.Minimum))/cost.TiB)},
		{"Cloud Storage, objects", a.charge(cost.StorageClassA, referred) + a.charge(cost.StorageClassB, referred)},
		{"Cloud Run, requests", a.charge(cost.RunRequests, requests/1e6)},
		{"Cloud Run, instances", a.charge(cost.RunCPU, instances*second) + a.charge(cost.RunMemory, instances*second)},
		write,
		{"Logs", a.charge(cost.Logs, requests*a.KeptLines*(q.LineBytes+a.RunLine)/cost.GiB)},
	}}
}

// bridges are the instances that read, pack and publish.
func (a *Assumptions) bridges(rate, pack float64) float64 {
	return math.Max(1, math.Ceil(rate*(a.FetchCPU+pack)*a.Overhead/a.Busy))
}

// bridgeMonth is a month of an instance with 1 vCPU and 512 MiB.
func bridgeMonth() float64 {
	return second * (cost.WorkerPoolCPU.Dollar + cost.WorkerPoolMem.Dollar/2)
}

// dataflow is the bill of Kafka, Dataflow, BigQuery.
func (q *Quantities) dataflow(a Assumptions, rate float64) Bill {
	load := rate * q.EventBytes / cost.GiB // GiB/s
	workers := math.Max(1, math.Ceil(load*a.DataflowWorkers))
	units := math.Max(1, load*a.DataflowUnits)
	return Bill{"Dataflow", []Item{
		{"Dataflow, workers", workers * hours * (2*cost.DataflowCPU.Dollar + 7.5*cost.DataflowMemory.Dollar + 30*cost.DataflowDisk.Dollar)},
		{"Dataflow, Streaming Engine", units * hours * cost.DataflowSECU.Dollar},
		{"BigQuery, Storage Write API", a.charge(cost.BigQueryWrite, rate*second*q.RowBytes/cost.GiB)},
	}}
}

// subscription is the bill of Kafka, something like the bridge that publishes each
// event as a message, and a subscription that has Pub/Sub itself write them to BigQuery.
func (q *Quantities) subscription(a Assumptions, rate float64) Bill {
	bytes := rate * second * q.EventBytes
	return Bill{"BigQuery subscription", []Item{
		{"Bridge", a.bridges(rate, 0) * bridgeMonth()},
		{"Pub/Sub", a.charge(cost.PubSubThroughput, bytes/cost.TiB)},
		{"Pub/Sub, written to BigQuery", a.charge(cost.PubSubBigQuery, bytes/cost.TiB)},
	}}
}

// Crossover is the rate, in events per second, from which on one way is cheaper than
// another, by their places in Bills, and whether there is one below limit.
func Crossover(q Quantities, a Assumptions, one, other int, limit float64) (float64, bool) {
	cheaper := func(rate float64) bool {
		bills := Bills(q, a, rate)
		return bills[one].Total() < bills[other].Total()
	}
	if !cheaper(limit) {
		return 0, false
	}
	low, high := 1.0, limit
	for high-low > high/100 {
		if middle := math.Sqrt(low * high); cheaper(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high, true
}

package cost

import (
	"math"

	"sluice/internal/cost"
)

const (
	hours  = 730 // of a month
	second = hours * 3600
)

// Quantities are what was measured of the events and of the code that carries them.
type Quantities struct {
	Sample     int     // events measured
	EventBytes float64 // of an event as JSON, mean
	RowBytes   float64 // of its row in the Storage Write API, mean
	LineBytes  float64 // of a request's log line
	// PayloadBytes are the bytes that one event has in a compressed batch of so many.
	PayloadBytes func(records float64) float64
	PackCPU      float64 // seconds to pack and compress an event
	IngestCPU    float64 // seconds to decompress, check and convert an event
}

// Assumptions are what was not measured, with where it comes from.
type Assumptions struct {
	Linger      float64 // seconds; the bridge's default
	Records     float64 // most in a batch; the bridge's default
	PerPart     float64 // events a second that a partition carries, from which their number follows
	MinParts    float64
	RequestTime float64 // seconds of a request, most of it BigQuery's; the latency budget
	Concurrency float64 // requests that share an instance; infra/functions.tf
	Busy        float64 // share of an instance's CPU and concurrency at which Cloud Run adds another
	FetchCPU    float64 // seconds of librdkafka for a record; a bare consumer does 450,000 a second
	Overhead    float64 // HTTP, gRPC, TLS and garbage collection, as a multiple of the measured CPU
	RunLine     float64 // bytes of Cloud Run's own line of a request
	KeptLines   float64 // share of acknowledged requests whose lines are stored; infra/monitoring/metrics.yaml
	PushMinimum float64 // bytes that Pub/Sub charges for a push at least
	InsertRow   float64 // bytes that insertAll charges for a row at least

	// Google's own benchmark of Dataflow from Kafka to BigQuery ("Performance
	// characteristics of Kafka to BigQuery pipelines"): 63 workers and 58 compute
	// units for 1 GiB/s of JSON. Scaled by bytes, which is kinder to Dataflow than by
	// events. A worker is the default for Streaming Engine: 2 vCPU, 7.5 GiB, 30 GiB disk.
	DataflowWorkers float64 // for 1 GiB/s
	DataflowUnits   float64
}

func assumptions() Assumptions {
	return Assumptions{
		Linger: 0.2, Records: 1000, PerPart: 10_000, MinParts: 6,
		RequestTime: 0.35, Concurrency: 32, Busy: 0.6,
		FetchCPU: 1.0 / 450_000, Overhead: 2,
		RunLine: 1000, KeptLines: 0.01,
		PushMinimum: 1000, InsertRow: 1000,
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

// Bills are the months of all ways at a rate of events per second, day and night.
func Bills(q Quantities, a Assumptions, rate float64) []Bill {
	packed := a.batch(rate)
	return []Bill{
		q.pipeline("Sluice", a, rate, packed, false),
		q.pipeline("One message an event", a, rate, 1, false),
		q.pipeline("Sluice with insertAll", a, rate, packed, true),
		q.dataflow(a, rate),
		q.subscription(a, rate),
	}
}

// The ways that Sluice is compared with, by their places in Bills.
const (
	sluice       = 0
	dataflow     = 3
	subscription = 4
)

// batch is how many records a message carries: what a partition brings within the
// linger, at most Records.
func (a *Assumptions) batch(rate float64) float64 {
	partitions := math.Max(a.MinParts, math.Ceil(rate/a.PerPart))
	return math.Min(a.Records, math.Max(1, rate/partitions*a.Linger))
}

// pipeline is the bill of Kafka, bridge, Pub/Sub, Cloud Run, BigQuery.
func (q *Quantities) pipeline(way string, a Assumptions, rate, batch float64, insertAll bool) Bill {
	events, requests := rate*second, rate/batch*second
	payload, cpu := q.PayloadBytes(batch)*batch, q.IngestCPU
	pack := q.PackCPU
	if batch == 1 { // as it is, neither packed nor compressed
		payload, pack = q.EventBytes, 0
	}

	// An instance is paid for while at least one request runs on it. Few requests
	// leave gaps; many need as many instances as their number or their CPU asks for.
	at := rate / batch * a.RequestTime
	busy := math.Max(rate*cpu*a.Overhead, at/a.Concurrency) / a.Busy
	instances := math.Max(1-math.Exp(-at), busy)

	write := Item{"BigQuery, Storage Write API", events * q.RowBytes / cost.GiB * cost.BigQueryWrite.Dollar}
	if insertAll {
		write = Item{"BigQuery, insertAll", events * math.Max(q.RowBytes, a.InsertRow) / (200 * cost.MiB) * cost.BigQueryInsert.Dollar}
	}
	return Bill{way, []Item{
		{"Bridge", a.bridges(rate, pack) * bridgeMonth()},
		{"Pub/Sub", requests * (payload + math.Max(payload, a.PushMinimum)) / cost.TiB * cost.PubSubThroughput.Dollar},
		{"Cloud Run, requests", requests / 1e6 * cost.RunRequests.Dollar},
		{"Cloud Run, instances", instances * second * (cost.RunCPU.Dollar + cost.RunMemory.Dollar)},
		write,
		{"Logs", requests * a.KeptLines * (q.LineBytes + a.RunLine) / cost.GiB * cost.Logs.Dollar},
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
		{"BigQuery, Storage Write API", rate * second * q.RowBytes / cost.GiB * cost.BigQueryWrite.Dollar},
	}}
}

// subscription is the bill of Kafka, something like the bridge that publishes each
// event as a message, and a subscription that has Pub/Sub itself write them to BigQuery.
func (q *Quantities) subscription(a Assumptions, rate float64) Bill {
	bytes := rate * second * q.EventBytes
	return Bill{"BigQuery subscription", []Item{
		{"Bridge", a.bridges(rate, 0) * bridgeMonth()},
		{"Pub/Sub", bytes / cost.TiB * cost.PubSubThroughput.Dollar},
		{"Pub/Sub, written to BigQuery", bytes / cost.TiB * cost.PubSubBigQuery.Dollar},
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

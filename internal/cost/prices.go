// Package cost holds Google Cloud's list prices, for ./scripts/cost and for the cost
// that the live page shows. The dashboard in infra/monitoring repeats some of them.
package cost

// Price is a list price in US dollars: of Iowa (us-central1) or the same in all
// tier 1 regions, on demand, without free tiers and discounts.
type Price struct {
	Name   string
	Dollar float64
	Per    string
	Free   float64 // what of it is free each month, in the units of Per; only with the flag for it
	Source string  // title of the page that has it
	Read   string  // the day for which somebody noted it from there
}

// The prices. None was read on its page for this table: they are what others noted
// from the pages on the days given. Look one up before a decision that hangs on it.
var (
	PubSubThroughput = Price{"Pub/Sub, message delivery basic, published and delivered", 40, "TiB", 10.0 / 1024,
		"Pub/Sub pricing", "2026-09-20"}
	PubSubBigQuery = Price{"Pub/Sub, BigQuery subscription, with BigQuery's ingestion", 50, "TiB", 0, "Pub/Sub pricing",
		"2026-09-20"}

	RunRequests = Price{"Cloud Run service, requests", 0.40, "million", 2, "Cloud Run pricing, services, " +
		"request-based billing", "2026-09-08"}
	RunCPU = Price{"Cloud Run service, CPU while a request runs", 0.000024, "vCPU-second", 180_000, "Cloud Run " +
		"pricing, services, request-based billing", "2026-09-08"}
	RunMemory = Price{"Cloud Run service, memory while a request runs", 0.0000025, "GiB-second", 360_000,
		"Cloud Run pricing, services, request-based billing", "2026-09-08"}
	WorkerPoolCPU = Price{"Cloud Run worker pool, CPU", 0.000011244, "vCPU-second", 0,
		"Cloud Run pricing, worker pools", "2025-09-10"}
	WorkerPoolMem = Price{"Cloud Run worker pool, memory", 0.000001235, "GiB-second", 0,
		"Cloud Run pricing, worker pools", "2025-09-10"}
	BigQueryWrite = Price{"BigQuery Storage Write API", 0.025, "GiB", 2048, "BigQuery pricing, data ingestion pricing",
		"2026-09-02"}
	BigQueryInsert = Price{"BigQuery insertAll, rows of at least 1 KB", 0.01, "200 MiB", 0, "BigQuery pricing, data " +
		"ingestion pricing", "2026-09-02"}
	Logs = Price{"Cloud Logging, storage of the request lines", 0.50, "GiB", 50,
		"Google Cloud Observability pricing", "2026-09-08"}
	StorageClassA = Price{"Cloud Storage, regional Standard, writing an object", 5, "million", 0.005, "Cloud Storage " +
		"pricing, operation charges", "2026-11-26"}
	StorageClassB = Price{"Cloud Storage, regional Standard, reading an object", 0.40, "million", 0.05,
		"Cloud Storage pricing, operation charges", "2026-11-26"}
	DataflowCPU    = Price{"Dataflow streaming worker, CPU", 0.069, "vCPU-hour", 0, "Dataflow pricing", "2026-09-08"}
	DataflowMemory = Price{"Dataflow streaming worker, memory", 0.003557, "GiB-hour", 0, "Dataflow pricing",
		"2026-09-08"}
	DataflowSECU = Price{"Dataflow Streaming Engine Compute Unit", 0.089, "unit-hour", 0, "Dataflow pricing",
		"2026-09-08"}
	DataflowDisk = Price{"Dataflow worker, standard persistent disk", 0.000054, "GiB-hour", 0, "Dataflow pricing",
		"2026-09-08"}
)

// All are the prices in the order of a bill.
func All() []Price {
	return []Price{
		PubSubThroughput, PubSubBigQuery, RunRequests, RunCPU, RunMemory, WorkerPoolCPU, WorkerPoolMem,
		BigQueryWrite, BigQueryInsert, Logs, StorageClassA, StorageClassB, DataflowCPU, DataflowMemory, DataflowSECU, DataflowDisk,
	}
}

// MiB, GiB and TiB are bytes.
const (
	MiB = 1 << 20
	GiB = 1 << 30
	TiB = 1 << 40
)

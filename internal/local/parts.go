package local

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/contract"
	"sluice/internal/reference"
	"sluice/internal/registry"
	"sluice/internal/replay"
)

// Parts are what is deployed: how the pipeline starts a bridge and the functions. They are
// given and not imported, so that this package needs neither of them.
type Parts struct {
	Group     string // the bridges' consumer group
	Bridge    func(BridgeConfig) (Member, error)
	Functions func(context.Context, FunctionsConfig) (Functions, error)
	// Judge makes what says whether the contracts, nil: the built-in one, would reject an event.
	Judge func(contracts []*contract.Contract, writers *registry.Writers) (replay.Judge, error)
}

// BridgeConfig is what a bridge is told of the servers around it.
type BridgeConfig struct {
	Name    string // Kafka's client.id
	Brokers string
	Topics  string // of Kafka: names and patterns, separated by commas
	// BatchGroups are the topics that may share batches, groups separated by semicolons.
	BatchGroups string
	Project     string
	Client      *pubsub.Client    // stays the pipeline's to close
	Bucket      *reference.Bucket // for large payloads; stays the pipeline's to close
	Tracer      trace.Tracer      // may be nil
	Log         *slog.Logger
}

// Member is one bridge, a member of the consumer group.
type Member interface {
	// Run moves records until ctx ends, and then shuts down gracefully.
	Run(ctx context.Context) error
	// Stats may be called at any time, by any goroutine.
	Stats() BridgeStats
}

// BridgeStats is what a bridge has done since it was created, and what it holds now.
type BridgeStats struct {
	RecordsIn, RecordsOut     int64 // taken from Kafka, put into batches that were sent
	Batches                   int64 // sent
	PackedBytes, PayloadBytes int64 // of batches, before and after compression
	Acknowledged, Retries     int64 // publish requests that succeeded, and that were tried again
	References, StoreErrors   int64 // batches written to the bucket, and that could not be
	KafkaErrors               int64
	InflightBatches           int64
	OldestUnacknowledged      time.Duration // age of the oldest record taken and not acknowledged
	Joined                    bool          // in the group
	Failing                   bool          // a batch is refused and tried again
	Lag                       int64         // records not acknowledged, in the partitions where that is known
	LagPartitions             int           // how many partitions these are
}

// FunctionsConfig is what the functions are told of the servers around them.
type FunctionsConfig struct {
	Project  string
	BigQuery string // host:port of the Storage Write API
	PubSub   string // host:port
	Bucket   string // with the payloads that messages refer to
	Storage  string // host:port of Cloud Storage
	Registry string // address of the schema registry; empty: the contracts'
	// Contracts of the streams; nil: the built-in one.
	Contracts []*contract.Contract
	Tracer    trace.Tracer
	Log       *slog.Logger
}

// Functions are both functions, Ingest at /Ingest and DeadLetter at /DeadLetter.
type Functions interface {
	http.Handler
	// Close lets running requests end, until ctx does, and closes all that the functions hold.
	Close(ctx context.Context) error
}

// Contracts are those of the streams; nil: the built-in one.
func (s *Stack) Contracts() []*contract.Contract { return s.config.Contracts }

// Judge makes what says whether the deployed contracts would reject an event.
func (s *Stack) Judge() (replay.Judge, error) {
	return s.config.Parts.Judge(s.config.Contracts, s.Writers())
}

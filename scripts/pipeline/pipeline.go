// Package pipeline runs the bridge and the functions, as they are deployed, on the servers
// of internal/local. The program behind ./scripts/run and the tests of the whole pipeline
// start the same value:
//
//	s, err := pipeline.Start(ctx, pipeline.Config{Config: local.Config{Log: log}})
//	defer s.Stop(ctx)
//
// It is the one place where the local servers and the deployed parts meet: internal/local
// imports neither the bridge nor the functions.
package pipeline

import (
	"context"
	"net/http"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/functions/event"
	"sluice/functions/service"
	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/internal/registry"
	"sluice/internal/replay"
)

// Config is the configuration of a local pipeline and of the deployed parts in it.
type Config struct {
	local.Config
	// TuneBridge and TuneFunctions change the parts' own configuration before they start, a
	// bridge's each time that one does. The consumer group stays the product's.
	TuneBridge    func(*bridge.Config)
	TuneFunctions func(*service.Config)
}

// Start starts the servers and the parts, and returns when records can flow.
func Start(ctx context.Context, c Config) (*local.Stack, error) {
	c.Parts = c.parts()
	return local.Start(ctx, c.Config)
}

// parts are the bridge and the functions with the tuning that c asks for.
func (c *Config) parts() local.Parts {
	tuneBridge, tuneFunctions := c.TuneBridge, c.TuneFunctions
	return local.Parts{
		Group:  bridge.DefaultConfig().Group,
		Judge:  judge,
		Bridge: func(p local.BridgeConfig) (local.Member, error) { return newBridge(p, tuneBridge) },
		Functions: func(ctx context.Context, p local.FunctionsConfig) (local.Functions, error) {
			return newFunctions(ctx, p, tuneFunctions)
		},
	}
}

// judge is what says whether the contracts would reject an event.
func judge(contracts []*contract.Contract, writers *registry.Writers) (replay.Judge, error) {
	j, err := event.NewJudge(contracts, writers)
	if err != nil {
		return nil, err
	}
	return j.Judge, nil
}

// member is a bridge in the terms of internal/local.
type member struct{ *bridge.Bridge }

func newBridge(p local.BridgeConfig, tune func(*bridge.Config)) (local.Member, error) {
	c := bridge.DefaultConfig()
	c.Brokers, c.Topics, c.BatchGroups, c.Consumer = p.Brokers, p.Topics, p.BatchGroups, p.Name
	c.Project, c.Topic, c.DeadLetterTopic = p.Project, local.Topic, local.DeadLetterTopic
	c.HTTPAddr = ""
	if tune != nil {
		tune(&c)
	}
	b, err := connect.New(c, p.Client, p.Bucket, p.Log)
	if err != nil {
		return nil, err
	}
	b.Trace(p.Tracer)
	return member{b}, nil
}

// Stats implements local.Member.
func (m member) Stats() local.BridgeStats {
	s := m.Bridge.Stats()
	lag, known := s.TotalLag()
	return local.BridgeStats{
		RecordsIn: s.RecordsIn, RecordsOut: s.RecordsOut, Batches: s.Batches,
		PackedBytes: s.PackedBytes, PayloadBytes: s.PayloadBytes,
		Acknowledged: s.Acknowledged, Retries: s.Retries, KafkaErrors: s.KafkaErrors,
		References: s.References, StoreErrors: s.StoreErrors,
		InflightBatches: s.InflightBatches, OldestUnacknowledged: s.OldestUnacknowledged,
		Joined: s.Joined, Failing: s.Failing,
		Lag: lag, LagPartitions: known,
	}
}

// functions are both functions in the terms of internal/local.
type functions struct{ *service.Service }

func newFunctions(
	ctx context.Context, p local.FunctionsConfig, tune func(*service.Config),
) (local.Functions, error) {
	c := service.DefaultConfig()
	c.Project, c.Dataset, c.DeadLetterTopic = p.Project, local.Dataset, local.DeadLetterTopic
	c.BigQueryEmulator, c.PubSubEmulator, c.StorageEmulator = p.BigQuery, p.PubSub, p.Storage
	c.PayloadBucket, c.SchemaRegistryURL = p.Bucket, p.Registry
	c.Revision = "functions-local"
	c.Tracer, c.Read = p.Tracer, p.Contracts
	if tune != nil {
		tune(&c)
	}
	s, err := service.New(ctx, c, p.Log)
	if err != nil {
		return nil, err
	}
	return functions{s}, nil
}

// ServeHTTP serves both functions at their paths, as one process without FUNCTION_TARGET
// does.
func (f functions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, target := range []string{service.Ingest, service.DeadLetter} {
		if r.URL.Path == "/"+target {
			f.Handler(target).ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}

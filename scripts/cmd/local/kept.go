package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sluice/internal/contract"
	"sluice/internal/kafkaclient"
	"sluice/internal/local"
	"sluice/internal/local/kafka"
	"sluice/internal/local/registry"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
	"sluice/internal/replay"
	"sluice/internal/telemetry"
	"sluice/scripts/command"
	"sluice/scripts/pipeline"
)

// kept is how audit and replay work on a folder that run --data keeps.
var kept = &command.Local{Tables: keptTables, Contracts: local.KeptContracts, Kafka: keptKafka, Registry: keptRegistry,
	Replay: keptReplay}

func keptTables(dir string) (query.Engine, func() error, error) {
	w, err := openWarehouse(dir)
	if err != nil {
		return nil, nil, err
	}
	return query.Database{DB: w.DB()}, w.Close, nil
}

func keptKafka(dir string) (brokers string, close func() error, err error) {
	topics := filepath.Join(dir, "kafka")
	if _, err := os.Stat(topics); err != nil {
		return "", func() error { return nil }, nil
	}
	k, err := kafka.Start(kafka.Config{Dir: topics})
	if err != nil {
		return "", nil, err
	}
	return k.Brokers(), k.Close, nil
}

func keptRegistry(contracts []*contract.Contract) (url string, close func(), err error) {
	if !slices.ContainsFunc(contracts, registry.Needed) {
		return "", func() {}, nil
	}
	r := registry.Start(contracts)
	return r.URL(), r.Close, nil
}

// openWarehouse opens a warehouse that must be there.
func openWarehouse(dir string) (*warehouse.Server, error) {
	if _, err := os.Stat(filepath.Join(dir, "warehouse.duckdb")); err != nil {
		return nil, fmt.Errorf("--data %s holds no warehouse: keep one with ./scripts/run --data %[1]s (%w)", dir, err)
	}
	contracts, err := local.KeptContracts(dir)
	if err != nil {
		return nil, err
	}
	w, err := warehouse.Start(warehouse.Config{Dir: dir, Contracts: contracts})
	if err != nil {
		return nil, fmt.Errorf("--data %s: %w", dir, err)
	}
	return w, nil
}

// keptReplay runs the pipeline on the kept data for as long as the letters need.
func keptReplay(
	ctx context.Context, dir string, r *replay.Replay, o replay.Options,
) (outcome *replay.Outcome, err error) {
	w, err := openWarehouse(dir) // only to say so if there is none
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	s, err := pipeline.Start(ctx, pipeline.Config{Config: local.Config{
		Dir: dir, Contracts: r.Contracts, Log: telemetry.NewLogger(os.Stderr, slog.LevelWarn),
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = errors.Join(err, s.Stop(stopping))
	}()
	client, err := s.NewClient(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	r.Writers = s.Writers()
	engine := s.Engine()
	connection := &kafkaclient.Connection{Brokers: s.Brokers(), ClientID: "sluice-replay"}
	wrap := func(t replay.Target) replay.Target { return settled{t, s} }
	if err := command.Execute(ctx, engine, r, o, connection, s.Group(), client, wrap); err != nil {
		return nil, err
	}
	if r.Via == replay.ViaKafka {
		ends, err := s.Ends(ctx)
		if err == nil {
			_, err = s.AwaitAll(ctx, nil, ends, time.Minute)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := s.PubSub.WaitIdle(ctx); err != nil {
		return nil, err
	}
	all, err := replay.Outcomes(ctx, engine, s.Query())
	for _, one := range all {
		if one.ID == r.ID {
			return &one, err
		}
	}
	return &replay.Outcome{ID: r.ID}, err
}

// settled is a target whose letters have arrived when Send returns: the embedded
// Pub/Sub keeps its messages in memory, and a replay that is killed must not take
// them for sent.
type settled struct {
	replay.Target
	stack *local.Stack
}

// Send implements replay.Target.
func (t settled) Send(ctx context.Context, letters []*replay.Letter) error {
	if err := t.Target.Send(ctx, letters); err != nil {
		return err
	}
	return t.stack.PubSub.WaitIdle(ctx)
}

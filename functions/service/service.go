// Package service puts the functions together: clients, tables, functions, handlers.
// The program and the tests start the same value, only the server around differs:
//
//	c := service.DefaultConfig()
//	c.Project = "clickstream-prod"                // or c.Flags(flagSet), and parse
//	err := c.Validate()
//	s, err := service.New(ctx, c, log)
//	http.Handle("/Ingest", s.Handler(service.Ingest))
//	…
//	err = s.Close(ctx)                            // drains, then closes the clients
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/pubsub/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/functions/deadletter"
	"sluice/functions/ingest"
	"sluice/functions/payload"
	"sluice/functions/push"
	"sluice/functions/schemas"
	"sluice/functions/warehouse"
	"sluice/internal/contract"
	"sluice/internal/dial"
	"sluice/internal/reference"
	"sluice/internal/registry"
)

// Service is the functions of one process.
type Service struct {
	gate     *push.Gate
	handlers map[string]http.Handler
	close    []func(context.Context) error // in the reverse order of what was opened
}

// New makes the clients and the functions that c asks for. Clients connect when they
// are first used. The end of ctx does not end them: Close does.
func New(ctx context.Context, c Config, log *slog.Logger) (_ *Service, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	contracts, err := c.Streams()
	if err != nil {
		return nil, err
	}
	// Clients may keep it to fetch credentials with, also while the service drains.
	ctx = context.WithoutCancel(ctx)
	s := &Service{gate: push.NewGate(log), handlers: make(map[string]http.Handler)}
	defer func() {
		if err != nil {
			_ = s.Close(ctx)
		}
	}()
	write, err := storage.NewBigQueryWriteClient(ctx, endpoint(c.BigQueryEmulator)...)
	if err != nil {
		return nil, fmt.Errorf("make the BigQuery client: %w", err)
	}
	s.onClose(func(context.Context) error { return write.Close() })

	p := push.Config{Project: c.Project, Timeout: c.HandlerTimeout, Budget: push.NewBudget(c.MaxInFlight),
		After: c.Flush}
	if p.Metrics, err = push.NewMetrics(c.Meter); err != nil {
		return nil, err
	}
	if c.PushAudience != "" {
		if p.Caller, err = push.NewCaller(ctx, push.CallerConfig{Audience: c.PushAudience, Email: c.PushServiceAccount,
			TrustCloudRun: c.PushTrustCloudRun}); err != nil {
			return nil, err
		}
	}
	open, err := s.opener(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.serves(Ingest) {
		deadLetters, err := s.publisher(ctx, c)
		if err != nil {
			return nil, err
		}
		var streams []ingest.Stream
		var warm []*schemas.Schemas
		for _, of := range contracts {
			known, err := newSchemas(c, of, log)
			if err != nil {
				return nil, fmt.Errorf("contract %s: %w", of.Name, err)
			}
			if known != nil {
				warm = append(warm, known)
			}
			streams = append(streams, ingest.Stream{Contract: of, Table: s.appender(c, write, of.Table, of.Table.Name,
				log), Schemas: known})
		}
		var leftOut *warehouse.Appender
		if contract.LeavesOut(contracts) {
			t := contract.EventsLeftOut()
			leftOut = s.appender(c, write, t, t.Name, log)
		}
		f, err := ingest.New(ingest.Config{
			LeftOut:  leftOut,
			Streams:  streams,
			Decoder:  c.EventDecoder,
			Consumer: cmp.Or(c.Revision, "ingest"),
			Tracer:   c.Tracer,
			Meter:    c.Meter,
			Log:      log,
		}, ingest.OnTopic(deadLetters))
		if err != nil {
			return nil, err
		}
		warmUp(ctx, warm)
		p.Function = Ingest
		s.handlers[Ingest] = s.gate.Handler(p, open.Func(f.Handle))
	}
	if c.serves(DeadLetter) {
		t := contract.EventsDLQ()
		f, err := deadletter.New(deadletter.Config{Table: t, Contracts: contracts, Tracer: c.Tracer},
			s.appender(c, write,
				t, c.EventsDLQTable, log))
		if err != nil {
			return nil, err
		}
		p.Function = DeadLetter
		s.handlers[DeadLetter] = s.gate.Handler(p, open.Func(f.Handle))
	}
	return s, nil
}

// warmTime is how long the start waits for registries at most.
const warmTime = 2 * time.Second

// warmUp fetches the schemas that the first messages will need, before there are any: an instance of Cloud Run has no
// CPU of its own between requests.
func warmUp(ctx context.Context, all []*schemas.Schemas) {
	ctx, cancel := context.WithTimeout(ctx, warmTime)
	defer cancel()
	var wait sync.WaitGroup
	for _, s := range all {
		wait.Go(func() { s.Warm(ctx) })
	}
	wait.Wait()
}

// newSchemas returns the schemas of a contract's events, nil if no registry knows them.
func newSchemas(c Config, of *contract.Contract, log *slog.Logger) (*schemas.Schemas, error) {
	if of.Registry == nil {
		return nil, nil
	}
	at := *of.Registry
	at.URL = cmp.Or(c.SchemaRegistryURL, at.URL)
	client, err := registry.New(at, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	return schemas.New(of, client, c.Schemas, c.Meter, log)
}

// appender returns an appender to the table of that name.
func (s *Service) appender(c Config, client *storage.BigQueryWriteClient, t *contract.Table, name string,
	log *slog.Logger) *warehouse.Appender {
	a := warehouse.NewAppender(client, t, warehouse.AppenderConfig{
		Table:       fmt.Sprintf("projects/%s/datasets/%s/tables/%s", c.Project, c.Dataset, name),
		TraceID:     "sluice:" + cmp.Or(c.Revision, "functions"),
		Timeout:     c.AppendTimeout,
		BreakerOpen: c.BreakerOpen,
	}, log)
	s.onClose(a.Close)
	return a
}

// opener returns what fetches the payloads that messages refer to.
func (s *Service) opener(ctx context.Context, c Config) (*payload.Opener, error) {
	var bucket *reference.Bucket
	if c.PayloadBucket != "" {
		var err error
		if bucket, err = reference.Open(ctx, c.PayloadBucket, c.StorageEmulator); err != nil {
			return nil, err
		}
		s.onClose(func(context.Context) error { return bucket.Close() })
	}
	return payload.NewOpener(bucket, c.Meter)
}

// publisher returns the publisher of the dead-letter topic.
func (s *Service) publisher(ctx context.Context, c Config) (*pubsub.Publisher, error) {
	client, err := pubsub.NewClient(ctx, c.Project, endpoint(c.PubSubEmulator)...)
	if err != nil {
		return nil, fmt.Errorf("make the Pub/Sub client: %w", err)
	}
	s.onClose(func(context.Context) error { return client.Close() })
	p := client.Publisher(c.DeadLetterTopic)
	p.PublishSettings.DelayThreshold = 5 * time.Millisecond // a request waits for it
	p.PublishSettings.ByteThreshold = 3 << 20
	// The library's own retries end before the request does: what it would send later
	// is a dead letter twice.
	p.PublishSettings.Timeout = c.AppendTimeout
	p.PublishSettings.FlowControlSettings = pubsub.FlowControlSettings{
		MaxOutstandingBytes:   int(c.MaxInFlight),
		LimitExceededBehavior: pubsub.FlowControlBlock,
	}
	s.onClose(func(ctx context.Context) error {
		return within(ctx, "publish the last dead letters", p.Stop)
	})
	return p, nil
}

// Handler returns the handler of Ingest or DeadLetter, nil if it is not served.
func (s *Service) Handler(target string) http.Handler {
	h, ok := s.handlers[target]
	if !ok {
		return nil
	}
	return h
}

// Drain lets running requests end, until ctx does, and answers new ones 503.
func (s *Service) Drain(ctx context.Context) error { return s.gate.Drain(ctx) }

// Close drains, and closes all that New made, within ctx.
func (s *Service) Close(ctx context.Context) error {
	errs := []error{s.Drain(ctx)}
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i](ctx))
	}
	s.close = nil
	return errors.Join(errs...)
}

func (s *Service) onClose(f func(context.Context) error) { s.close = append(s.close, f) }

// endpoint returns the options of a client of Google's own servers, or of an emulator.
func endpoint(emulator string) []option.ClientOption {
	if emulator == "" {
		return []option.ClientOption{dial.Keepalive()}
	}
	return []option.ClientOption{
		option.WithEndpoint(emulator),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// within runs a function that knows no context.
func within(ctx context.Context, what string, f func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

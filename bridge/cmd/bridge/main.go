// Command bridge moves records from Kafka to Pub/Sub. See sluice/bridge for what
// it guarantees and -h for what can be set.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"cloud.google.com/go/pubsub/v2"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/internal/dial"
	"sluice/internal/reference"
	"sluice/internal/telemetry"
	"sluice/internal/telemetry/export"
)

// version is what was built; infra/build/binary stamps it.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends the
	// process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:]))
}

// run returns the exit status: 0 after a graceful end, 1 after a fatal error, 2 for
// a configuration that cannot work.
func run(ctx context.Context, args []string) int {
	fs := flag.NewFlagSet("bridge", flag.ContinueOnError)
	cfg, err := bridge.ParseConfig(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "bridge: %v\n", err)
		return 2
	}
	var level slog.LevelVar
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		fmt.Fprintf(os.Stderr, "bridge: --log-level: %v\n", err)
		return 2
	}
	log := telemetry.NewLogger(os.Stderr, &level)
	if err := serve(ctx, cfg, log); err != nil {
		log.Error("bridge failed", "error", err.Error())
		if errors.Is(err, bridge.ErrConfig) {
			return 2
		}
		return 1
	}
	return 0
}

func serve(ctx context.Context, cfg bridge.Config, log *slog.Logger) error {
	// The client outlives the first signal: batches are drained with it.
	client, err := pubsub.NewClient(context.WithoutCancel(ctx), cfg.Project, dial.Keepalive())
	if err != nil {
		return fmt.Errorf("the Pub/Sub client cannot be created: %w", err)
	}
	exporter, err := export.Start(ctx, "sluice-bridge", version, log)
	if err != nil {
		return err
	}
	// What telemetry is left after the bridge has ended gets a moment.
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		if err := exporter.Close(ctx); err != nil {
			log.Warn("telemetry was left unsent", "error", err.Error())
		}
	}()
	cfg.MeterOptions = exporter.MeterOptions()
	var bucket *reference.Bucket
	if cfg.PayloadBucket != "" {
		if bucket, err = reference.Open(context.WithoutCancel(ctx), cfg.PayloadBucket,
			cfg.StorageEmulator); err != nil {
			return err
		}
		defer bucket.Close()
	}
	b, err := connect.New(cfg, client, bucket, log)
	if err != nil {
		return err
	}
	b.Trace(exporter.Tracer("sluice/bridge"))
	// A variable cannot be set to nothing.
	if cfg.HTTPAddr != "" && cfg.HTTPAddr != "off" {
		l, err := net.Listen("tcp", cfg.HTTPAddr)
		if err != nil {
			return fmt.Errorf("--http-addr (HTTP_ADDR): %w", err)
		}
		log.Info("status server started", "status_address", l.Addr().String())
		srv := &http.Server{Handler: b.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
			WriteTimeout: 30 * time.Second}
		go func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				log.Error("the status server has ended", "error", err.Error())
			}
		}()
		defer srv.Close()
	}
	log.Info("starting", "version", version)
	untilStopped, stopped := context.WithCancel(context.WithoutCancel(ctx))
	told := make(chan struct{})
	go func() {
		defer close(told)
		b.LogStats(untilStopped, 30*time.Second)
	}()
	err = b.Run(ctx)
	stopped()
	<-told
	return err
}

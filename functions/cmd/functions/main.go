// Command functions is what Cloud Run runs: Ingest, DeadLetter, or both, picked by
// FUNCTION_TARGET and served by functions-framework-go. Flags come before
// environment variables, these before defaults; -h prints them all.
//
// It exits 0 after SIGTERM or SIGINT, 2 if its configuration is wrong, and 1 if it
// cannot serve.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	"sluice/functions/service"
	"sluice/internal/settings"
	"sluice/internal/telemetry"
	"sluice/internal/telemetry/export"
)

// version is what was built; infra/build/binary stamps it.
var version = "unknown"

// Cloud Run kills an instance 10 seconds after SIGTERM.
const (
	drainTime = 8 * time.Second
	closeTime = 500 * time.Millisecond
	// flushTime is how long a request may hold its connection to send telemetry, when
	// its answer has been written.
	flushTime = 200 * time.Millisecond
)

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run is the program; it returns the exit status.
func run(args []string, stderr io.Writer) int {
	c, err := configure(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "functions: %v\n", err)
		return 2
	}
	log := telemetry.NewLogger(stderr, c.LogLevel)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	exporter, err := export.Start(ctx, "sluice-"+strings.ToLower(cmp.Or(c.Target, "functions")), version, log)
	if err != nil {
		fmt.Fprintf(stderr, "functions: %v\n", err)
		return 2
	}
	c.Tracer, c.Meter = exporter.Tracer("sluice/functions"), exporter.Meter("sluice/functions")
	if exporter != nil {
		c.Flush = func() { exporter.Flush(flushTime) }
	}
	s, err := service.New(ctx, c, log)
	if err != nil {
		log.Error("cannot start", slog.String("error", err.Error()))
		return 1
	}
	if err := register(ctx, c, s); err != nil {
		log.Error("cannot start", slog.String("error", err.Error()))
		return 1
	}
	// The framework's server knows no end: it runs until the program does, and the
	// gate within the handlers sees to it that this is not in the middle of a request.
	served := make(chan error, 1)
	go func() { served <- funcframework.Start(c.Port) }()
	log.Info("serving", slog.String("port", c.Port), slog.String("target", c.Target), slog.String("version", version))

	select {
	case err := <-served:
		log.Error("cannot serve", slog.String("error", err.Error()))
		return 1
	case <-ctx.Done():
	}
	stop() // a second signal ends the program at once
	log.Info("shutting down")
	drain(s, exporter, log)
	return 0
}

// drain ends the service in time. What does not end is delivered again, so that
// leaving is no failure.
func drain(s *service.Service, exporter *export.Exporter, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		log.Warn("shutdown", slog.String("error", err.Error()))
	}
	ctx, cancel = context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := errors.Join(s.Close(ctx), exporter.Close(ctx)); err != nil {
		log.Warn("shutdown", slog.String("error", err.Error()))
	}
	log.Info("bye")
}

// configure reads flags and environment.
func configure(args []string, stderr io.Writer) (service.Config, error) {
	c := service.DefaultConfig()
	fs := flag.NewFlagSet("functions", flag.ContinueOnError)
	fs.SetOutput(stderr)
	c.Flags(fs)
	err := settings.Parse(fs, args, "serves the functions that Pub/Sub pushes to", c.Sections(), c.Validate)
	return c, err
}

// register gives the functions to the framework, which serves at / what
// FUNCTION_TARGET names, and otherwise each at its path.
func register(ctx context.Context, c service.Config, s *service.Service) error {
	if c.Target != "" {
		return funcframework.RegisterHTTPFunctionContext(ctx, "/", s.Handler(c.Target).ServeHTTP)
	}
	for _, target := range []string{service.Ingest, service.DeadLetter} {
		if err := funcframework.RegisterHTTPFunctionContext(ctx, "/"+target, s.Handler(target).ServeHTTP); err != nil {
			return err
		}
	}
	return nil
}

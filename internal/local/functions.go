package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"sluice/internal/local/listener"
	asking "sluice/internal/registry"
)

// functions is the running functions: both, as one process without
// FUNCTION_TARGET serves them.
type functions struct {
	service Functions
	server  *http.Server
	served  chan error
}

// StartFunctions starts the functions, or starts them again on the same address.
func (s *Stack) StartFunctions(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.functions != nil {
		return errors.New("the functions are running")
	}
	made, err := s.config.Parts.Functions(ctx, FunctionsConfig{
		Project: Project, BigQuery: s.places.append, PubSub: s.places.pubsub, Bucket: Bucket, Storage: s.Objects.Addr(),
		Registry:  s.registryURL(),
		Contracts: s.config.Contracts, Tracer: s.config.Tracer, Log: s.log,
	})
	if err != nil {
		return err
	}
	if s.address == "" {
		// Kept while the functions are down: Pub/Sub goes on pushing there.
		if s.address, s.release, err = listener.Reserve("127.0.0.1:0"); err != nil {
			return errors.Join(err, made.Close(ctx))
		}
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return errors.Join(err, made.Close(ctx))
	}
	handler := http.Handler(made)
	if s.config.Around != nil {
		handler = s.config.Around(made)
	}
	f := &functions{
		service: made, served: make(chan error, 1),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second},
	}
	go func() { f.served <- f.server.Serve(l) }()
	s.functions = f
	return nil
}

// registryURL is the address of the schema registry, empty if there is none.
func (s *Stack) registryURL() string {
	if s.Registry == nil {
		return ""
	}
	return s.Registry.URL()
}

// Writers finds the schemas that events were written with.
func (s *Stack) Writers() *asking.Writers { return asking.NewWriters(s.registryURL()) }

// endpoint is the URL of a path of the functions.
func (s *Stack) endpoint(path string) string { return "http://" + s.address + path }

// Serving reports whether the functions are running.
func (s *Stack) Serving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.functions != nil
}

// StopFunctions stops the functions as SIGTERM does: running requests end, new ones
// are refused, and then nobody listens.
func (s *Stack) StopFunctions(ctx context.Context) error {
	f := s.takeFunctions()
	if f == nil {
		return nil
	}
	err := f.service.Close(ctx)
	if e := f.server.Close(); e != nil {
		err = errors.Join(err, e)
	}
	return f.ended(err)
}

// KillFunctions breaks every connection at once: callers see no answer. What the
// functions were doing goes on unseen for a moment, as it may in a dying instance.
func (s *Stack) KillFunctions() error {
	f := s.takeFunctions()
	if f == nil {
		return nil
	}
	err := f.server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// Without a moment of grace running requests are given up; that is the point.
	_ = f.service.Close(ctx)
	return f.ended(err)
}

func (s *Stack) takeFunctions() *functions {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions
	s.functions = nil
	return f
}

func (f *functions) ended(err error) error {
	if e := <-f.served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("stopping the functions: %w", err)
	}
	return nil
}

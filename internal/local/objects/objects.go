// Package objects is a Cloud Storage in this process: fsouza/fake-gcs-server, with
// faults.
package objects

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"sluice/internal/local/listener"
)

// Server is a running Cloud Storage. It keeps objects in memory.
type Server struct {
	fake     *fakestorage.Server
	listener *listener.Listener
	http     *http.Server
	serving  sync.WaitGroup

	mu     sync.Mutex
	faults []*fault
	counts map[Operation]int64
}

// Operation is what a request asks for.
type Operation string

// The operations that the product uses.
const (
	Create Operation = "create"
	Read   Operation = "read"
	Delete Operation = "delete"
	List   Operation = "list"
	Bucket Operation = "bucket" // its attributes
)

// Fault makes requests go wrong. The zero Fault answers the next request 503, which clients
// try again.
type Fault struct {
	Operation  Operation     // ""; all
	Count      int           // requests to take; 0: one, -1: all until it is removed
	Wait       time.Duration // before the request is looked at
	Hang       bool          // until the fault is removed or the request ends
	LoseAnswer bool          // what was asked for is done, the answer is Status
	Status     int           // 0: 503, or without LoseAnswer after Wait or Hang: no fault
}

type fault struct {
	Fault
	hits    int
	removed chan struct{}
}

// Start serves on addr, host:port; port 0 is any.
func Start(addr string, buckets ...string) (*Server, error) {
	fake, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, Writer: io.Discard})
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	for _, name := range buckets {
		fake.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: name})
	}
	l, err := listener.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	s := &Server{fake: fake, listener: l, counts: make(map[Operation]int64)}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	s.serving.Go(func() { _ = s.http.Serve(l) }) // ends with Close
	return s, nil
}

// Addr is where it serves, host:port, plain text: STORAGE_EMULATOR_HOST.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Down closes all connections and refuses new ones.
func (s *Server) Down() error { return s.listener.Down() }

// Up takes connections again on the same address.
func (s *Server) Up() error { return s.listener.Up() }

// Close stops serving.
func (s *Server) Close() error {
	err := s.http.Close()
	s.listener.Close()
	s.serving.Wait()
	s.fake.Stop()
	return err
}

// Fail installs a fault; remove ends it.
func (s *Server) Fail(f Fault) (remove func()) {
	if f.Count == 0 {
		f.Count = 1
	}
	installed := &fault{Fault: f, removed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, installed)
	return sync.OnceFunc(func() {
		close(installed.removed)
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, f := range s.faults {
			if f == installed {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
				return
			}
		}
	})
}

// Count is how many requests of that kind came, those with a fault too.
func (s *Server) Count(o Operation) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[o]
}

// Names are the objects of a bucket.
func (s *Server) Names(bucket string) []string {
	all, err := s.fake.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{})
	if err != nil {
		return nil
	}
	names := make([]string, len(all.Objects))
	for i := range all.Objects {
		names[i] = all.Objects[i].Name
	}
	return names
}

// Set writes an object, as somebody with more rights than the product could.
func (s *Server) Set(bucket, name string, content []byte) {
	s.fake.CreateObject(fakestorage.Object{ObjectAttrs: fakestorage.ObjectAttrs{BucketName: bucket, Name: name},
		Content: content})
}

// operation is what r asks for.
func operation(r *http.Request) Operation {
	switch _, object, ok := strings.Cut(r.URL.Path, "/o/"); {
	case r.Method == http.MethodPost:
		return Create
	case r.Method == http.MethodDelete:
		return Delete
	case ok && object != "":
		return Read
	case strings.HasSuffix(r.URL.Path, "/o"):
		return List
	}
	return Bucket
}

// take returns the fault that takes a request, nil if none does.
func (s *Server) take(o Operation) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[o]++
	for _, f := range s.faults {
		if (f.Operation == "" || f.Operation == o) && (f.Count < 0 || f.hits < f.Count) {
			f.hits++
			return f
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.take(operation(r))
	if f == nil {
		s.fake.HTTPHandler().ServeHTTP(w, r)
		return
	}
	if f.Wait > 0 || f.Hang {
		var wait <-chan time.Time // of a Hang: never
		if !f.Hang {
			t := time.NewTimer(f.Wait)
			defer t.Stop()
			wait = t.C
		}
		select {
		case <-wait:
		case <-f.removed:
		case <-r.Context().Done():
			return
		}
		if f.Status == 0 && !f.LoseAnswer {
			s.fake.HTTPHandler().ServeHTTP(w, r)
			return
		}
	}
	if f.LoseAnswer {
		s.fake.HTTPHandler().ServeHTTP(nowhere{http.Header{}}, r)
	}
	status := f.Status
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%d,"message":"injected fault","errors":[{"message":"injected fault"}]}}`, status)
}

// nowhere takes an answer that is lost.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

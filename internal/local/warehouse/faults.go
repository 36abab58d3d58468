package warehouse

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
)

// Fault makes append requests go wrong. The first installed fault that matches a
// request takes it. The zero Fault fails one request of any table with
// UNAVAILABLE and breaks its stream.
type Fault struct {
	Table string               // which requests: "" is all tables
	Skip  int                  // requests that pass before the first is taken
	Count int                  // requests to take; 0: one, -1: all until Remove
	When  func(r Request) bool // further choice, if not nil; must be quick

	// What happens, in this order. Wait delays the request before it is looked
	// at, Hang stops there for ever: until Remove or the stream's end.
	Wait time.Duration
	Hang bool

	// BadRow makes rows bad that are not: a request that holds one is refused
	// whole as BigQuery refuses it, and Naming says which rows it names. Requests
	// without one pass unharmed (and do not count as taken).
	BadRow func(row []byte) bool
	Naming Naming

	// StoreFirst stores the rows before the request fails: the answer is lost or
	// wrong. With AnswerAfter alone the answer comes late and is right.
	StoreFirst  bool
	AnswerAfter time.Duration

	// Code fails the request; OK with a zero Fault is UNAVAILABLE. InResponse
	// puts the error into the answer, and the stream stays open.
	Code       codes.Code
	Message    string
	InResponse bool
	// Storage is a detail of the error, such as SCHEMA_MISMATCH_EXTRA_FIELDS.
	Storage storagepb.StorageError_StorageErrorCode
}

// Naming says which bad rows a refusal names in row_errors.
type Naming int

// BigQuery names all of them as a rule, but "the list may be incomplete".
const (
	NameAll   Naming = iota
	NameFirst        // only the first bad row
	NameNone         // none: the caller has to search
)

// Request is what a fault's When looks at.
type Request struct {
	Table string
	Rows  [][]byte
	Bytes int // of the whole request
}

// succeeds reports that the fault only delays.
func (f *Fault) succeeds() bool {
	return f.Code == codes.OK && !f.StoreFirst && (f.Wait > 0 || f.AnswerAfter > 0)
}

func (f *Fault) code() codes.Code {
	if f.Code == codes.OK {
		return codes.Unavailable
	}
	return f.Code
}

func (f *Fault) message() string {
	if f.Message == "" {
		return "injected fault: " + strings.ToLower(f.code().String())
	}
	return f.Message
}

// FaultHandle is an installed fault.
type FaultHandle struct {
	fault   Fault
	faults  *faults
	hits    atomic.Int64
	removed chan struct{}
	once    sync.Once
	skipped int // guarded by faults.mu
}

// Fail installs a fault.
func (s *Server) Fail(f Fault) *FaultHandle {
	if f.Count == 0 {
		f.Count = 1
	}
	h := &FaultHandle{fault: f, faults: &s.faults, removed: make(chan struct{})}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.installed = append(s.faults.installed, h)
	return h
}

// Hits is the number of requests that the fault has taken.
func (h *FaultHandle) Hits() int { return int(h.hits.Load()) }

// Remove ends the fault; requests that hang on it go on unharmed.
func (h *FaultHandle) Remove() {
	h.once.Do(func() { close(h.removed) })
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	h.faults.drop(h)
}

type faults struct {
	mu        sync.Mutex
	installed []*FaultHandle
}

func (f *faults) drop(h *FaultHandle) {
	for i, installed := range f.installed {
		if installed == h {
			f.installed = append(f.installed[:i:i], f.installed[i+1:]...)
			return
		}
	}
}

// take returns the fault for a request, or nil, and the rows that it makes bad.
func (f *faults) take(r Request) (*FaultHandle, []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.installed {
		if h.fault.Table != "" && h.fault.Table != r.Table {
			continue
		}
		if h.fault.When != nil && !h.fault.When(r) {
			continue
		}
		var bad []int
		if h.fault.BadRow != nil {
			for i, row := range r.Rows {
				if h.fault.BadRow(row) {
					bad = append(bad, i)
				}
			}
			if len(bad) == 0 {
				continue
			}
		}
		if h.skipped < h.fault.Skip {
			h.skipped++
			continue
		}
		if hits := h.hits.Add(1); h.fault.Count > 0 && int(hits) >= h.fault.Count {
			f.drop(h)
		}
		return h, bad
	}
	return nil, nil
}

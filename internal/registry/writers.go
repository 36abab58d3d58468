package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"sluice/internal/batch"
	"sluice/internal/contract"
	"sluice/internal/schema"
)

// Writers finds the schemas that events were written with, for tools: it asks when it is asked, and keeps what it has
// found. It is safe for concurrent use.
type Writers struct {
	url     string // instead of the contracts'; empty: theirs
	mu      sync.Mutex
	clients map[contract.Registry]*Client
	found   map[writerKey]*Writer
}

type writerKey struct {
	registry contract.Registry
	id       schema.ID
}

// Writer is the schema of an event.
type Writer struct {
	Program *schema.Program
	Name    string // in messages; empty: it is the contract's own
}

// NewWriters returns Writers that ask the contracts' registries, or the one at url if that is not empty.
func NewWriters(url string) *Writers {
	return &Writers{url: url, clients: make(map[contract.Registry]*Client), found: make(map[writerKey]*Writer)}
}

// ErrWritten is the error of an event whose schema is there and cannot be used, or that does not name one.
var ErrWritten = errors.New("the event's schema cannot be used")

// Of returns the schema that an event of the contract was written with, and the value behind its prefix. The error
// wraps ErrUnknown or ErrWritten if it is the event's fault.
func (w *Writers) Of(ctx context.Context, c *contract.Contract, value []byte, headers []batch.RecordHeader) (*Writer,
	[]byte, error) {
	if !c.Framed() {
		return &Writer{Program: c.Writer}, value, nil
	}
	id, body, err := c.SplitID(value, batch.HeaderOf(headers, c.IDHeader))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrWritten, err)
	}
	if c.Registry == nil {
		if p := c.Versions[id.String()]; p != nil {
			return &Writer{Program: p, Name: c.Schema.IDs[id.String()]}, body, nil
		}
		return nil, nil, fmt.Errorf("schema %s: %w", id, ErrUnknown)
	}
	found, err := w.Find(ctx, c, id)
	return found, body, err
}

// Find returns the schema of that id in the contract's registry.
func (w *Writers) Find(ctx context.Context, c *contract.Contract, id schema.ID) (*Writer, error) {
	at := *c.Registry
	if w.url != "" {
		at.URL = w.url
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := writerKey{at, id}
	if found := w.found[key]; found != nil {
		return found, nil
	}
	client := w.clients[at]
	if client == nil {
		var err error
		if client, err = New(at, os.LookupEnv); err != nil {
			return nil, err
		}
		w.clients[at] = client
	}
	s, err := client.Schema(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.Type != c.Format {
		return nil, fmt.Errorf("%w: %s is of the type %s, and the contract says format: %s", ErrWritten, s, s.Type,
			c.Format)
	}
	p, err := s.Program(id.Indexes())
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrWritten, s, err)
	}
	out := &Writer{p, s.String()}
	w.found[key] = out
	return out, nil
}

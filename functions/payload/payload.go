// Package payload opens what a message carries: Opener fetches what it only refers to, before
// its function sees it, and Decode decodes it within the instance's memory.
package payload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"sluice/functions/push"
	"sluice/internal/reference"
)

// Opener fetches payloads from a bucket. Its methods may be called by several goroutines.
type Opener struct {
	bucket *reference.Bucket // nil: none is configured
	opened metric.Int64Counter
}

// Bounds of the requests to Cloud Storage; what takes longer is delivered again.
const (
	fetchTimeout  = 10 * time.Second
	deleteTimeout = 2 * time.Second
)

// NewOpener returns an Opener of references to one bucket; nil: there is none, and
// messages with references wait for one. meter may be nil.
func NewOpener(bucket *reference.Bucket, meter metric.Meter) (*Opener, error) {
	o := &Opener{bucket: bucket}
	if meter == nil {
		return o, nil
	}
	var err error
	o.opened, err = meter.Int64Counter("sluice.functions.references", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that refer to an object with their payload: of result opened, gone (a delivery "+
			"before has brought it home) or damaged."))
	return o, err
}

// Func returns a function that gives next the payload of each message, whether the message carries it or
// refers to it. The object is deleted when next has returned nil, because the payload is safe then:
// if it is gone already, a delivery before was acknowledged without Pub/Sub hearing of it, and
// so is this one. All other trouble with the bucket lets the message come again.
func (o *Opener) Func(next push.Func) push.Func {
	return func(ctx context.Context, m *push.Message) error {
		if !reference.Is(m.Data) {
			return next(ctx, m)
		}
		r, err := reference.Parse(m.Data)
		if errors.Is(err, reference.ErrVersion) {
			return err
		}
		if err != nil {
			o.count(ctx, "damaged")
			m.Damage = fmt.Errorf("its reference to an object %w", err)
			return next(ctx, m)
		}
		if err := o.serves(&r); err != nil {
			return err
		}
		// What one request may hold is bounded before it is fetched.
		if err := m.Reserve(r.Size); err != nil {
			return err
		}
		return o.open(ctx, m, &r, next)
	}
}

// serves says why the bucket of r is not read.
func (o *Opener) serves(r *reference.Reference) error {
	switch {
	case o.bucket == nil:
		return fmt.Errorf("the message refers to an object of the bucket %q, and PAYLOAD_BUCKET is not set: set it to the bridge's", r.Bucket)
	case o.bucket.Name() != r.Bucket:
		return fmt.Errorf("the message refers to an object of the bucket %q, and PAYLOAD_BUCKET is %q: set it to the "+
			"bridge's", r.Bucket, o.bucket.Name())
	}
	return nil
}

func (o *Opener) open(ctx context.Context, m *push.Message, r *reference.Reference, next push.Func) error {
	start := time.Now()
	fetching, cancel := context.WithTimeout(ctx, fetchTimeout)
	content, err := o.bucket.Get(fetching, r)
	cancel()
	m.Note(slog.Int64("object_bytes", r.Size), slog.Float64("fetch_ms", push.Milliseconds(time.Since(start))))
	if errors.Is(err, reference.ErrGone) {
		o.count(ctx, "gone")
		m.Note(slog.String("object", r.Object), slog.Bool("object_gone", true))
		return nil
	}
	if err != nil {
		return err
	}
	m.Data = content
	if err := r.Check(content); err != nil {
		// It is kept, for whoever finds out who has written it.
		o.count(ctx, "damaged")
		m.Damage = err
		return next(ctx, m)
	}
	if err := next(ctx, m); err != nil {
		return err
	}
	o.count(ctx, "opened")
	deleting, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if err := o.bucket.Delete(deleting, r); err != nil {
		// The bucket's lifecycle will.
		m.Note(slog.String("object", r.Object), slog.String("object_left", err.Error()))
	}
	return nil
}

func (o *Opener) count(ctx context.Context, result string) {
	if o.opened != nil {
		o.opened.Add(ctx, 1, metric.WithAttributes(attribute.String("sluice.result", result)))
	}
}

// Package warehouse appends rows to BigQuery's tables through the Storage Write
// API's default stream: at least once, visible as soon as acknowledged.
//
//	client, err := storage.NewBigQueryWriteClient(ctx)     // cloud.google.com/go/bigquery/storage/apiv1
//	table := contract.FactEvents()
//	a := warehouse.NewAppender(client, table, warehouse.AppenderConfig{Table: "projects/P/datasets/D/tables/fact_events"}, log)
//	rejected, err := a.Write(ctx, rows)                    // rows are protobuf wire bytes by the table's descriptor
//	…
//	err = a.Close(ctx)
//
// When Write returns a nil error, every row is durable except the rejected ones,
// each of which BigQuery will never take and says why. When it returns an error,
// any of the rows may or may not be there: answer the push with a status that lets
// Pub/Sub deliver it again. The view over the table keeps one row per event.
//
// # Errors
//
// classify.go says, for each code that BigQuery answers with, whose fault it is:
// some row's, or nobody's who could be dead-lettered for it. Retrying is left to
// Pub/Sub; what an Appender does about a failure is to open a new stream at the
// next call, and to stop calling BigQuery for a while (the circuit breaker) when
// nothing but failures come back. The one exception: functions/docs/adr-002-stale-stream.md.
package warehouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/googleapis/gax-go/v2"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"sluice/internal/contract"
)

// AppenderConfig says where and how rows are appended. Zero values of all but
// Table are those of DefaultAppenderConfig.
type AppenderConfig struct {
	// Table is "projects/P/datasets/D/tables/T".
	Table string
	// TraceID tells BigQuery's support who appends.
	TraceID string
	// Timeout bounds one request, from the wait to be sent to its answer. A stream
	// on which the oldest request has waited that long is given up.
	Timeout time.Duration
	// MaxRequest is the most bytes that Write puts into one request. BigQuery's own
	// limit is 10 MB.
	MaxRequest int
	// MaxInFlight is the most requests that are sent and not answered yet.
	MaxInFlight int
	// Idle is how long nothing may have come from BigQuery before a stream's
	// failure is taken for an old one that shows only now: see
	// functions/docs/adr-002-stale-stream.md.
	Idle time.Duration
	// BreakerFailures is how many failures in a row open the circuit breaker, and
	// BreakerOpen is how long it stays open before one request may try again.
	BreakerFailures int
	BreakerOpen     time.Duration
}

// DefaultAppenderConfig returns the configuration of production but for the table.
func DefaultAppenderConfig() AppenderConfig {
	return AppenderConfig{
		TraceID:         "sluice",
		Timeout:         15 * time.Second,
		MaxRequest:      9_000_000,
		MaxInFlight:     64,
		Idle:            30 * time.Second,
		BreakerFailures: 5,
		BreakerOpen:     5 * time.Second,
	}
}

func (c AppenderConfig) orDefault() AppenderConfig {
	d := DefaultAppenderConfig()
	c.TraceID = cmp.Or(c.TraceID, d.TraceID)
	c.Timeout = cmp.Or(c.Timeout, d.Timeout)
	c.MaxRequest = cmp.Or(c.MaxRequest, d.MaxRequest)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, d.MaxInFlight)
	c.Idle = cmp.Or(c.Idle, d.Idle)
	c.BreakerFailures = cmp.Or(c.BreakerFailures, d.BreakerFailures)
	c.BreakerOpen = cmp.Or(c.BreakerOpen, d.BreakerOpen)
	return c
}

// Appender appends to one table over one stream at a time. It is safe for
// concurrent use: requests are pipelined, none waits for another's answer.
type Appender struct {
	client         Client
	config         AppenderConfig
	log            *slog.Logger
	descriptor     *descriptorpb.DescriptorProto
	descriptorSize int
	breaker        *gobreaker.TwoStepCircuitBreaker[struct{}]

	// lock guards the fields below. It is a channel because whoever waits for it
	// must be able to give up: its holder may be opening a stream to a server that
	// does not answer.
	lock   chan struct{}
	stream *stream
	closed bool

	// heard is when BigQuery last answered a request or failed one.
	heard moment

	// doubted is when BigQuery last refused all rows of a message in a way that the table
	// may be the reason for, nanoseconds since the Unix epoch; 0: never.
	doubted moment
	// refusals counts the messages in a row of which BigQuery took none.
	refusals atomic.Int64
}

// settled is how long what a stream has shown after a doubt is believed.
const settled = 30 * time.Minute

// standing is what a stream has shown of its table.
type standing struct {
	proven bool // it has taken rows: the schemas agree, or did when it was opened
	// settled says that it was opened after the last doubt, not long ago, and has taken rows:
	// what it refuses, it refuses for the rows.
	settled bool
}

// Client opens streams to BigQuery: a *storage.BigQueryWriteClient.
type Client interface {
	AppendRows(ctx context.Context, opts ...gax.CallOption) (storagepb.BigQueryWrite_AppendRowsClient, error)
}

// NewAppender returns an Appender for the table t. It opens nothing yet.
func NewAppender(client Client, t *contract.Table, c AppenderConfig, log *slog.Logger) *Appender {
	c = c.orDefault()
	d := t.Descriptor()
	a := &Appender{
		client:         client,
		descriptor:     d,
		descriptorSize: proto.Size(d),
		config:         c,
		log:            log.With(slog.String("table", c.Table)),
		lock:           make(chan struct{}, 1),
	}
	a.heard.set() // nothing of this process can be stale yet
	a.breaker = newBreaker(c, a.log)
	return a
}

// errClosed is the answer of a closed Appender.
var errClosed = errors.New("the appender is closed")

// Append sends the rows in one request and waits for its answer. nil means that
// all of them are durable, a *RowErrors that none is, because of the rows it names.
// After any other error they may be or not, and the request may even be on its way
// still: the rows' memory must not be used again.
func (a *Appender) Append(ctx context.Context, rows [][]byte) error {
	_, err := a.append(ctx, rows)
	return err
}

// append is Append that also tells what the stream has shown.
func (a *Appender) append(parent context.Context, rows [][]byte) (s standing, err error) {
	done, err := a.breaker.Allow()
	if err != nil {
		return s, fmt.Errorf("append to %s: not tried, because its last %d requests or more have failed: %w",
			a.config.Table, a.config.BreakerFailures, err)
	}
	outcome := errCallerLeft
	defer func() { done(outcome) }() // after a panic too: a probe must not keep its place for ever
	ctx, cancel := context.WithTimeoutCause(parent, a.config.Timeout, fmt.Errorf("no answer within %v",
		a.config.Timeout))
	defer cancel()
	s, err = a.attempt(ctx, rows)
	if err == nil || parent.Err() == nil {
		outcome = err
	}
	return s, err
}

// attempt sends the rows, twice if the first stream turns out to have been dead
// before it could take them.
func (a *Appender) attempt(ctx context.Context, rows [][]byte) (standing, error) {
	for again := false; ; again = true {
		s, err := a.open(ctx)
		if err != nil {
			return standing{}, err
		}
		err = s.append(ctx, rows)
		if f, ok := errors.AsType[*StreamError](err); ok && !again && f.stale() && ctx.Err() == nil {
			continue
		}
		proven := s.proven.Load()
		return standing{proven, proven && s.afterDoubt && time.Since(s.opened) < settled}, err
	}
}

// open returns the current stream, or a new one if there is none that lives.
func (a *Appender) open(ctx context.Context) (*stream, error) {
	select {
	case a.lock <- struct{}{}:
		defer func() { <-a.lock }()
	case <-ctx.Done():
		return nil, fmt.Errorf("append to %s: not sent, the stream was not open in time: %w", a.config.Table,
			context.Cause(ctx))
	}
	if a.closed {
		return nil, errClosed
	}
	if a.stream != nil && a.stream.alive() {
		return a.stream, nil
	}
	s, err := openStream(ctx, a)
	if err != nil {
		return nil, err
	}
	s.opened = time.Now()
	s.afterDoubt = a.doubted.within(settled)
	a.stream = s
	return s, nil
}

// doubt lets the next request begin a new stream, because of refusals that may be the table's
// fault: BigQuery reads the schema in a stream's first request only.
func (a *Appender) doubt() {
	a.doubted.set()
	a.retire()
}

// retire lets the next request begin a new stream.
func (a *Appender) retire() {
	select {
	case a.lock <- struct{}{}:
		defer func() { <-a.lock }()
	default: // somebody may be opening one just now; otherwise the next refusal comes here
		return
	}
	if a.stream != nil {
		a.stream.retire()
	}
}

// Close waits for the answers to what has been sent, at most until ctx ends, and
// closes the stream. Every later Append fails. What has no answer by then has failed.
func (a *Appender) Close(ctx context.Context) error {
	select {
	case a.lock <- struct{}{}: // also when ctx has ended already
	default:
		select {
		case a.lock <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("close the appender of %s: a request is opening a stream: %w", a.config.Table,
				context.Cause(ctx))
		}
	}
	defer func() { <-a.lock }()
	if a.closed {
		return nil
	}
	a.closed = true
	if a.stream == nil {
		return nil
	}
	return a.stream.close(ctx)
}

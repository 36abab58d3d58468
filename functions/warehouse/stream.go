package warehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stream is one AppendRows call: a sender that takes requests one by one, and a
// receiver that gives each answer to the oldest request without one, because
// BigQuery answers in order. The first error ends it, for good.
type stream struct {
	a   *Appender
	rpc storagepb.BigQueryWrite_AppendRowsClient
	// of rpc; asking rpc for it would switch off gRPC's own care for streams that were never served
	ctx    context.Context
	cancel context.CancelCauseFunc

	// queue hands a request to the sender at the moment when it can be sent. It has
	// no buffer, so that a caller who gives up before is never sent.
	queue chan *request
	slots chan struct{} // one token per request in flight
	quit  chan struct{} // closed: send nothing more
	once  sync.Once     // closes quit

	senderDone chan struct{}
	dead       chan struct{} // closed after err is set and every request has its answer
	err        *StreamError

	proven atomic.Bool // BigQuery has accepted rows on this stream: the schemas agree

	opened     time.Time
	afterDoubt bool // it was opened after rows had been refused in a way that the table may be the reason for

	mu       sync.Mutex
	inFlight []*request // sent, or being sent; oldest first
	since    time.Time  // when the oldest became the oldest
	stale    bool       // nothing has come from BigQuery since long before the oldest was sent
	timer    *time.Timer
}

// request is one AppendRows request.
type request struct {
	ctx  context.Context
	rows [][]byte
	sent bool       // given to the connection; written by the sender
	done chan error // the answer; room for one
}

// StreamError is the failure of a stream, as one of its requests sees it.
type StreamError struct {
	cause    error
	sent     bool // this request may have reached BigQuery
	idle     bool // the stream is likely to have been dead before it was sent
	incident *atomic.Bool
}

func (e *StreamError) Error() string {
	if !e.sent {
		return "the stream to BigQuery failed before the request was sent: " + logText(e.cause)
	}
	return "the stream to BigQuery failed before the answer came: " + logText(e.cause)
}

func (e *StreamError) Unwrap() error { return e.cause }

// stale reports whether the request may be sent once more on a new stream: see
// functions/docs/adr-002-stale-stream.md.
func (e *StreamError) stale() bool {
	return !e.sent || e.idle && connectionLost(e.cause)
}

// connectionLost reports whether a stream ended as it does when its connection or
// its server's process goes, as opposed to a refusal.
func connectionLost(err error) bool {
	if errors.Is(err, io.EOF) {
		return true
	}
	st, ok := status.FromError(err)
	if !ok { // one of our own
		return false
	}
	switch st.Code() {
	case codes.Unavailable, codes.Aborted, codes.Canceled, codes.Internal, codes.Unknown:
		return true
	}
	return false
}

// counted reports whether another request of the same stream has told the circuit
// breaker of this failure already.
func (e *StreamError) counted() bool { return e.incident.Swap(true) }

// errNoAnswer ends a stream whose server is silent.
var errNoAnswer = errors.New("BigQuery has not answered the oldest request in time")

// openStream opens a stream that outlives ctx, but not if ctx ends first.
func openStream(ctx context.Context, a *Appender) (*stream, error) {
	streamCtx, cancel := context.WithCancelCause(context.Background())
	// BigQuery finds the region of the table by this header.
	streamCtx = metadata.AppendToOutgoingContext(streamCtx,
		"x-goog-request-params", "write_stream="+url.QueryEscape(a.config.Table+"/streams/_default"))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	// The generated client would try again for ever.
	once := gax.WithRetry(func() gax.Retryer { return nil })
	rpc, err := a.client.AppendRows(streamCtx, once)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(err)
		a.heard.set()
		return nil, fmt.Errorf("open a stream to %s: %w", a.config.Table, err)
	}
	s := &stream{
		a:          a,
		rpc:        rpc,
		ctx:        streamCtx,
		cancel:     cancel,
		queue:      make(chan *request),
		slots:      make(chan struct{}, a.config.MaxInFlight),
		quit:       make(chan struct{}),
		senderDone: make(chan struct{}),
		dead:       make(chan struct{}),
	}
	s.timer = time.AfterFunc(time.Hour, s.watch)
	s.timer.Stop()
	go s.send()
	go s.receive()
	a.log.Debug("stream opened")
	return s, nil
}

// alive reports whether a request may be given to the stream.
func (s *stream) alive() bool {
	select {
	case <-s.dead:
		return false
	case <-s.senderDone: // about to die
		return false
	case <-s.quit: // retired
		return false
	default:
		return true
	}
}

// append sends the rows and waits for the answer.
func (s *stream) append(ctx context.Context, rows [][]byte) error {
	r := &request{ctx: ctx, rows: rows, done: make(chan error, 1)}
	select {
	case s.queue <- r:
	case <-s.senderDone:
		select {
		case <-s.dead:
			return s.err
		case <-ctx.Done():
			return s.notSent(ctx)
		}
	case <-ctx.Done():
		return s.notSent(ctx)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		select {
		case err := <-r.done: // both at the same time
			return err
		default:
		}
		return fmt.Errorf("append to %s: sent, the rows may have landed: %w", s.a.config.Table, context.Cause(ctx))
	}
}

func (s *stream) notSent(ctx context.Context) error {
	return fmt.Errorf("append to %s: not sent: %w", s.a.config.Table, context.Cause(ctx))
}

// send is the sender.
func (s *stream) send() {
	defer close(s.senderDone)
	first := true
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.quit:
			_ = s.rpc.CloseSend() // never fails
			return
		case <-s.ctx.Done():
			return
		}
		var r *request
		select {
		case r = <-s.queue:
		case <-s.quit:
			_ = s.rpc.CloseSend()
			return
		case <-s.ctx.Done():
			return
		}
		if r.ctx.Err() != nil { // its caller has given up just now
			r.done <- s.notSent(r.ctx)
			<-s.slots
			continue
		}
		s.push(r)
		// May wait until the server reads. Meanwhile the callers in the queue can give
		// up, and the watch ends a wait that is too long. An error means that nothing
		// of the request has been given to the connection.
		if err := s.rpc.Send(s.message(r, first)); err != nil {
			r.sent = false
			if err != io.EOF { // EOF: the receiver is about to learn the true cause
				s.cancel(err)
			}
			return
		}
		first = false
	}
}

// message is the request in BigQuery's terms.
func (s *stream) message(r *request, first bool) *storagepb.AppendRowsRequest {
	rows := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: r.rows}}
	m := &storagepb.AppendRowsRequest{
		// Needed in the first request only, by BigQuery; there are emulators that need
		// it in all.
		WriteStream: s.a.config.Table + "/streams/_default",
		Rows:        &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: rows},
	}
	if first {
		rows.WriterSchema = &storagepb.ProtoSchema{ProtoDescriptor: s.a.descriptor}
		m.TraceId = s.a.config.TraceID
	}
	return m
}

// push makes r the youngest request in flight.
func (s *stream) push(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.sent = true
	if len(s.inFlight) == 0 {
		s.wait()
		s.stale = !s.a.heard.within(s.a.config.Idle)
	}
	s.inFlight = append(s.inFlight, r)
}

// pop takes the oldest request, nil if none is in flight.
func (s *stream) pop() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = false
	if len(s.inFlight) == 0 {
		return nil
	}
	r := s.inFlight[0]
	s.inFlight[0] = nil
	s.inFlight = s.inFlight[1:]
	if len(s.inFlight) == 0 {
		s.timer.Stop()
	} else {
		s.wait()
	}
	return r
}

// wait begins the wait for the oldest request's answer.
func (s *stream) wait() {
	s.since = time.Now()
	s.timer.Reset(s.a.config.Timeout)
}

// watch runs when the oldest request has waited for the timeout, or when a wait
// that has just ended was as long.
func (s *stream) watch() {
	s.mu.Lock()
	hung := len(s.inFlight) > 0 && time.Since(s.since) >= s.a.config.Timeout
	s.mu.Unlock()
	if hung {
		s.cancel(errNoAnswer)
	}
}

// receive is the receiver.
func (s *stream) receive() {
	for {
		answer, err := s.rpc.Recv()
		if err != nil {
			// A context that ended of our own doing hides behind Canceled.
			if cause := context.Cause(s.ctx); cause != nil {
				err = cause
			}
			s.fail(err)
			return
		}
		s.a.heard.set()
		if answer.GetUpdatedSchema() != nil {
			// The table has got columns that this service does not know. They stay null
			// until it does; nothing is to be done.
			s.a.log.Info("the table's schema has changed")
			if answer.GetResponse() == nil && len(answer.GetRowErrors()) == 0 {
				continue // it tells nothing of a request: if that was its answer, the request is tried again
			}
		}
		if problem := foreign(answer, s.a.config.Table); problem != "" {
			s.fail(errors.New(problem))
			return
		}
		r := s.pop()
		if r == nil {
			s.fail(errors.New("BigQuery answered more than it was asked"))
			return
		}
		err = verdict(answer, len(r.rows))
		if err == nil {
			s.proven.Store(true)
		}
		if refusal, ok := errors.AsType[*RequestError](err); ok && refusal.fault != rows {
			// BigQuery reads the schema of a stream's first request only, and may have
			// compared it with the table as it was: what follows begins anew.
			s.retire()
		}
		r.done <- err
		<-s.slots
	}
}

// fail ends the stream: every request in flight gets an answer.
func (s *stream) fail(cause error) {
	s.cancel(cause) // unblocks the sender
	<-s.senderDone
	s.mu.Lock()
	s.timer.Stop()
	inFlight, stale := s.inFlight, s.stale
	s.inFlight = nil
	s.mu.Unlock()

	incident := new(atomic.Bool)
	s.err = &StreamError{cause: cause, incident: incident}
	level := slog.LevelDebug // idle streams are closed by BigQuery all the time
	if len(inFlight) > 0 {
		level = slog.LevelWarn
		s.a.heard.set()
	}
	s.a.log.Log(context.Background(), level, "stream ended", slog.Int("in_flight", len(inFlight)),
		slog.String("error", logText(cause)))
	for _, r := range inFlight {
		r.done <- &StreamError{cause: cause, sent: r.sent, idle: stale, incident: incident}
	}
	close(s.dead)
}

// retire ends the stream when the requests in flight have their answers, or none of
// them can be waited for any more.
func (s *stream) retire() {
	s.once.Do(func() {
		close(s.quit)
		time.AfterFunc(s.a.config.Timeout, func() { s.cancel(errNoAnswer) })
	})
}

// close lets the requests in flight end, until ctx does.
func (s *stream) close(ctx context.Context) error {
	s.retire()
	select {
	case <-s.dead:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	n := len(s.inFlight)
	s.mu.Unlock()
	s.cancel(errClosed)
	<-s.dead
	if n == 0 {
		return nil // the server has not hung up in time: nobody's loss
	}
	return fmt.Errorf("close the stream to %s: %d requests have no answer: %w", s.a.config.Table, n, context.Cause(ctx))
}

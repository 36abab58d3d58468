package warehouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"sluice/functions/warehouse"
	"sluice/internal/contract"
	embedded "sluice/internal/local/warehouse"
)

// Protects the order of answers: each caller gets that of its own request, with
// many on their way at the same time.
func TestAnswersMatchRequests(t *testing.T) {
	_, addr := startScript(t, func(_ int, s storagepb.BigQueryWrite_AppendRowsServer) error {
		for {
			r, err := s.Recv()
			if err != nil {
				return nil
			}
			answer := &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: &status.Status{Code: int32(codes.InvalidArgument)}}}
			answer.RowErrors = []*storagepb.RowError{{Index: 0, Code: storagepb.RowError_FIELDS_ERROR,
				Message: firstRow(r)}}
			if err := s.Send(answer); err != nil {
				return err
			}
		}
	})
	a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable, MaxInFlight: 7})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := fmt.Sprint("row ", i)
			err := a.Append(t.Context(), [][]byte{[]byte(want)})
			if named, ok := errors.AsType[*warehouse.RowErrors](err); !ok || named.Rows[0].Message != want {
				t.Errorf("request %d got the answer %v", i, err)
			}
		})
	}
	wg.Wait()
}

// Protects throughput: a request does not wait for the answers to those before it.
func TestRequestsArePipelined(t *testing.T) {
	const n = 20
	_, addr := startScript(t, func(_ int, s storagepb.BigQueryWrite_AppendRowsServer) error {
		for range n { // all of them, before the first answer
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
		for range n {
			if err := ok(s); err != nil {
				return err
			}
		}
		_, err := s.Recv()
		return err
	})
	a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := a.Append(t.Context(), [][]byte{[]byte("row")}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Protects what a failing stream may take with it: exactly the requests in flight.
// The next call has a new stream, which begins with the schema again.
func TestStreamErrorFailsWhatIsInFlight(t *testing.T) {
	began := make(chan struct{}, 3)
	s, addr := startScript(t, func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error {
		for i := 0; ; i++ {
			r, err := s.Recv()
			if err != nil {
				return nil
			}
			if first := r.GetProtoRows().GetWriterSchema() != nil; first != (i == 0) {
				return grpcstatus.Errorf(codes.InvalidArgument, "request %d has a schema: %v", i, first)
			}
			if n == 1 && i > 0 {
				if began <- struct{}{}; i == 3 {
					return grpcstatus.Error(codes.Internal, "stream broken")
				}
				continue
			}
			if err := ok(s); err != nil {
				return err
			}
		}
	})
	a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable})
	one := [][]byte{[]byte("row")}
	check(t, a.Append(t.Context(), one))
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			err := a.Append(t.Context(), one)
			if e, ok := errors.AsType[*warehouse.StreamError](err); ok &&
				grpcstatus.Code(e.Unwrap()) == codes.Internal {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() != 3 {
		t.Errorf("%d requests failed, want the 3 in flight", failed.Load())
	}
	check(t, a.Append(t.Context(), one))
	if s.opened() != 2 {
		t.Errorf("%d streams, want 2", s.opened())
	}
}

// Protects against ghosts: whoever gives up before the request is sent is never
// sent, even if the server reads again later.
func TestNoGhostAppends(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{Timeout: time.Minute, MaxInFlight: 1, BreakerFailures: 1000})
	hang := w.Fail(embedded.Fault{Hang: true})
	first := make(chan error, 1)
	go func() { first <- a.Append(t.Context(), rows(t, "first")) }()
	for hang.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 20 { // the only slot is taken
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		err := a.Append(ctx, rows(t, "ghost"))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not sent") {
			t.Fatalf("got %v", err)
		}
	}
	hang.Remove()
	check(t, <-first)
	check(t, a.Append(t.Context(), rows(t, "last")))
	if n := landed(t, w); n != 2 {
		t.Errorf("%d rows, want first and last", n)
	}
}

// Protects callers from each other: when the server stops reading, the one whose
// request is stuck in the connection and those behind it all end by their own deadline.
func TestBlockedSendBlocksNobodyElse(t *testing.T) {
	release := make(chan struct{})
	_, addr := startScript(t, func(_ int, s storagepb.BigQueryWrite_AppendRowsServer) error {
		select { // reads nothing: the connection's window fills
		case <-release:
		case <-s.Context().Done():
		}
		return nil
	})
	defer close(release)
	a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
		Timeout: time.Minute, BreakerFailures: 1000})
	big := [][]byte{bytes.Repeat([]byte("x"), 4<<20)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := a.Append(ctx, big); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
}

// Protects against a server that says nothing: the stream is given up, and the next
// call has a new one.
func TestSilentServer(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{Timeout: 100 * time.Millisecond})
	hang := w.Fail(embedded.Fault{Hang: true})
	if err := a.Append(t.Context(), rows(t, "lost")); err == nil {
		t.Fatal("an append without an answer succeeded")
	}
	if hang.Hits() != 1 {
		t.Fatalf("%d requests hang", hang.Hits())
	}
	// While the old stream is being given up a call may still meet it.
	for {
		if err := a.Append(t.Context(), rows(t, "next")); err == nil {
			break
		}
		check(t, t.Context().Err())
	}
	// On a slow machine the next one may have been given up, and have landed, before.
	var lost, next int
	check(t, w.DB().QueryRow("SELECT COUNTIF(event_id = 'lost'), COUNTIF(event_id = 'next') FROM fact_events").Scan(&lost, &next))
	if lost != 0 || next == 0 {
		t.Errorf("lost landed %d times, next %d times", lost, next)
	}
}

// Protects the region: outside the US BigQuery finds the table by a header, which
// the embedded warehouse demands as BigQuery does.
func TestRoutingHeader(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	check(t, a.Append(t.Context(), rows(t, "a")))
	if n := landed(t, w); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// Protects a sleeping instance's first request: its stream has been closed by
// BigQuery meanwhile, which must not cost a redelivery.
func TestStreamClosedWhileIdle(t *testing.T) {
	// Noticed before the next request, or just not yet.
	t.Run("closed", func(t *testing.T) {
		closed := make(chan struct{})
		s, addr := startScript(t, func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error {
			for {
				if _, err := s.Recv(); err != nil {
					return nil
				}
				if err := ok(s); err != nil {
					return err
				}
				if n == 1 {
					defer close(closed)
					return grpcstatus.Error(codes.Aborted, "Closing the stream because it was idle")
				}
			}
		})
		a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
			Idle: time.Nanosecond})
		one := [][]byte{[]byte("row")}
		check(t, a.Append(t.Context(), one))
		<-closed
		check(t, a.Append(t.Context(), one))
		if s.opened() != 2 {
			t.Errorf("%d streams, want 2", s.opened())
		}
	})
	// The request crosses the news on the wire: the stream fails under it.
	t.Run("closing", func(t *testing.T) {
		s, addr := startScript(t, crossing)
		a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
			Idle: time.Nanosecond})
		one := [][]byte{[]byte("row")}
		check(t, a.Append(t.Context(), one))
		check(t, a.Append(t.Context(), one))
		if s.opened() != 2 {
			t.Errorf("%d streams, want 2", s.opened())
		}
	})
	// A stream that was heard of just now is no stale one: redelivery is the retry.
	t.Run("not idle", func(t *testing.T) {
		s, addr := startScript(t, crossing)
		a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
			Idle: time.Hour})
		one := [][]byte{[]byte("row")}
		check(t, a.Append(t.Context(), one))
		if err := a.Append(t.Context(), one); err == nil {
			t.Error("the request was sent twice")
		}
		if s.opened() != 1 {
			t.Errorf("%d streams, want 1", s.opened())
		}
	})
	// Once only, and refusals are no connections lost.
	t.Run("fails again", func(t *testing.T) {
		s, addr := startScript(t, func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error {
			if _, err := s.Recv(); err != nil {
				return nil
			}
			return grpcstatus.Error(codes.Unavailable, "away")
		})
		a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
			Idle: time.Nanosecond})
		if err := a.Append(t.Context(), [][]byte{[]byte("row")}); err == nil {
			t.Error("want an error")
		}
		if s.opened() != 2 {
			t.Errorf("%d streams, want 2", s.opened())
		}
	})
}

// crossing takes one request and, on its first stream, ends with the second.
func crossing(n int, s storagepb.BigQueryWrite_AppendRowsServer) error {
	for i := 0; ; i++ {
		if _, err := s.Recv(); err != nil {
			return nil
		}
		if n == 1 && i == 1 {
			return grpcstatus.Error(codes.Unavailable, "connection reset")
		}
		if err := ok(s); err != nil {
			return err
		}
	}
}

// Protects BigQuery from a stampede and Pub/Sub's patience: after failures in a row
// requests fail without a call, and one probe at a time finds out that it is over.
func TestCircuitBreaker(t *testing.T) {
	w, _ := startWarehouse(t, warehouse.AppenderConfig{})
	fault := w.Fail(embedded.Fault{Code: codes.Unavailable, InResponse: true, Count: -1})
	broken := func(open time.Duration) *warehouse.Appender {
		t.Helper()
		a := newAppender(t, w.Addr(), contract.FactEvents(), warehouse.AppenderConfig{Table: w.TableName("fact_events"),
			BreakerFailures: 3, BreakerOpen: open})
		for range 3 {
			if err := a.Append(t.Context(), rows(t, "a")); err == nil || errors.Is(err, gobreaker.ErrOpenState) {
				t.Fatalf("got %v", err)
			}
		}
		return a
	}
	for a, i := broken(time.Hour), 0; i < 10; i++ {
		if err := a.Append(t.Context(), rows(t, "a")); !errors.Is(err, gobreaker.ErrOpenState) {
			t.Errorf("got %v", err)
		}
	}
	if fault.Hits() != 3 {
		t.Errorf("%d requests, want 3 and then none", fault.Hits())
	}
	a := broken(time.Millisecond)
	fault.Remove()

	probe := w.Fail(embedded.Fault{Hang: true})
	first := make(chan error, 1)
	go func() {
		err := gobreaker.ErrOpenState
		for errors.Is(err, gobreaker.ErrOpenState) {
			time.Sleep(time.Millisecond)
			err = a.Append(t.Context(), rows(t, "probe"))
		}
		first <- err
	}()
	for probe.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := a.Append(t.Context(), rows(t, "second")); !errors.Is(err, gobreaker.ErrTooManyRequests) {
		t.Errorf("beside the probe: got %v", err)
	}
	probe.Remove()
	check(t, <-first)
	check(t, a.Append(t.Context(), rows(t, "after")))
	if n := landed(t, w); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// Protects the breaker's count: a stream that takes many requests with it is one
// failure, bad rows are none, and neither is a caller that leaves.
func TestWhatTheBreakerCounts(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{BreakerFailures: 2, BreakerOpen: time.Hour})
	check(t, a.Append(t.Context(), rows(t, "first")))
	for range 3 {
		w.Fail(embedded.Fault{BadRow: func([]byte) bool { return true }})
		if _, named := errors.AsType[*warehouse.RowErrors](a.Append(t.Context(), rows(t, "bad"))); !named {
			t.Fatal("want row errors")
		}
	}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		hang := w.Fail(embedded.Fault{Hang: true})
		go func() {
			for hang.Hits() == 0 {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		if err := a.Append(ctx, rows(t, "left")); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		hang.Remove()
	}
	hang := w.Fail(embedded.Fault{Hang: true})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { _ = a.Append(t.Context(), rows(t, "together")) })
	}
	for hang.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	w.Drop()
	wg.Wait()
	if err := a.Append(t.Context(), rows(t, "last")); errors.Is(err, gobreaker.ErrOpenState) {
		t.Error("the circuit breaker is open after one failure")
	}
}

// Protects shutdown: Close lets what is in flight end, and does not wait for a
// server that never answers. Afterwards nothing is sent.
func TestClose(t *testing.T) {
	t.Run("in flight", func(t *testing.T) {
		w, a := startWarehouse(t, warehouse.AppenderConfig{})
		slow := w.Fail(embedded.Fault{Wait: 50 * time.Millisecond})
		done := make(chan error, 1)
		go func() { done <- a.Append(t.Context(), rows(t, "a")) }()
		for slow.Hits() == 0 {
			time.Sleep(time.Millisecond)
		}
		check(t, a.Close(t.Context()))
		check(t, <-done)
		if err := a.Append(t.Context(), rows(t, "late")); err == nil {
			t.Error("an append after Close succeeded")
		}
		check(t, a.Close(t.Context()))
	})
	t.Run("silent server", func(t *testing.T) {
		w, a := startWarehouse(t, warehouse.AppenderConfig{Timeout: time.Minute})
		hang := w.Fail(embedded.Fault{Hang: true})
		done := make(chan error, 1)
		go func() { done <- a.Append(t.Context(), rows(t, "a")) }()
		for hang.Hits() == 0 {
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := a.Close(ctx); err == nil {
			t.Error("Close does not say that a request has no answer")
		}
		if err := <-done; err == nil {
			t.Error("an append without an answer succeeded")
		}
	})
	t.Run("never opened", func(t *testing.T) {
		_, a := startWarehouse(t, warehouse.AppenderConfig{})
		check(t, a.Close(t.Context()))
	})
}

// Protects callers from a server that cannot be reached.
func TestUnreachable(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{BreakerOpen: time.Millisecond})
	check(t, a.Append(t.Context(), rows(t, "before")))
	check(t, w.Down())
	for range 3 {
		if err := a.Append(t.Context(), rows(t, "lost")); err == nil {
			t.Fatal("an append without a server succeeded")
		}
	}
	check(t, w.Up())
	for {
		if err := a.Append(t.Context(), rows(t, "after")); err == nil {
			break
		}
		check(t, t.Context().Err())
		time.Sleep(10 * time.Millisecond)
	}
	if n := landed(t, w); n != 2 {
		t.Errorf("%d rows, want before and after", n)
	}
}

// Protects the same first request from a connection that was dropped in between.
func TestConnectionLostWhileIdle(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{Idle: time.Nanosecond})
	for i := range 20 {
		check(t, a.Append(t.Context(), rows(t, fmt.Sprint(i))))
		w.Drop()
	}
	if n := landed(t, w); n != 20 {
		t.Errorf("%d rows, want 20", n)
	}
}

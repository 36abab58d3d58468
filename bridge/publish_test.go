package bridge_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/bridge"
	"sluice/bridge/internal/servers"
	"sluice/internal/batch"
)

// get asks the bridge's own HTTP handler.
func get(b *servers.Running, path string) (int, string) {
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// Whatever Pub/Sub answers, nothing is skipped: it is tried again until it
// succeeds, readiness goes down meanwhile, and recovery needs no restart.
func TestPublishIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{
		codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Aborted, codes.Unknown, codes.Canceled,
		// An operator mends these; good data must wait for it.
		codes.PermissionDenied, codes.NotFound, codes.Unauthenticated, codes.InvalidArgument, codes.FailedPrecondition,
	} {
		t.Run(code.String(), func(t *testing.T) {
			var fault servers.PublishFault
			var refused atomic.Int64
			fault.Set(func(string, *batch.Batch) error {
				refused.Add(1)
				return status.Error(code, "refused by the test")
			})
			s := servers.New(t, 2, fault.Option())
			s.Produce(s.Numbered(0, 500)...)
			b := s.Start(nil)
			servers.Wait(t, "several refusals", func() bool {
				return b.Stats().Retries >= 6 &&
					b.Stats().RecordsIn == 500
			})
			if status, body := get(b, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body,
				"publishing") {
				t.Errorf("while publishing fails, /readyz answers %d %s", status, body)
			}
			if status, body := get(b, "/livez"); status != http.StatusOK {
				t.Errorf("while publishing fails, /livez answers %d %s: a restart would not help", status, body)
			}
			if _, body := get(b, "/metrics"); !strings.Contains(body, "\nsluice_bridge_publish_failing 1\n") {
				t.Error("while publishing fails, sluice_bridge_publish_failing is not 1")
			}
			for p := range int32(2) {
				if got := s.Committed(p); got >= 0 {
					t.Errorf("partition %d: %d is committed, and nothing acknowledged", p, got)
				}
			}
			fault.Set(nil)
			servers.Wait(t, "recovery", func() bool { return b.Stats().InflightBatches == 0 })
			if status, body := get(b, "/readyz"); status != http.StatusOK {
				t.Errorf("after the recovery, /readyz answers %d %s", status, body)
			}
			b.Shutdown()
			if d := s.CheckAll(500); d != 0 {
				t.Errorf("%d duplicates, although nothing that was refused had been taken", d)
			}
			for p := range int32(2) {
				if got := s.Committed(p); got != 250 {
					t.Errorf("partition %d: committed %d, want 250", p, got)
				}
			}
		})
	}
}

// lines are log lines, counted by what they contain.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// Protects whoever looks into an outage: each reason of it is told, once, also one that comes later; and after it the
// next one is told anew.
func TestEachReasonOfAnOutageIsTold(t *testing.T) {
	t.Parallel()
	var fault servers.PublishFault
	var code atomic.Uint32
	refuse := func(c codes.Code) {
		code.Store(uint32(c))
		fault.Set(func(string, *batch.Batch) error {
			return status.Error(codes.Code(code.Load()),
				"refused by the test")
		})
	}
	s := servers.New(t, 1, fault.Option())
	log := new(lines)
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	b := s.Start(nil)
	for round := 1; round <= 2; round++ {
		refuse(codes.Unavailable)
		s.Produce(s.Numbered(100*(round-1), 100*round)...)
		servers.Wait(t, "the first reason", func() bool { return log.count("code=Unavailable") == round })
		retries := b.Stats().Retries
		servers.Wait(t, "some retries", func() bool { return b.Stats().Retries >= retries+3 })
		refuse(codes.PermissionDenied)
		servers.Wait(t, "the second reason", func() bool { return log.count("code=PermissionDenied") == round })
		refuse(codes.Unavailable)
		retries = b.Stats().Retries
		servers.Wait(t, "some retries", func() bool { return b.Stats().Retries >= retries+3 })
		fault.Set(nil)
		servers.Wait(t, "recovery", func() bool { return log.count("publishing has recovered") == round })
	}
	if n := log.count("publishing fails"); n != 4 {
		t.Errorf("%d lines tell that publishing fails, want one for each reason and outage, 4", n)
	}
	b.Shutdown()
}

// A batch that is refused again and again holds up the offsets of its own partitions, and
// nothing else: not the batches behind it, nor what they carry of the same partitions.
func TestOneBadMessageFailsNoOther(t *testing.T) {
	t.Parallel()
	const n = 400
	var fault servers.PublishFault
	fault.Set(func(_ string, b *batch.Batch) error {
		for _, r := range b.Records {
			if r.Partition == 1 && bytes.Contains(r.Value, []byte(`{"n": 201,`)) {
				return status.Error(codes.InvalidArgument, "refused by the test")
			}
		}
		return nil
	})
	s := servers.New(t, 2, fault.Option())
	s.Produce(s.Numbered(0, n)...)
	b := s.Start(func(c *bridge.Config) { c.BatchRecords = 10 })
	servers.Wait(t, "all but one batch", func() bool { return b.Stats().Acknowledged == n/10-1 })
	// Record 201 is offset 100 of partition 1; nine records at most are before it in its batch.
	servers.Wait(t, "the commits", func() bool { return s.Committed(1) > 90 })
	if got := s.Committed(1); got > 100 {
		t.Errorf("committed %d, and offset 100 is not acknowledged", got)
	}
	if s := b.Stats(); s.InflightBatches != 1 || !s.Failing {
		t.Errorf("%d batches are in flight, failing is %t; want the one that is refused", s.InflightBatches, s.Failing)
	}
	fault.Set(nil)
	servers.Wait(t, "the last batch", func() bool { return b.Stats().Acknowledged == n/10 })
	b.Shutdown()
	if d := s.CheckAll(n); d != 0 {
		t.Errorf("%d duplicates", d)
	}
	if got := s.Committed(1); got != n/2 {
		t.Errorf("committed %d, want %d", got, n/2)
	}
}

// Protects records from an answer that acknowledges nothing: one without the messages' ids is a
// failure, and the batch is published again.
func TestAnAnswerWithoutIdsIsNone(t *testing.T) {
	s := servers.New(t, 1)
	// More than are asked for: the server holds its lock while it waits for one.
	const many = 1000
	s.PubSub.ResetPublishResponses(many)
	s.PubSub.SetAutoPublishResponse(false)
	for range many {
		s.PubSub.AddPublishResponse(&pubsubpb.PublishResponse{}, nil)
	}
	s.Produce(s.Numbered(0, 5)...)
	b := s.Start(nil)
	servers.Wait(t, "three tries", func() bool { return b.Stats().Retries >= 3 })
	if got := s.Committed(0); got >= 0 {
		t.Errorf("%d is committed, and nothing acknowledged", got)
	}
	s.PubSub.SetAutoPublishResponse(true)
	servers.Wait(t, "the records", func() bool {
		copies, _, _ := s.Published(servers.Topic)
		return len(copies) == 5
	})
}

package warehouse_test

import (
	"bytes"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
)

// Protects the fault tests of the pipeline: each fault does what its name says to
// the answer and to the rows, and ends when it is used up.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name       string
		fault      warehouse.Fault
		streamCode codes.Code // OK: the stream lives
		answerCode codes.Code
		named      int // row errors
		rows       int // stored by the faulted request of three rows
	}{
		{"the zero fault", warehouse.Fault{}, codes.Unavailable, 0, 0, 0},
		{"stream error by code", warehouse.Fault{Code: codes.PermissionDenied}, codes.PermissionDenied, 0, 0, 0},
		{"quota in the answer", warehouse.Fault{Code: codes.ResourceExhausted, InResponse: true}, 0, codes.ResourceExhausted, 0, 0},
		{"schema mismatch", warehouse.Fault{Code: codes.InvalidArgument, InResponse: true, Storage: storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS}, 0, codes.InvalidArgument, 0, 0},
		{"slow", warehouse.Fault{Wait: time.Millisecond}, 0, 0, 0, 3},
		{"answering late", warehouse.Fault{AnswerAfter: time.Millisecond}, 0, 0, 0, 3},
		{"losing the answer", warehouse.Fault{StoreFirst: true}, codes.Unavailable, 0, 0, 3},
		{"storing and answering with an error", warehouse.Fault{StoreFirst: true, Code: codes.Internal, InResponse: true}, 0, codes.Internal, 0, 3},
		{"naming all bad rows", warehouse.Fault{BadRow: poison}, 0, codes.InvalidArgument, 2, 0},
		{"naming one bad row", warehouse.Fault{BadRow: poison, Naming: warehouse.NameFirst}, 0, codes.InvalidArgument, 1, 0},
		{"naming none", warehouse.Fault{BadRow: poison, Naming: warehouse.NameNone}, 0, codes.InvalidArgument, 0, 0},
		{"of another table", warehouse.Fault{Table: "events_dlq"}, 0, 0, 0, 3},
		{"not yet", warehouse.Fault{Skip: 1}, 0, 0, 0, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, warehouse.Config{})
			client := dial(t, w)
			stream := open(t, client)
			fault := w.Fail(test.fault)
			r := request(w, "fact_events", contract.FactEvents().Descriptor(), good("a"), good("poison1"),
				good("poison2"))
			if err := stream.Send(r); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			if status.Code(err) != test.streamCode {
				t.Fatalf("stream: %v, want %v", err, test.streamCode)
			}
			if code := codes.Code(answer.GetError().GetCode()); code != test.answerCode ||
				len(answer.GetRowErrors()) != test.named {
				t.Errorf("answer %v, want %v with %d rows named", answer, test.answerCode, test.named)
			}
			if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != test.rows {
				t.Errorf("%d rows stored, want %d", n, test.rows)
			}
			fault.Remove()
			if a := exchange(t, open(t, client), request(w, "fact_events", contract.FactEvents().Descriptor(),
				good("z"))); a.GetError() != nil {
				t.Errorf("after the fault: %v", a)
			}
		})
	}
}

func poison(row []byte) bool { return bytes.Contains(row, []byte("poison")) }

// Protects tests of hung servers: a hung request answers nothing until the fault
// is removed, then it is served.
func TestHangUntilRemoved(t *testing.T) {
	w := start(t, warehouse.Config{})
	stream := open(t, dial(t, w))
	fault := w.Fail(warehouse.Fault{Hang: true, Count: -1})
	if err := stream.Send(request(w, "fact_events", contract.FactEvents().Descriptor(), good("a"))); err != nil {
		t.Fatal(err)
	}
	for fault.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != 0 {
		t.Errorf("%d rows while hanging", n)
	}
	fault.Remove()
	if a, err := stream.Recv(); err != nil || a.GetError() != nil {
		t.Errorf("after Remove: %v %v", a, err)
	}
}

// Protects tests of an outage: the stream breaks with UNAVAILABLE, new ones are
// refused, and the same client appends again when the server is back.
func TestDownAndUp(t *testing.T) {
	w := start(t, warehouse.Config{})
	client := dial(t, w)
	r := request(w, "fact_events", contract.FactEvents().Descriptor(), good("a"))
	stream := open(t, client)
	exchange(t, stream, r)
	if err := w.Down(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("stream at the end: %v, want Unavailable", err)
	}
	if err := w.Up(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); ; {
		again, err := client.AppendRows(t.Context())
		if err == nil && again.Send(r) == nil {
			if _, err = again.Recv(); err == nil {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("not back: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

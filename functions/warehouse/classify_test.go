package warehouse

import (
	"errors"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Protects good data: of all the codes there are, one blames rows, and a storage
// error overrules it.
func TestOneCodeBlamesRows(t *testing.T) {
	for c := codes.Canceled; c <= codes.Unauthenticated+3; c++ {
		if got, want := classifyCode(c) == rows, c == codes.InvalidArgument; got != want {
			t.Errorf("%v blames rows: %v", c, got)
		}
	}
	for n, name := range storagepb.StorageError_StorageErrorCode_name {
		f, decided := classifyStorage(storagepb.StorageError_StorageErrorCode(n))
		if f != retry || decided != (n != 0) {
			t.Errorf("%s: %v, decided %v", name, f, decided)
		}
	}
	if f, decided := classifyStorage(9999); f != retry || !decided {
		t.Error("a storage error of the future blames rows")
	}
}

// Protects the reading of answers in every combination that BigQuery sends.
func TestVerdict(t *testing.T) {
	refused := func(c codes.Code, storage storagepb.StorageError_StorageErrorCode) *spb.Status {
		s := status.New(c, "quotes a value: 'secret'")
		if storage != 0 {
			s, _ = s.WithDetails(&storagepb.StorageError{Code: storage})
		}
		return s.Proto()
	}
	named := func(indices ...int64) []*storagepb.RowError {
		var list []*storagepb.RowError
		for _, i := range indices {
			list = append(list, &storagepb.RowError{Index: i, Code: storagepb.RowError_FIELDS_ERROR, Message: "bad"})
		}
		return list
	}
	for _, test := range []struct {
		name   string
		status *spb.Status
		rows   []*storagepb.RowError
		want   string // "", "named", "rows", "retry"
	}{
		{"accepted", nil, nil, ""},
		{"rows are named", refused(codes.InvalidArgument, 0), named(0, 2), "named"},
		{"rows are named without a status", nil, named(1), "named"},
		{"rows are named that were not sent", refused(codes.InvalidArgument, 0), named(-1, 3), "rows"},
		{"no row is named", refused(codes.InvalidArgument, 0), nil, "rows"},
		{"the schema does not match", refused(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS), nil, "retry"},
		{"the schema does not match, and rows are named for it", refused(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS), named(0), "retry"},
		{"quota", refused(codes.ResourceExhausted, 0), nil, "retry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &storagepb.AppendRowsResponse{RowErrors: test.rows}
			if test.status != nil {
				r.Response = &storagepb.AppendRowsResponse_Error{Error: test.status}
			}
			err := verdict(r, 3)
			got := ""
			if e, ok := errors.AsType[*RowErrors](err); ok {
				got = "named"
				for _, row := range e.Rows {
					if row.Index < 0 || row.Index > 2 {
						t.Errorf("names row %d of 3", row.Index)
					}
				}
			} else if e, ok := errors.AsType[*RequestError](err); ok {
				got = map[fault]string{rows: "rows", retry: "retry"}[e.fault]
			}
			if got != test.want {
				t.Errorf("got %q (%v), want %q", got, err, test.want)
			}
			if err != nil && got != "retry" && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes a row: %v", err)
			}
		})
	}
}

package warehouse

import (
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault is whose fault a failed request is. Everything that is not plainly a row's
// is retried: a good event in the dead-letter table costs somebody a replay, a
// message that waits in Pub/Sub costs nothing for 31 days.
type fault int

const (
	// retry: the request, sent again, may succeed, by itself or when somebody has
	// repaired the configuration.
	retry fault = iota
	// rows: at least one of the rows will never be taken.
	rows
)

// classifyCode is the verdict on a gRPC code in the answer to a request. Codes that
// end the stream are never a row's fault, because they do not say whose.
func classifyCode(c codes.Code) fault {
	switch c {
	case codes.InvalidArgument:
		// "corrupted rows", as the service's documentation has it; named in row_errors
		// or found by bisection. Schema mismatches say the same code with a storage
		// error: see below.
		return rows
	case codes.OutOfRange, // offsets only, and the default stream has none
		codes.AlreadyExists: // offsets only
		return retry
	case codes.NotFound, // the table is missing: create it, nothing is lost
		codes.PermissionDenied,   // an IAM grant is missing, or has not spread yet
		codes.Unauthenticated,    // the credentials are wrong or their server is away
		codes.FailedPrecondition, // the table is being replaced, its key (CMEK) is disabled
		codes.Unimplemented:      // another API's endpoint is configured
		return retry
	case codes.ResourceExhausted: // quota, or more concurrent connections than it allows
		return retry
	case codes.Unavailable, // no connection, or the server is being moved
		codes.Aborted,          // BigQuery closes streams that were idle for long with it
		codes.Canceled,         // by the server's side
		codes.DeadlineExceeded, // the server's, or ours: the rows may have landed
		codes.Internal,         // documented as transient for appends
		codes.Unknown,
		codes.DataLoss:
		return retry
	}
	return retry // a code of the future is no proof against a row
}

// classifyStorage is the verdict on a StorageError in the details of an answer,
// which is more exact than the gRPC code.
func classifyStorage(c storagepb.StorageError_StorageErrorCode) (fault, bool) {
	switch c {
	case storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED:
		return retry, false // says nothing: let the gRPC code decide
	case storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS:
		// The service knows a column that the table has not got yet, or BigQuery has
		// not noticed yet, which takes minutes: every row of every request is refused.
		return retry, true
	case storagepb.StorageError_TABLE_NOT_FOUND,
		storagepb.StorageError_STREAM_NOT_FOUND,
		storagepb.StorageError_INVALID_STREAM_TYPE,
		storagepb.StorageError_INVALID_STREAM_STATE,
		storagepb.StorageError_STREAM_FINALIZED,
		storagepb.StorageError_STREAM_ALREADY_COMMITTED:
		return retry, true // of the table or its stream, never of a row
	case storagepb.StorageError_OFFSET_ALREADY_EXISTS,
		storagepb.StorageError_OFFSET_OUT_OF_RANGE:
		return retry, true // the default stream has no offsets
	case storagepb.StorageError_CMEK_NOT_PROVIDED,
		storagepb.StorageError_INVALID_CMEK_PROVIDED,
		storagepb.StorageError_CMEK_ENCRYPTION_ERROR,
		storagepb.StorageError_KMS_SERVICE_ERROR,
		storagepb.StorageError_KMS_PERMISSION_DENIED:
		return retry, true // of the table's encryption key
	}
	return retry, true // BigQuery means something else than a row
}

// classifyRow is the verdict on one entry of row_errors.
func classifyRow(c storagepb.RowError_RowErrorCode) fault {
	switch c {
	case storagepb.RowError_FIELDS_ERROR: // a field's value does not fit its column
		return rows
	case storagepb.RowError_ROW_ERROR_CODE_UNSPECIFIED: // named, if without a kind
		return rows
	}
	return rows // whatever it is called, BigQuery names this row
}

// RowError is one row that BigQuery will never take.
type RowError struct {
	Index   int    // in the rows of the call
	Code    string // stable: CodeRejected or CodeTooLarge
	Message string // BigQuery's words; may quote the row, so not for logs
}

// The codes of rejected rows.
const (
	CodeRejected = "row_rejected"
	CodeTooLarge = "too_large"
)

// RowErrors is the answer to a request of which nothing was written because of
// some of its rows. The list may be incomplete.
type RowErrors struct{ Rows []RowError }

func (e *RowErrors) Error() string {
	return fmt.Sprintf("BigQuery refuses %d rows of the request", len(e.Rows))
}

// RequestError is BigQuery's answer to a request that it refused as a whole.
type RequestError struct {
	Code    codes.Code
	Storage storagepb.StorageError_StorageErrorCode
	message string // may quote a row
	fault   fault
}

func (e *RequestError) Error() string {
	s := "BigQuery refuses the request: " + logText(status.Error(e.Code, e.message))
	if e.Storage != storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED {
		s += " (" + e.Storage.String() + ")"
	}
	return s
}

// isRows reports whether err blames rows, named or not.
func isRows(err error) bool {
	if _, ok := errors.AsType[*RowErrors](err); ok {
		return true
	}
	e, ok := errors.AsType[*RequestError](err)
	return ok && e.fault == rows
}

// foreign says why an answer is none to a request of this table; "" if it may be one. What says
// nothing of rows, or is about another table, must not count as their acknowledgement. Of the
// table's name the project is not compared: it may be given by its number.
func foreign(r *storagepb.AppendRowsResponse, table string) string {
	if r.GetResponse() == nil && len(r.GetRowErrors()) == 0 {
		return "BigQuery's answer has neither a result nor an error"
	}
	if named := r.GetWriteStream(); named != "" {
		_, want, _ := strings.Cut(table, "/datasets/")
		_, got, _ := strings.Cut(named, "/datasets/")
		if !strings.HasPrefix(got, want+"/") {
			return "BigQuery's answer is about another table's stream"
		}
	}
	return ""
}

// verdict turns the answer to a request of n rows into nil, *RowErrors or
// *RequestError.
func verdict(r *storagepb.AppendRowsResponse, n int) error {
	var named []RowError
	for _, e := range r.GetRowErrors() {
		if e.GetIndex() >= 0 && e.GetIndex() < int64(n) && classifyRow(e.GetCode()) == rows {
			named = append(named, RowError{Index: int(e.GetIndex()), Code: CodeRejected, Message: e.GetMessage()})
		}
	}
	st := r.GetError()
	if st == nil && len(r.GetRowErrors()) == 0 {
		return nil
	}
	e := &RequestError{Code: codes.Code(st.GetCode()), Storage: storageCode(st), message: st.GetMessage()}
	if f, ok := classifyStorage(e.Storage); ok {
		e.fault = f
	} else {
		e.fault = classifyCode(e.Code)
	}
	if len(named) > 0 && (e.fault == rows || st == nil) {
		return &RowErrors{Rows: named}
	}
	return e
}

// storageCode is the code of the StorageError in the details of s, if any.
func storageCode(s *spb.Status) storagepb.StorageError_StorageErrorCode {
	for _, d := range status.FromProto(s).Details() {
		if e, ok := d.(*storagepb.StorageError); ok {
			return e.GetCode()
		}
	}
	return storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED
}

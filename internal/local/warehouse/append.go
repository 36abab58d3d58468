package warehouse

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sluice/internal/contract"
)

// maxRequest is the size that an AppendRowsRequest may have.
// https://cloud.google.com/bigquery/quotas#write-api-limits
const maxRequest = 10_000_000

// maxWaiting is how many requests of one stream may be unanswered; then the
// server reads no further.
const maxWaiting = 1000

// GetWriteStream describes a table's default stream.
func (s *Server) GetWriteStream(ctx context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream,
	error) {
	t, err := s.resolve(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	stream := &storagepb.WriteStream{
		Name:     s.TableName(t.name) + "/streams/_default",
		Type:     storagepb.WriteStream_COMMITTED,
		Location: s.config.Location,
		// The epoch is what BigQuery answers for default streams.
		CreateTime: timestamppb.New(time.Unix(0, 0)),
	}
	if r.GetView() == storagepb.WriteStreamView_FULL {
		stream.TableSchema = tableSchema(t.shape.Load())
	}
	return stream, nil
}

// CreateWriteStream is refused: only default streams are served here.
func (s *Server) CreateWriteStream(context.Context, *storagepb.CreateWriteStreamRequest) (*storagepb.WriteStream,
	error) {
	return nil, onlyDefault()
}

// FinalizeWriteStream is refused: only default streams are served here.
func (s *Server) FinalizeWriteStream(context.Context,
	*storagepb.FinalizeWriteStreamRequest) (*storagepb.FinalizeWriteStreamResponse, error) {
	return nil, onlyDefault()
}

// BatchCommitWriteStreams is refused: only default streams are served here.
func (s *Server) BatchCommitWriteStreams(context.Context,
	*storagepb.BatchCommitWriteStreamsRequest) (*storagepb.BatchCommitWriteStreamsResponse, error) {
	return nil, onlyDefault()
}

// FlushRows is refused: only default streams are served here.
func (s *Server) FlushRows(context.Context, *storagepb.FlushRowsRequest) (*storagepb.FlushRowsResponse, error) {
	return nil, onlyDefault()
}

func onlyDefault() error {
	return status.Error(codes.Unimplemented, "the embedded warehouse serves only the default stream of each table: "+
		"append to projects/P/datasets/D/tables/T/streams/_default")
}

// resolve finds the table of a default stream's name, which is the table's name
// with /streams/_default or /_default after it.
func (s *Server) resolve(ctx context.Context, stream string) (*table, error) {
	full, ok := strings.CutSuffix(stream, "/streams/_default")
	if !ok {
		full, ok = strings.CutSuffix(stream, "/_default")
	}
	parts := strings.Split(full, "/")
	named := len(parts) == 6 && parts[0] == "projects" && parts[2] == "datasets" && parts[4] == "tables"
	if !ok || !named {
		if strings.Contains(stream, "/streams/") && !ok {
			return nil, onlyDefault()
		}
		return nil, status.Errorf(codes.InvalidArgument,
			"Invalid stream name: %q: want projects/P/datasets/D/tables/T/streams/_default", stream)
	}
	// Without the header BigQuery looks in the US.
	if s.config.Location != "" && !strings.EqualFold(s.config.Location, "US") && !routed(ctx, stream, full) {
		return nil, status.Errorf(codes.NotFound, "Requested entity was not found: %s is in %s; name the write_stream in "+
			"the header x-goog-request-params", full, s.config.Location)
	}
	var t *table
	if parts[1] == s.config.Project && parts[3] == s.config.Dataset {
		t = s.store.table(parts[5])
	}
	if t == nil {
		return nil, withStorageError(codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND, full,
			"Requested entity was "+
				"not found. Entity: "+full).Err()
	}
	return t, nil
}

// routed reports whether the request's routing header names the stream.
func routed(ctx context.Context, stream, table string) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, header := range md.Get("x-goog-request-params") {
		values, err := url.ParseQuery(header)
		if err != nil {
			continue
		}
		for _, key := range []string{"write_stream", "name"} {
			if v := values.Get(key); v == stream || v == table {
				return true
			}
		}
	}
	return false
}

func withStorageError(code codes.Code, storage storagepb.StorageError_StorageErrorCode, entity,
	message string) *status.Status {
	st := status.New(code, message)
	if detailed, err := st.WithDetails(&storagepb.StorageError{Code: storage, Entity: entity,
		ErrorMessage: message}); err == nil {
		return detailed
	}
	return st
}

// pending is a request that waits for its answer; answers leave in the order of
// the requests.
type pending struct {
	// job is nil if the answer is known already.
	job      *job
	into     *table                        // of the job
	response *storagepb.AppendRowsResponse // the answer if the job succeeds
	fatal    error                         // breaks the stream instead
	late     time.Duration                 // the answer waits
	fault    *FaultHandle                  // takes the answer's place once the rows are stored

	table      string
	timestamps []int64
}

// AppendRows serves one connection: requests are read, checked and handed to the
// tables' writers as they come, answers are sent in order as rows are stored.
func (s *Server) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	waiting := make(chan *pending, maxWaiting)
	sent := make(chan error, 1)
	go func() { sent <- s.answer(ctx, stream, waiting) }()

	c := &connection{server: s, ctx: ctx}
	for {
		request, err := stream.Recv()
		if err != nil {
			close(waiting)
			if errors.Is(err, io.EOF) { // the client is done: answer what is left
				return <-sent
			}
			cancel()
			<-sent
			return err
		}
		p := c.append(request)
		select {
		case waiting <- p:
		case err := <-sent: // the answers failed: nobody reads them
			return err
		}
		if p.fatal != nil { // nothing after it is read
			close(waiting)
			return <-sent
		}
		select {
		case err := <-sent:
			return err
		default:
		}
	}
}

// answer sends the answers in order. What it returns ends the stream.
func (s *Server) answer(ctx context.Context, stream storagepb.BigQueryWrite_AppendRowsServer,
	waiting <-chan *pending) error {
	for p := range waiting {
		if p.job != nil {
			err := p.into.stored(ctx, p.job)
			switch {
			case errors.Is(err, errTableGone):
				return status.Error(codes.NotFound, "Requested entity was not found. Entity: "+s.TableName(p.table))
			case ctx.Err() != nil && err != nil:
				return err
			case err != nil:
				s.log.Error("warehouse: store rows", "table", p.table, "error", err)
				return status.Errorf(codes.Internal, "store rows: %v", err)
			}
		}
		if p.late > 0 && !s.sleep(ctx, p.late, p.fault) {
			return status.FromContextError(ctx.Err()).Err()
		}
		if p.fatal != nil {
			return p.fatal
		}
		if err := stream.Send(p.response); err != nil {
			return err
		}
		if p.job != nil && s.config.OnAppend != nil {
			s.config.OnAppend(p.table, p.job.count, p.timestamps)
		}
	}
	return nil
}

// sleep waits, unless the fault is removed before; false says that the stream ended.
func (s *Server) sleep(ctx context.Context, d time.Duration, h *FaultHandle) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var removed <-chan struct{}
	if h != nil {
		removed = h.removed
	}
	select {
	case <-timer.C:
		return true
	case <-removed:
		return true
	case <-s.stopping:
		return false
	case <-ctx.Done():
		return false
	}
}

// connection is what a server remembers between the requests of one stream.
type connection struct {
	server *Server
	ctx    context.Context

	stream     string // the last write_stream
	table      *table
	descriptor *descriptorpb.DescriptorProto
	plan       *plan
	told       int // the version of the table's shape that the client knows
}

// append checks one request and hands its rows to the table's writer.
func (c *connection) append(r *storagepb.AppendRowsRequest) *pending {
	s := c.server
	if size := proto.Size(r); size > maxRequest {
		return fatal(status.Errorf(codes.InvalidArgument,
			"AppendRows request of %d bytes is too large: the limit is %d", size, maxRequest))
	}
	if name := r.GetWriteStream(); name != "" && name != c.stream {
		t, err := s.resolve(c.ctx, name)
		if err != nil {
			return fatal(err)
		}
		c.stream, c.table, c.plan = name, t, nil
		c.told = t.shape.Load().version
	}
	if c.stream == "" {
		return fatal(status.Error(codes.InvalidArgument,
			"Invalid stream name: write_stream must be set on the first request of a connection"))
	}
	select {
	case <-c.table.gone: // dropped; perhaps there is a new one
		t, err := s.resolve(c.ctx, c.stream)
		if err != nil {
			return fatal(err)
		}
		c.table, c.plan = t, nil
	default:
	}
	if r.GetOffset() != nil {
		return fatal(status.Error(codes.InvalidArgument, "offset must not be set on a default stream"))
	}
	if r.GetArrowRows() != nil {
		return fatal(status.Error(codes.Unimplemented, "the embedded warehouse takes proto_rows, not arrow_rows"))
	}
	if d := r.GetProtoRows().GetWriterSchema().GetProtoDescriptor(); d != nil && d != c.descriptor {
		c.descriptor, c.plan = d, nil
	}
	if c.descriptor == nil {
		return fatal(status.Error(codes.InvalidArgument,
			"Invalid writer schema: proto_rows.writer_schema must be set on "+
				"the first request of a connection"))
	}
	rows := r.GetProtoRows().GetRows().GetSerializedRows()

	fault, bad := s.faults.take(Request{Table: c.table.name, Rows: rows, Bytes: proto.Size(r)})
	if fault != nil {
		f := &fault.fault
		if f.Wait > 0 && !s.sleep(c.ctx, f.Wait, fault) {
			return fatal(status.FromContextError(context.Canceled).Err())
		}
		if f.Hang {
			select {
			case <-fault.removed:
				fault = nil
			case <-s.stopping:
				return fatal(status.Error(codes.Unavailable, "the server is stopping"))
			case <-c.ctx.Done():
				return fatal(status.FromContextError(c.ctx.Err()).Err())
			}
		}
	}
	if fault != nil {
		f := &fault.fault
		switch {
		case f.BadRow != nil:
			return c.respond(refusal(naming(bad, f.Naming)))
		case !f.StoreFirst && !f.succeeds():
			return c.fail(f)
		}
	}

	shape := c.table.shape.Load()
	if c.plan == nil || c.plan.shape != shape {
		plan, err := newPlan(c.descriptor, shape, c.table.partition, s.config.Now)
		if err != nil {
			c.plan = nil
			return c.respond(&storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: c.mismatch(err).Proto()}})
		}
		c.plan = plan
	}
	d := c.plan.decode(rows)
	if len(d.errors) > 0 {
		return c.respond(refusal(d.errors))
	}
	p := c.respond(&storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}})
	p.table, p.timestamps = c.table.name, d.timestamps
	p.job = &job{rows: d.values, columns: len(shape.columns), count: len(rows), done: make(chan error, 1)}
	p.into = c.table
	p.into.submit(p.job)

	if fault != nil {
		f := &fault.fault
		p.late, p.fault = f.AnswerAfter, fault
		if f.StoreFirst {
			failed := c.fail(f)
			p.fatal, p.response = failed.fatal, failed.response
		}
	}
	return p
}

// respond makes the answer to a request; it says so if the table has changed.
func (c *connection) respond(r *storagepb.AppendRowsResponse) *pending {
	r.WriteStream = c.stream
	if shape := c.table.shape.Load(); shape.version != c.told {
		c.told = shape.version
		r.UpdatedSchema = tableSchema(shape)
	}
	return &pending{response: r, table: c.table.name}
}

// fail makes the answer that a fault wants.
func (c *connection) fail(f *Fault) *pending {
	st := status.New(f.code(), f.message())
	if f.Storage != storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED {
		st = withStorageError(f.code(), f.Storage, c.server.TableName(c.table.name), f.message())
	}
	if f.InResponse {
		return c.respond(&storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: st.Proto()}})
	}
	return fatal(st.Err())
}

func (c *connection) mismatch(err error) *status.Status {
	var m *mismatch
	if errors.As(err, &m) && m.extra {
		return withStorageError(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS,
			c.server.TableName(c.table.name), m.text)
	}
	return status.New(codes.InvalidArgument, err.Error())
}

func fatal(err error) *pending { return &pending{fatal: err} }

// refusal refuses a whole request because of some rows, in BigQuery's words.
func refusal(rows []rowError) *storagepb.AppendRowsResponse {
	r := &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: &rpcstatus.Status{
		Code: int32(codes.InvalidArgument),
		Message: "Errors found while processing rows. Please refer to the row_errors field for details. The list may not " +
			"be complete because of the size limitations.",
	}}}
	for _, row := range rows {
		r.RowErrors = append(r.RowErrors, &storagepb.RowError{Index: int64(row.index),
			Code: storagepb.RowError_FIELDS_ERROR, Message: row.message})
	}
	return r
}

func naming(bad []int, n Naming) []rowError {
	switch n {
	case NameNone:
		bad = nil
	case NameFirst:
		bad = bad[:1]
	}
	rows := make([]rowError, len(bad))
	for i, index := range bad {
		rows[i] = rowError{index, "injected fault: the row is bad"}
	}
	return rows
}

func tableSchema(s *shape) *storagepb.TableSchema {
	return &storagepb.TableSchema{Fields: tableFields(s.columns)}
}

func tableFields(columns []contract.Column) []*storagepb.TableFieldSchema {
	var fields []*storagepb.TableFieldSchema
	for _, c := range columns {
		f := &storagepb.TableFieldSchema{
			Name: c.Name, Type: fieldTypes[c.Type], Mode: storagepb.TableFieldSchema_NULLABLE, Description: c.Description,
			MaxLength: int64(c.MaxLength), Precision: int64(c.Precision), Scale: int64(c.Scale), Fields: tableFields(c.Columns),
		}
		if c.Required {
			f.Mode = storagepb.TableFieldSchema_REQUIRED
		} else if c.Repeated {
			f.Mode = storagepb.TableFieldSchema_REPEATED
		}
		if c.Type == contract.RangeOf {
			f.RangeElementType = &storagepb.TableFieldSchema_FieldElementType{Type: fieldTypes[c.Element]}
		}
		fields = append(fields, f)
	}
	return fields
}

var fieldTypes = map[contract.Type]storagepb.TableFieldSchema_Type{
	contract.String: storagepb.TableFieldSchema_STRING, contract.Bytes: storagepb.TableFieldSchema_BYTES,
	contract.Int64: storagepb.TableFieldSchema_INT64, contract.Float64: storagepb.TableFieldSchema_DOUBLE,
	contract.Numeric: storagepb.TableFieldSchema_NUMERIC, contract.BigNumeric: storagepb.TableFieldSchema_BIGNUMERIC,
	contract.Bool: storagepb.TableFieldSchema_BOOL, contract.Date: storagepb.TableFieldSchema_DATE,
	contract.Time: storagepb.TableFieldSchema_TIME, contract.DateTime: storagepb.TableFieldSchema_DATETIME,
	contract.Timestamp: storagepb.TableFieldSchema_TIMESTAMP, contract.JSON: storagepb.TableFieldSchema_JSON,
	contract.Geography: storagepb.TableFieldSchema_GEOGRAPHY, contract.Interval: storagepb.TableFieldSchema_INTERVAL,
	contract.RangeOf: storagepb.TableFieldSchema_RANGE, contract.Record: storagepb.TableFieldSchema_STRUCT,
}

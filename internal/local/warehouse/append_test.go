package warehouse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
)

var now = time.Now().UTC().Truncate(time.Microsecond)

// event is a row that is good as it is; changes replace or (nil) remove columns.
func event(id string, changes values) values {
	v := values{
		"event_id": id, "event_timestamp": now.UnixMicro(), "event_type": "page_view", "user_id": "u1",
		"ingested_at": now.UnixMicro(), "kafka_topic": "clickstream", "kafka_partition": int64(0), "kafka_offset": int64(7),
		"kafka_timestamp": now.Add(-time.Second).UnixMicro(),
	}
	for name, value := range changes {
		if value == nil {
			delete(v, name)
		} else {
			v[name] = value
		}
	}
	return v
}

// good is an encoded good row.
func good(id string) []byte { return encode(contract.FactEvents(), event(id, nil)) }

func count(t *testing.T, w *warehouse.Server, query string, args ...any) int {
	t.Helper()
	var n int
	if err := w.DB().QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Protects the main promise: what is acknowledged is visible to SQL, to the byte.
func TestAcknowledgedRowsAreVisibleAsSent(t *testing.T) {
	w := start(t, warehouse.Config{})
	table := contract.FactEvents()
	stream := open(t, dial(t, w))
	properties := `{"a":  1.50, "b": "<x>é", "c": null, "a": "\u0000"}`
	answer := exchange(t, stream, request(w, "fact_events", table.Descriptor(),
		encode(table, event("e1", values{"properties": properties, "page_url": "/ü\x00"}))))
	if answer.GetError() != nil || answer.GetAppendResult() == nil || answer.GetAppendResult().GetOffset() != nil {
		t.Fatalf("answer %v: want a result without offset", answer)
	}
	var id, p, url string
	var at time.Time
	var product *string
	if err := w.DB().QueryRow("SELECT event_id, event_timestamp, properties::VARCHAR, product_id, page_url FROM fact_events").Scan(&id, &at, &p, &product, &url); err != nil {
		t.Fatal(err)
	}
	if id != "e1" || !at.Equal(now) || p != properties || product != nil || url != "/ü\x00" {
		t.Errorf("got %q %v %s %v %q", id, at, p, product, url)
	}
}

// Protects the rule that shapes the appender: one bad row refuses the whole
// request, is named by its index, and the stream stays open.
func TestOneBadRowRefusesTheRequest(t *testing.T) {
	w := start(t, warehouse.Config{})
	table := contract.FactEvents()
	stream := open(t, dial(t, w))
	for _, test := range []struct {
		name    string
		row     []byte
		message string
	}{
		{"required column missing", encode(table, event("b", values{"user_id": nil})), "user_id: the required field is missing"},
		{"empty row", nil, "event_id: the required field is missing"},
		{"truncated", good("b")[:10], "malformed"},
		{"not protobuf", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "malformed"},
		{"field unknown to the writer schema", append(good("b"), 0xf8, 0x06, 0x01), "field number 111"},
		{"wire type differs from the writer schema", append(good("b"), 0x08, 0x01), "event_id has wire type 0"},
		{"string not UTF-8", encode(table, event("b", values{"page_url": "\xff"})), "page_url: the string is not valid UTF-8"},
		{"JSON not valid", encode(table, event("b", values{"properties": `{"a":}`})), "properties: the value is not valid JSON"},
		{"JSON with a lone surrogate", encode(table, event("b", values{"properties": `"\ud800"`})), "properties: the value is not valid JSON"},
		{"JSON empty", encode(table, event("b", values{"properties": ""})), "properties: the value is not valid JSON"},
		{"timestamp after the year 9999", encode(table, event("b", values{"ingested_at": int64(253402300800000000)})), "ingested_at: timestamp out of range"},
		{"timestamp before the year 1", encode(table, event("b", values{"ingested_at": int64(-62135596800000001)})), "ingested_at: timestamp out of range"},
		{"partition too old", encode(table, event("b", values{"event_timestamp": now.AddDate(-6, 0, 0).UnixMicro()})), "partition is out of range: column event_timestamp"},
		{"partition too far ahead", encode(table, event("b", values{"event_timestamp": now.AddDate(2, 0, 0).UnixMicro()})), "partition is out of range: column event_timestamp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := exchange(t, stream, request(w, "fact_events", table.Descriptor(), good("g1"), test.row,
				good("g2")))
			if code := codes.Code(answer.GetError().GetCode()); code != codes.InvalidArgument {
				t.Fatalf("code %v, want InvalidArgument", code)
			}
			if len(answer.RowErrors) != 1 || answer.RowErrors[0].Index != 1 ||
				answer.RowErrors[0].Code != storagepb.RowError_FIELDS_ERROR {
				t.Fatalf("row errors %v, want one of index 1", answer.RowErrors)
			}
			if message := answer.RowErrors[0].Message; !strings.Contains(message, test.message) {
				t.Errorf("message %q, want %q in it", message, test.message)
			}
		})
	}
	if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != 0 {
		t.Errorf("%d rows stored of refused requests", n)
	}
	exchange(t, stream, request(w, "fact_events", table.Descriptor(), good("g")))
	if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != 1 {
		t.Errorf("%d rows after a good request on the same stream, want 1", n)
	}
}

// Protects the line between "this row is bad" and "this request cannot be": the
// latter names no rows, and part of it breaks the stream.
func TestRequestsThatCannotBe(t *testing.T) {
	table := contract.FactEvents()
	with := func(change func(d *descriptorpb.DescriptorProto)) *descriptorpb.DescriptorProto {
		d := proto.CloneOf(table.Descriptor())
		change(d)
		return d
	}
	for _, test := range []struct {
		name       string
		request    func(w *warehouse.Server) *storagepb.AppendRowsRequest
		code       codes.Code
		message    string
		inResponse bool
		storage    storagepb.StorageError_StorageErrorCode
	}{
		{"no write_stream", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			r := request(w, "fact_events", table.Descriptor(), good("e"))
			r.WriteStream = ""
			return r
		}, codes.InvalidArgument, "write_stream must be set", false, 0},
		{"name of no stream", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			r := request(w, "fact_events", table.Descriptor(), good("e"))
			r.WriteStream = "fact_events"
			return r
		}, codes.InvalidArgument, "Invalid stream name", false, 0},
		{"stream that is not the default", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			r := request(w, "fact_events", table.Descriptor(), good("e"))
			r.WriteStream = w.TableName("fact_events") + "/streams/s1"
			return r
		}, codes.Unimplemented, "default stream", false, 0},
		{"unknown table", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			return request(w, "fact_evens", table.Descriptor(), good("e"))
		}, codes.NotFound, "fact_evens", false, storagepb.StorageError_TABLE_NOT_FOUND},
		{"no writer schema", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			return request(w, "fact_events", nil, good("e"))
		}, codes.InvalidArgument, "writer_schema must be set", false, 0},
		{"offset on a default stream", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			r := request(w, "fact_events", table.Descriptor(), good("e"))
			r.Offset = wrapperspb.Int64(0)
			return r
		}, codes.InvalidArgument, "offset must not be set", false, 0},
		{"more than 10 MB", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			return request(w, "fact_events", table.Descriptor(),
				encode(table, event("e", values{"page_url": strings.Repeat("x", 10_000_000)})))
		}, codes.InvalidArgument, "too large", false, 0},
		{"column that the table has not", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			return request(w, "fact_events", with(func(d *descriptorpb.DescriptorProto) { d.Field[4].Name = proto.String("page") }), good("e"))
		}, codes.InvalidArgument, "extra fields: 'page'", true, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS},
		{"required column left out", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			return request(w, "fact_events", with(func(d *descriptorpb.DescriptorProto) { d.Field = d.Field[1:] }),
				good("e"))
		}, codes.InvalidArgument, "missing the required field 'event_id'", true, 0},
		{"type that does not fit", func(w *warehouse.Server) *storagepb.AppendRowsRequest {
			return request(w, "fact_events", with(func(d *descriptorpb.DescriptorProto) {
				d.Field[1].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
			}), good("e"))
		}, codes.InvalidArgument, "the proto field type string, BigQuery field type TIMESTAMP", true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, warehouse.Config{})
			stream := open(t, dial(t, w))
			if err := stream.Send(test.request(w)); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			got := status.Convert(err)
			if test.inResponse {
				if err != nil {
					t.Fatalf("the stream broke: %v", err)
				}
				got = status.FromProto(answer.GetError())
				if len(answer.RowErrors) > 0 {
					t.Errorf("row errors %v, want none", answer.RowErrors)
				}
			}
			if got.Code() != test.code || !strings.Contains(got.Message(), test.message) {
				t.Errorf("%v %q, want %v with %q", got.Code(), got.Message(), test.code, test.message)
			}
			var storage storagepb.StorageError_StorageErrorCode
			for _, detail := range got.Details() {
				if d, ok := detail.(*storagepb.StorageError); ok {
					storage = d.Code
				}
			}
			if storage != test.storage {
				t.Errorf("storage error %v, want %v", storage, test.storage)
			}
			if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != 0 {
				t.Errorf("%d rows stored", n)
			}
		})
	}
}

// Protects writers that know fewer columns than the table, in another order and
// case, and change their mind in mid-stream.
func TestWriterSchemas(t *testing.T) {
	w := start(t, warehouse.Config{})
	stream := open(t, dial(t, w))
	older, err := contract.Parse("fact_events", []byte(`[{"name":"USER_ID","type":"STRING","mode":"REQUIRED"},{"name":"event_type","type":"STRING","mode":"REQUIRED"},
		{"name":"Event_Timestamp","type":"TIMESTAMP","mode":"REQUIRED"},{"name":"event_id","type":"STRING","mode":"REQUIRED"},{"name":"ingested_at","type":"TIMESTAMP","mode":"REQUIRED"}]`))
	if err != nil {
		t.Fatal(err)
	}
	row := encode(older, values{"USER_ID": "u1", "event_type": "search", "Event_Timestamp": now.UnixMicro(),
		"event_id": "old", "ingested_at": now.UnixMicro()})
	if a := exchange(t, stream, request(w, "fact_events", older.Descriptor(), row)); a.GetError() != nil {
		t.Fatal(a)
	}
	again := request(w, "fact_events", nil, row) // the schema of the stream holds
	again.WriteStream = ""
	again.GetProtoRows().WriterSchema = nil
	if a := exchange(t, stream, again); a.GetError() != nil {
		t.Fatal(a)
	}
	if a := exchange(t, stream, request(w, "fact_events", contract.FactEvents().Descriptor(),
		good("new"))); a.GetError() != nil {
		t.Fatal(a)
	}
	if n := count(t, w, "SELECT COUNT(*) FROM fact_events WHERE event_id = 'old' AND user_id = 'u1' AND kafka_topic IS NULL"); n != 2 {
		t.Errorf("%d rows of the older writer, want 2", n)
	}
}

// Protects schema changes of a running table: rows of writers from before and
// after land, and open streams are told.
func TestAddColumn(t *testing.T) {
	dir := t.TempDir()
	w := start(t, warehouse.Config{Dir: dir})
	stream := open(t, dial(t, w))
	if a := exchange(t, stream, request(w, "fact_events", contract.FactEvents().Descriptor(),
		good("before"))); a.GetUpdatedSchema() != nil {
		t.Error("told of a schema that has not changed")
	}
	newer, err := contract.Parse("fact_events", []byte(strings.Replace(string(contract.File("fact_events")), "]",
		`,{"name":"campaign","type":"STRING"}]`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	row := encode(newer, event("after", values{"campaign": "spring"}))
	if a := exchange(t, stream, request(w, "fact_events", newer.Descriptor(),
		row)); codes.Code(a.GetError().GetCode()) != codes.InvalidArgument {
		t.Fatalf("a column before its time: %v", a)
	}
	column, _ := newer.Column("campaign")
	if err := w.AddColumn(t.Context(), "fact_events", column); err != nil {
		t.Fatal(err)
	}
	if err := w.AddColumn(t.Context(), "fact_events", column); err == nil {
		t.Error("added twice")
	}
	a := exchange(t, stream, request(w, "fact_events", contract.FactEvents().Descriptor(), good("old writer")))
	if fields := a.GetUpdatedSchema().GetFields(); len(fields) != len(newer.Columns) ||
		fields[len(fields)-1].GetName() != "campaign" {
		t.Errorf("updated schema %v", fields)
	}
	if a := exchange(t, stream, request(w, "fact_events", newer.Descriptor(), row)); a.GetError() != nil ||
		a.GetUpdatedSchema() != nil {
		t.Fatal(a)
	}
	if n := count(t, w, "SELECT COUNT(*) FROM events WHERE campaign = 'spring'"); n != 1 {
		t.Errorf("%d rows with the new column, want 1", n)
	}
	if n := count(t, w, "SELECT COUNT(*) FROM events"); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// A restart finds the column although the schema file lacks it.
	w = start(t, warehouse.Config{Dir: dir})
	if a := exchange(t, open(t, dial(t, w)), request(w, "fact_events", newer.Descriptor(), row)); a.GetError() != nil {
		t.Fatal(a)
	}
	if n := count(t, w, "SELECT COUNT(*) FROM fact_events"); n != 4 {
		t.Errorf("%d rows after the restart, want 4", n)
	}
}

// Protects the matching of answers to pipelined requests: they come in order,
// refusals among results.
func TestAnswersComeInOrder(t *testing.T) {
	w := start(t, warehouse.Config{})
	stream := open(t, dial(t, w))
	table := contract.FactEvents()
	const requests = 200
	go func() {
		for i := range requests {
			row := good(fmt.Sprint(i))
			if i%3 == 0 {
				row = nil
			}
			if stream.Send(request(w, "fact_events", table.Descriptor(), good("x"), row)) != nil {
				return
			}
		}
		stream.CloseSend()
	}()
	for i := range requests {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if refused := answer.GetError() != nil; refused != (i%3 == 0) {
			t.Fatalf("answer %d: refused %v", i, refused)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v, want EOF", err)
	}
}

// Protects reads beside writes: several streams append, SQL reads on, and every
// acknowledged row is counted and observed once.
func TestConcurrentStreams(t *testing.T) {
	var observed atomic.Int64
	var latest atomic.Int64
	w := start(t, warehouse.Config{OnAppend: func(table string, rows int, timestamps []int64) {
		if table != "fact_events" || len(timestamps) != rows {
			t.Errorf("observed %s, %d rows, %d timestamps", table, rows, len(timestamps))
		}
		latest.Store(timestamps[0])
		observed.Add(int64(rows))
	}})
	client := dial(t, w)
	table := contract.FactEvents()
	const streams, requests, rows = 4, 20, 100
	var writers sync.WaitGroup
	for n := range streams {
		stream := open(t, client)
		writers.Go(func() {
			for i := range requests {
				batch := make([][]byte, rows)
				for r := range batch {
					batch[r] = good(fmt.Sprintf("%d-%d-%d", n, i, r))
				}
				if err := stream.Send(request(w, "fact_events", table.Descriptor(), batch...)); err != nil {
					t.Error(err)
					return
				}
				if answer, err := stream.Recv(); err != nil || answer.GetError() != nil {
					t.Error(err, answer)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	last := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		n := count(t, w, "SELECT COUNT(*) FROM fact_events")
		if n < last {
			t.Errorf("%d rows, were %d", n, last)
		}
		last = n
	}
	if want := streams * requests * rows; last != want ||
		count(t, w, "SELECT COUNT(DISTINCT event_id) FROM events") != want {
		t.Errorf("%d rows, want %d", last, want)
	}
	// The observer is called after the answer has left: the last call may be late.
	for end := time.Now().Add(2 * time.Minute); observed.Load() < int64(last) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if observed.Load() != int64(last) || latest.Load() != now.Add(-time.Second).UnixMicro() {
		t.Errorf("observed %d rows of %d, kafka_timestamp %d", observed.Load(), last, latest.Load())
	}
}

// Protects deployments outside the US, where BigQuery finds the table only by the
// routing header.
func TestRoutingHeaderOutsideTheUS(t *testing.T) {
	w := start(t, warehouse.Config{Location: "europe-west1"})
	client := dial(t, w)
	r := request(w, "fact_events", contract.FactEvents().Descriptor(), good("e"))
	stream := open(t, client)
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("without the header: %v, want NotFound", err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "x-goog-request-params",
		"write_stream="+r.WriteStream))
	defer cancel()
	stream, err := client.AppendRows(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if a := exchange(t, stream, r); a.GetError() != nil {
		t.Error(a)
	}
}

// Protects checks that look at the default stream before writing.
func TestGetWriteStream(t *testing.T) {
	w := start(t, warehouse.Config{Location: "US"})
	client := dial(t, w)
	got, err := client.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: w.TableName("events_dlq") +
		"/_default", View: storagepb.WriteStreamView_FULL})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got.GetTableSchema().GetFields() {
		names = append(names, f.GetName())
	}
	if got.GetType() != storagepb.WriteStream_COMMITTED || !slices.Contains(names, "error_code") {
		t.Errorf("stream %v", got)
	}
	if _, err := client.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: w.TableName("absent") +
		"/_default"}); status.Code(err) != codes.NotFound {
		t.Errorf("absent table: %v", err)
	}
}

// Protects the dropped-table fault: appends answer NOT_FOUND, and land again once
// the table is back.
func TestDropAndCreateTable(t *testing.T) {
	w := start(t, warehouse.Config{})
	client := dial(t, w)
	r := request(w, "fact_events", contract.FactEvents().Descriptor(), good("e"))
	stream := open(t, client)
	exchange(t, stream, r)
	if err := w.DropTable(t.Context(), "fact_events"); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("without the table: %v, want NotFound", err)
	}
	if err := w.CreateTable(t.Context(), contract.FactEvents()); err != nil {
		t.Fatal(err)
	}
	exchange(t, open(t, client), r)
	if n := count(t, w, "SELECT COUNT(*) FROM events"); n != 1 {
		t.Errorf("%d rows in the new table, want 1", n)
	}
}

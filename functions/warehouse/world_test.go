package warehouse_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/functions/event"
	"sluice/functions/warehouse"
	"sluice/internal/contract"
	embedded "sluice/internal/local/warehouse"
)

// startWarehouse starts the embedded warehouse and an Appender to its fact_events.
func startWarehouse(t *testing.T, c warehouse.AppenderConfig) (*embedded.Server, *warehouse.Appender) {
	t.Helper()
	w, err := embedded.Start(embedded.Config{Tables: []*contract.Table{contract.FactEvents()}, Location: "EU"})
	check(t, err)
	t.Cleanup(func() { w.Close() })
	c.Table = w.TableName("fact_events")
	return w, newAppender(t, w.Addr(), contract.FactEvents(), c)
}

func newAppender(t *testing.T, addr string, table *contract.Table, c warehouse.AppenderConfig) *warehouse.Appender {
	t.Helper()
	client, err := storage.NewBigQueryWriteClient(t.Context(), option.WithEndpoint(addr),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	check(t, err)
	t.Cleanup(func() { client.Close() })
	a := warehouse.NewAppender(client, table, c, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		a.Close(ctx)
	})
	return a
}

// row is an event with that id, as a row of t.
func row(t *testing.T, id string) []byte {
	t.Helper()
	d, err := event.NewDecoder(contract.FactEvents(), event.Config{})
	check(t, err)
	value := fmt.Sprintf(`{"event_id":%q,"event_timestamp":%q,"event_type":"search","user_id":"u"}`, id,
		time.Now().UTC().Format(time.RFC3339))
	b, err := d.AppendRow(nil, []byte(value), event.Meta{Offset: -1})
	check(t, err)
	return b
}

func rows(t *testing.T, ids ...string) [][]byte {
	t.Helper()
	var rows [][]byte
	for _, id := range ids {
		rows = append(rows, row(t, id))
	}
	return rows
}

// landed counts the rows of fact_events, copies included.
func landed(t *testing.T, w *embedded.Server) int {
	t.Helper()
	var n int
	check(t, w.DB().QueryRow("SELECT COUNT(*) FROM fact_events").Scan(&n))
	return n
}

// script is a BigQueryWrite server of which a test decides each stream: for what no
// well-behaved server does.
type script struct {
	storagepb.UnimplementedBigQueryWriteServer
	serve func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error

	mu      sync.Mutex
	streams int
}

func (s *script) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	s.mu.Lock()
	s.streams++
	n := s.streams
	s.mu.Unlock()
	return s.serve(n, stream)
}

func (s *script) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

// startScript starts a server whose n-th stream, from 1, is served by serve.
func startScript(t *testing.T, serve func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error) (*script, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server := grpc.NewServer()
	s := &script{serve: serve}
	storagepb.RegisterBigQueryWriteServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return s, l.Addr().String()
}

// ok acknowledges a request.
func ok(s storagepb.BigQueryWrite_AppendRowsServer) error {
	return s.Send(&storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}})
}

// firstRow is the first row of a request, as text.
func firstRow(r *storagepb.AppendRowsRequest) string {
	return string(r.GetProtoRows().GetRows().GetSerializedRows()[0])
}

const scriptedTable = "projects/p/datasets/d/tables/t"

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

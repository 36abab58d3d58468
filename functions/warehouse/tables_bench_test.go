package warehouse_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
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
)

// acknowledging is a server that takes whatever comes: what is measured is the client.
type acknowledging struct {
	storagepb.UnimplementedBigQueryWriteServer
}

func (acknowledging) AppendRows(s storagepb.BigQueryWrite_AppendRowsServer) error {
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
		if err := ok(s); err != nil {
			return err
		}
	}
}

// tablesCost is what n tables cost an instance.
type tablesCost struct {
	connections, goroutines int
	heap                    float64 // kB
	took                    time.Duration
}

// BenchmarkTablesVs measures what more tables cost an instance: 2,000 appends of 50 rows, 32 at a
// time as the functions run them, spread over 1, 10 and 100 tables. For N tables:
//
//	N_tables_connections  to BigQuery: the client's pool, however many streams there are
//	N_tables_kB           of heap, with a stream open to each, the server's end included
//	N_tables_goroutines   the server's end included
//	N_tables_vs_one       time of an append, over that with one table in the same run
func BenchmarkTablesVs(b *testing.B) {
	costs := map[int]tablesCost{}
	for b.Loop() {
		for _, n := range []int{1, 10, 100} {
			costs[n] = costOfTables(b, n)
		}
	}
	b.ReportMetric(0, "ns/op")
	for n, c := range costs {
		b.ReportMetric(float64(c.connections), fmt.Sprintf("%d_tables_connections", n))
		b.ReportMetric(c.heap, fmt.Sprintf("%d_tables_kB", n))
		b.ReportMetric(float64(c.goroutines), fmt.Sprintf("%d_tables_goroutines", n))
		if n > 1 {
			b.ReportMetric(float64(c.took)/float64(costs[1].took), fmt.Sprintf("%d_tables_vs_one", n))
		}
	}
}

func costOfTables(b *testing.B, n int) tablesCost {
	b.Helper()
	const appends, rowsEach, at = 2000, 50, 32
	var contracts []*contract.Contract
	for i := range n {
		c, err := contract.Preset("clickstream")
		if err != nil {
			b.Fatal(err)
		}
		c.Name, c.Table.Name = fmt.Sprintf("c%d", i), fmt.Sprintf("t%d", i)
		contracts = append(contracts, c)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	storagepb.RegisterBigQueryWriteServer(server, acknowledging{})
	go server.Serve(l)
	defer server.Stop()
	var connections atomic.Int64
	client, err := storage.NewBigQueryWriteClient(b.Context(), option.WithEndpoint(l.Addr().String()),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			connections.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		})))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	var all []*warehouse.Appender
	for _, c := range contracts {
		a := warehouse.NewAppender(client, c.Table, warehouse.AppenderConfig{Table: "projects/p/datasets/d/tables/" +
			c.Table.Name}, slog.New(slog.DiscardHandler))
		defer a.Close(context.Background())
		all = append(all, a)
	}
	d, err := event.New(contracts[0], event.Fast, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	var rows [][]byte
	for i := range rowsEach {
		text := fmt.Appendf(nil, `{"event_id":"%d","event_timestamp":%q,"event_type":"search","user_id":"u"}`, i,
			time.Now().UTC().Format(time.RFC3339))
		row, err := d.AppendRow(nil, text, event.Meta{Offset: -1})
		if err != nil {
			b.Fatal(err)
		}
		rows = append(rows, row)
	}
	run := func(count int) time.Duration {
		start := time.Now()
		var next atomic.Int64
		var workers sync.WaitGroup
		for range at {
			workers.Go(func() {
				for i := next.Add(1); i <= int64(count); i = next.Add(1) {
					if err := all[i%int64(n)].Append(b.Context(), rows); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		workers.Wait()
		return time.Since(start)
	}
	run(10 * n) // opens the streams
	runtime.GC()
	runtime.ReadMemStats(&after)
	c := tablesCost{
		heap:       float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / 1e3,
		goroutines: runtime.NumGoroutine() - goroutines,
		took:       run(appends),
	}
	c.connections = int(connections.Load())
	return c
}

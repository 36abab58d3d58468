// Package warehouse is BigQuery for one process: a gRPC server of the Storage
// Write API that checks requests and rows as BigQuery does, over an embedded
// DuckDB that holds the tables and answers SQL.
//
//	w, err := warehouse.Start(warehouse.Config{
//		Project: "local", Dataset: "clickstream",
//		Tables: []*contract.Table{contract.FactEvents(), contract.EventsDLQ()},
//	})
//	defer w.Close()
//
//	// The product's client, pointed at w.Addr() without TLS and credentials,
//	// appends to the default stream of projects/local/datasets/clickstream/tables/….
//	rows, err := w.DB().Query("SELECT error, COUNT(*) FROM events_dlq GROUP BY error")
//
//	fault := w.Fail(warehouse.Fault{Code: codes.Unavailable, Count: -1})
//	fault.Remove()
//	w.Down(); w.Up() // unreachable, reachable again
//
// Rows are visible to SQL before their append is acknowledged. Tables and views
// can be named with or without the dataset. BigQuery's TIMESTAMP is DuckDB's
// TIMESTAMPTZ in a session whose time zone is UTC; JSON keeps its text to the
// byte (BigQuery normalizes it); BYTES are BLOB, NUMERIC is DECIMAL(38, 9), RECORD and
// RANGE are STRUCT, REPEATED is a list. BIGNUMERIC and GEOGRAPHY are text, which keeps every
// digit, and with which nothing can be computed.
//
// What it does not do: offsets and streams other than the default one, Arrow rows,
// missing-value defaults, types in other encodings than those that
// contract.Table.Descriptor has (BigQuery also takes NUMERIC or DATE as text, and more).
package warehouse

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"sluice/internal/contract"
	"sluice/internal/local/listener"
)

// Config says what the warehouse holds. The zero values are usable.
type Config struct {
	Addr    string // host:port to listen on; default 127.0.0.1:0
	Dir     string // keeps the data in Dir/warehouse.duckdb; empty: in memory
	Project string // default "local"
	Dataset string // default "clickstream"
	// Contracts of the streams: they say which tables and views there are, besides that of the
	// dead letters; nil: the built-in one.
	Contracts []*contract.Contract
	Tables    []*contract.Table // instead of what Contracts say

	// Location is where the dataset lives. Outside "US" (the default) BigQuery
	// finds a stream's table only by the x-goog-request-params header that names
	// the write_stream, and so does this server.
	Location string

	// Partitions names each table's partitioning column and the window of time
	// that it takes; nil is DefaultPartitions, and what Contracts say.
	Partitions map[string]Partition

	// OnAppend is called after rows are stored and their acknowledgement is
	// sent, with each row's kafka_timestamp in microseconds since the Unix epoch
	// (0: null). It runs on the connection's goroutine: be quick. The slice is
	// the callee's to keep.
	OnAppend func(table string, rows int, kafkaTimestamps []int64)

	MemoryLimit string // DuckDB's, such as "2GB"; empty: its default, 80 % of the machine
	Threads     int    // DuckDB's; 0: one per core

	Log *slog.Logger     // default: discarded
	Now func() time.Time // default time.Now
}

// Partition is a table's partitioning column and the window of time around now
// that BigQuery takes rows for.
type Partition struct {
	Column      string
	Back, Ahead time.Duration
}

const year = 365 * 24 * time.Hour

// DefaultPartitions are those of the project's tables, with BigQuery's window for
// streamed rows: 5 years back, 1 year ahead.
// https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery#time-unit_column_partitioning
func DefaultPartitions() map[string]Partition {
	return map[string]Partition{
		"fact_events": {Column: "event_timestamp", Back: 5 * year, Ahead: year},
		"events_dlq":  {Column: "failed_at", Back: 5 * year, Ahead: year},

		"events_left_out": {Column: "left_out_at", Back: 5 * year, Ahead: year},
	}
}

// PartitionsOf says by what the tables of streams are partitioned, nil: those of the built-in one.
func PartitionsOf(all []*contract.Contract) map[string]Partition {
	partitions := DefaultPartitions()
	for _, of := range all {
		partitions[of.Table.Name] = Partition{Column: of.Partition.Column, Back: 5 * year, Ahead: year}
	}
	return partitions
}

// TablesOf are the tables of streams, nil: the built-in one, with those that every deployment has.
func TablesOf(all []*contract.Contract) []*contract.Table {
	if len(all) == 0 {
		return []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}
	}
	var tables []*contract.Table
	for _, c := range all {
		tables = append(tables, c.Table)
	}
	tables = append(tables, contract.EventsDLQ())
	if contract.LeavesOut(all) {
		tables = append(tables, contract.EventsLeftOut())
	}
	return tables
}

// Server is a running warehouse.
type Server struct {
	storagepb.UnimplementedBigQueryWriteServer

	config   Config
	log      *slog.Logger
	listener *listener.Listener
	grpc     *grpc.Server
	serving  sync.WaitGroup
	store    *store
	faults   faults
	stopping chan struct{} // closed by Close: frees hung requests
	close    sync.Once
}

// maxMessage is above the request limit, so that the limit is enforced, and
// worded, by AppendRows and not by gRPC.
const maxMessage = 64 << 20

// Start opens the data, creates what tables and views are missing, and serves.
func Start(c Config) (*Server, error) {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Project == "" {
		c.Project = "local"
	}
	if c.Dataset == "" {
		c.Dataset = "clickstream"
	}
	if c.Partitions == nil {
		c.Partitions = PartitionsOf(c.Contracts)
	}
	if c.Tables == nil {
		c.Tables = TablesOf(c.Contracts)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	file := ""
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("warehouse: %w", err)
		}
		file = filepath.Join(c.Dir, "warehouse.duckdb")
	}
	store, err := openStore(file, c)
	if err != nil {
		return nil, fmt.Errorf("warehouse: %w", err)
	}
	l, err := listener.Listen(c.Addr)
	if err != nil {
		store.close()
		return nil, fmt.Errorf("warehouse: %w", err)
	}
	s := &Server{
		config:   c,
		log:      c.Log,
		listener: l,
		store:    store,
		stopping: make(chan struct{}),
		grpc: grpc.NewServer(
			grpc.MaxRecvMsgSize(maxMessage),
			grpc.InitialWindowSize(4<<20),
			grpc.InitialConnWindowSize(16<<20),
			// Clients that ping to find dead connections are welcome, as at Google.
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second,
				PermitWithoutStream: true}),
		),
	}
	storagepb.RegisterBigQueryWriteServer(s.grpc, s)
	s.serving.Go(func() {
		if err := s.grpc.Serve(l); err != nil {
			s.log.Error("warehouse: serve", "error", err)
		}
	})
	return s, nil
}

// Addr is the gRPC address, host:port, plain text.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// DB answers SQL while rows are appended. Its owner is the server.
func (s *Server) DB() *sql.DB { return s.store.db }

// Down closes all connections and refuses new ones; Up takes them again.
func (s *Server) Down() error { return s.listener.Down() }

// Up makes the server reachable again on the same address.
func (s *Server) Up() error { return s.listener.Up() }

// Drop breaks the connections that are open.
func (s *Server) Drop() { s.listener.Drop() }

// AddColumn adds a column at the end of a table, as an operator does. Streams
// that are open learn of it by updated_schema in their next answer.
func (s *Server) AddColumn(ctx context.Context, table string, c contract.Column) error {
	return s.store.addColumn(ctx, table, c)
}

// DropTable removes a table with its rows, as an operator's mistake does:
// appends to it answer NOT_FOUND.
func (s *Server) DropTable(ctx context.Context, table string) error {
	return s.store.dropTable(ctx, table)
}

// CreateTable creates a table that is not there.
func (s *Server) CreateTable(ctx context.Context, t *contract.Table) error {
	return s.store.createTable(ctx, t, s.config.Partitions[t.Name])
}

// TableName is a table's full name as the Storage Write API spells it.
func (s *Server) TableName(table string) string {
	return tableName(s.config.Project, s.config.Dataset, table)
}

func tableName(project, dataset, table string) string {
	return "projects/" + project + "/datasets/" + dataset + "/tables/" + table
}

// Close breaks the connections and closes the data; what was acknowledged is kept
// if the warehouse has a Dir.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		close(s.stopping)
		s.grpc.Stop()
		s.listener.Close()
		s.serving.Wait()
		err = s.store.close()
	})
	return err
}

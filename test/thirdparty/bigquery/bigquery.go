// Package bigquery runs goccy's BigQuery emulator for tests, as a process of its
// own on loopback: SQL in BigQuery's dialect over REST, appends over the Storage
// Write API.
//
//	b, err := bigquery.Start(ctx, bigquery.Config{Dir: t.TempDir(), Project: "p", Dataset: "clickstream"})
//	defer b.Close()
//	err = b.CreateTables(ctx)
//	rows, err := b.Query(ctx, "SELECT COUNT(*) FROM clickstream.fact_events")
//	// appends: BIGQUERY_STORAGE_EMULATOR_HOST = b.Addr()
//
// The first call on a machine compiles the emulator, in the nested module
// test/bigqueryemulator: about five minutes and 5 GB of memory.
//
// Its known deviations, which tests step around: it takes the stream of a request
// only from that request's write_stream, and knows a table's default stream only
// after a GetWriteStream of it (CreateTable makes one); names no rows in row_errors; takes
// unknown columns, timestamps out of range and rows without their REQUIRED
// columns; takes appends up to 4 MB; cannot add columns; joins slowly.
package bigquery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
	"sluice/test/thirdparty/process"
)

// Config says what to start.
type Config struct {
	Dir     string // data and log; must exist
	Project string
	Dataset string // created empty
}

// Emulator is a running emulator.
type Emulator struct {
	config     Config
	rest, grpc string
	process    *process.Process
	client     *bigquery.Client
}

// Start builds the emulator if need be, starts it and returns when it listens.
func Start(ctx context.Context, c Config) (_ *Emulator, err error) {
	binary, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := process.FreePorts(2)
	if err != nil {
		return nil, fmt.Errorf("bigquery emulator: %w", err)
	}
	e := &Emulator{config: c, rest: "127.0.0.1:" + strconv.Itoa(ports[0]), grpc: "127.0.0.1:" + strconv.Itoa(ports[1])}
	e.process, err = process.Start(process.Config{
		Command: []string{binary, "--project", c.Project, "--dataset", c.Dataset, "--rest", e.rest, "--grpc", e.grpc,
			"--file", filepath.Join(c.Dir, "bigquery.db")},
		Log: filepath.Join(c.Dir, "bigquery-emulator.log"),
	})
	if err != nil {
		return nil, fmt.Errorf("bigquery emulator: %w", err)
	}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	for _, address := range []string{e.rest, e.grpc} {
		if err := e.process.WaitListening(ctx, address); err != nil {
			return nil, fmt.Errorf("bigquery emulator: %w", err)
		}
	}
	e.client, err = bigquery.NewClient(ctx, c.Project, option.WithEndpoint("http://"+e.rest),
		option.WithoutAuthentication())
	if err != nil {
		return nil, fmt.Errorf("bigquery emulator: %w", err)
	}
	return e, nil
}

// Build compiles the emulator into the user's cache folder and returns the binary.
func Build(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("bigquery emulator: go env GOMOD: %w", err)
	}
	module := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "test", "bigqueryemulator")
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", fmt.Errorf("bigquery emulator: %w", err)
		}
		sum.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("bigquery emulator: %w", err)
	}
	binary := filepath.Join(cache, "sluice", "bigquery-emulator-"+hex.EncodeToString(sum.Sum(nil)[:6]))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", fmt.Errorf("bigquery emulator: %w", err)
	}
	part := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer os.Remove(part)
	if out, err := exec.CommandContext(ctx, "go", "build", "-C", module, "-o", part, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("bigquery emulator: go build: %w:\n%s", err, out)
	}
	if err := os.Rename(part, binary); err != nil {
		return "", fmt.Errorf("bigquery emulator: %w", err)
	}
	return binary, nil
}

// Addr is the Storage API's gRPC address: BIGQUERY_STORAGE_EMULATOR_HOST.
func (e *Emulator) Addr() string { return e.grpc }

// REST is the address of the REST interface.
func (e *Emulator) REST() string { return e.rest }

// Client is a client of the REST interface.
func (e *Emulator) Client() *bigquery.Client { return e.client }

// CreateTables creates the project's tables from their schema files, as Terraform does.
func (e *Emulator) CreateTables(ctx context.Context) error {
	for _, t := range []*contract.Table{contract.FactEvents(), contract.EventsDLQ()} {
		if err := e.createTable(ctx, t, warehouse.DefaultPartitions()[t.Name].Column); err != nil {
			return err
		}
	}
	return nil
}

func (e *Emulator) createTable(ctx context.Context, t *contract.Table, partition string) error {
	columns, err := bigquery.SchemaFromJSON(contract.File(t.Name))
	if err != nil {
		return fmt.Errorf("bigquery emulator: table %s: %w", t.Name, err)
	}
	m := &bigquery.TableMetadata{Schema: columns}
	if partition != "" {
		m.TimePartitioning = &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: partition}
	}
	if err := e.client.Dataset(e.config.Dataset).Table(t.Name).Create(ctx, m); err != nil {
		return fmt.Errorf("bigquery emulator: table %s: %w", t.Name, err)
	}
	// Its default stream exists from the first look at it.
	client, err := storage.NewBigQueryWriteClient(ctx, option.WithEndpoint(e.grpc), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return fmt.Errorf("bigquery emulator: %w", err)
	}
	defer client.Close()
	name := fmt.Sprintf("projects/%s/datasets/%s/tables/%s/streams/_default", e.config.Project, e.config.Dataset,
		t.Name)
	if _, err := client.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: name}); err != nil {
		return fmt.Errorf("bigquery emulator: default stream of %s: %w", t.Name, err)
	}
	return nil
}

// CreateView creates a view.
func (e *Emulator) CreateView(ctx context.Context, name, query string) error {
	if err := e.client.Dataset(e.config.Dataset).Table(name).Create(ctx,
		&bigquery.TableMetadata{ViewQuery: query}); err != nil {
		return fmt.Errorf("bigquery emulator: view %s: %w", name, err)
	}
	return nil
}

// Query runs a query and returns its rows; names without a dataset are looked up
// in the emulator's.
func (e *Emulator) Query(ctx context.Context, text string) ([][]any, error) {
	q := e.client.Query(text)
	q.DefaultProjectID, q.DefaultDatasetID = e.config.Project, e.config.Dataset
	it, err := q.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("bigquery emulator: query: %w", err)
	}
	var rows [][]any
	for {
		var row []bigquery.Value
		switch err := it.Next(&row); {
		case errors.Is(err, iterator.Done):
			return rows, nil
		case err != nil:
			return nil, fmt.Errorf("bigquery emulator: rows: %w", err)
		}
		values := make([]any, len(row))
		for i, v := range row {
			values[i] = v
		}
		rows = append(rows, values)
	}
}

// Close ends the emulator.
func (e *Emulator) Close() error {
	if e.client != nil {
		e.client.Close()
	}
	return e.process.Kill()
}

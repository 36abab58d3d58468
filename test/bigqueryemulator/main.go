// Command bigqueryemulator serves goccy/bigquery-emulator for tests: BigQuery's
// REST interface and its Storage Write API on loopback.
//
//	go build -C test/bigqueryemulator -o bigquery-emulator .
//	bigquery-emulator --project p --dataset clickstream --rest 127.0.0.1:9050 --grpc 127.0.0.1:9060 --file /tmp/x/bigquery.db
//
// It ends on SIGTERM. The test that uses it is in test/thirdparty.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/goccy/bigquery-emulator/server"
	"github.com/goccy/bigquery-emulator/types"
)

func main() {
	project := flag.String("project", "", "project")
	dataset := flag.String("dataset", "clickstream", "dataset, created empty")
	rest := flag.String("rest", "127.0.0.1:9050", "address of the REST interface")
	grpc := flag.String("grpc", "127.0.0.1:9060", "address of the Storage API")
	file := flag.String("file", "", "database file")
	flag.Parse()
	if err := serve(*project, *dataset, *rest, *grpc, *file); err != nil {
		fmt.Fprintln(os.Stderr, "bigqueryemulator:", err)
		os.Exit(1)
	}
}

func serve(project, dataset, rest, grpc, file string) error {
	if project == "" || file == "" {
		return errors.New("--project and --file are required")
	}
	// Readers and writers meet on one SQLite file: they wait for each other
	// instead of failing.
	s, err := server.New(server.Storage("file:" + file + "?_txlock=immediate&_pragma=busy_timeout(20000)"))
	if err != nil {
		return err
	}
	if err := s.SetProject(project); err != nil {
		return err
	}
	if err := s.Load(server.StructSource(types.NewProject(project, types.NewDataset(dataset)))); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = s.Stop(context.Background())
	}()
	if err := s.Serve(context.Background(), rest, grpc); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"net/http"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/functions/warehouse/schema"
	"sluice/test/embedded/warehouse"
	"sluice/test/stack"
)

// attachBigQuery creates the dataset and the tables that are missing.
func (a *Attached) attachBigQuery(ctx context.Context, tables []*schema.Table) error {
	client, err := bigquery.NewClient(ctx, a.config.Project, option.WithEndpoint("http://"+a.config.BigQueryREST), option.WithoutAuthentication())
	if err != nil {
		return err
	}
	a.onStop(func(context.Context) error { return client.Close() })
	dataset := client.Dataset(stack.Dataset)
	if _, err := dataset.Metadata(ctx); missing(err) {
		if err := dataset.Create(ctx, nil); err != nil {
			return fmt.Errorf("dataset %s: %w", stack.Dataset, err)
		}
	} else if err != nil {
		return fmt.Errorf("dataset %s: %w", stack.Dataset, err)
	}
	appends, err := storage.NewBigQueryWriteClient(ctx, option.WithEndpoint(a.config.BigQueryGRPC), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return err
	}
	defer appends.Close()
	for _, t := range tables {
		if _, err := dataset.Table(t.Name).Metadata(ctx); missing(err) {
			columns, err := bigquery.SchemaFromJSON(schema.File(t.Name))
			if err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
			partitioning := &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: warehouse.DefaultPartitions()[t.Name].Column}
			if err := dataset.Table(t.Name).Create(ctx, &bigquery.TableMetadata{Schema: columns, TimePartitioning: partitioning}); err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
		} else if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		// goccy's emulator knows a default stream from the first look at it.
		name := fmt.Sprintf("projects/%s/datasets/%s/tables/%s/streams/_default", a.config.Project, stack.Dataset, t.Name)
		if _, err := appends.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: name}); err != nil {
			return fmt.Errorf("default stream of table %s: %w", t.Name, err)
		}
	}
	a.append = a.config.BigQueryGRPC
	a.query = func(ctx context.Context, text string) ([][]int64, error) { return restNumbers(ctx, client, text) }
	return nil
}

func missing(err error) bool {
	var e *googleapi.Error
	return errors.As(err, &e) && e.Code == http.StatusNotFound
}

// restNumbers runs a query whose columns are integers.
func restNumbers(ctx context.Context, client *bigquery.Client, text string) ([][]int64, error) {
	it, err := client.Query(text).Read(ctx)
	if err != nil {
		return nil, err
	}
	var rows [][]int64
	for {
		var row []bigquery.Value
		switch err := it.Next(&row); {
		case errors.Is(err, iterator.Done):
			return rows, nil
		case err != nil:
			return nil, err
		}
		line := make([]int64, len(row))
		for i, v := range row {
			if line[i], err = integer(v); err != nil {
				return nil, err
			}
		}
		rows = append(rows, line)
	}
}

// numbers runs a query whose columns are integers.
func numbers(ctx context.Context, db *sql.DB, text string) ([][]int64, error) {
	found, err := db.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return nil, err
	}
	var rows [][]int64
	for found.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, err
		}
		line := make([]int64, len(columns))
		for i, v := range values {
			if line[i], err = integer(v); err != nil {
				return nil, err
			}
		}
		rows = append(rows, line)
	}
	return rows, found.Err()
}

func integer(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case *big.Int: // DuckDB's sums are HUGEINT
		return v.Int64(), nil
	default:
		return 0, fmt.Errorf("a column is %T, want an integer", v)
	}
}

package attach

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
)

// attachBigQuery creates the dataset and the tables that are missing.
func (a *Attached) attachBigQuery(ctx context.Context, tables []*contract.Table) error {
	client, err := bigquery.NewClient(ctx, a.config.Project, option.WithEndpoint("http://"+a.config.BigQueryREST),
		option.WithoutAuthentication())
	if err != nil {
		return err
	}
	a.onStop(func(context.Context) error { return client.Close() })
	// The client tries requests again for as long as it may.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dataset := client.Dataset(local.Dataset)
	if _, err := dataset.Metadata(ctx); missing(err) {
		if err := dataset.Create(ctx, nil); err != nil {
			return fmt.Errorf("dataset %s: %w", local.Dataset, err)
		}
	} else if err != nil {
		return fmt.Errorf("dataset %s: %w", local.Dataset, err)
	}
	appends, err := storage.NewBigQueryWriteClient(ctx, option.WithEndpoint(a.config.BigQueryGRPC),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return err
	}
	defer appends.Close()
	for _, t := range tables {
		if _, err := dataset.Table(t.Name).Metadata(ctx); missing(err) {
			columns, err := bigquery.SchemaFromJSON(contract.File(t.Name))
			if err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
			partitioning := &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType,
				Field: warehouse.DefaultPartitions()[t.Name].Column}
			if err := dataset.Table(t.Name).Create(ctx, &bigquery.TableMetadata{Schema: columns,
				TimePartitioning: partitioning}); err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
		} else if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		// goccy's emulator knows a default stream from the first look at it.
		name := fmt.Sprintf("projects/%s/datasets/%s/tables/%s/streams/_default", a.config.Project, local.Dataset,
			t.Name)
		if _, err := appends.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: name}); err != nil {
			return fmt.Errorf("default stream of table %s: %w", t.Name, err)
		}
	}
	a.append = a.config.BigQueryGRPC
	a.engine = query.BigQuery{Client: client}
	return nil
}

func missing(err error) bool {
	var e *googleapi.Error
	return errors.As(err, &e) && e.Code == http.StatusNotFound
}

// integers runs a query whose columns are integers.
func (a *Attached) integers(ctx context.Context, statement string) ([][]int64, error) {
	rows, err := query.All(ctx, a.engine, statement)
	if err != nil {
		return nil, err
	}
	all := make([][]int64, len(rows))
	for i, row := range rows {
		for _, v := range row {
			n, ok := v.(int64)
			if !ok {
				return nil, fmt.Errorf("a column is %T, want an integer", v)
			}
			all[i] = append(all[i], n)
		}
	}
	return all, nil
}

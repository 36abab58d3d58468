package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"

	"sluice/internal/contract"
	"sluice/internal/query"
)

// target is where the tables are: a warehouse that run --data kept, or BigQuery.
type target struct {
	here                             *Local // nil: this program knows BigQuery only
	data, project, dataset, location string
	contractsPath                    string
}

// tableFlags are the names of a target's flags.
var tableFlags = []string{"data", "project", "dataset", "contracts", "location"}

func (t *target) flags(fs *flag.FlagSet) {
	if t.here != nil {
		fs.StringVar(&t.data, "data", ".data", "the `folder` that ./scripts/run --data kept; not with --project")
	}
	fs.StringVar(&t.project, "project", "", "Google Cloud `project` of the dataset: the tables are in BigQuery, reached with application default credentials")
	fs.StringVar(&t.dataset, "dataset", "clickstream", "BigQuery `dataset` of the tables")
	fs.StringVar(&t.contractsPath, "contracts", "",
		"`folder` of the streams' contracts, or one contract's file; default: those that --data keeps, or the built-in one")
	fs.StringVar(&t.location, "location", "", "where the dataset lives, such as europe-west3; empty: BigQuery finds out")
}

func (t *target) local() bool { return t.project == "" && t.here != nil }

// validate refuses a program without a local warehouse that is told of no project.
func (t *target) validate() error {
	if t.project == "" && t.here == nil {
		return UsageError("--project is missing: name the Google Cloud project of the dataset")
	}
	return nil
}

// name is the dataset as a query names it.
func (t *target) name() string {
	if t.local() {
		return warehouseDataset
	}
	return t.project + "." + t.dataset
}

// words are the flags that name it.
func (t *target) words() string {
	if t.local() {
		return "--data " + t.data
	}
	words := "--project " + t.project + " --dataset " + t.dataset
	if t.location != "" {
		words += " --location " + t.location
	}
	return words
}

// warehouseDataset is the dataset of every local warehouse.
const warehouseDataset = "clickstream"

// contracts are those of the streams; nil: the built-in one.
func (t *target) contracts() ([]*contract.Contract, error) {
	switch {
	case t.contractsPath != "":
		return contract.ReadPath(t.contractsPath)
	case t.local():
		return t.here.Contracts(t.data)
	}
	return nil, nil
}

// engine opens the tables; close frees them.
func (t *target) engine(ctx context.Context) (engine query.Engine, close func() error, err error) {
	if !t.local() {
		client, err := bigquery.NewClient(ctx, t.project)
		if err != nil {
			return nil, nil, fmt.Errorf("make the BigQuery client (gcloud auth application-default login gives credentials): %w", err)
		}
		client.Location = t.location
		return query.BigQuery{Client: client}, client.Close, nil
	}
	return t.here.Tables(t.data)
}

// moment is a flag of a time: RFC 3339, a date, or a duration before now, which may be
// in days.
type moment struct{ time.Time }

func (m *moment) Set(s string) error {
	ago := s
	if days, err := strconv.ParseUint(strings.TrimSuffix(s, "d"), 10, 16); err == nil && strings.HasSuffix(s, "d") {
		ago = fmt.Sprintf("%dh", days*24)
	}
	if d, err := time.ParseDuration(ago); err == nil && d >= 0 {
		m.Time = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			m.Time = t
			return nil
		}
	}
	return errors.New("want a time such as 2026-11-22T12:00:00Z, a day such as 2026-11-22, or how long ago it is, such as 15m or 30d")
}

func (m *moment) String() string {
	if m == nil || m.IsZero() {
		return ""
	}
	return m.UTC().Format(time.RFC3339)
}

// values is a flag that may be repeated, or hold several values with commas.
type values []string

func (v *values) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*v = append(*v, part)
		}
	}
	return nil
}

func (v *values) String() string {
	if v == nil {
		return ""
	}
	return strings.Join(*v, ",")
}

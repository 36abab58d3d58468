// Package query runs the project's SQL, which is the same for BigQuery and for the
// local warehouse, and answers rows of the same Go types from both.
//
//	engine := query.BigQuery{Client: client}      // cloud.google.com/go/bigquery
//	engine := query.Database{DB: warehouse.DB()}  // the local warehouse
//	for row, err := range engine.Query(ctx, "SELECT error_code, COUNT(*) FROM clickstream.events_dlq WHERE failed_at > ? GROUP BY 1", since) {
//		if err != nil { … }
//		code, n := row[0].(string), row[1].(int64)
//	}
//	rows, err := query.All(ctx, engine, "SELECT …") // where they are few
package query

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"
)

// Engine runs one statement with positional parameters (?).
//
// The rows hold string, int64, float64, bool, time.Time (UTC), []byte or nil for
// null. An error ends the rows. A row is the receiver's to keep.
type Engine interface {
	Query(ctx context.Context, statement string, args ...any) iter.Seq2[[]any, error]
}

// All runs a statement and returns its rows.
func All(ctx context.Context, e Engine, statement string, args ...any) ([][]any, error) {
	var rows [][]any
	for row, err := range e.Query(ctx, statement, args...) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

var (
	_ Engine = BigQuery{}
	_ Engine = Database{}
)

// BigQuery runs statements as query jobs.
type BigQuery struct {
	Client *bigquery.Client // its Location is where the dataset lives
}

// Query implements Engine.
func (b BigQuery) Query(ctx context.Context, statement string, args ...any) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		q := b.Client.Query(statement)
		for _, a := range args {
			q.Parameters = append(q.Parameters, bigquery.QueryParameter{Value: a})
		}
		rows, err := q.Read(ctx)
		if err != nil {
			yield(nil, fmt.Errorf("query BigQuery: %w", err))
			return
		}
		for {
			var values []bigquery.Value
			err := rows.Next(&values)
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("read BigQuery's answer: %w", err))
				return
			}
			row := make([]any, len(values))
			for i, v := range values {
				row[i] = v
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// Database runs statements on a database/sql database that speaks the project's SQL, but
// quotes names as the standard does: GoogleSQL's quotes become those.
type Database struct {
	DB *sql.DB
}

// Query implements Engine.
func (d Database) Query(ctx context.Context, statement string, args ...any) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		rows, err := d.DB.QueryContext(ctx, strings.ReplaceAll(statement, "`", `"`), args...)
		if err != nil {
			yield(nil, fmt.Errorf("query the warehouse: %w", err))
			return
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			yield(nil, err)
			return
		}
		into := make([]any, len(columns))
		for rows.Next() {
			row := make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := rows.Scan(into...); err != nil {
				yield(nil, fmt.Errorf("read the warehouse's answer: %w", err))
				return
			}
			for i, v := range row {
				row[i] = plain(v)
			}
			if !yield(row, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, fmt.Errorf("read the warehouse's answer: %w", err))
		}
	}
}

// plain turns a driver's value into one of Engine's types.
func plain(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UTC()
	case *big.Int: // DuckDB's sums
		if v.IsInt64() {
			return v.Int64()
		}
	case int32:
		return int64(v)
	}
	return v
}

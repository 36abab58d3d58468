package warehouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Querier is a *sql.DB, a *sql.Conn or a *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Answer runs one SQL statement and returns what it answers: the columns' names, and
// rows of values that print well and that encoding/json writes as BigQuery's
// console does.
func Answer(ctx context.Context, db Querier, statement string) (names []string, table [][]any, err error) {
	return AnswerWithin(ctx, db, statement, math.MaxInt64)
}

// ErrLarge is an answer of more bytes than it may have.
var ErrLarge = errors.New("the answer is too large: select fewer rows, fewer columns, or left(column, 100)")

// AnswerWithin is Answer of at most so many bytes of texts; more is ErrLarge.
func AnswerWithin(ctx context.Context, db Querier, statement string, most int64) (names []string, table [][]any,
	err error) {
	rows, err := db.QueryContext(ctx, asStored(ctx, db, statement))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, nil, err
	}
	for _, t := range types {
		names = append(names, t.Name())
	}
	for rows.Next() {
		values := make([]any, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, nil, err
		}
		for i, v := range values {
			values[i] = presentable(v)
			if text, ok := values[i].(string); ok {
				most -= int64(len(text))
			}
		}
		if most < 0 {
			return nil, nil, ErrLarge
		}
		table = append(table, values)
	}
	return names, table, rows.Err()
}

// asStored makes the statement answer JSON columns as the text that is stored, and arrays and
// structs as JSON: the database driver would decode them, and lose the order of their members. Statements
// that cannot stand in a FROM clause are left as they are.
func asStored(ctx context.Context, db Querier, statement string) string {
	rows, err := db.QueryContext(ctx, "DESCRIBE "+statement)
	if err != nil {
		return statement
	}
	defer rows.Close()
	var casts []string
	for rows.Next() {
		var name, typ string
		var rest [4]any
		if rows.Scan(&name, &typ, &rest[0], &rest[1], &rest[2], &rest[3]) != nil {
			return statement
		}
		nested := strings.HasPrefix(typ, "STRUCT(") || strings.HasSuffix(typ, "[]")
		if typ == "JSON" || nested || asText[typ] {
			quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
			text := quoted
			if nested {
				text = "to_json(" + quoted + ")"
			}
			text = "CAST(" + text + " AS VARCHAR)"
			if typ == "DECIMAL(38,9)" { // NUMERIC
				text = "rtrim(rtrim(" + text + ", '0'), '.')"
			}
			casts = append(casts, text+" AS "+quoted)
		}
	}
	if rows.Err() != nil || len(casts) == 0 {
		return statement
	}
	return fmt.Sprintf("SELECT * REPLACE (%s) FROM (%s)", strings.Join(casts, ", "), statement)
}

// asText has DuckDB's types that print better as DuckDB's own text than as Go's values.
var asText = map[string]bool{"DATE": true, "TIME": true, "TIMESTAMP": true, "INTERVAL": true, "DECIMAL(38,9)": true}

// presentable turns a value of the database driver into one that prints well and
// that encoding/json writes as BigQuery's console does.
func presentable(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format("2006-01-02 15:04:05.999999 UTC")
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
		return fmt.Sprintf("0x%x", v)
	case fmt.Stringer:
		return v.String()
	}
	return v
}

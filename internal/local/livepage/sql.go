package livepage

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/local/warehouse"
)

// Limits of statements from the page.
const (
	maxStatement = 16 << 10 // bytes
	maxRows      = 200
	maxCell      = 2000     // characters that are sent of a value
	maxAnswer    = 32 << 20 // bytes that are read of all values
	maxTime      = 10 * time.Second
)

// Answer is what the SQL box shows.
type Answer struct {
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
	More    bool     `json:"more"` // there are rows beyond the limit
	TookMS  float64  `json:"took_ms"`
}

// offered reports whether the page offers the statement itself.
func (p *Page) offered(statement string) bool {
	return slices.ContainsFunc(p.offers, func(q Query) bool { return strings.TrimSpace(q.SQL) == strings.TrimSpace(statement) })
}

// sql is POST /api/sql: the body is one statement that reads.
func (p *Page) sql(g *guard, w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxStatement))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "A statement may have 16 KiB.")
		return
	}
	// Whoever can reach the page may ask what it offers, and no more: statements can be made that take all of a
	// machine's memory.
	if why := g.readOnly(); why != "" && !p.offered(string(text)) {
		refuse(w, http.StatusForbidden, why)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxTime)
	defer cancel()
	answer, err := p.answer(ctx, string(text))
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		refuse(w, http.StatusRequestTimeout, fmt.Sprintf("The statement was ended after %d seconds: let it read less.",
			int(maxTime.Seconds())))
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
	default:
		reply(w, answer)
	}
}

// answer runs a statement that can only read: it stands in a FROM clause, alone, in
// a transaction that refuses writes, on a database that opens no files.
func (p *Page) answer(ctx context.Context, statement string) (*Answer, error) {
	statement = strings.TrimRight(strings.TrimSpace(statement), "; \n\t\r")
	if statement == "" {
		return nil, errors.New("write a SELECT statement first")
	}
	// Nothing is parsed here, so a semicolon in a string is refused as well.
	if strings.Contains(statement, ";") {
		return nil, errors.New("one statement at a time: leave out the semicolon (in a string, write chr(59))")
	}
	begun := time.Now()
	conn, err := p.stack.Warehouse.DB().Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN TRANSACTION READ ONLY"); err != nil {
		return nil, err
	}
	defer func() {
		// The connection goes back to the pool: it must not carry the transaction along.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}()
	if err := allowed(ctx, conn, statement); err != nil {
		return nil, err
	}
	names, rows, err := warehouse.AnswerWithin(ctx, conn, fmt.Sprintf("SELECT * FROM (%s\n) LIMIT %d", statement,
		maxRows+1), maxAnswer)
	if err != nil {
		return nil, errors.New(readable(err))
	}
	a := &Answer{Columns: names, Rows: rows}
	if len(rows) > maxRows {
		a.Rows, a.More = rows[:maxRows], true
	}
	for _, row := range a.Rows {
		for i, v := range row {
			row[i] = shown(v)
		}
	}
	if a.Rows == nil {
		a.Rows = [][]any{}
	}
	a.TookMS = float64(time.Since(begun).Microseconds()) / 1000
	return a, nil
}

// allowed refuses what reads well and does more: functions in the place of a table that write, or tell what others ask,
// and functions that make a short text long. DuckDB itself says what is in the statement.
func allowed(ctx context.Context, conn *sql.Conn, statement string) error {
	if describes.MatchString(statement) {
		return nil
	}
	var text string
	if err := conn.QueryRowContext(ctx, "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR",
		statement).Scan(&text); err != nil {
		return errors.New(readable(err))
	}
	var tree map[string]any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		return err
	}
	if tree["error"] == true {
		return fmt.Errorf("write one SELECT statement: %v", tree["error_message"])
	}
	return walk(tree)
}

// describes is a statement that says which columns a table has.
var describes = regexp.MustCompile(`(?i)^(describe|summarize)\s+[a-z_]+(\.[a-z_]+)?$`)

// walk looks for what is not allowed in a part of a statement.
func walk(part any) error {
	switch part := part.(type) {
	case []any:
		for _, p := range part {
			if err := walk(p); err != nil {
				return err
			}
		}
	case map[string]any:
		name, _ := part["function_name"].(string)
		table, _ := part["table_name"].(string)
		of, _ := part["function"].(map[string]any)
		from, _ := of["function_name"].(string)
		switch {
		case part["type"] == "TABLE_FUNCTION" && !slices.Contains([]string{"unnest", "range", "generate_series"},
			strings.ToLower(from)):
			return fmt.Errorf("%s() is not for this page: read tables and views, or use ./scripts/query", from)
		case slices.Contains([]string{"repeat", "lpad", "rpad", "write_log", "nextval", "list_resize", "array_resize"},
			strings.ToLower(name)):
			return fmt.Errorf("%s() is not for this page: use ./scripts/query", name)
		case slices.ContainsFunc([]string{"duckdb_", "pragma_", "sqlite_", "pg_"},
			func(p string) bool { return strings.HasPrefix(strings.ToLower(table), p) }):
			return fmt.Errorf("%s is not for this page: read the pipeline's tables and views, or use ./scripts/query",
				table)
		}
		for _, p := range part {
			if err := walk(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// readable is the part of DuckDB's error that is about the statement as it was typed.
func readable(err error) string {
	message, _, _ := strings.Cut(err.Error(), "\nLINE ")
	return strings.TrimSpace(message)
}

// shown shortens a value, and makes of what JSON has no form for a text.
func shown(v any) any {
	switch v := v.(type) {
	case nil, bool, int8, int16, int32, uint8, uint16, uint32:
		return v
	case int64:
		if max(v, -v) < 1<<53 { // what a browser's numbers can hold
			return v
		}
		return strconv.FormatInt(v, 10)
	case string:
		if utf8.RuneCountInString(v) > maxCell {
			return string([]rune(v)[:maxCell]) + "…"
		}
		return v
	case float64:
		if _, err := json.Marshal(v); err == nil {
			return v
		}
	}
	return shown(fmt.Sprint(v))
}

package warehouse

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"sluice/internal/contract"
)

// store is the DuckDB database: one schema named as the dataset, one writer per
// table.
type store struct {
	db        *sql.DB
	connector *duckdb.Connector
	dataset   string
	contracts []*contract.Contract
	ready     atomic.Bool // the dataset exists: connections may search it

	mu     sync.RWMutex
	tables map[string]*table
}

// checkpoint is how large the write-ahead log may grow before DuckDB writes it into
// the data file. At its default of 16 MB that took half of the whole cost of a row
// (14 µs against 5 µs at 1 GB) and held up appends for seconds every so often; what
// is longer with a long log is only the start after an end without Close.
const checkpoint = "512MB"

func openStore(file string, c Config) (*store, error) {
	options := url.Values{"checkpoint_threshold": {checkpoint}}
	if c.MemoryLimit != "" {
		options.Set("memory_limit", c.MemoryLimit)
	}
	if c.Threads > 0 {
		options.Set("threads", strconv.Itoa(c.Threads))
	}
	s := &store{dataset: c.Dataset, contracts: c.Contracts, tables: make(map[string]*table)}
	connector, err := connect(file, options, func() string {
		if s.ready.Load() {
			return c.Dataset
		}
		return ""
	})
	if errors.Is(err, errLocked) {
		return nil, err
	}
	if err != nil && file != "" {
		return nil, fmt.Errorf("open %s: %w: if the file is damaged, move its folder away or bring a copy back", file,
			err)
	}
	if err != nil {
		return nil, fmt.Errorf("open a warehouse in memory: %w", err)
	}
	s.connector, s.db = connector, sql.OpenDB(connector)
	if err := s.create(c); err != nil {
		s.close()
		return nil, fmt.Errorf("open %s: %w", orMemory(file), err)
	}
	return s, nil
}

var (
	errLocked = errors.New("has it open, a run or another command: end that first")
	locked    = regexp.MustCompile(`Could not set lock on file.*\(PID (\d+)\)`)
)

// connect makes connections to the data in file, in whose statements names are those of the dataset, if there is one yet.
func connect(file string, options url.Values, dataset func() string) (*duckdb.Connector, error) {
	c, err := duckdb.NewConnector(file+"?"+options.Encode(), func(e driver.ExecerContext) error {
		settings := "SET TimeZone = 'UTC'"
		if name := dataset(); name != "" {
			settings += fmt.Sprintf("; SET search_path = '%s,main'", name)
		}
		_, err := e.ExecContext(context.Background(), settings, nil)
		return err
	})
	if m := locked.FindStringSubmatch(fmt.Sprint(err)); m != nil {
		return nil, fmt.Errorf("open %s: process %s %w", file, m[1], errLocked)
	}
	return c, err
}

// Reader opens the data of a folder once more, after Close of its server: whatever is asked of it changes nothing.
func Reader(dir, dataset string) (*sql.DB, error) {
	c, err := connect(filepath.Join(dir, "warehouse.duckdb"), url.Values{"access_mode": {"READ_ONLY"}},
		func() string { return dataset })
	if err != nil {
		return nil, fmt.Errorf("warehouse: %w", err)
	}
	return sql.OpenDB(c), nil
}

func orMemory(file string) string {
	if file == "" {
		return "in memory"
	}
	return file
}

func (s *store) create(c Config) error {
	ctx := context.Background()
	if _, err := s.db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+quote(s.dataset)); err != nil {
		return err
	}
	for _, m := range macros {
		if _, err := s.db.ExecContext(ctx, "CREATE OR REPLACE MACRO main."+m); err != nil {
			return fmt.Errorf("macro %s: %w", m, err)
		}
	}
	for _, t := range typeNames {
		name, _, _ := strings.Cut(t, " ")
		var n int
		if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM duckdb_types() WHERE type_name = ?",
			name).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if _, err := s.db.ExecContext(ctx, "CREATE TYPE main."+t); err != nil {
			return fmt.Errorf("type %s: %w", t, err)
		}
	}
	// The connection so far knows no search path: the pool gets new ones.
	s.ready.Store(true)
	s.db.SetMaxIdleConns(0)
	s.db.SetMaxIdleConns(4)

	for _, t := range c.Tables {
		if err := s.createTable(ctx, t, c.Partitions[t.Name]); err != nil {
			return err
		}
	}
	return s.createViews(ctx)
}

// createViews creates the contracts' views once all tables that they read exist.
func (s *store) createViews(ctx context.Context) error {
	q := contract.Query{Dataset: s.dataset, Contracts: s.contracts}
	needed := []string{"events_dlq"}
	if len(s.contracts) == 0 {
		needed = append(needed, "fact_events")
	}
	texts := make(map[string]string)
	for _, c := range s.contracts {
		needed = append(needed, c.Table.Name)
		texts[c.ViewName()] = strings.ReplaceAll(c.View(s.dataset), "`", `"`)
	}
	for _, name := range needed {
		if s.table(name) == nil {
			return nil
		}
	}
	for _, view := range contract.Views() {
		if view == "events" && len(s.contracts) > 0 {
			continue // each contract has its own
		}
		text, err := q.SQL(view)
		if err != nil {
			return err
		}
		texts[view] = strings.ReplaceAll(text, "`", `"`)
	}
	for view, text := range texts {
		create := fmt.Sprintf("CREATE OR REPLACE VIEW %s.%s AS %s", quote(s.dataset), quote(view), text)
		if _, err := s.db.ExecContext(ctx, create); err != nil {
			return fmt.Errorf("view %s: %w", view, err)
		}
	}
	return nil
}

// createTable creates the table if it is missing, adds the columns that an older
// file lacks, and starts its writer.
func (s *store) createTable(ctx context.Context, t *contract.Table, p Partition) error {
	if s.table(t.Name) != nil {
		return fmt.Errorf("table %s exists", t.Name)
	}
	name := quote(s.dataset) + "." + quote(t.Name)
	var columns []string
	for _, c := range t.Columns {
		columns = append(columns, declare(c))
	}
	if _, err := s.db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (%s)", name,
		strings.Join(columns, ", "))); err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	for _, c := range t.Columns {
		if _, err := s.db.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s", name,
			quote(c.Name), duckType(c))); err != nil {
			return fmt.Errorf("table %s, column %s: %w", t.Name, c.Name, err)
		}
	}
	stored, err := s.columns(ctx, t)
	if err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	for i, c := range stored {
		if strings.EqualFold(c.Name, p.Column) && (c.Repeated || c.Type != contract.Timestamp &&
			c.Type != contract.Date && c.Type != contract.DateTime) {
			return fmt.Errorf("table %s: partitioned by %s, a %s column: want TIMESTAMP, DATE or DATETIME", t.Name,
				p.Column, c.Type)
		}
		stored[i].Number = 0 // of no meaning here: writers bring their own descriptor
	}
	conn, err := s.connector.Connect(ctx)
	if err != nil {
		return err
	}
	written := &table{name: t.Name, dataset: s.dataset, partition: p, conn: conn, jobs: make(chan *job, 256),
		control: make(chan func()), gone: make(chan struct{}), ended: make(chan struct{})}
	written.shape.Store(newShape(stored, 1))
	written.writing.Go(written.write)
	s.mu.Lock()
	s.tables[t.Name] = written
	s.mu.Unlock()
	return nil
}

// columns are those that rows of t can fill: the stored ones in their order. What t says of a
// column counts; one that t does not have stays, and is null in new rows.
func (s *store) columns(ctx context.Context, t *contract.Table) ([]contract.Column, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT column_name, data_type, NOT is_nullable FROM duckdb_columns()
		WHERE schema_name = ? AND table_name = ? ORDER BY column_index`, s.dataset, t.Name)
	if err != nil {
		return nil, err
	}
	type storedColumn struct {
		name, typ string
		required  bool
	}
	var stored []storedColumn
	for rows.Next() {
		var c storedColumn
		if err := rows.Scan(&c.name, &c.typ, &c.required); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		stored = append(stored, c)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	var columns []contract.Column
	for _, c := range stored {
		i := slices.IndexFunc(t.Columns, func(d contract.Column) bool { return strings.EqualFold(d.Name, c.name) })
		if i < 0 {
			if simple, ok := simpleTypes[c.typ]; ok {
				columns = append(columns, contract.Column{Name: c.name, Type: simple, Required: c.required})
			} else if c.required {
				return nil, fmt.Errorf("column %s is stored as REQUIRED, and the schema does not have it: keep the data in another folder", c.name)
			}
			continue
		}
		declared := t.Columns[i]
		var want string
		if err := s.db.QueryRowContext(ctx, "SELECT typeof(CAST(NULL AS "+duckType(declared)+"))").Scan(&want); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		if want != c.typ {
			// A RECORD that has got columns: its rows so far have null there.
			if declared.Type != contract.Record {
				return nil, fmt.Errorf("column %s is stored as %s, and the schema says %s: keep the data in another folder", c.name, c.typ, want)
			}
			if _, err := s.db.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s.%s ALTER COLUMN %s SET DATA TYPE %s",
				quote(s.dataset), quote(t.Name), quote(c.name), duckType(declared))); err != nil {
				return nil, fmt.Errorf("column %s is stored as %s, and cannot become %s: keep the data in another folder: %w", c.name, c.typ, want, err)
			}
		}
		columns = append(columns, declared)
	}
	return columns, nil
}

// simpleTypes has the types of columns by DuckDB's names, as far as one tells the other.
var simpleTypes = map[string]contract.Type{
	"VARCHAR": contract.String, "BIGINT": contract.Int64, "DOUBLE": contract.Float64, "BOOLEAN": contract.Bool,
	"TIMESTAMP WITH TIME ZONE": contract.Timestamp, "JSON": contract.JSON, "BLOB": contract.Bytes,
}

func (s *store) table(name string) *table {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tables[name]
}

func (s *store) addColumn(ctx context.Context, name string, c contract.Column) error {
	t := s.table(name)
	if t == nil {
		return fmt.Errorf("warehouse: add column %s: no table %s", c.Name, name)
	}
	if c.Required {
		return fmt.Errorf("warehouse: add column %s to %s: want NULLABLE: BigQuery adds no REQUIRED column to a table",
			c.Name, name)
	}
	if err := t.do(ctx, func() error {
		shape := t.shape.Load()
		if _, ok := shape.index[strings.ToLower(c.Name)]; ok {
			return fmt.Errorf("warehouse: add column %s to %s: it exists", c.Name, name)
		}
		if err := t.exec(ctx, fmt.Sprintf("ALTER TABLE %s.%s ADD COLUMN %s %s", quote(s.dataset), quote(name),
			quote(c.Name), duckType(c))); err != nil {
			return fmt.Errorf("warehouse: add column %s to %s: %w", c.Name, name, err)
		}
		t.shape.Store(newShape(append(shape.columns[:len(shape.columns):len(shape.columns)], c), shape.version+1))
		return nil
	}); err != nil {
		return err
	}
	return s.createViews(ctx) // SELECT * is expanded when a view is created
}

func (s *store) dropTable(ctx context.Context, name string) error {
	s.mu.Lock()
	t := s.tables[name]
	delete(s.tables, name)
	s.mu.Unlock()
	if t == nil {
		return fmt.Errorf("warehouse: drop table %s: there is none", name)
	}
	err := t.close()
	_, dropped := s.db.ExecContext(ctx, fmt.Sprintf("DROP TABLE %s.%s", quote(s.dataset), quote(name)))
	return errors.Join(err, dropped)
}

func (s *store) close() error {
	s.mu.Lock()
	tables := s.tables
	s.tables = nil
	s.mu.Unlock()
	var errs []error
	for _, t := range tables {
		errs = append(errs, t.close())
	}
	return errors.Join(append(errs, s.db.Close())...)
}

// shape is a table's columns at one time.
type shape struct {
	version int // grows with every change
	columns []contract.Column
	index   map[string]int // by lower-case name: BigQuery's names are case-insensitive
}

func newShape(columns []contract.Column, version int) *shape {
	s := &shape{version: version, columns: columns, index: make(map[string]int, len(columns))}
	for i, c := range columns {
		s.index[strings.ToLower(c.Name)] = i
	}
	return s
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func declare(c contract.Column) string {
	d := quote(c.Name) + " " + duckType(c)
	if c.Required {
		d += " NOT NULL"
	}
	return d
}

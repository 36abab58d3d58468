package warehouse

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	duckdb "github.com/duckdb/duckdb-go/v2"
	"google.golang.org/grpc/status"
)

// table is one table and its writer: a goroutine that owns a connection and an
// appender and stores the rows of all requests that wait in one commit.
type table struct {
	name, dataset string
	partition     Partition
	shape         atomic.Pointer[shape]

	jobs    chan *job
	control chan func()
	gone    chan struct{} // closed when the table is dropped or the server closed
	ended   chan struct{} // closed when the writer has ended
	once    sync.Once
	writing sync.WaitGroup

	// owned by write
	conn     driver.Conn
	appender *duckdb.Appender
	version  int // of the shape that the appender was made for
	row      []driver.Value
}

// job is the rows of one request, as the table's columns were when it came.
type job struct {
	rows    []driver.Value // columns × count
	columns int
	count   int
	done    chan error // takes one answer
}

// stored waits until the rows of j are visible to queries.
func (t *table) stored(ctx context.Context, j *job) error {
	select {
	case err := <-j.done:
		return err
	case <-t.ended: // perhaps before it has seen the job
		select {
		case err := <-j.done:
			return err
		default:
			return errTableGone
		}
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

var errTableGone = errors.New("the table is gone")

// maxCommit bounds the rows of one commit, and with it how long the first
// request of a commit waits for the last.
const maxCommit = 64 << 10

// submit hands the rows to the writer; stored tells what becomes of them.
func (t *table) submit(j *job) {
	select {
	case t.jobs <- j:
	case <-t.gone:
		j.done <- errTableGone
	}
}

// do runs f between two commits, with no appender open.
func (t *table) do(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case t.control <- func() { result <- f() }:
		return <-result
	case <-t.gone:
		return errTableGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exec runs a statement on the writer's connection; only inside do.
func (t *table) exec(ctx context.Context, statement string) error {
	_, err := t.conn.(driver.ExecerContext).ExecContext(ctx, statement, nil)
	return err
}

func (t *table) close() error {
	t.once.Do(func() { close(t.gone) })
	t.writing.Wait()
	return t.conn.Close()
}

func (t *table) write() {
	defer close(t.ended)
	defer t.closeAppender()
	var batch []*job
	for {
		select {
		case j := <-t.jobs:
			batch = append(batch[:0], j)
			rows := j.count
		gather:
			for rows < maxCommit {
				select {
				case j := <-t.jobs:
					batch = append(batch, j)
					rows += j.count
				default:
					break gather
				}
			}
			err := t.commit(batch)
			for i, j := range batch {
				j.done <- err
				batch[i] = nil
			}
		case f := <-t.control:
			t.closeAppender()
			f()
		case <-t.gone:
			for {
				select {
				case j := <-t.jobs:
					j.done <- errTableGone
				default:
					return
				}
			}
		}
	}
}

// commit stores all rows or none: the appender's flush is one statement.
func (t *table) commit(batch []*job) error {
	if err := t.openAppender(); err != nil {
		return err
	}
	for _, j := range batch {
		for i := range j.count {
			n := copy(t.row, j.rows[i*j.columns:(i+1)*j.columns])
			clear(t.row[n:]) // columns added since
			if err := t.appender.AppendRow(t.row...); err != nil {
				t.closeAppender()
				return fmt.Errorf("store row %d: %w", i, err)
			}
		}
	}
	if err := t.appender.Flush(); err != nil {
		t.closeAppender()
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// openAppender makes an appender that inserts through a query: DuckDB's plain
// appender cannot take JSON as text, nor timestamps as numbers.
func (t *table) openAppender() error {
	shape := t.shape.Load()
	if t.appender != nil && t.version == shape.version {
		return nil
	}
	t.closeAppender()
	types := make([]duckdb.TypeInfo, len(shape.columns))
	names := make([]string, len(shape.columns))
	values := make([]string, len(shape.columns))
	columns := make([]string, len(shape.columns))
	for i, c := range shape.columns {
		info, value, err := staging(c, false)
		if err != nil {
			return err
		}
		types[i], names[i] = info, fmt.Sprintf("c%d", i)
		values[i] = fmt.Sprintf(value, names[i])
		columns[i] = quote(c.Name)
	}
	insert := fmt.Sprintf("INSERT INTO %s.%s (%s) SELECT %s FROM staged", quote(t.dataset), quote(t.name),
		strings.Join(columns, ", "), strings.Join(values, ", "))
	appender, err := duckdb.NewQueryAppender(t.conn, insert, "staged", types, names)
	if err != nil {
		return fmt.Errorf("open appender: %w", err)
	}
	t.appender, t.version, t.row = appender, shape.version, make([]driver.Value, len(shape.columns))
	return nil
}

func (t *table) closeAppender() {
	if t.appender == nil {
		return
	}
	// Nothing is waiting in it: every commit ends with a flush, and after a
	// failed one the appender refuses what it holds.
	_ = t.appender.Close()
	t.appender = nil
}

package warehouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Write makes all rows durable but those that BigQuery will never take, which it
// returns in the order of their indices. BigQuery refuses a request for one bad
// row in it: the rows that it names are taken out and the others are sent again,
// and where it names none they are found by halving. Requests stay below MaxRequest.
//
// After an error any of the rows may be durable or not, and their memory must not
// be used again.
func (a *Appender) Write(ctx context.Context, rows [][]byte) (rejected []RowError, err error) {
	w := &write{
		a:    a,
		rows: rows,
		// A bad row without a name costs two requests per halving: this pays for 16
		// of them, or for 32 rounds of named ones.
		budget: 32 * (1 + bits.Len(uint(len(rows)))),
	}
	if err := w.all(ctx); err != nil {
		if len(w.rejected) > 0 && !w.settled { // perhaps for the schema that the stream began with
			a.doubt()
		}
		return nil, err
	}
	slices.SortFunc(w.rejected, func(x, y RowError) int { return cmp.Compare(x.Index, y.Index) })
	return w.rejected, nil
}

// write is one Write.
type write struct {
	a        *Appender
	rows     [][]byte
	rejected []RowError
	budget   int           // requests that may still be sent
	unnamed  *RequestError // the refusal of a row alone, if there was one
	standing               // of the streams that were used
}

// all makes all rows durable or rejected.
func (w *write) all(ctx context.Context) error {
	for request := range w.requests() {
		if err := w.settle(ctx, request); err != nil {
			return err
		}
	}
	return w.plausible()
}

// requests splits the rows' indices so that each part fits into a request.
func (w *write) requests() func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		part := make([]int, 0, len(w.rows))
		size := w.a.overhead()
		for i, row := range w.rows {
			n := rowSize(row)
			if w.a.overhead()+n > w.a.config.MaxRequest {
				w.reject(i, CodeTooLarge, fmt.Sprintf("As a row the event has %d bytes, and a request to BigQuery at most %d.",
					len(row), w.a.config.MaxRequest))
				continue
			}
			if len(part) > 0 && size+n > w.a.config.MaxRequest {
				if !yield(part) {
					return
				}
				part, size = make([]int, 0, len(w.rows)-i), w.a.overhead()
			}
			part, size = append(part, i), size+n
		}
		if len(part) > 0 {
			yield(part)
		}
	}
}

// settle makes the rows of the indices durable or rejected.
func (w *write) settle(ctx context.Context, part []int) error {
	for len(part) > 0 {
		err := w.append(ctx, part)
		if err == nil {
			return nil
		}
		if named, ok := errors.AsType[*RowErrors](err); ok {
			part = w.takeOut(part, named.Rows)
			continue
		}
		refusal, ok := errors.AsType[*RequestError](err)
		if !ok || refusal.fault != rows {
			return err
		}
		if len(part) == 1 {
			w.unnamed = refusal
			w.reject(part[0], CodeRejected, refusal.message)
			return nil
		}
		half := len(part) / 2
		if err := w.settle(ctx, part[:half]); err != nil {
			return err
		}
		part = part[half:]
	}
	return nil
}

// append sends the rows of the indices in one request.
func (w *write) append(ctx context.Context, part []int) error {
	if w.budget--; w.budget < 0 {
		return fmt.Errorf("append to %s: too many requests for %d rows, %d of which are refused so far",
			w.a.config.Table,
			len(w.rows), len(w.rejected))
	}
	request := w.rows
	if len(part) < len(w.rows) {
		request = make([][]byte, len(part))
		for i, index := range part {
			request[i] = w.rows[index]
		}
	}
	s, err := w.a.append(ctx, request)
	w.proven, w.settled = w.proven || s.proven, w.settled || s.settled
	return err
}

// takeOut rejects the named rows of a request and returns the indices of the others.
func (w *write) takeOut(part []int, named []RowError) []int {
	bad := make(map[int]bool, len(named))
	for _, e := range named {
		if !bad[e.Index] {
			bad[e.Index] = true
			w.reject(part[e.Index], e.Code, e.Message)
		}
	}
	rest := make([]int, 0, len(part)-len(bad))
	for i, index := range part {
		if !bad[i] {
			rest = append(rest, index)
		}
	}
	return rest
}

func (w *write) reject(index int, code, message string) {
	if message == "" {
		message = "BigQuery refuses the row without saying why."
	}
	w.rejected = append(w.rejected, RowError{Index: index, Code: code, Message: message})
}

// plausible is an error if BigQuery refused every row that it was sent: then it may be the
// table that does not fit, from the start or since somebody has replaced it, and the rows must
// wait until it is shown otherwise. It is shown by a stream that was opened after the doubt and
// has taken other rows. A single row that BigQuery names is believed, if it is not the second
// in a row.
func (w *write) plausible() error {
	sent, refused := len(w.rows), len(w.rejected)
	for _, e := range w.rejected {
		if e.Code == CodeTooLarge { // never sent
			sent--
			refused--
		}
	}
	if sent == 0 {
		return nil
	}
	if refused < sent {
		w.a.refusals.Store(0)
		return nil
	}
	before := w.a.refusals.Add(1) - 1
	if w.settled || sent == 1 && w.unnamed == nil && before == 0 {
		return nil
	}
	what := "has not taken any before: does the table have the columns of this version?"
	if w.proven {
		what = "took others before: has the table been changed or replaced?"
	}
	err := fmt.Errorf("append to %s: BigQuery refuses all of %d rows and %s", w.a.config.Table, sent, what)
	if w.unnamed != nil {
		err = fmt.Errorf("%w %w", err, w.unnamed)
	}
	return err
}

// rowSize is what a row adds to a request, bytes.
func rowSize(row []byte) int {
	return 1 + protowire.SizeBytes(len(row))
}

// overhead is more than what a request has besides rows, bytes.
func (a *Appender) overhead() int {
	return a.descriptorSize + len(a.config.Table) + len(a.config.TraceID) + 256
}

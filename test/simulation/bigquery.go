package simulation

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/googleapis/gax-go/v2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sluice/internal/contract"
)

// warehouse is BigQuery with the two tables.
type warehouse struct {
	w        *world
	missing  [2]time.Time // until then a table is not there: of events, of dead letters
	replayed map[place]int
	letters  []place // rows of events_dlq, those of replays left out
}

// The tables.
const (
	facts = iota
	dlq
)

// client is a warehouse.Client for one table, of one instance.
type client struct {
	w     *world
	at    *instance
	table int
}

// AppendRows opens a stream.
func (c *client) AppendRows(ctx context.Context, _ ...gax.CallOption) (storagepb.BigQueryWrite_AppendRowsClient,
	error) {
	s := &appending{client: c, ctx: ctx, requests: make(chan *storagepb.AppendRowsRequest, 1000),
		answers: make(chan *storagepb.AppendRowsResponse, 1000), ended: make(chan struct{})}
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.at.crashed || w.fails(StreamFailures, w.dice("open"+c.at.name), 6) {
		return nil, status.Error(codes.Unavailable, "no connection")
	}
	w.others.Go(s.serve)
	return s, nil
}

// appending is one AppendRows call.
type appending struct {
	grpc.ClientStream
	*client
	ctx      context.Context
	requests chan *storagepb.AppendRowsRequest
	answers  chan *storagepb.AppendRowsResponse
	ended    chan struct{} // closed after err is set
	err      error
}

// Send encodes a request and gives it to the connection. It may be kept from that for a while, and its caller not wait.
func (s *appending) Send(r *storagepb.AppendRowsRequest) error {
	w := s.w
	w.mu.Lock()
	slow := w.fails(Silence, w.dice("send"+s.at.name), 15)
	w.mu.Unlock()
	if slow {
		t := time.NewTimer(6 * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	r = proto.CloneOf(r)
	select {
	case <-s.ended:
		return fmt.Errorf("EOF: %w", s.err)
	case <-s.ctx.Done():
		return s.ctx.Err()
	case s.requests <- r:
		return nil
	}
}

func (s *appending) CloseSend() error {
	close(s.requests)
	return nil
}

func (s *appending) Recv() (*storagepb.AppendRowsResponse, error) {
	select {
	case a := <-s.answers:
		return a, nil
	default:
	}
	select {
	case a := <-s.answers:
		return a, nil
	case <-s.ended:
		return nil, s.err
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

// serve answers the requests in their order.
func (s *appending) serve() {
	w := s.w
	where := fmt.Sprintf("append%s/%d", s.at.name, s.table)
	end := func(err error) {
		s.err = err
		close(s.ended)
	}
	for {
		var r *storagepb.AppendRowsRequest
		select {
		case r = <-s.requests:
		case <-s.ctx.Done():
			return
		case <-s.at.dead:
			end(status.Error(codes.Unavailable, "the connection is gone"))
			return
		}
		if r == nil { // closed by the client
			end(status.Error(codes.OK, ""))
			return
		}
		dice := w.roll(where)
		time.Sleep(between(dice, time.Millisecond, 100*time.Millisecond))
		rows := r.GetProtoRows().GetRows().GetSerializedRows()
		w.mu.Lock()
		answer, silent, err := s.answer(rows, func(kind Faults, once int) bool { return w.fails(kind, dice, once) })
		w.mu.Unlock()
		switch {
		case err != nil:
			end(err)
			return
		case silent:
			<-s.ctx.Done()
			return
		}
		s.answers <- answer
	}
}

// answer is what BigQuery does with a request. The lock is held.
func (s *appending) answer(rows [][]byte, fails func(Faults, int) bool) (a *storagepb.AppendRowsResponse, silent bool,
	err error) {
	t := s.w.tables
	if s.at.crashed {
		return nil, false, status.Error(codes.Unavailable, "the connection is gone")
	}
	if time.Now().Before(t.missing[s.table]) && !s.w.calm {
		detail, _ := anypb.New(&storagepb.StorageError{Code: storagepb.StorageError_TABLE_NOT_FOUND})
		return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{
			Error: &spb.Status{Code: int32(codes.NotFound), Message: "no such table",
				Details: []*anypb.Any{detail}}}}, false, nil
	}
	if fails(StreamFailures, 10) {
		return nil, false, status.Error(codes.Aborted, "closed before it was written")
	}
	if fails(Silence, 25) {
		s.w.reached[unanswered]++
		return nil, true, nil
	}
	if s.table == facts {
		var bad []*storagepb.RowError
		for i, row := range rows {
			if parse(row, eventColumns).user == refusedUser {
				bad = append(bad, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR,
					Message: "no such user"})
			}
		}
		if bad != nil {
			s.w.reached[rowRefused]++
			return &storagepb.AppendRowsResponse{RowErrors: bad, Response: &storagepb.AppendRowsResponse_Error{
				Error: &spb.Status{Code: int32(codes.InvalidArgument), Message: "errors in rows"}}}, false, nil
		}
	}
	for _, row := range rows {
		t.land(s.table, row)
	}
	if fails(LostAnswers, 12) {
		s.w.reached[untold]++
		return nil, false, status.Error(codes.Unavailable, "closed after it was written")
	}
	if fails(Silence, 25) {
		return nil, true, nil
	}
	return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{
		AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}}, false, nil
}

// land makes a row durable. The lock is held.
func (t *warehouse) land(table int, row []byte) {
	w := t.w
	got := parse(row, columnsOf[table])
	rec := w.kafka.find(int32(got.partition), got.offset)
	if rec == nil || got.topic != topic {
		w.violated("rows", "a row has the coordinates %s/%d:%d that there are not", got.topic, got.partition,
			got.offset)
		return
	}
	at := place{int32(got.partition), got.offset, got.replay}
	if table == dlq {
		if rec.letters++; rec.letters == 2 {
			w.reached[letterTwice]++
		}
		if rec.kind == large {
			w.reached[largeLettered]++
		}
		if got.replay == "" {
			t.letters = append(t.letters, at)
		}
		if rec.kind == good && !rec.givenUp {
			w.violated("places", "record %d/%d can be a row, and is a dead letter: %s", got.partition, got.offset,
				got.code)
		}
		return
	}
	if got.id != rec.id {
		w.violated("rows", "the row of %d/%d has the id %s, not %s", got.partition, got.offset, got.id, rec.id)
	}
	if got.replay != "" {
		t.replayed[at]++
		w.reached[replayLanded]++
		return
	}
	if rec.rows++; rec.rows == 2 {
		w.reached[rowTwice]++
	}
	if rec.kind != good {
		w.violated("places", "record %d/%d can be no row, and is one", got.partition, got.offset)
	}
}

// row is what of a row is looked at.
type row struct {
	id, user, topic, replay, code string
	partition, offset             int64
}

// columns are numbers of columns; 0: the table has none such.
type columns struct{ id, user, topic, partition, offset, replay, code protowire.Number }

var (
	eventColumns  = numbers(contract.FactEvents())
	letterColumns = numbers(contract.EventsDLQ())
	columnsOf     = [...]columns{facts: eventColumns, dlq: letterColumns}
)

func numbers(t *contract.Table) columns {
	n := func(name string) protowire.Number {
		c, _ := t.Column(name)
		return c.Number
	}
	return columns{n("event_id"), n("user_id"), n("kafka_topic"), n("kafka_partition"), n("kafka_offset"),
		n("replay_id"), n("error_code")}
}

func parse(b []byte, c columns) row {
	var r row
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		size := -1
		if n >= 0 {
			b = b[n:]
			size = protowire.ConsumeFieldValue(number, typ, b)
		}
		if size < 0 {
			return row{topic: "(no row)"}
		}
		switch typ {
		case protowire.BytesType:
			text, _ := protowire.ConsumeBytes(b)
			switch number {
			case c.id:
				r.id = string(text)
			case c.user:
				r.user = string(text)
			case c.topic:
				r.topic = string(text)
			case c.replay:
				r.replay = string(text)
			case c.code:
				r.code = string(text)
			}
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			switch number {
			case c.partition:
				r.partition = int64(v)
			case c.offset:
				r.offset = int64(v)
			}
		}
		b = b[size:]
	}
	return r
}

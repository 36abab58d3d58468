package livepage

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"sluice/internal/local"
)

// latest is how many rows the lists show.
const latest = 12

// Event is a line of the list of events. Times are Unix microseconds, 0: unknown.
type Event struct {
	Coordinates
	ID       string  `json:"id"`
	Type     string  `json:"type"`  // the column that its contract calls so, or the contract's name
	About    string  `json:"about"` // the first of its other texts
	Ingested int64   `json:"ingested"`
	TookMS   float64 `json:"took_ms"` // from Kafka's timestamp to the row; negative: unknown
}

// Rejected is a line of the list of dead letters.
type Rejected struct {
	Coordinates
	Code   string `json:"code"`
	Field  string `json:"field"`
	Error  string `json:"error"`
	Failed int64  `json:"failed"`
}

// Coordinates name a record. Offset −1: the event did not come through Kafka.
type Coordinates struct {
	Topic     string `json:"topic"`
	Partition int64  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// feed reads the latest rows of all tables.
type feed struct {
	db              *sql.DB
	streams         []listed
	ingested, fails int64 // the latest times seen, so that the next look is a short one
}

func newFeed(s *local.Stack, streams []listed) *feed {
	return &feed{db: s.Warehouse.DB(), streams: streams}
}

// clipped is the SQL of a text of which the lists show no more than a line has room for: a row may have
// megabytes of it, and every reader gets all rows each time.
func clipped(text string) string {
	const most = "300"
	return "CASE WHEN length(" + text + ") > " + most + " THEN left(" + text + ", " + most + ") || '…' ELSE " + text +
		" END"
}

// overlap is how far rows may come out of order.
const overlap = 10 * time.Second

func (f *feed) latest(ctx context.Context) ([]Event, []Rejected, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	events, err := f.events(ctx)
	if err != nil {
		return nil, nil, err
	}
	rejected, err := f.rejected(ctx)
	return events, rejected, err
}

func (f *feed) events(ctx context.Context) ([]Event, error) {
	var all []string
	var args []any
	for _, stream := range f.streams {
		all = append(all, "SELECT * FROM (SELECT "+stream.row+`, COALESCE(kafka_topic, '') AS topic, COALESCE(kafka_partition, -1) AS part, COALESCE(kafka_offset, -1) AS off,
  epoch_us(ingested_at) AS ingested, COALESCE((epoch_us(ingested_at) - epoch_us(kafka_timestamp)) / 1000.0, -1) AS took
FROM `+quoted(stream.contract.Table.Name)+` WHERE ingested_at >= make_timestamptz(?) ORDER BY ingested DESC, part, off DESC LIMIT ?)`)
		args = append(args, f.ingested-overlap.Microseconds(), latest)
	}
	rows, err := f.db.QueryContext(ctx, strings.Join(all,
		" UNION ALL ")+" ORDER BY ingested DESC, topic, part, off DESC LIMIT ?", append(args, latest)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		var e Event
		if err := rows.Scan(&e.ID, &e.Type, &e.About, &e.Topic, &e.Partition, &e.Offset, &e.Ingested,
			&e.TookMS); err != nil {
			return nil, err
		}
		f.ingested = max(f.ingested, e.Ingested)
		events = append(events, e)
	}
	return events, rows.Err()
}

func (f *feed) rejected(ctx context.Context) ([]Rejected, error) {
	rows, err := f.db.QueryContext(ctx, `
SELECT `+clipped("error_code")+`, `+clipped("COALESCE(error_field, '')")+`, `+clipped("error")+`, COALESCE(kafka_topic, ''), COALESCE(kafka_partition, -1), COALESCE(kafka_offset, -1), epoch_us(failed_at)
FROM events_dlq WHERE failed_at >= make_timestamptz(?)
ORDER BY failed_at DESC, kafka_partition, kafka_offset DESC LIMIT ?`, f.fails-time.Hour.Microseconds(), latest)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var rejected []Rejected
	for rows.Next() {
		var r Rejected
		if err := rows.Scan(&r.Code, &r.Field, &r.Error, &r.Topic, &r.Partition, &r.Offset, &r.Failed); err != nil {
			return nil, err
		}
		f.fails = max(f.fails, r.Failed)
		rejected = append(rejected, r)
	}
	return rejected, rows.Err()
}

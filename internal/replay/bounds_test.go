package replay_test

import (
	"testing"
	"time"

	"sluice/internal/replay"
)

// Protects the bill of a replay: what is read of both tables can be bounded, and the bound says what is
// not known then.
func TestBoundsOfWhatIsRead(t *testing.T) {
	e := tables(t)
	now := time.Now().UTC().Truncate(time.Second)
	day := now.Add(-24 * time.Hour)
	insert(t, e, `INSERT INTO clickstream.events_dlq (error_code, error, failed_at, original_event, kafka_topic, kafka_partition, kafka_offset) VALUES
		('row_rejected', 'because', ?, '{}', 'clickstream', 0, 1), ('row_rejected', 'again', ?, '{}', 'clickstream', 0, 1),
		('row_rejected', 'because', ?, '{}', 'clickstream', 0, 2)`, day, now.Add(-time.Minute), day)
	insert(t, e, `INSERT INTO clickstream.fact_events (event_id, event_timestamp, event_type, user_id, ingested_at, kafka_topic, kafka_partition, kafka_offset) VALUES
		('a', ?, 'search', 'u', ?, 'clickstream', 0, 1)`, day, now)
	for _, c := range []struct {
		name   string
		filter replay.Filter
		want   int64
	}{
		{"all that has not landed", replay.Filter{}, 1},
		{"of all rows, the latest letters", replay.Filter{Since: now.Add(-time.Hour)}, 0},
		{"rows of the event's day", replay.Filter{EventsSince: day}, 1},
		{"rows of later events only", replay.Filter{EventsSince: now.Add(-time.Hour)}, 2},
		{"both", replay.Filter{Since: now.Add(-time.Hour), EventsSince: now.Add(-time.Hour)}, 1},
	} {
		r := replay.New("clickstream", c.filter)
		if err := replay.Execute(t.Context(), e, r, &steps{}, replay.Options{}); err != nil || r.Sent != c.want {
			t.Errorf("%s: %d sent, want %d, %v", c.name, r.Sent, c.want, err)
		}
	}
}

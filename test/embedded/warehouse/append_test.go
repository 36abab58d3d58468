package warehouse_test

import (
	"testing"
	"time"

	"sluice/functions/warehouse/schema"
	"sluice/test/embedded/warehouse"
)

var now = time.Now().UTC().Truncate(time.Microsecond)

// event is a row that is good as it is; changes replace or (nil) remove columns.
func event(id string, changes values) values {
	v := values{
		"event_id": id, "event_timestamp": now.UnixMicro(), "event_type": "page_view", "user_id": "u1",
		"ingested_at": now.UnixMicro(), "kafka_topic": "clickstream", "kafka_partition": int64(0), "kafka_offset": int64(7),
		"kafka_timestamp": now.Add(-time.Second).UnixMicro(),
	}
	for name, value := range changes {
		if value == nil {
			delete(v, name)
		} else {
			v[name] = value
		}
	}
	return v
}

// Protects the main promise: what is acknowledged is visible to SQL, to the byte.
func TestAcknowledgedRowsAreVisibleAsSent(t *testing.T) {
	w := start(t, warehouse.Config{})
	table := schema.FactEvents()
	stream := open(t, dial(t, w))
	properties := `{"a":  1.50, "b": "<x>é", "c": null}`
	answer := exchange(t, stream, request(w, "fact_events", table.Descriptor(), encode(table, event("e1", values{"properties": properties, "page_url": "/ü\x00"}))))
	if answer.GetError() != nil || answer.GetAppendResult() == nil || answer.GetAppendResult().GetOffset() != nil {
		t.Fatalf("answer %v: want a result without offset", answer)
	}
	var id, p, url string
	var at time.Time
	var product *string
	if err := w.DB().QueryRow("SELECT event_id, event_timestamp, properties::VARCHAR, product_id, page_url FROM fact_events").Scan(&id, &at, &p, &product, &url); err != nil {
		t.Fatal(err)
	}
	if id != "e1" || !at.Equal(now) || p != properties || product != nil || url != "/ü\x00" {
		t.Errorf("got %q %v %s %v %q", id, at, p, product, url)
	}
}

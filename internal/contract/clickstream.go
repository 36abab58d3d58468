package contract

import (
	"fmt"
	"regexp"
	"time"
)

// The names of columns that mean something to every contract: they say where an event came
// from and when it was ingested, and are filled by the decoder.
const (
	IngestedAt     = "ingested_at"
	KafkaTopic     = "kafka_topic"
	KafkaPartition = "kafka_partition"
	KafkaOffset    = "kafka_offset"
	KafkaTimestamp = "kafka_timestamp"
	ReplayID       = "replay_id"
)

// SystemColumns are the columns that every table has, by their names; a contract may place them itself.
var SystemColumns = []string{IngestedAt, KafkaTopic, KafkaPartition, KafkaOffset, KafkaTimestamp, ReplayID}

// system has the source and type of these columns.
var system = map[string]struct {
	source Source
	typ    Type
}{
	IngestedAt:     {FromIngestionTime, Timestamp},
	KafkaTopic:     {FromKafkaTopic, String},
	KafkaPartition: {FromKafkaPartition, Int64},
	KafkaOffset:    {FromKafkaOffset, Int64},
	KafkaTimestamp: {FromKafkaTimestamp, Timestamp},
	ReplayID:       {FromReplayID, String},
}

// Clickstream is the built-in contract for a table like fact_events: each column takes the
// member of its name, strictly; members that no column takes go into the column properties;
// event_type is one of types, event_timestamp at most maxAge before and maxAhead after the
// time of ingestion, and REQUIRED strings are not empty. The table needs a JSON column
// properties and the columns event_type and event_timestamp to have their types.
func Clickstream(t *Table, types []string, maxAge, maxAhead time.Duration) (*Contract, error) {
	const properties, eventType, eventTimestamp = "properties", "event_type", "event_timestamp"
	c := &Contract{
		Name: "clickstream", Table: t, Format: FormatJSON, Bare: true, Rest: RestDrop,
		ID: []string{"event_id"}, Time: eventTimestamp, EventType: eventType,
		Partition: Partition{Column: eventTimestamp, Every: Day}, Cluster: []string{eventType, "user_id"},
		Pattern:  regexp.MustCompile(".*"), // every topic's records
		MaxBytes: 8 << 20, MaxDepth: 100,
	}
	for _, column := range t.Columns {
		f := Field{Paths: []Path{{{Name: column.Name}}}}
		if own, ok := system[column.Name]; ok {
			if column.Type != own.typ {
				return nil, fmt.Errorf("contract: table %s: column %s is %s, want %s", t.Name, column.Name, column.Type,
					own.typ)
			}
			if column.Required && column.Name != IngestedAt {
				return nil, fmt.Errorf("contract: table %s: column %s is REQUIRED, but not every event has one", t.Name,
					column.Name)
			}
			f = Field{Source: own.source}
		}
		switch {
		case column.Name == properties:
			if column.Type != JSON || column.Required {
				return nil, fmt.Errorf("contract: table %s: column %s is %s, want JSON of mode NULLABLE: not every event has "+
					"other members", t.Name, column.Name, column.Type)
			}
			f, c.Rest = Field{Source: FromRest}, RestColumn
		case column.Name == eventType && column.Type == String:
			f.Allowed = types
		case column.Name == eventTimestamp && column.Type == Timestamp:
			f.Range = &Range{Oldest: maxAge, Newest: maxAhead}
		case column.Name == eventType || column.Name == eventTimestamp:
			return nil, fmt.Errorf("contract: table %s: column %s is %s, want event_type STRING and event_timestamp TIMESTAMP", t.Name, column.Name, column.Type)
		case column.Required && column.Type == String:
			f.NotEmpty = true
		}
		c.Fields = append(c.Fields, f)
	}
	if c.Rest != RestColumn {
		return nil, fmt.Errorf("contract: table %s has no JSON column %s for an event's other members", t.Name,
			properties)
	}
	return c, nil
}

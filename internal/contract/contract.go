// Package contract says what an event is: the tables that events and dead letters
// become rows of, the codes with which a record is rejected, and the SQL that belongs to
// the tables. Everything that knows an event takes it from here: the functions, the
// audit, the replay, Terraform and the local warehouse.
//
//	table := contract.FactEvents()           // or contract.Parse(name, json)
//	column, ok := table.Column("user_id")    // its number in the wire bytes, type, mode
//	descriptor := table.Descriptor()         // for AppendRowsRequest.ProtoRows.writer_schema
//	text, err := contract.SQL("events", "clickstream") // the SELECT of the view events
//
// The columns stand in BigQuery's own schema format, in fact_events.json and
// events_dlq.json. That is the one place where a column is added: Terraform creates the
// tables from the same files, and the row encoders and the protobuf descriptors of the
// Storage Write API are built from them at start.
//
// A row in wire bytes is one proto2 message whose field numbers are the columns'
// positions. Types map as the Storage Write API wants them: STRING and JSON to
// string, INT64 to int64, FLOAT64 to double, BOOL to bool, TIMESTAMP to int64
// (microseconds since the Unix epoch), BYTES to bytes; see
// https://cloud.google.com/bigquery/docs/supported-data-types.
package contract

// Package schema holds the tables' columns, in BigQuery's own schema format, and
// what follows from them. It is the one place where a column is added: Terraform
// creates the tables from the same JSON files, the row encoders and the protobuf
// descriptors of the Storage Write API are built from them at start.
//
//	table := schema.FactEvents()             // or schema.Parse(name, json)
//	column, ok := table.Column("user_id")    // its number in the wire bytes, type, mode
//	descriptor := table.Descriptor()         // for AppendRowsRequest.ProtoRows.writer_schema
package schema

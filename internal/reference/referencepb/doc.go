// Package referencepb is what protoc generates from reference.proto. internal/batch/batchpb
// says how.
package referencepb

//go:generate protoc --proto_path=.. --go_out=. --go_opt=paths=source_relative reference.proto

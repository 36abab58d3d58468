// Package batchpb is what protoc generates from batch.proto, and its subfolder v1 what it
// generates from v1.proto. Only the tests of package batch use them: they hold the
// hand-written codec against them.
//
// To generate them again, with protoc (Debian: protobuf-compiler) installed:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go
//	go generate ./internal/batch/batchpb
package batchpb

//go:generate protoc --proto_path=.. --go_out=. --go_opt=paths=source_relative batch.proto
//go:generate protoc --proto_path=.. --go_out=v1 --go_opt=paths=source_relative v1.proto

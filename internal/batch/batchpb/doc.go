// Package batchpb is what protoc generates from batch.proto. Only the tests of
// package batch use it: they hold the hand-written codec against it.
//
// To generate it again, with protoc (Debian: protobuf-compiler) installed:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go
//	go generate ./internal/batch/batchpb
package batchpb

//go:generate protoc --proto_path=.. --go_out=. --go_opt=paths=source_relative batch.proto

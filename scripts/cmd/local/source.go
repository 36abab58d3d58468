package main

import (
	"io"

	"sluice/internal/generate"
	"sluice/scripts/command"
)

// source gives the records to produce, one by one.
type source interface {
	// next returns the next record, valid until the following call, or io.EOF.
	next() (key, value []byte, err error)
	close() error
}

// generated is a source of made-up events.
type generated struct {
	generator *generate.Generator
	left      int // how many are to come; negative: no end
}

func (g *generated) next() (key, value []byte, err error) {
	if g.left == 0 {
		return nil, nil, io.EOF
	}
	g.left--
	e := g.generator.Next()
	return e.Key, e.Value, nil
}

func (g *generated) close() error { return nil }

// lines is a source of newline-delimited records, such as a file's.
type lines struct{ *command.Lines }

func (l lines) next() (key, value []byte, err error) {
	value, err = l.Next()
	return nil, value, err
}

func (l lines) close() error { return l.Close() }

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sluice/internal/generate"
	"sluice/scripts/command"
)

// source gives the records to produce, one by one.
type source interface {
	// next returns the next record, valid until the following call, or io.EOF.
	next() (key, value []byte, err error)
	close() error
}

// none is a source without records.
type none struct{}

func (none) next() (key, value []byte, err error) { return nil, nil, io.EOF }
func (none) close() error                         { return nil }

// peeked is a source whose first record has been looked at.
type peeked struct {
	source
	key, value []byte
	err        error
	waits      bool // the first record is to be given yet
}

// peek returns the value of the first record, nil if there is none.
func (p *peeked) peek() ([]byte, error) {
	key, value, err := p.source.next()
	if err != nil && err != io.EOF {
		return nil, err
	}
	p.key, p.value, p.err, p.waits = bytes.Clone(key), bytes.Clone(value), err, true
	return p.value, nil
}

func (p *peeked) next() (key, value []byte, err error) {
	if p.waits {
		p.waits = false
		return p.key, p.value, p.err
	}
	return p.source.next()
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

// files is a source of the records of several files, one after the other.
type files struct {
	ctx   context.Context
	names []string // to come
	left  int      // records to come; negative: all
	now   *command.Lines
}

// openFiles opens the files of patterns such as logs/*.gz, of which the first is looked at at once. A name without a
// pattern is a file that must be there.
func openFiles(ctx context.Context, patterns []string, most int) (*files, error) {
	f := &files{ctx: ctx, left: most}
	for _, p := range patterns {
		if !strings.ContainsAny(p, "*?[") {
			f.names = append(f.names, p)
			continue
		}
		if _, err := os.Stat(p); err == nil { // a name with such a character
			f.names = append(f.names, p)
			continue
		}
		some, err := filepath.Glob(p)
		if err != nil {
			return nil, command.UsageError("--input %s: %v", p, err)
		}
		if len(some) == 0 {
			return nil, command.UsageError("--input %s: there is no such file", p)
		}
		f.names = append(f.names, some...)
	}
	return f, f.open()
}

func (f *files) open() (err error) {
	name := f.names[0]
	f.names = f.names[1:]
	f.now, err = command.OpenLines(f.ctx, name, f.left)
	return err
}

func (f *files) next() (key, value []byte, err error) {
	for {
		value, err = f.now.Next()
		if err == nil && f.left > 0 {
			f.left--
		}
		if err != io.EOF || len(f.names) == 0 || f.left == 0 {
			return nil, value, err
		}
		if err := errors.Join(f.now.Close(), f.open()); err != nil {
			return nil, nil, err
		}
	}
}

func (f *files) close() error {
	if f.now == nil {
		return nil
	}
	return f.now.Close()
}

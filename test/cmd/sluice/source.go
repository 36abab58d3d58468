package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"sluice/test/generate"
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

// lines is a source of newline-delimited records.
type lines struct {
	name    string
	reader  *bufio.Reader
	long    []byte // a line longer than the reader's buffer
	left    int    // how many are to come; negative: all
	closers []func() error
}

// openLines opens a file of newline-delimited JSON; "-" is standard input, and
// names that end in .gz or .zst are decompressed.
func openLines(name string, most int) (*lines, error) {
	l := &lines{name: name, left: most}
	var r io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		l.closers = append(l.closers, f.Close)
		r = f
	}
	switch {
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), l.close())
		}
		l.closers = append(l.closers, z.Close)
		r = z
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), l.close())
		}
		l.closers = append(l.closers, func() error { z.Close(); return nil })
		r = z
	}
	l.reader = bufio.NewReaderSize(r, 1<<20)
	return l, nil
}

func (l *lines) next() (key, value []byte, err error) {
	for l.left != 0 {
		line, err := l.line()
		if len(line) == 0 && err != nil {
			if err == io.EOF {
				return nil, nil, io.EOF
			}
			return nil, nil, fmt.Errorf("%s: %w", l.name, err)
		}
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 {
			l.left--
			return nil, line, nil
		}
	}
	return nil, nil, io.EOF
}

// line returns the next line without its newline.
func (l *lines) line() ([]byte, error) {
	part, err := l.reader.ReadSlice('\n')
	if err == nil {
		return part[:len(part)-1], nil
	}
	l.long = l.long[:0]
	for err == bufio.ErrBufferFull {
		l.long = append(l.long, part...)
		part, err = l.reader.ReadSlice('\n')
	}
	l.long = append(l.long, part...)
	return bytes.TrimSuffix(l.long, []byte("\n")), err
}

func (l *lines) close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	return errors.Join(errs...)
}

package command

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Lines reads newline-delimited records.
type Lines struct {
	name    string
	reader  *bufio.Reader
	begun   bool          // it is known how the file is written
	entered bool          // and what its records are, for Next
	array   *json.Decoder // of a file that is one JSON array; nil: it is lines
	long    []byte        // a line longer than the reader's buffer
	count   int           // lines so far
	left    int           // how many records are to come; negative: all
	closers []func() error
}

// OpenLines opens a file of newline-delimited JSON, or one JSON array; "-" is standard input, and
// what is compressed with gzip or zstd is decompressed. The end of ctx ends waiting for
// input, too, with its error.
func OpenLines(ctx context.Context, name string, most int) (*Lines, error) {
	l := &Lines{name: name, left: most}
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = open(ctx, name); err != nil {
			return nil, err
		}
		l.closers = append(l.closers, f.Close)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is a folder: give a file of newline-delimited JSON", name), l.Close())
	}
	var r io.Reader = &interruptible{ctx: ctx, from: f, buffer: make([]byte, 256<<10), done: make(chan reading, 1)}
	l.reader = bufio.NewReaderSize(r, 1<<20)
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		if err := l.begin(); err != nil { // before anything is started
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// begin looks at what comes, once, which may have to be waited for.
func (l *Lines) begin() error {
	if l.begun {
		return nil
	}
	l.begun = true
	// What a file is, its content says, and not its name.
	if _, err := l.reader.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	first := l.here(4)
	switch ending := strings.ToLower(filepath.Ext(l.name)); {
	case bytes.HasPrefix(first, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(l.reader)
		if err != nil {
			return fmt.Errorf("%s cannot be read as gzip: %w", l.name, err)
		}
		l.closers = append(l.closers, z.Close)
		l.reader = bufio.NewReaderSize(z, 1<<20)
	case bytes.HasPrefix(first, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(l.reader)
		if err != nil {
			return fmt.Errorf("%s cannot be read as zstd: %w", l.name, err)
		}
		l.closers = append(l.closers, func() error { z.Close(); return nil })
		l.reader = bufio.NewReaderSize(z, 1<<20)
	case ending == ".gz" || ending == ".zst":
		return fmt.Errorf("%s cannot be read as %s: it does not begin so; name it otherwise if it is plain text",
			l.name,
			map[string]string{".gz": "gzip", ".zst": "zstd"}[ending])
	}
	if err := l.skipMark(); err != nil {
		return err
	}
	return l.refuseTable()
}

// table is a line of names or values with commas, and nothing of JSON's.
var table = regexp.MustCompile(`^[^{}\[\]:]*[A-Za-z][^{}\[\]:]*[,;\t][^{}\[\]:]*$`)

// refuseTable says that a file is a table, by its first line.
func (l *Lines) refuseTable() error {
	line, _, whole := bytes.Cut(bytes.TrimLeft(l.here(4096), " \t\r\n"), []byte("\n"))
	if whole && table.Match(bytes.TrimRight(line, "\r")) {
		return fmt.Errorf("%s looks like CSV, and events are JSON objects: convert it, as with "+
			"duckdb -c \"COPY (FROM '%s') TO 'events.ndjson' (FORMAT json)\"", l.name, l.name)
	}
	return nil
}

// enter finds out whether the file is one array of events, whose elements Next returns then.
func (l *Lines) enter() error {
	if l.entered {
		return nil
	}
	l.entered = true
	if !bytes.HasPrefix(bytes.TrimLeft(l.here(4096), " \t\r\n"), []byte("[")) {
		return nil
	}
	l.array = json.NewDecoder(l.reader)
	_, err := l.array.Token()
	return err
}

// here is the beginning of what has come, as far as it has: more of it may be long in coming. An
// error comes again with the first line.
func (l *Lines) here(most int) []byte {
	_, _ = l.reader.Peek(1)
	first, _ := l.reader.Peek(min(most, l.reader.Buffered()))
	return first
}

// element is the next one of an array.
func (l *Lines) element() ([]byte, error) {
	if l.left == 0 || !l.array.More() {
		return nil, io.EOF
	}
	var value json.RawMessage
	if err := l.array.Decode(&value); err != nil {
		return nil, fmt.Errorf("%s, element %d of its array: %w", l.name, l.count+1, err)
	}
	l.count++
	l.left--
	return value, nil
}

// skipMark skips a byte order mark, which some editors put before the first line.
func (l *Lines) skipMark() error {
	first := l.here(3)
	switch {
	case bytes.Equal(first, []byte("\xef\xbb\xbf")):
		_, err := l.reader.Discard(len(first))
		return err
	case bytes.HasPrefix(first, []byte("\xff\xfe")), bytes.HasPrefix(first, []byte("\xfe\xff")):
		return fmt.Errorf("%s is UTF-16, and JSON is UTF-8: convert it, as with iconv -f UTF-16 -t UTF-8", l.name)
	}
	return nil
}

// open opens a file, for as long as ctx: a FIFO that nobody writes to waits.
func open(ctx context.Context, name string) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	opened := make(chan result, 1)
	go func() { f, err := os.Open(name); opened <- result{f, err} }()
	select {
	case r := <-opened:
		return r.file, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: interrupted before somebody wrote to it", name)
	}
}

// interruptible reads until ctx ends, also where a read waits, as of a terminal or a
// FIFO. The read that is given up goes on, and nobody takes what it brings.
type interruptible struct {
	ctx    context.Context
	from   io.Reader
	buffer []byte
	rest   []byte // of buffer, read and not taken yet
	err    error  // after rest
	done   chan reading
}

type reading struct {
	n   int
	err error
}

func (r *interruptible) Read(p []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		go func() { n, err := r.from.Read(r.buffer); r.done <- reading{n, err} }()
		select {
		case got := <-r.done:
			r.rest, r.err = r.buffer[:got.n], got.err
		case <-r.ctx.Done():
			r.err = r.ctx.Err()
		}
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Next returns the next line that is not empty, valid until the following call, or io.EOF.
func (l *Lines) Next() ([]byte, error) {
	if err := l.begin(); err != nil {
		return nil, err
	}
	if err := l.enter(); err != nil {
		return nil, err
	}
	if l.array != nil {
		return l.element()
	}
	for l.left != 0 {
		line, err := l.line()
		switch {
		case err == io.EOF && len(line) == 0:
			return nil, io.EOF
		case err != nil && err != io.EOF: // half a line is no record
			return nil, fmt.Errorf("%s, line %d: %w", l.name, l.count+1, err)
		}
		l.count++
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 {
			l.left--
			return line, nil
		}
	}
	return nil, io.EOF
}

// line returns the next line without its newline; the last one may have none.
func (l *Lines) line() ([]byte, error) {
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

// Read reads the text as it is, for those to whom lines mean nothing.
func (l *Lines) Read(p []byte) (int, error) {
	if err := l.begin(); err != nil {
		return 0, err
	}
	return l.reader.Read(p)
}

// Number is that of the last line, from 1.
func (l *Lines) Number() int { return l.count }

// Close closes the file first: a decompressor waits for its reads.
func (l *Lines) Close() error {
	var errs []error
	for _, close := range l.closers {
		errs = append(errs, close())
	}
	return errors.Join(errs...)
}

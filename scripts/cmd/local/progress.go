package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"sluice/internal/local"
)

// progress writes a line about the pipeline every now and then: over itself on a
// terminal, below each other elsewhere. Log lines written to it stay whole.
type progress struct {
	mu       sync.Mutex
	out      *os.File
	terminal bool
	shown    bool // a line stands on the terminal without a newline
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	return &progress{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// Write writes log lines above the progress line.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.out.Write(b)
}

func (p *progress) clear() {
	if p.shown {
		io.WriteString(p.out, "\r\x1b[K")
		p.shown = false
	}
}

// start shows line() once a second on a terminal, every five elsewhere, until the
// function that it returns is called.
func (p *progress) start(line func() string) (stop func()) {
	interval := 5 * time.Second
	if p.terminal {
		interval = time.Second
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				p.mu.Lock()
				p.clear()
				p.mu.Unlock()
				return
			case <-tick.C:
				text := line()
				p.mu.Lock()
				if p.terminal {
					// Cut off at the edge: a line that wraps could not be written over.
					fmt.Fprintf(p.out, "\r\x1b[K\x1b[?7l%s\x1b[?7h", text)
					p.shown = true
				} else {
					fmt.Fprintln(p.out, text)
				}
				p.mu.Unlock()
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-ended })
}

// remaining estimates how long it takes until all of total records have arrived, done of which have after took; "" if
// that cannot be said.
func remaining(done, total int64, took time.Duration) string {
	if total <= 0 || done <= 0 || took < time.Second {
		return ""
	}
	left := time.Duration(float64(took) * float64(max(total-done, 0)) / float64(done))
	return fmt.Sprintf("  about %v to go", left.Round(time.Second))
}

// progressLine tells where the records are right now, and, of total records, when they will have arrived; 0: nobody
// knows how many there are.
func progressLine(s *local.Stack, p *local.Producer, start time.Time, total int64) string {
	now := s.Now()
	in := p.Delivered()
	if s.Warehouse == nil { // what lands is seen at the end only
		return fmt.Sprintf("%6.0fs  in %d  lag %d  %.0f events/s", time.Since(start).Seconds(), in, now.Lag,
			float64(in)/time.Since(start).Seconds())
	}
	latency := s.Latency.Percentiles()
	return fmt.Sprintf("%6.0fs  in %d  rows %d  dead letters %d  lag %d  in Pub/Sub %d  %.0f events/s  p50 %d ms  p99 %d ms%s",
		time.Since(start).Seconds(), in, now.Rows, now.DeadLetters, now.Lag, now.Backlog,
		float64(now.Rows+now.DeadLetters)/time.Since(start).Seconds(), latency.P50, latency.P99,
		remaining(now.Rows+now.DeadLetters, total, time.Since(start)))
}

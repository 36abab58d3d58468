package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// result is what one run needed.
type result struct {
	cpu      float64 // seconds per million events
	start    float64 // CPU seconds of a run until the first event arrived
	requests float64 // per million events: messages to Pub/Sub, or requests to BigQuery
	bytes    float64 // per event
	memory   float64 // the largest resident memory, MiB, of all processes
	rate     float64 // events per second, from the first to the last
}

// patience is how long a run may take.
const patience = 15 * time.Minute

// measure runs a way once over all events, or the share of them that it is given.
func (b *bench) measure(ctx context.Context, w *way, round int) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b.sink.reset(w.count)
	name := fmt.Sprintf("%s-%d", w.group, round)
	commands, done, err := w.start(ctx, name)
	if err != nil {
		return nil, err
	}
	if done != nil {
		defer done()
	}
	output, err := os.OpenFile(b.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	exited := make(chan error, len(commands))
	started := 0
	stop := func() {
		for _, cmd := range commands[:started] {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		for range started {
			select {
			case <-exited:
			case <-time.After(30 * time.Second):
				for _, cmd := range commands[:started] {
					_ = cmd.Process.Kill()
				}
			}
		}
		started = 0
	}
	defer func() { stop() }()
	for _, cmd := range commands {
		cmd.Stderr = output
		if cmd.Stdout == nil {
			cmd.Stdout = output
		}
		// Whatever ends this program ends what it started.
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		started++
		go func() { exited <- cmd.Wait() }()
	}
	select {
	case <-b.sink.first():
	case err := <-exited:
		started--
		return nil, fmt.Errorf("ended before an event arrived: %v", err)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	begin := time.Now()
	start := 0.0
	for _, cmd := range commands {
		seconds, err := spent(cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		start += seconds
	}
	want := int64(b.events / w.share)
	for b.sink.events.Load() < want {
		select {
		case <-time.After(5 * time.Millisecond):
		case err := <-exited:
			started--
			return nil, fmt.Errorf("ended after %d of %d events: %v", b.sink.events.Load(), want, err)
		case <-ctx.Done():
			return nil, fmt.Errorf("after %d of %d events: %w", b.sink.events.Load(), want, context.Cause(ctx))
		}
	}
	wall := time.Since(begin).Seconds()
	events, requests, bytes := b.sink.events.Load(), b.sink.requests.Load(), b.sink.bytes.Load()
	memory := 0.0
	for _, cmd := range commands {
		mib, err := peak(cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		memory += mib
	}
	stop()
	r := &result{memory: memory, start: start, requests: float64(requests) * 1e6 / float64(events),
		bytes: float64(bytes) / float64(events),
		rate:  float64(events) / wall}
	for _, cmd := range commands {
		r.cpu += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	r.cpu *= 1e6 / float64(events)
	if w.floor { // its first event is its last
		r.requests, r.bytes, r.start, r.rate = 0, 0, 0, 0
	}
	return r, nil
}

// spent is the CPU time of a process so far, seconds.
func spent(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const user, system, perSecond = 11, 12, 100 // proc(5), counted from behind the name; USER_HZ
	ticks := 0
	for _, i := range []int{user, system} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return float64(ticks) / perSecond, nil
}

// peak is the largest resident memory of a process so far, MiB. (Linux starts a child's rusage with its parent's.)
func peak(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}

// counting has a line of a command's standard output count as the arrival of all events, for a program that delivers
// nothing.
func (b *bench) counting(cmd *exec.Cmd) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	go func() {
		one := make([]byte, 1)
		for {
			if _, err := out.Read(one); err != nil {
				return
			}
			if one[0] == '\n' {
				b.sink.came(int64(b.events), 1, 0)
			}
		}
	}()
	return nil
}

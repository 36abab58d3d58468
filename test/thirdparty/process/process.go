// Package process runs a server program beside a test and ends it with the test,
// however the test ends: the program dies with the process that started it.
//
//	p, err := process.Start(process.Config{Command: []string{"java", …}, Log: "broker.log"})
//	err = p.WaitListening(ctx, "127.0.0.1:9092")
//	p.Pause(); p.Resume()      // SIGSTOP, SIGCONT: hung
//	err = p.Kill()             // SIGKILL
//	err = p.Stop(ctx)          // SIGTERM, then SIGKILL when ctx ends
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config is the program to run.
type Config struct {
	Command []string // program and arguments
	Env     []string // added to the environment, NAME=value
	Dir     string   // working folder; empty: the caller's
	Log     string   // file that takes the program's output; appended to
}

// Process is a running program.
type Process struct {
	config Config
	pid    int
	guard  io.Closer // the guard's standard input: closed, it kills the program
	done   chan struct{}
	once   sync.Once
	err    error // of the program, once done is closed
}

// guard starts the program in the background, tells its process id, and kills it
// when standard input ends, which it does with the process that holds it.
const guard = `
exec 3<&0
log=$1; shift
"$@" </dev/null >>"$log" 2>&1 3<&- &
program=$!
echo $program
exec 1>&-
{ cat <&3 >/dev/null; kill -KILL $program 2>/dev/null; } &
watch=$!
exec 3<&-
wait $program; status=$?
kill $watch 2>/dev/null
exit $status`

// Start runs the program.
func Start(c Config) (*Process, error) {
	if len(c.Command) == 0 {
		return nil, errors.New("process: Config.Command is empty")
	}
	if c.Log == "" {
		c.Log = os.DevNull
	}
	name := c.Command[0]
	if _, err := exec.LookPath(name); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	cmd := exec.Command("sh", append([]string{"-c", guard, "guard", c.Log}, c.Command...)...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	// Ctrl-C at the terminal is for the test, which ends the program in its way.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("process: start %s: %w", name, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid == 0 {
		in.Close()
		return nil, fmt.Errorf("process: start %s: no process id: %w", name, err)
	}
	p := &Process{config: c, pid: pid, guard: in, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		in.Close()
		close(p.done)
	}()
	return p, nil
}

// WaitListening waits until something answers at the address. It gives up when
// the program has ended, and then shows the end of its log.
func (p *Process) WaitListening(ctx context.Context, address string) error {
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("process: %s ended before it listened on %s (%v):\n%s", p.config.Command[0], address,
				p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("process: %s does not listen on %s: %w:\n%s", p.config.Command[0], address, ctx.Err(),
				p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail is the last lines of the log.
func (p *Process) tail() string {
	text, err := os.ReadFile(p.config.Log)
	if err != nil {
		return err.Error()
	}
	if len(text) > 4000 {
		text = text[len(text)-4000:]
	}
	return string(text)
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's own end; its error is that of exec.Cmd.Wait.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop ends the program with SIGTERM, and with SIGKILL once ctx has ended. It
// returns when the program is gone.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return p.Kill()
	}
}

// Kill ends the program with SIGKILL and returns when it is gone.
func (p *Process) Kill() error {
	p.once.Do(func() { p.guard.Close() })
	<-p.done
	return nil
}

// PID is the program's process id.
func (p *Process) PID() int { return p.pid }

// Pause stops the program in mid-work, as a stalled machine does; Resume lets it go on.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := syscall.Kill(p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process: %v to %s: %w", s, p.config.Command[0], err)
	}
	return nil
}

// FreePorts finds loopback ports that nobody listens on at the moment.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end: they must differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

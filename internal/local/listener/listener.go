// Package listener is a loopback listener whose server can be made unreachable
// and reachable again on the same port, as a network or a restarting server does.
// The in-process servers listen through it so that tests can take them away.
//
//	l, err := listener.Listen("127.0.0.1:0")
//	go server.Serve(l)   // Accept waits while the listener is down
//	err = l.Down()       // connections are closed, new ones are refused
//	err = l.Up()         // the same address answers again
//	l.Drop()             // closes the connections, goes on listening
//	l.Close()            // the end: Accept fails
//
// Servers with listeners of their own keep their address over restarts with Reserve.
package listener

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

var _ net.Listener = (*Listener)(nil)

// Listener is a net.Listener that can go away and come back. It is safe for
// concurrent use.
type Listener struct {
	addr net.Addr

	mu     sync.Mutex
	state  *sync.Cond // signals changes of inner and closed
	inner  net.Listener
	conns  map[*conn]struct{}
	closed bool

	release func() // gives the port up
}

// Reserve chooses a port if the address has port 0, and keeps it for this process until
// release, whether somebody listens there or not: on a busy machine the port of a server
// that is down would soon be another's. (Elsewhere than on Linux it only resolves the
// address.)
func Reserve(address string) (reserved string, release func(), err error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return "", nil, err
	}
	if addr.Port, release, err = reserve(addr); err != nil {
		return "", nil, err
	}
	return addr.String(), release, nil
}

// Listen listens on a TCP address; port 0 chooses a port and keeps it.
func Listen(address string) (*Listener, error) {
	reserved, release, err := Reserve(address)
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen("tcp", reserved)
	if err != nil {
		release()
		return nil, err
	}
	l := &Listener{addr: inner.Addr(), inner: inner, conns: make(map[*conn]struct{}), release: release}
	l.state = sync.NewCond(&l.mu)
	return l, nil
}

// Addr returns the address, which stays the same while the listener is down.
func (l *Listener) Addr() net.Addr { return l.addr }

// Accept waits for a connection; while the listener is down it only waits.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		for l.inner == nil && !l.closed {
			l.state.Wait()
		}
		if l.closed {
			l.mu.Unlock()
			return nil, net.ErrClosed
		}
		inner := l.inner
		l.mu.Unlock()

		accepted, err := inner.Accept()
		l.mu.Lock()
		if err != nil {
			gone := l.inner != inner && !l.closed // Down closed it: wait for Up
			l.mu.Unlock()
			if gone {
				continue
			}
			return nil, err
		}
		c := &conn{Conn: accepted, listener: l}
		if l.inner != inner { // went down between the two
			l.mu.Unlock()
			accepted.Close()
			continue
		}
		l.conns[c] = struct{}{}
		l.mu.Unlock()
		return c, nil
	}
}

// Down closes all connections and refuses new ones until Up.
func (l *Listener) Down() error {
	l.mu.Lock()
	inner := l.inner
	l.inner = nil
	l.mu.Unlock()
	var err error
	if inner != nil {
		err = inner.Close()
	}
	l.Drop()
	return err
}

// Up listens again on the same address. It does nothing if the listener is up.
func (l *Listener) Up() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if l.inner != nil {
		return nil
	}
	// Where ports cannot be reserved another process may hold this one for a moment, as
	// the near end of a connection of its own.
	var inner net.Listener
	var err error
	for range 50 {
		if inner, err = net.Listen("tcp", l.addr.String()); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("listener: up again on %s: %w", l.addr, err)
	}
	l.inner = inner
	l.state.Broadcast()
	return nil
}

// Drop closes the open connections without a word.
func (l *Listener) Drop() {
	l.mu.Lock()
	conns := l.conns
	l.conns = make(map[*conn]struct{})
	l.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
}

// Close stops listening for good. Connections stay with their owners.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.state.Broadcast()
	l.release()
	if l.inner == nil {
		return nil
	}
	err := l.inner.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// conn leaves the listener's list when it is closed.
type conn struct {
	net.Conn
	listener *Listener
}

func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

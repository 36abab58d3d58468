package listener_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"sluice/internal/local/listener"
)

// Protects outage tests: while the listener is down connections break and new
// ones are refused, afterwards the same address answers, and Close ends Accept.
func TestDownUpClose(t *testing.T) {
	l, err := listener.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	echo := func() (net.Conn, error) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		if _, err := c.Write([]byte("x")); err != nil {
			return c, err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return c, err
	}
	for range 3 {
		c, err := echo()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Down(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlived Down")
		}
		c.Close()
		if _, err := echo(); err == nil {
			t.Error("a connection while down")
		}
		if err := l.Up(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := echo()
	if err != nil {
		t.Fatal(err)
	}
	l.Drop()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived Drop")
	}
	c.Close()
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	if err := l.Up(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Up after Close: %v", err)
	}
}

package listener_test

import (
	"net"
	"testing"

	"sluice/internal/local/listener"
)

// Protects outages on a busy machine: the port of a listener that is down is not given
// away, and after Close it is free.
func TestPortIsKept(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	l, err := listener.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	// Connections get their near ends from the same ports as listeners.
	taking := net.Dialer{LocalAddr: l.Addr()}
	if c, err := taking.Dial("tcp", other.Addr().String()); err == nil {
		c.Close()
		t.Fatal("somebody else has got the port")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := taking.Dial("tcp", other.Addr().String())
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	c.Close()
}

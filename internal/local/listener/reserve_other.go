//go:build !linux

package listener

import "net"

// reserve does nothing here: elsewhere two sockets cannot share a port in this way.
func reserve(addr *net.TCPAddr) (port int, release func(), err error) {
	return addr.Port, func() {}, nil
}

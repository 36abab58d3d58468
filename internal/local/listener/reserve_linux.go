package listener

import (
	"net"
	"os"
	"syscall"
)

// reserve binds a socket that never listens: it refuses connections, and the kernel gives
// its port to nobody else. It comes before the listener, which Go binds with SO_REUSEADDR
// as well: two such sockets may share a port as long as at most the second listens.
func reserve(addr *net.TCPAddr) (port int, release func(), err error) {
	ip := addr.IP.To4()
	if ip == nil {
		return addr.Port, func() {}, nil
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, os.NewSyscallError("socket", err)
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip)})
	}
	bound := syscall.Sockaddr(nil)
	if err == nil {
		bound, err = syscall.Getsockname(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return 0, nil, os.NewSyscallError("reserve "+addr.String(), err)
	}
	return bound.(*syscall.SockaddrInet4).Port, func() { syscall.Close(fd) }, nil
}

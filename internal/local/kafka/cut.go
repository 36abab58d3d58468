package kafka

import (
	"encoding/binary"
	"net"
	"strings"
	"sync"

	"sluice/internal/local/listener"
)

// clients are the open connections by the client.id of their first request, and the
// clients that are cut off.
type clients struct {
	mu   sync.Mutex
	open map[string]map[net.Conn]bool
	cut  map[string]bool
}

// Cut breaks the connections of the client with that client.id and refuses further
// ones for good: to the brokers it is a process that was killed.
func (k *Cluster) Cut(id string) {
	k.clients.mu.Lock()
	defer k.clients.mu.Unlock()
	k.clients.cut[id] = true
	for c := range k.clients.open[id] {
		c.Close()
	}
}

// Dead are the ids of a group's members that are cut off: sessions that time out.
func (k *Cluster) Dead(group string) []string {
	members := k.Members(group) // not under the lock, for which the fake may be waiting
	k.clients.mu.Lock()
	defer k.clients.mu.Unlock()
	var dead []string
	for _, member := range members {
		for id := range k.clients.cut {
			if strings.HasPrefix(member, id+"-") {
				dead = append(dead, member)
			}
		}
	}
	return dead
}

// watched is a listener whose connections tell which client has opened them.
type watched struct {
	*listener.Listener
	clients *clients
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, clients: w.clients}, nil
}

// conn reads the client.id from the first request that comes through it.
type conn struct {
	net.Conn
	clients *clients
	head    []byte // of the first request, until it tells
	id      string
	known   bool
}

// The client.id, after its length, follows the size of the request, its key, its
// version and its number: https://kafka.apache.org/protocol#protocol_messages.
const idLength, idBegin = 12, 14

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.known || n == 0 {
		return n, err
	}
	c.head = append(c.head, b[:n]...)
	if len(c.head) < idBegin {
		return n, err
	}
	// No id at all has length −1.
	end := idBegin + max(0, int(int16(binary.BigEndian.Uint16(c.head[idLength:]))))
	if len(c.head) < end {
		return n, err
	}
	c.known, c.id, c.head = true, string(c.head[idBegin:end]), nil
	c.clients.mu.Lock()
	defer c.clients.mu.Unlock()
	if c.clients.cut[c.id] {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	if c.clients.open[c.id] == nil {
		c.clients.open[c.id] = map[net.Conn]bool{}
	}
	c.clients.open[c.id][c.Conn] = true
	return n, err
}

func (c *conn) Close() error {
	c.clients.mu.Lock()
	delete(c.clients.open[c.id], c.Conn)
	c.clients.mu.Unlock()
	return c.Conn.Close()
}

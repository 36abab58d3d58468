// Package dial has the options of the connections to Google's servers.
package dial

import (
	"net/http"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// A connection that answers nothing is found after Ping, and given up after Wait more. After a
// switchover of the network, a client that does not ask sends into dead connections until
// TCP gives up, or for the five minutes of Pub/Sub's own client: that stood still for 5 min 20 s.
const (
	Ping = 20 * time.Second // Google's servers take one every 10 s
	Wait = 10 * time.Second
)

// Keepalive makes a client find out which of its connections are dead, also those that are idle:
// the next request is not to wait for that. It goes before other options.
func Keepalive() option.ClientOption { return every(Ping, Wait) }

// HTTP returns the connections of a client that speaks HTTP, such as Cloud Storage's, with the same
// care: Google's own waits for 46 seconds.
func HTTP() *http.Transport { return transport(Ping/2, Wait/2) }

func transport(ping, wait time.Duration) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 100
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: wait}
	return t
}

func every(ping, wait time.Duration) option.ClientOption {
	return option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: ping, Timeout: wait,
		PermitWithoutStream: true}))
}

package dial

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	embedded "sluice/internal/local/pubsub"
)

// network forwards connections to a server, until it is switched over: those that are open then
// answer nothing any more and are not closed, as after the loss of a router.
type network struct {
	net.Listener
	server string
	mu     sync.Mutex
	dead   chan struct{}
	all    []net.Conn
}

// start has a network forward to a server until the test ends.
func start(t *testing.T, server string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{Listener: l, server: server, dead: make(chan struct{})}
	go n.serve()
	t.Cleanup(func() {
		l.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, c := range n.all {
			c.Close()
		}
	})
	return n
}

func (n *network) serve() {
	for {
		client, err := n.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", n.server)
		if err != nil {
			client.Close()
			continue
		}
		n.mu.Lock()
		dead := n.dead
		n.all = append(n.all, client, server)
		n.mu.Unlock()
		go n.forward(client, server, dead)
		go n.forward(server, client, dead)
	}
}

func (n *network) forward(to, from net.Conn, dead chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		read, err := from.Read(buffer)
		select {
		case <-dead:
			io.Copy(io.Discard, from)
			return
		default:
		}
		if _, failed := to.Write(buffer[:read]); err != nil || failed != nil {
			return
		}
	}
}

func (n *network) switchOver() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.dead)
	n.dead = make(chan struct{})
}

// Protects publishing from standing still after a switchover of the network: the real client,
// which has a keepalive of its own of five minutes, takes this one, and replaces connections that
// answer nothing. gRPC allows no shorter ping than ten seconds, so that this takes a while.
func TestDeadConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(embedded.Config{Project: "sluice-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.CreateTopic(t.Context(), "events"); err != nil {
		t.Fatal(err)
	}
	n := start(t, server.Addr())
	client, err := pubsub.NewClient(t.Context(), "sluice-test", every(10*time.Second, 2*time.Second),
		option.WithEndpoint(n.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		_, err := client.TopicAdminClient.Publish(ctx,
			&pubsubpb.PublishRequest{Topic: "projects/sluice-test/topics/events",
				Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}})
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	n.switchOver()
	if err := publish(); err != nil {
		t.Errorf("after the switchover: %v", err)
	}
}

// The same for HTTP/2, which Cloud Storage speaks: requests share a connection, so that giving up one request does not
// give up a connection that answers none.
func TestDeadHTTPConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	n := start(t, server.Listener.Addr().String())
	transport := transport(200*time.Millisecond, 200*time.Millisecond)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	client := &http.Client{Transport: transport}
	get := func(d time.Duration) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+n.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}
	if proto, err := get(time.Minute); err != nil || proto != "HTTP/2.0" {
		t.Fatalf("%s, %v", proto, err)
	}
	n.switchOver()
	for try := 1; ; try++ {
		_, err := get(time.Second) // as long as it takes a client to try again
		if err == nil {
			return
		}
		if try == 20 {
			t.Fatalf("after the switchover: %v", err)
		}
	}
}

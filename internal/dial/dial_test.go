package dial

import (
	"context"
	"io"
	"net"
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{Listener: l, server: server.Addr(), dead: make(chan struct{})}
	go n.serve()
	defer func() {
		l.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, c := range n.all {
			c.Close()
		}
	}()
	client, err := pubsub.NewClient(t.Context(), "sluice-test", every(10*time.Second, 2*time.Second), option.WithEndpoint(l.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		_, err := client.TopicAdminClient.Publish(ctx, &pubsubpb.PublishRequest{Topic: "projects/sluice-test/topics/events", Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}})
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

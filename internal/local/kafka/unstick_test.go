package kafka_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/internal/local/kafka"
)

// member is a member of a group that does nothing by itself.
type member struct {
	t      *testing.T
	client *kgo.Client
	id     string
}

func newMember(t *testing.T, k *kafka.Cluster) *member {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()), kgo.RequestRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &member{t: t, client: client}
}

// join joins until it is answered, as a new member where the group forgot this one.
func (m *member) join(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	for {
		r := kmsg.NewPtrJoinGroupRequest()
		r.Group, r.MemberID, r.ProtocolType = "g", m.id, "consumer"
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 60_000, 60_000
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		response, err := r.RequestWith(ctx, m.client)
		if err != nil {
			return nil, err
		}
		m.id = response.MemberID
		switch kerr.ErrorForCode(response.ErrorCode) {
		case nil:
			return response, nil
		case kerr.MemberIDRequired:
		case kerr.UnknownMemberID:
			m.id = ""
		default:
			return nil, kerr.ErrorForCode(response.ErrorCode)
		}
	}
}

func (m *member) sync(ctx context.Context, generation int32) error {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Group, r.MemberID, r.Generation = "g", m.id, generation
	response, err := r.RequestWith(ctx, m.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.ErrorCode)
}

// Protects the tests that end bridges at any moment: a member that leaves while it
// waits in a sync makes kfake wait for one more than there is in the next rebalance,
// and no longer than Unstick allows.
func TestUnstick(t *testing.T) {
	k := start(t, kafka.Config{})
	first, second := newMember(t, k), newMember(t, k)
	if _, err := first.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	joined := make(chan error, 1)
	var generation int32
	go func() {
		response, err := second.join(t.Context())
		if err == nil {
			generation = response.Generation
		}
		joined <- err
	}()
	await(t, k, "PreparingRebalance")
	if _, err := first.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	signal := sync.OnceFunc(func() { close(arrived) })
	k.Cluster().ControlKey(int16(kmsg.SyncGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		signal()
		return nil, nil, false
	})
	go func() { _ = second.sync(t.Context(), generation) }()
	<-arrived
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group, r.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: second.id}}
	if _, err := r.RequestWith(t.Context(), newMember(t, k).client); err != nil {
		t.Fatal(err)
	}
	await(t, k, "PreparingRebalance")

	go k.Unstick(t.Context(), "g", time.Second)
	// Alone in its group, it waits for another member.
	if _, err := first.join(t.Context()); err == nil {
		t.Fatal("kfake counts its members: Unstick is needed no more")
	}
	response, err := first.join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.sync(t.Context(), response.Generation); err != nil {
		t.Fatal(err)
	}
	await(t, k, "Stable")
	if k.Unstuck() == 0 {
		t.Error("no rebalance was ended")
	}
}

func await(t *testing.T, k *kafka.Cluster, state string) {
	t.Helper()
	if _, err := k.Cluster().WaitGroupInfo(t.Context(), "g", func(g *kfake.GroupInfo) bool {
		return g != nil &&
			g.State == state
	}); err != nil {
		t.Fatal(err)
	}
}

package local

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/contract"

	"cloud.google.com/go/pubsub/v2"
)

// Bridge is one running bridge of a Stack.
type Bridge struct {
	Member
	name   string // Kafka's client.id
	client *pubsub.Client
	mute   *mute
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // of Run, once ended is closed
}

// StartBridge starts one more bridge.
func (s *Stack) StartBridge(ctx context.Context) (*Bridge, error) {
	client, err := s.NewClient(ctx)
	if err != nil {
		return nil, err
	}
	mute := &mute{Handler: s.log.Handler(), dead: new(atomic.Bool)}
	name := fmt.Sprintf("bridge-%d", s.started.Add(1))
	running, err := s.config.Parts.Bridge(BridgeConfig{
		Name: name, Brokers: s.places.brokers, Topics: s.subscription(), Project: Project,
		BatchGroups: contract.BatchGroups(s.config.Contracts),
		Client:      client, Bucket: s.bucket, Tracer: s.config.Tracer, Log: slog.New(mute),
	})
	if err != nil {
		client.Close()
		return nil, err
	}
	// The bridge's life ends with Stop, not with the context of its start.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &Bridge{Member: running, name: name, client: client, mute: mute, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		b.err = running.Run(ctx)
		_ = client.Close() // closed already if the bridge was killed
		if b.err != nil {
			s.log.Error("a bridge failed", "error", b.err.Error())
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bridges = append(s.bridges, b)
	return b, nil
}

// subscription is the topics as a bridge is told of them.
func (s *Stack) subscription() string {
	topics := contract.KafkaTopics(s.config.Contracts)
	if contract.Find(s.config.Contracts, s.config.Topic) == nil { // the built-in contract's, or one that nobody takes
		topics = append(topics, s.config.Topic)
	}
	return strings.Join(topics, ",")
}

// Bridges returns the bridges that run.
func (s *Stack) Bridges() []*Bridge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bridges)
}

// StopBridge stops a bridge as SIGTERM does.
func (s *Stack) StopBridge(ctx context.Context, b *Bridge) error {
	s.remove(b)
	return b.stop(ctx)
}

func (s *Stack) remove(b *Bridge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bridges = slices.DeleteFunc(s.bridges, func(o *Bridge) bool { return o == b })
}

// missedAfter is when the group misses a bridge that was killed: its session of 45
// seconds, on a clock that runs fast as that of the retries does.
const missedAfter = 5 * time.Second

// stuckAfter is longer than any rebalance takes: members hear of it with their next
// heartbeat, 3 seconds at most, and give up their partitions within RevokeTimeout.
const stuckAfter = 15 * time.Second

// KillBridge ends a bridge as kill -9 does: from one moment to the next neither Kafka
// nor Pub/Sub hears from it, so that nothing is drained, committed or left. What of it
// is still in this process ends by itself.
func (s *Stack) KillBridge(b *Bridge) {
	s.remove(b)
	b.mute.dead.Store(true)
	s.Kafka.Cut(b.name)
	_ = b.client.Close()
	b.cancel()
	s.running.Go(func() {
		for {
			select {
			case <-time.After(missedAfter):
			case <-s.life.Done():
				return
			}
			dead := s.Kafka.Dead(s.Group())
			if len(dead) == 0 {
				return
			}
			for _, member := range dead {
				_ = s.Kafka.Evict(s.life, s.Group(), member) // with Kafka down, or in a sync, it is tried again
			}
		}
	})
}

// mute keeps the log lines of a dead process from being written.
type mute struct {
	slog.Handler
	dead *atomic.Bool
}

func (m *mute) Enabled(ctx context.Context, level slog.Level) bool {
	return !m.dead.Load() && m.Handler.Enabled(ctx, level)
}

func (m *mute) WithAttrs(a []slog.Attr) slog.Handler { return &mute{m.Handler.WithAttrs(a), m.dead} }
func (m *mute) WithGroup(name string) slog.Handler   { return &mute{m.Handler.WithGroup(name), m.dead} }

func (b *Bridge) stop(ctx context.Context) error {
	b.cancel()
	select {
	case <-b.ended:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("a bridge has not ended: %w", ctx.Err())
	}
}

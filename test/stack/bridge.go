package stack

import (
	"context"
	"fmt"
	"slices"

	"cloud.google.com/go/pubsub/v2"

	"sluice/bridge"
)

// Bridge is one running bridge of a Stack.
type Bridge struct {
	*bridge.Bridge
	client *pubsub.Client
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // of Run, once ended is closed
}

// StartBridge starts one more bridge.
func (s *Stack) StartBridge(ctx context.Context) (*Bridge, error) {
	c := bridge.DefaultConfig()
	c.Brokers = s.Kafka.Brokers()
	c.Topics = s.config.Topic
	c.Project = Project
	c.Topic = Topic
	c.DeadLetterTopic = DeadLetterTopic
	c.HTTPAddr = ""
	if s.config.TuneBridge != nil {
		s.config.TuneBridge(&c)
	}
	client, err := pubsub.NewClient(ctx, Project, s.PubSub.ClientOptions()...)
	if err != nil {
		return nil, err
	}
	running, err := bridge.New(c, client, s.log)
	if err != nil {
		client.Close()
		return nil, err
	}
	running.Trace(s.config.Tracer)
	// The bridge's life ends with Stop, not with the context of its start.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &Bridge{Bridge: running, client: client, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		b.err = running.Run(ctx)
		if b.err != nil {
			s.log.Error("a bridge failed", "error", b.err.Error())
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bridges = append(s.bridges, b)
	return b, nil
}

// Bridges returns the bridges that run.
func (s *Stack) Bridges() []*Bridge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bridges)
}

// StopBridge stops a bridge as SIGTERM does.
func (s *Stack) StopBridge(ctx context.Context, b *Bridge) error {
	s.mu.Lock()
	s.bridges = slices.DeleteFunc(s.bridges, func(o *Bridge) bool { return o == b })
	s.mu.Unlock()
	return b.stop(ctx)
}

func (b *Bridge) stop(ctx context.Context) error {
	b.cancel()
	select {
	case <-b.ended:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("a bridge has not ended: %w", ctx.Err())
	}
}

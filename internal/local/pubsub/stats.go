package pubsub

import (
	"context"
	"fmt"
	"time"
)

// Stats are the counters of a push subscription since it was created.
type Stats struct {
	Published    int64 // messages that came in
	Bytes        int64 // of their data
	Delivered    int64 // delivery attempts begun
	Acked        int64 // attempts that acked
	Failed       int64 // attempts that did not
	DeadLettered int64 // messages forwarded to the dead-letter topic
	Expired      int64 // messages dropped at the end of the retention

	Outstanding  int   // attempts under way
	Backlog      int   // messages not settled, those outstanding included
	BacklogBytes int64 // of their data
	Window       int   // attempts that may be under way at once
}

// Stats returns the counters of a push subscription, by its short or full name;
// zeros if there is none.
func (s *Server) Stats(name string) Stats {
	sub := s.subscription(s.SubscriptionName(name))
	if sub == nil {
		return Stats{}
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	stats := sub.stats
	stats.Window = sub.window
	return stats
}

// Pause stops new deliveries of a push subscription, or of all with "".
func (s *Server) Pause(name string) { s.pause(name, true) }

// Resume takes up deliveries again.
func (s *Server) Resume(name string) { s.pause(name, false) }

func (s *Server) pause(name string, paused bool) {
	for _, sub := range s.subscriptions() {
		if name == "" || sub.name == s.SubscriptionName(name) {
			sub.mu.Lock()
			sub.paused = paused
			sub.mu.Unlock()
			sub.signal()
		}
	}
}

func (s *Server) subscriptions() []*subscription {
	s.mu.RLock()
	defer s.mu.RUnlock()
	subs := make([]*subscription, 0, len(s.push))
	for _, sub := range s.push {
		subs = append(subs, sub)
	}
	return subs
}

// WaitIdle waits until no push subscription has a message that is not settled.
// What clients have yet to publish is not its business.
func (s *Server) WaitIdle(ctx context.Context) error {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	// A message passes from one subscription to the next while they are looked at
	// one by one: only two looks that find nothing say that there is nothing.
	for looks := 0; ; {
		backlog := 0
		for _, sub := range s.subscriptions() {
			sub.mu.Lock()
			backlog += sub.stats.Backlog
			sub.mu.Unlock()
		}
		if backlog > 0 {
			looks = 0
		} else if looks++; looks == 2 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("pubsub: %d messages not settled: %w", backlog, ctx.Err())
		}
	}
}

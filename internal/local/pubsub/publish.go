package pubsub

import (
	"context"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Limits of a publish request.
// https://cloud.google.com/pubsub/quotas#resource_limits
const (
	maxRequestBytes    = 10_000_000
	maxRequestMessages = 1000
	maxAttributes      = 100
	maxAttributeKey    = 256
	maxAttributeValue  = 1024
	maxOrderingKey     = 1024
)

// publisher is pstest's publisher service with our own Publish.
type publisher struct {
	*pstest.GServer
	s *Server
}

func (p *publisher) Publish(ctx context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	if err := checkRequest(r); err != nil {
		return nil, err
	}
	fault, handle := p.s.publishFaults.take(func(f *PublishFault) bool {
		return (f.Topic == "" || f.Topic == r.Topic) && (f.When == nil || f.When(r))
	})
	if fault != nil {
		if err := p.s.wait(ctx, fault.Wait, fault.Hang, handle); err != nil {
			return nil, err
		}
		if err := fault.error(); err != nil && !fault.StoreFirst {
			return nil, err
		}
	}
	response, err := p.s.publish(ctx, r)
	if err == nil && fault != nil && fault.StoreFirst {
		return nil, fault.error()
	}
	return response, err
}

func checkRequest(r *pubsubpb.PublishRequest) error {
	if size := proto.Size(r); size > maxRequestBytes {
		return status.Errorf(codes.InvalidArgument,
			"Request payload size exceeds the limit: %d bytes, this one has %d.", maxRequestBytes, size)
	}
	if len(r.Messages) == 0 {
		return status.Error(codes.InvalidArgument, "The value for messages is missing.")
	}
	if n := len(r.Messages); n > maxRequestMessages {
		return status.Errorf(codes.InvalidArgument, "The value for message_count is too large. You passed %d in the "+
			"request, but the maximum value is %d.", n, maxRequestMessages)
	}
	for i, m := range r.Messages {
		if len(m.Data) == 0 && len(m.Attributes) == 0 {
			return status.Errorf(codes.InvalidArgument,
				"Message %d: some messages in the batch are empty: want data or attributes.", i)
		}
		if n := len(m.Attributes); n > maxAttributes {
			return status.Errorf(codes.InvalidArgument, "Message %d has %d attributes, the maximum is %d.", i, n,
				maxAttributes)
		}
		for key, value := range m.Attributes {
			switch {
			case key == "" || len(key) > maxAttributeKey:
				return status.Errorf(codes.InvalidArgument, "Message %d: an attribute key has %d bytes, want 1 to %d.",
					i, len(key), maxAttributeKey)
			case strings.HasPrefix(key, "goog"):
				return status.Errorf(codes.InvalidArgument,
					"Message %d: an attribute key begins with goog, which is reserved.", i)
			case len(value) > maxAttributeValue:
				return status.Errorf(codes.InvalidArgument,
					"Message %d: an attribute value has %d bytes, the maximum is %d.", i,
					len(value), maxAttributeValue)
			}
		}
		if n := len(m.OrderingKey); n > maxOrderingKey {
			return status.Errorf(codes.InvalidArgument, "Message %d: the ordering key has %d bytes, the maximum is %d.",
				i, n, maxOrderingKey)
		}
	}
	return nil
}

// publish hands the messages to the topic's subscriptions.
func (s *Server) publish(ctx context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	s.mu.Lock()
	t, ok := s.topics[r.Topic]
	if !ok || s.closed {
		s.mu.Unlock()
		return nil, status.Errorf(codes.NotFound, "Resource not found (resource=%s).", r.Topic)
	}
	push, pull := t.push, t.pull // push is replaced, never changed
	first := s.nextID
	s.nextID += int64(len(r.Messages))
	s.mu.Unlock()

	response := &pubsubpb.PublishResponse{}
	if pull > 0 {
		// pstest names and stamps the messages; it keeps them for good.
		var err error
		if response, err = s.fake.GServer.Publish(ctx, r); err != nil {
			return nil, err
		}
	} else {
		now := timestamppb.New(s.config.Now())
		for i, m := range r.Messages {
			m.MessageId, m.PublishTime = strconv.FormatInt(first+int64(i), 10), now
			response.MessageIds = append(response.MessageIds, m.MessageId)
		}
	}
	for _, sub := range push {
		sub.add(r.Messages)
	}
	return response, nil
}

// wait delays a request that a fault has taken.
func (s *Server) wait(ctx context.Context, d time.Duration, hang bool, h *FaultHandle) error {
	var elapsed <-chan time.Time
	if !hang {
		if d <= 0 {
			return nil
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-elapsed:
	case <-h.removed:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-s.ctx.Done():
		return status.Error(codes.Unavailable, "the server is stopping")
	}
	return nil
}

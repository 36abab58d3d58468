package pubsub

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"golang.org/x/net/http/httpguts"
)

// publishTime is how pushes write it: milliseconds, UTC.
const publishTime = "2006-01-02T15:04:05.000Z"

// request makes one push request and reports whether it acks the message.
func (s *subscription) request(i *item, config *pubsubpb.Subscription, fault *PushFault, h *FaultHandle) bool {
	deadline := time.Duration(config.AckDeadlineSeconds) * time.Second
	if deadline == 0 {
		deadline = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(s.server.ctx, deadline)
	defer cancel()
	if fault != nil {
		if s.server.wait(ctx, fault.Wait, false, h) != nil {
			return false
		}
		if fault.Wait == 0 && !fault.LoseAnswer && !fault.Again && !fault.Twice {
			return false
		}
	}
	// 102 Processing acks, and is an informational answer: net/http waits on.
	var processing atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code == http.StatusProcessing {
				processing.Store(true)
				cancel()
			}
			return nil
		},
	})
	body, header := i.render(s.name, config)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, config.PushConfig.PushEndpoint, bytes.NewReader(body))
	if err != nil {
		s.server.log.Error("pubsub: push", "subscription", s.name, "error", err)
		return false
	}
	r.Header = header
	response, err := s.client.Do(r)
	if err != nil {
		return processing.Load() && (fault == nil || !fault.LoseAnswer)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	response.Body.Close()
	if err != nil || fault != nil && fault.LoseAnswer {
		return false
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return true
	}
	return processing.Load()
}

// render makes the body and the headers of a push.
// https://cloud.google.com/pubsub/docs/push, https://cloud.google.com/pubsub/docs/payload-unwrapping
func (i *item) render(subscription string, config *pubsubpb.Subscription) ([]byte, http.Header) {
	m := i.message
	header := http.Header{"User-Agent": {"CloudPubSub-Google"}, "From": {"noreply@google.com"},
		"Accept": {"application/json"}}
	unwrapped := config.PushConfig.GetNoWrapper()
	if unwrapped == nil {
		header.Set("Content-Type", "application/json")
		return i.envelope(subscription, config), header
	}
	// Google's emulator leaves it to Java's HTTP client, which says this:
	// receivers must not parse the body as a form.
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	if unwrapped.WriteMetadata {
		// Headers carry what headers can; an attribute that cannot be one is left out.
		for key, value := range m.Attributes {
			if httpguts.ValidHeaderFieldName(key) && httpguts.ValidHeaderFieldValue(value) {
				header.Set(key, value)
			}
		}
		header.Set("X-Goog-Pubsub-Subscription-Name", subscription)
		header.Set("X-Goog-Pubsub-Message-Id", m.MessageId)
		header.Set("X-Goog-Pubsub-Publish-Time", m.PublishTime.AsTime().UTC().Format(publishTime))
		if m.OrderingKey != "" && httpguts.ValidHeaderFieldValue(m.OrderingKey) {
			header.Set("X-Goog-Pubsub-Ordering-Key", m.OrderingKey)
		}
	}
	return m.Data, header
}

// envelope is the body of a wrapped push.
func (i *item) envelope(subscription string, config *pubsubpb.Subscription) []byte {
	m := i.message
	text := func(s string) []byte {
		b, _ := json.Marshal(s) // strings always marshal
		return b
	}
	b := make([]byte, 0, base64.StdEncoding.EncodedLen(len(m.Data))+512)
	b = append(b, `{"message":{`...)
	if len(m.Attributes) > 0 {
		attributes, _ := json.Marshal(m.Attributes)
		b = append(append(append(b, `"attributes":`...), attributes...), ',')
	}
	if len(m.Data) > 0 {
		b = append(b, `"data":"`...)
		b = base64.StdEncoding.AppendEncode(b, m.Data)
		b = append(b, `",`...)
	}
	if m.OrderingKey != "" {
		b = append(append(append(b, `"orderingKey":`...), text(m.OrderingKey)...), ',')
	}
	id, at := text(m.MessageId), text(m.PublishTime.AsTime().UTC().Format(publishTime))
	// Both spellings, as the service sends them.
	for _, member := range []struct {
		name  string
		value []byte
	}{{`"messageId":`, id}, {`,"message_id":`, id}, {`,"publishTime":`, at}, {`,"publish_time":`, at}} {
		b = append(append(b, member.name...), member.value...)
	}
	b = append(append(b, `},"subscription":`...), text(subscription)...)
	if config.DeadLetterPolicy != nil {
		b = strconv.AppendInt(append(b, `,"deliveryAttempt":`...), int64(i.attempts), 10)
	}
	return append(b, '}')
}

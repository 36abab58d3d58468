package pubsub_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"sluice/internal/local/pubsub"
)

// BenchmarkPush publishes and pushes 50 KB messages, the size of the bridge's.
func BenchmarkPush(b *testing.B) {
	w, err := pubsub.Start(pubsub.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	endpoint := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusNoContent)
	}))
	defer endpoint.Close()
	if err := w.CreateTopic(b.Context(), "events"); err != nil {
		b.Fatal(err)
	}
	if err := w.CreatePushSubscription(b.Context(), pubsub.PushSubscription{Name: "sub", Topic: "events",
		Endpoint: endpoint.URL, Unwrapped: true}); err != nil {
		b.Fatal(err)
	}
	c, err := apiv1.NewTopicAdminClient(b.Context(), w.ClientOptions()...)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const perRequest = 20
	data := make([]byte, 50_000)
	r := &pubsubpb.PublishRequest{Topic: w.TopicName("events")}
	for range perRequest {
		r.Messages = append(r.Messages, &pubsubpb.PubsubMessage{Data: data})
	}
	b.SetBytes(perRequest * int64(len(data)))
	for b.Loop() {
		if _, err := c.Publish(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.WaitIdle(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(perRequest*b.N)/b.Elapsed().Seconds(), "messages/s")
}

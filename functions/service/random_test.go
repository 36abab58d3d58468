package service_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	client "cloud.google.com/go/pubsub/v2"

	"sluice/functions/service"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
)

// Protects the promise under everything at once: while BigQuery refuses, hangs, loses
// answers and connections, while rejects cannot be published and pushes are lost,
// every good event lands, every bad one becomes a dead letter, and none is both.
func TestFaultsAtRandom(t *testing.T) {
	t.Parallel()
	const messages, perMessage = 100, 12
	w := start(t, options{attempts: 100, config: func(c *service.Config) {
		c.HandlerTimeout, c.AppendTimeout, c.BreakerOpen = 3*time.Second, 600*time.Millisecond, 5*time.Millisecond
		c.MaxInFlight = 200_000
	}})
	w.warehouse.Fail(warehouse.Fault{Table: "fact_events", Count: -1, Naming: warehouse.NameFirst,
		BadRow: func(row []byte) bool { return bytes.Contains(row, []byte("poison")) }})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	random := rand.New(rand.NewPCG(4, 2))
	var results []*client.PublishResult
	goodOnes, badOnes := 0, 0
	for m := range messages {
		var values []string
		for i := range perMessage {
			switch random.IntN(10) {
			case 0:
				badOnes++
				values = append(values, fmt.Sprintf("bad %d-%d", m, i))
			case 1:
				badOnes++
				values = append(values, good(fmt.Sprintf("poison %d-%d", m, i)))
			default:
				goodOnes++
				values = append(values, good(fmt.Sprintf("good %d-%d", m, i)))
			}
		}
		results = append(results, w.topic.Publish(ctx, &client.Message{Data: pack(t, values...)}))
		switch random.IntN(12) {
		case 0:
			w.warehouse.Fail(warehouse.Fault{Code: codes.Unavailable})
		case 1:
			w.warehouse.Fail(warehouse.Fault{Code: codes.Internal, StoreFirst: true})
		case 2:
			w.warehouse.Fail(warehouse.Fault{Code: codes.ResourceExhausted, InResponse: true, Count: 2})
		case 3:
			w.warehouse.Fail(warehouse.Fault{Hang: true})
		case 4:
			w.warehouse.Fail(warehouse.Fault{StoreFirst: true, Code: codes.Aborted, AnswerAfter: 20 * time.Millisecond})
		case 5:
			w.warehouse.Drop()
		case 6:
			w.pubsub.FailPublish(pubsub.PublishFault{Topic: "clickstream-dead-letter", Code: codes.PermissionDenied})
		case 7:
			w.pubsub.FailPush(pubsub.PushFault{LoseAnswer: true})
		case 8:
			w.pubsub.FailPush(pubsub.PushFault{Again: true})
		}
		if m%10 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, r := range results {
		_, err := r.Get(ctx)
		check(t, err)
	}
	check(t, w.pubsub.WaitIdle(ctx))
	for query, want := range map[string]int{
		"SELECT COUNT(DISTINCT event_id) FROM fact_events WHERE event_id LIKE 'good %'":            goodOnes,
		"SELECT COUNT(*) FROM fact_events WHERE event_id NOT LIKE 'good %'":                        0,
		"SELECT COUNT(DISTINCT original_event) FROM events_dlq":                                    badOnes,
		"SELECT COUNT(*) FROM events_dlq WHERE original_event LIKE '%good %'":                      0,
		"SELECT COUNT(*) FROM events_dlq WHERE error_code = 'delivery_attempts_exhausted'":         0,
		"SELECT COUNT(*) FROM events_dlq WHERE error_code NOT IN ('row_rejected', 'invalid_json')": 0,
	} {
		if n := w.count(query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	outcomes := map[any]int{}
	for _, line := range w.log.pushes(t) {
		outcomes[line["outcome"]]++
	}
	if outcomes["retry"] == 0 {
		t.Errorf("outcomes %v: no fault has hit", outcomes)
	}
	t.Logf("outcomes %v, %d copies", outcomes, w.count("SELECT COUNT(*) - COUNT(DISTINCT event_id) FROM fact_events"))
}

package faults

import (
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	gcp "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"sluice/bridge"
	"sluice/functions/service"
	"sluice/internal/local"
	"sluice/internal/local/objects"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/scripts/pipeline"
)

func smallBatches(c *bridge.Config) {
	c.BatchRecords = 50
	c.Linger, c.MaxLinger = 50*time.Millisecond, 50*time.Millisecond
	// A retry need not wait for as long as in production.
	c.RetryMax = time.Second
}

// byReference has every batch in an object.
func byReference(c *pipeline.Config) {
	c.TuneBridge = func(b *bridge.Config) {
		smallBatches(b)
		b.ReferenceAbove = 0
	}
}

// someByReference has about every second batch in an object.
func someByReference(b *bridge.Config) {
	smallBatches(b)
	b.ReferenceAbove = halfBatch
}

// halfBatch is about what a batch of smallBatches has, compressed.
const halfBatch = 5000

// bucketFails is a fault of the bucket that is there until some records more have been produced, and that
// must have been met.
func bucketFails(f objects.Fault) func(*world) {
	return func(w *world) {
		f.Count = -1
		before := w.Objects.Count(f.Operation)
		remove := w.Objects.Fail(f)
		w.produce(1500)
		w.until("the fault is met", func() bool { return w.Objects.Count(f.Operation) > before })
		remove()
	}
}

// impatient functions give BigQuery up after a second, so that a test need not wait
// for the deployed 15.
func impatient(c *pipeline.Config) {
	c.TuneFunctions = func(s *service.Config) {
		s.AppendTimeout = time.Second
		s.HandlerTimeout = 3 * time.Second
		s.BreakerOpen = 500 * time.Millisecond
	}
}

// hasty functions end a request after ten seconds, so that a test need not wait for the deployed 50: long enough
// for BigQuery to answer on a machine under load, or rows would land twice.
func hasty(c *pipeline.Config) {
	c.TuneFunctions = func(s *service.Config) { s.AppendTimeout, s.HandlerTimeout = 9*time.Second, 10*time.Second }
}

// patient functions outlast a BigQuery that is only slow, also where the machine is.
func patient(c *pipeline.Config) {
	c.TuneFunctions = func(s *service.Config) { s.AppendTimeout = 45 * time.Second }
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// warehouseFails is a fault of the warehouse that is there until some records more
// have been produced, and that must have been met.
func warehouseFails(f warehouse.Fault) func(*world) {
	return func(w *world) {
		if f.Count == 0 {
			f.Count = -1
		}
		h := w.Warehouse.Fail(f)
		w.produce(1500)
		w.until("the fault is met", func() bool { return h.Hits() >= 5 })
		h.Remove()
	}
}

// rejects is a fault in which BigQuery takes no row that holds a text. It is there
// from the beginning, so that each such event has one place to end in.
func rejects(naming warehouse.Naming) func(*world) {
	return func(w *world) {
		w.bad = holds("exp-07:a")
		w.Warehouse.Fail(warehouse.Fault{Table: "fact_events", Count: -1, BadRow: w.bad, Naming: naming})
	}
}

// publishFails is a fault of Pub/Sub that is there until some records more have been
// produced.
func publishFails(f pubsub.PublishFault) func(*world) {
	return func(w *world) {
		f.Count = -1
		h := w.PubSub.FailPublish(f)
		w.produce(1500)
		w.until("the fault is met", func() bool { return h.Hits() >= 3 })
		h.Remove()
	}
}

// anew deletes the topic of a subscription and makes both anew as the runbook says and
// Terraform does it: what the old topic took is delivered first, and nobody may publish
// to the new one before it has its subscription. What is published to a topic without
// one is acknowledged and gone.
func (w *world) anew(subscription string) {
	client, err := gcp.NewClient(w.t.Context(), local.Project, w.PubSub.ClientOptions()...)
	w.must(err)
	defer client.Close()
	topics, subscriptions := client.TopicAdminClient, client.SubscriptionAdminClient
	name := w.PubSub.SubscriptionName(subscription)
	was, err := subscriptions.GetSubscription(w.t.Context(), &pubsubpb.GetSubscriptionRequest{Subscription: name})
	w.must(err)
	topic := was.Topic
	w.must(topics.DeleteTopic(w.t.Context(), &pubsubpb.DeleteTopicRequest{Topic: topic}))
	var tries atomic.Int64 // all that meet the fault, which leaves them to the topic that is not there
	counter := w.PubSub.FailPublish(pubsub.PublishFault{Topic: topic, Count: -1,
		When: func(*pubsubpb.PublishRequest) bool { tries.Add(1); return false }})
	w.produce(1500)
	w.until("the fault is met", func() bool { return tries.Load() >= 3 })
	counter.Remove()
	w.until("what the old topic took is delivered", func() bool { return w.PubSub.Stats(subscription).Backlog == 0 })
	w.must(subscriptions.DeleteSubscription(w.t.Context(), &pubsubpb.DeleteSubscriptionRequest{Subscription: name}))

	denied := w.PubSub.FailPublish(pubsub.PublishFault{Topic: topic, Code: codes.PermissionDenied, Count: -1})
	_, err = topics.CreateTopic(w.t.Context(), &pubsubpb.Topic{Name: topic})
	w.must(err)
	w.until("publishers meet the new topic", func() bool { return denied.Hits() >= 1 })
	anew := proto.CloneOf(was)
	anew.Topic = topic
	_, err = subscriptions.CreateSubscription(w.t.Context(), anew)
	w.must(err)
	denied.Remove()
}

// clocksJump is a fault of the clocks of Pub/Sub and BigQuery. The bridge and the functions
// take the machine's: how they compare moments is tested beside it (functions/warehouse).
func clocksJump() fault {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	return fault{
		name: "the clocks of Pub/Sub and BigQuery jump an hour ahead, then two hours back", duplicates: none, delay: none,
		stack: func(c *pipeline.Config) { c.PubSubNow, c.WarehouseNow = now, now },
		strike: func(w *world) {
			for _, offset := range []time.Duration{0, time.Hour, -time.Hour} {
				ahead.Store(int64(offset))
				w.produce(800)
			}
		},
	}
}

// failures is how many pushes to Ingest have failed so far.
func (w *world) failures() int64 { return w.PubSub.Stats(local.Ingest).Failed }

// cycleBridge stops and starts the bridge a few times, as deployments do.
func cycleBridge(w *world) {
	for range 4 {
		w.produce(300)
		w.must(w.StopBridge(w.t.Context(), w.Bridges()[0]))
		_, err := w.StartBridge(w.t.Context())
		w.must(err)
	}
}

var matrix = []fault{
	{
		name: "BigQuery is unreachable, long enough for the circuit breaker", duplicates: "those in flight when it went",
		delay: "until it is back, then seconds",
		strike: func(w *world) {
			w.must(w.Warehouse.Down())
			w.produce(3000)
			w.until("pushes fail", func() bool { return w.failures() >= 20 })
			w.must(w.Warehouse.Up())
		},
	},
	{
		name: "BigQuery answers UNAVAILABLE", duplicates: none, delay: "until it is back, then seconds",
		strike: warehouseFails(warehouse.Fault{Code: codes.Unavailable}),
	},
	{
		name: "BigQuery is slow: 300 ms more a request", duplicates: none, delay: "300 ms", stack: patient,
		strike: warehouseFails(warehouse.Fault{Wait: 300 * time.Millisecond}),
	},
	{
		name: "BigQuery hangs", duplicates: "those in flight when it began", delay: "until it is back, then seconds", stack: impatient,
		strike: func(w *world) {
			h := w.Warehouse.Fail(warehouse.Fault{Hang: true, Count: -1})
			w.produce(1500)
			// Each try must end by itself, or nothing would fail.
			w.until("pushes fail", func() bool { return w.failures() >= 10 })
			h.Remove()
		},
	},
	{
		name: "BigQuery stores the rows and answers too late", duplicates: "each such request", delay: "as long as the answer", stack: impatient,
		strike: warehouseFails(warehouse.Fault{AnswerAfter: 2 * time.Second, Count: 10}),
	},
	{
		name: "BigQuery stores the rows and its answer is lost", duplicates: "each such request", delay: "a redelivery, 10 s",
		strike: warehouseFails(warehouse.Fault{StoreFirst: true, Code: codes.Unavailable, Count: 20}),
	},
	{
		name: "BigQuery breaks the stream after every tenth request", duplicates: "those in flight on the stream", delay: "a redelivery, 10 s",
		strike: func(w *world) {
			for range 8 {
				h := w.Warehouse.Fail(warehouse.Fault{Table: "fact_events", Skip: 9, Code: codes.Aborted})
				w.until("the fault is met", func() bool { return h.Hits() > 0 })
			}
		},
	},
	{
		name: "connections to BigQuery break", duplicates: "those in flight", delay: "a redelivery, 10 s",
		strike: func(w *world) {
			for range 8 {
				w.produce(150)
				// Not every moment has a request in flight.
				before := w.failures()
				w.until("pushes fail", func() bool { w.Warehouse.Drop(); return w.failures() > before })
			}
		},
	},
	{
		name: "BigQuery rejects rows and names all", duplicates: none, delay: "none; the rows are dead letters, `row_rejected`",
		before: rejects(warehouse.NameAll), strike: func(w *world) { w.produce(2000) },
	},
	{
		name: "BigQuery rejects rows and names only the first", duplicates: none, delay: "none; the rows are dead letters, `row_rejected`",
		before: rejects(warehouse.NameFirst), strike: func(w *world) { w.produce(2000) },
	},
	{
		name: "BigQuery rejects rows and names none", duplicates: none, delay: "none; the rows are dead letters, `row_rejected`",
		before: rejects(warehouse.NameNone), strike: func(w *world) { w.produce(2000) },
	},
	{
		name: "the table has another schema", duplicates: none, delay: "until it is repaired, then seconds; nothing is dead-lettered",
		strike: warehouseFails(warehouse.Fault{Code: codes.InvalidArgument, InResponse: true,
			Storage: storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS}),
	},
	{
		name: "the table is gone", duplicates: none, delay: "until it is there again, then seconds; nothing is dead-lettered",
		strike: warehouseFails(warehouse.Fault{Code: codes.NotFound, Storage: storagepb.StorageError_TABLE_NOT_FOUND}),
	},
	{
		name: "no permission to append", duplicates: none, delay: "until it is granted, then seconds; nothing is dead-lettered",
		strike: warehouseFails(warehouse.Fault{Code: codes.PermissionDenied}),
	},
	{
		name: "the append quota is used up", duplicates: none, delay: "until there is quota, then seconds",
		strike: warehouseFails(warehouse.Fault{Code: codes.ResourceExhausted, InResponse: true}),
	},
	{
		name: "the dead-letter table fails", duplicates: none, delay: "only dead letters are late",
		strike: func(w *world) {
			h := w.Warehouse.Fail(warehouse.Fault{Table: "events_dlq", Code: codes.Unavailable, Count: -1})
			w.flow(1500) // good events go on landing
			w.until("the fault is met", func() bool { return h.Hits() >= 2 })
			h.Remove()
		},
	},
	{
		name: "publishing dead letters fails", duplicates: "the good neighbours of each bad event", delay: "batches with a bad event, until it works again",
		stack: impatient,
		strike: func(w *world) {
			h := w.PubSub.FailPublish(pubsub.PublishFault{Topic: local.DeadLetterTopic, Code: codes.PermissionDenied,
				Count: -1})
			w.produce(1500)
			w.until("the fault is met", func() bool { return h.Hits() >= 2 })
			h.Remove()
		},
	},
	{
		name: "the topic is deleted and made anew by Terraform", duplicates: none, delay: "until it is there, then seconds",
		strike: func(w *world) { w.anew(local.Ingest) },
	},
	{
		name: "the dead-letter topic is deleted and made anew by Terraform", duplicates: "the good neighbours of each bad event", delay: "batches with a bad event, until it is there",
		stack: impatient, strike: func(w *world) { w.anew(local.DeadLetter) },
	},
	{
		name: "publishing fails for a while", duplicates: none, delay: "until it works again, then seconds",
		strike: publishFails(pubsub.PublishFault{Topic: local.Topic, Code: codes.Unavailable}),
	},
	{
		name: "no permission to publish", duplicates: none, delay: "until it is granted, then seconds",
		strike: publishFails(pubsub.PublishFault{Topic: local.Topic, Code: codes.PermissionDenied}),
	},
	{
		name: "publishing stores the messages and its answer is lost", duplicates: "each such request", delay: "a retry, below 1 s",
		strike: func(w *world) {
			h := w.PubSub.FailPublish(pubsub.PublishFault{Topic: local.Topic, StoreFirst: true, Count: 20})
			w.produce(1500)
			w.until("the fault is met", func() bool { return h.Hits() >= 20 })
		},
	},
	{
		name: "publishing fails for one message only", duplicates: none, delay: "the offsets of that message's partitions, until it works again",
		strike: func(w *world) {
			var victim []byte
			h := w.PubSub.FailPublish(pubsub.PublishFault{Topic: local.Topic, Code: codes.InvalidArgument, Count: 8,
				When: func(r *pubsubpb.PublishRequest) bool {
					for _, m := range r.Messages {
						if victim == nil {
							victim = append([]byte(nil), m.Data...)
						}
						if string(m.Data) == string(victim) {
							return true
						}
					}
					return false
				}})
			w.produce(1500)
			w.until("the fault is met", func() bool { return h.Hits() >= 8 })
		},
	},
	{
		name: "Pub/Sub is unreachable for publishers", duplicates: "those in flight when it went", delay: "until it is back, then seconds",
		strike: func(w *world) {
			w.must(w.PubSub.Down())
			w.produce(2000)
			w.until("the bridge tries again", func() bool { return w.Bridges()[0].Stats().Retries >= 3 })
			w.must(w.PubSub.Up())
		},
	},
	{
		name: "the bucket cannot be written to", duplicates: none, delay: "below 1 s; messages carry their records until it can be, and cost more", stack: byReference,
		strike: bucketFails(objects.Fault{Operation: objects.Create}),
	},
	{
		name: "no permission to write to the bucket", duplicates: none, delay: "none; messages carry their records until it is granted, and cost more", stack: byReference,
		strike: bucketFails(objects.Fault{Operation: objects.Create, Status: 403}),
	},
	{
		name: "writing to the bucket hangs", duplicates: none, delay: "2 s; then messages carry their records until it works again", stack: byReference,
		strike: bucketFails(objects.Fault{Operation: objects.Create, Hang: true}),
	},
	{
		name: "the bucket writes an object and its answer is lost", duplicates: none, delay: "below 1 s", stack: byReference,
		strike: func(w *world) {
			remove := w.Objects.Fail(objects.Fault{Operation: objects.Create, Count: 20, LoseAnswer: true})
			before := w.Objects.Count(objects.Create)
			w.produce(1500)
			w.until("the fault is met", func() bool { return w.Objects.Count(objects.Create) >= before+20 })
			remove()
		},
	},
	{
		name: "the bucket cannot be read", duplicates: none, delay: "until it can be, then seconds; nothing is dead-lettered",
		stack: byReference, strike: bucketFails(objects.Fault{Operation: objects.Read}),
	},
	{
		name: "no permission to read the bucket", duplicates: none, delay: "until it is granted, then seconds; nothing is dead-lettered",
		stack: byReference, strike: bucketFails(objects.Fault{Operation: objects.Read, Status: 403}),
	},
	{
		name: "reading the bucket hangs", duplicates: none, delay: "until it works again, then seconds",
		stack: func(c *pipeline.Config) { byReference(c); hasty(c) }, strike: bucketFails(objects.Fault{Operation: objects.Read, Hang: true}),
	},
	{
		name: "the bucket is unreachable", duplicates: none, delay: "until it is back, then seconds; messages carry their records meanwhile",
		stack: byReference,
		strike: func(w *world) {
			failed := w.failures()
			w.must(w.Objects.Down())
			w.produce(1500)
			w.until("the bridge goes around the bucket", func() bool { return w.Bridges()[0].Stats().StoreErrors > 0 })
			w.until("a fetch fails", func() bool {
				return w.failures() > failed ||
					w.PubSub.Stats(local.Ingest).Backlog == 0
			})
			w.must(w.Objects.Up())
		},
	},
	{
		name: "objects cannot be deleted", duplicates: none, delay: "none; the bucket's lifecycle deletes them", stack: byReference,
		strike: bucketFails(objects.Fault{Operation: objects.Delete, Status: 403}),
	},
	{
		name: "a push whose object was deleted comes again", duplicates: none, delay: "none; it is acknowledged, with a line", stack: byReference,
		strike: func(w *world) {
			h := w.PubSub.FailPush(pubsub.PushFault{Subscription: local.Ingest, LoseAnswer: true, Count: 40})
			w.until("the fault is met", func() bool { return h.Hits() >= 40 })
		},
	},
	{
		name: "a push times out after the rows were written", duplicates: "each such message", delay: none,
		strike: func(w *world) {
			h := w.PubSub.FailPush(pubsub.PushFault{LoseAnswer: true, Count: 40})
			w.until("the fault is met", func() bool { return h.Hits() >= 40 })
		},
	},
	{
		name: "Pub/Sub delivers messages again that were acked", duplicates: "each such message", delay: none,
		strike: func(w *world) {
			h := w.PubSub.FailPush(pubsub.PushFault{Again: true, Count: 40})
			w.until("the fault is met", func() bool { return h.Hits() >= 40 })
		},
	},
	{
		name: "Pub/Sub delivers messages twice at the same time", duplicates: "each such message", delay: none,
		strike: func(w *world) {
			h := w.PubSub.FailPush(pubsub.PushFault{Twice: true, Count: 40})
			w.until("the fault is met", func() bool { return h.Hits() >= 40 })
		},
	},
	{
		name: "pushes are lost on their way", duplicates: none, delay: "a redelivery, 10 s",
		strike: func(w *world) {
			h := w.PubSub.FailPush(pubsub.PushFault{Count: 40})
			w.until("the fault is met", func() bool { return h.Hits() >= 40 })
		},
	},
	{
		name: "functions stopped by SIGTERM under load, six times", duplicates: none, delay: "a redelivery, 10 s",
		strike: func(w *world) {
			for range 6 {
				w.produce(200)
				before := w.failures()
				w.must(w.StopFunctions(w.t.Context()))
				w.until("pushes fail", func() bool { return w.failures() > before })
				w.must(w.StartFunctions(w.t.Context()))
			}
		},
	},
	{
		name: "bridge stopped by SIGTERM under load, four times", duplicates: "what was not acknowledged within 6 s", delay: "a rebalance, seconds",
		strike: cycleBridge,
	},
	{
		name: "everything stopped by SIGTERM at once, BigQuery slow", duplicates: "those in flight", delay: "a rebalance and a redelivery",
		strike: func(w *world) {
			h := w.Warehouse.Fail(warehouse.Fault{Wait: 200 * time.Millisecond, Count: -1})
			w.produce(500)
			stopped := make(chan error, 2)
			go func() { stopped <- w.StopFunctions(w.t.Context()) }()
			go func() { stopped <- w.StopBridge(w.t.Context(), w.Bridges()[0]) }()
			w.must(<-stopped)
			w.must(<-stopped)
			h.Remove()
			w.must(w.StartFunctions(w.t.Context()))
			_, err := w.StartBridge(w.t.Context())
			w.must(err)
		},
	},
	{
		name: "bridges come and go: rebalance after rebalance", duplicates: "what was in flight of a partition that moved", delay: "a rebalance, seconds",
		strike: func(w *world) {
			for range 3 {
				b, err := w.StartBridge(w.t.Context())
				w.must(err)
				w.produce(400)
				w.must(w.StopBridge(w.t.Context(), b))
				w.produce(200)
			}
		},
	},
	{
		name: "Kafka is unreachable", duplicates: "those not committed when it went", delay: "until it is back, then seconds",
		strike: func(w *world) {
			w.produce(300)
			w.must(w.Kafka.Down())
			time.Sleep(2 * time.Second)
			w.until("the bridge misses it", func() bool { return w.Bridges()[0].Stats().KafkaErrors > 0 })
			w.must(w.Kafka.Up())
		},
	},
	{
		name: "Kafka's partitions move to other brokers", duplicates: none, delay: "below 1 s",
		stack: func(c *pipeline.Config) { c.Brokers = 3 },
		strike: func(w *world) {
			for range 5 {
				w.must(w.Kafka.MoveLeaders(local.Topic))
				w.produce(300)
			}
		},
	},
	{
		name: "Kafka answers fetches and commits with errors", duplicates: "what could not be committed, after a rebalance", delay: "below 1 s",
		strike: func(w *world) {
			fetch := w.Kafka.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{1}, Err: kerr.NotLeaderForPartition,
				Count: 20})
			commit := w.Kafka.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{8}, Err: kerr.CoordinatorLoadInProgress,
				Count: 3})
			w.produce(1500)
			w.until("the faults are met", func() bool { return fetch.Hits() >= 3 && commit.Hits() >= 1 })
			fetch.Remove()
			commit.Remove()
		},
	},
	{
		name: "the parts' clocks disagree by an hour, producers' by a day", duplicates: none, delay: none,
		stack: func(c *pipeline.Config) {
			c.PubSubNow = func() time.Time { return time.Now().Add(-time.Hour) }
			c.WarehouseNow = func() time.Time { return time.Now().Add(time.Hour) }
		},
		strike: func(w *world) {
			w.skewed.Store(true)
			w.produce(2000)
		},
	},
	clocksJump(),
}

package faults

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"sluice/internal/local"
	"sluice/internal/local/objects"
	"sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/scripts/pipeline"
)

var (
	chaosTime = flag.Duration("chaos", 10*time.Second, "how long TestChaos makes things fail")
	chaosSeed = flag.Uint64("seed", 0, "what TestChaos draws from; 0: the time")
)

// round is how long faults strike before everything must have arrived.
const round = 20 * time.Second

// Faults at random, several at a time: whatever happens together, nothing is lost.
// After every round the faults end, everything must arrive and be audited.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("./scripts/test --chaos %g --seed %d", chaosTime.Minutes(), seed)
	c := &chaos{r: rand.New(rand.NewPCG(seed, 5)), bridge: build(t, "sluice/bridge/cmd/bridge"),
		struck: map[string]int{}}
	config := pipeline.Config{Config: local.Config{Brokers: 3, Partitions: 6, Bridges: 2,
		Push: local.PushConfig{BackoffScale: 0.005}}, TuneBridge: someByReference}
	impatient(&config)
	c.world = start(t, config)
	// Some rows are bad for BigQuery all the time.
	rejects(warehouse.Naming(c.r.IntN(3)))(c.world)

	begin := time.Now()
	for n := 1; time.Since(begin) < *chaosTime && !t.Failed(); n++ {
		c.load(seed+uint64(n), 500)
		c.flow(100)
		c.strike(min(round, max(time.Second, *chaosTime-time.Since(begin))))
		ended := time.Now()
		c.produce(200)
		c.endLoad()
		t.Logf("round %d: %v", n, c.settle(ended))
	}
	for _, name := range slices.Sorted(maps.Keys(c.struck)) {
		t.Logf("%d × %s", c.struck[name], name)
	}
	t.Logf("kfake had to be helped out of %d rebalances", c.Kafka.Unstuck())
	if t.Failed() {
		t.Logf("again: ./scripts/test --chaos %g --seed %d", chaosTime.Minutes(), seed)
	}
}

// chaos is a world in which things fail.
type chaos struct {
	*world
	r      *rand.Rand
	bridge string         // the program
	struck map[string]int // how often what has gone wrong

	functions sync.Mutex // held while they are down
}

// strike begins faults at random moments and ends each after a random time, until
// all have ended after d.
func (c *chaos) strike(d time.Duration) {
	c.t.Helper()
	var running sync.WaitGroup
	kinds := c.kinds()
	for end := time.Now().Add(d); time.Now().Before(end); {
		// All that is random is drawn here, in one goroutine: the seed decides it.
		kind := kinds[c.r.IntN(len(kinds))]
		lasts := time.Duration(100+c.r.IntN(2500)) * time.Millisecond
		undo := kind.begin()
		c.struck[kind.name]++
		if testing.Verbose() {
			c.t.Logf("%s for %v", kind.name, lasts)
		}
		running.Go(func() {
			time.Sleep(lasts)
			undo()
		})
		time.Sleep(time.Duration(50+c.r.IntN(700)) * time.Millisecond)
	}
	running.Wait()
}

// kind is something that can go wrong; begin returns what ends it.
type kind struct {
	name  string
	begin func() (undo func())
}

func (c *chaos) kinds() []kind {
	rows := func(f warehouse.Fault) kind {
		return kind{fmt.Sprintf("warehouse: %v wait %v hang %v after %v store %v", f.Code, f.Wait, f.Hang,
			f.AnswerAfter, f.StoreFirst),
			func() func() { f.Count = -1; return c.Warehouse.Fail(f).Remove }}
	}
	publishes := func(f pubsub.PublishFault) kind {
		return kind{fmt.Sprintf("publish to %q: %v wait %v hang %v store %v", f.Topic, f.Code, f.Wait, f.Hang,
			f.StoreFirst),
			func() func() { f.Count = -1; return c.PubSub.FailPublish(f).Remove }}
	}
	pushes := func(f pubsub.PushFault) kind {
		return kind{fmt.Sprintf("push: wait %v lose answer %v again %v", f.Wait, f.LoseAnswer, f.Again),
			func() func() { f.Count = 30; return c.PubSub.FailPush(f).Remove }}
	}
	away := func(name string, down, up func() error) kind {
		return kind{name + " is unreachable", func() func() {
			c.ok(down())
			return func() { c.ok(up()) }
		}}
	}
	kafka := func(key int16, err *kerr.Error) kind {
		return kind{fmt.Sprintf("Kafka answers request %d with %s", key, err.Message), func() func() {
			return c.Kafka.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Key(key)}, Err: err, Count: 5}).Remove
		}}
	}
	bucket := func(f objects.Fault) kind {
		return kind{fmt.Sprintf("bucket: %s %d hang %v lose %v", f.Operation, f.Status, f.Hang, f.LoseAnswer),
			func() func() { f.Count = -1; return c.Objects.Fail(f) }}
	}
	return []kind{
		bucket(objects.Fault{}),
		bucket(objects.Fault{Hang: true}),
		bucket(objects.Fault{LoseAnswer: true}),
		bucket(objects.Fault{Status: 403}),
		bucket(objects.Fault{Operation: objects.Delete, Status: 403}),
		away("the bucket", c.Objects.Down, c.Objects.Up),
		rows(warehouse.Fault{Code: codes.Unavailable}),
		rows(warehouse.Fault{Code: codes.Internal, StoreFirst: true}),
		rows(warehouse.Fault{Code: codes.ResourceExhausted, InResponse: true}),
		rows(warehouse.Fault{Code: codes.PermissionDenied}),
		rows(warehouse.Fault{Code: codes.InvalidArgument, InResponse: true,
			Storage: storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS}),
		rows(warehouse.Fault{Table: "events_dlq", Code: codes.NotFound,
			Storage: storagepb.StorageError_TABLE_NOT_FOUND}),
		rows(warehouse.Fault{Wait: 300 * time.Millisecond}),
		rows(warehouse.Fault{AnswerAfter: 1500 * time.Millisecond}),
		rows(warehouse.Fault{Hang: true}),
		{"connections to the warehouse break", func() func() { c.Warehouse.Drop(); return func() {} }},
		away("the warehouse", c.Warehouse.Down, c.Warehouse.Up),
		publishes(pubsub.PublishFault{Code: codes.Unavailable}),
		publishes(pubsub.PublishFault{Code: codes.Internal, StoreFirst: true}),
		publishes(pubsub.PublishFault{Topic: local.DeadLetterTopic, Code: codes.PermissionDenied}),
		publishes(pubsub.PublishFault{Topic: local.Topic, Code: codes.ResourceExhausted}),
		publishes(pubsub.PublishFault{Wait: 500 * time.Millisecond}),
		publishes(pubsub.PublishFault{Topic: local.DeadLetterTopic, Hang: true}),
		{"connections to Pub/Sub break", func() func() { c.PubSub.Drop(); return func() {} }},
		away("Pub/Sub", c.PubSub.Down, c.PubSub.Up),
		pushes(pubsub.PushFault{}),
		pushes(pubsub.PushFault{LoseAnswer: true}),
		pushes(pubsub.PushFault{Again: true}),
		pushes(pubsub.PushFault{Twice: true}),
		pushes(pubsub.PushFault{Wait: time.Second}),
		{"pushes pause", func() func() { c.PubSub.Pause(""); return func() { c.PubSub.Resume("") } }},
		away("Kafka", c.Kafka.Down, c.Kafka.Up),
		{"partitions move", func() func() { c.ok(c.Kafka.MoveLeaders(local.Topic)); return func() {} }},
		kafka(1, kerr.NotLeaderForPartition),
		kafka(8, kerr.CoordinatorNotAvailable),
		kafka(12, kerr.NotCoordinator),
		{"functions are killed", func() func() { return c.withoutFunctions(c.KillFunctions) }},
		{"functions are stopped", func() func() {
			return c.withoutFunctions(func() error { return c.StopFunctions(c.t.Context()) })
		}},
		{"a bridge is replaced", func() func() {
			bridges := c.Bridges()
			go func() { // the new one comes before the old one has gone
				if _, err := c.StartBridge(c.t.Context()); err != nil {
					c.t.Error(err)
				}
			}()
			c.ok(c.StopBridge(c.t.Context(), bridges[c.r.IntN(len(bridges))]))
			return func() {}
		}},
		{"a bridge joins, and is killed", func() func() { return c.bridgeProcess(c.bridge).kill }},
	}
}

// withoutFunctions takes the functions down if they are up.
func (c *chaos) withoutFunctions(down func() error) (up func()) {
	if !c.functions.TryLock() {
		return func() {}
	}
	c.ok(down())
	return func() {
		defer c.functions.Unlock()
		c.ok(c.StartFunctions(c.t.Context()))
	}
}

// ok notes an error, from any goroutine.
func (c *chaos) ok(err error) {
	if err != nil {
		c.t.Error(err)
	}
}

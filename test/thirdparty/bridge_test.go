//go:build thirdparty

package thirdparty

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/internal/batch"
	"sluice/test/thirdparty/kafka"
	"sluice/test/thirdparty/process"
)

// What the bridge does about troubles of Apache Kafka, as an operator sees it: the
// bridge is a process of its own, and what it says is read from its status server
// and its log. Each case ends with everything forwarded.
func TestBridgeInTrouble(t *testing.T) {
	ctx := starting(t)
	program := filepath.Join(t.TempDir(), "bridge")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program,
		"sluice/bridge/cmd/bridge").CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	// Who has no rule may do everything: each case makes the rules that it is about.
	k, err := kafka.Start(ctx, kafka.Config{Dir: t.TempDir(), Settings: map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "allow.everyone.if.no.acl.found": "true",
		"group.min.session.timeout.ms": "1000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	for _, c := range []struct {
		name string
		run  func(*trouble)
	}{
		{"a topic is deleted and made anew", topicAnew},
		{"one topic of two is denied and granted again", topicDenied},
		{"the group is denied and granted again", groupDenied},
		{"a static member is started twice", staticTwice},
		{"a stop longer than the poll interval", stopped},
		{"names that do not resolve at the start", unresolved},
		{"brokers away for minutes", brokersAway}, // last: it restarts the broker
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newTrouble(ctx, t, k, program)
			c.run(x)
		})
	}
}

// trouble is a cluster with two topics of this case's own, and a Pub/Sub topic.
type trouble struct {
	*testing.T
	ctx     context.Context
	kafka   *kafka.Cluster
	program string
	admin   *client.AdminClient
	pubsub  *pstest.Server
	refuse  atomic.Bool // publishing
	topics  []string
	group   string
}

func (x *trouble) React(any) (handled bool, answer any, err error) {
	if x.refuse.Load() {
		return true, &pubsubpb.PublishResponse{}, status.Error(codes.Unavailable, "refused by the test")
	}
	return false, nil, nil
}

func newTrouble(ctx context.Context, t *testing.T, k *kafka.Cluster, program string) *trouble {
	x := &trouble{T: t, ctx: ctx, kafka: k, program: program}
	x.pubsub = pstest.NewServer(pstest.ServerReactorOption{FuncName: "Publish", Reactor: x})
	t.Cleanup(func() { x.pubsub.Close() })
	for _, name := range []string{"events", "events-dead-letter"} {
		if _, err := x.pubsub.GServer.CreateTopic(ctx, &pubsubpb.Topic{Name: "projects/" + project + "/topics/" +
			name}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if x.admin, err = client.NewAdminClient(k.Client()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.admin.Close)
	x.group = "group-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	for _, name := range []string{"a", "b"} {
		x.topics = append(x.topics, name+"-"+x.group)
		x.create(x.topics[len(x.topics)-1])
	}
	return x
}

func (x *trouble) create(topic string) {
	x.Helper()
	x.await("topic "+topic, func() bool { return x.kafka.CreateTopic(x.ctx, topic, 2, nil) == nil })
}

// produce sends n records to both partitions of a topic, values "<prefix>0", …
func (x *trouble) produce(topic, prefix string, n int) {
	x.Helper()
	p, err := client.NewProducer(x.kafka.Client())
	if err != nil {
		x.Fatal(err)
	}
	defer p.Close()
	reports := make(chan client.Event, n)
	for i := range n {
		err := p.Produce(&client.Message{TopicPartition: client.TopicPartition{Topic: &topic, Partition: int32(i % 2)},
			Value: fmt.Appendf(nil, "%s%d", prefix, i)}, reports)
		if err != nil {
			x.Fatal(err)
		}
	}
	for range n {
		if m := (<-reports).(*client.Message); m.TopicPartition.Error != nil {
			x.Fatal(m.TopicPartition.Error)
		}
	}
}

// forwarded counts the distinct values "<prefix>…" that are in Pub/Sub.
func (x *trouble) forwarded(prefix string) int {
	x.Helper()
	seen := map[string]bool{}
	for _, m := range x.pubsub.Messages() {
		var d batch.Decoder
		b, err := d.Decode(m.Data, batch.DefaultLimits)
		if err != nil {
			x.Fatal(err)
		}
		for _, r := range b.Records {
			if strings.HasPrefix(string(r.Value), prefix) {
				seen[string(r.Value)] = true
			}
		}
	}
	return len(seen)
}

func (x *trouble) await(what string, f func() bool) {
	x.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			x.Fatalf("not seen in two minutes: %s", what)
		}
	}
}

// comes waits until n records of a prefix are forwarded.
func (x *trouble) comes(prefix string, n int) {
	x.Helper()
	x.await(fmt.Sprintf("%d records %q forwarded", n, prefix), func() bool { return x.forwarded(prefix) >= n })
}

// running is a bridge.
type running struct {
	*trouble
	*process.Process
	address, log string
}

func (x *trouble) bridge(more ...string) *running {
	x.Helper()
	ports, err := process.FreePorts(1)
	if err != nil {
		x.Fatal(err)
	}
	r := &running{trouble: x, address: "127.0.0.1:" + strconv.Itoa(ports[0]), log: filepath.Join(x.TempDir(), "log")}
	r.Process, err = process.Start(process.Config{
		Command: []string{x.program, "--http-addr", r.address},
		Env: append([]string{
			"KAFKA_BROKERS=" + x.kafka.Brokers(), "KAFKA_TOPICS=" + strings.Join(x.topics, ","), "KAFKA_GROUP=" +
				x.group,
			"GOOGLE_CLOUD_PROJECT=" + project, "PUBSUB_EMULATOR_HOST=" +
				x.pubsub.Addr, "PUBSUB_TOPIC=events", "PUBSUB_DEAD_LETTER_TOPIC=events-dead-letter",
			"LINGER=20ms", "MAX_LINGER=20ms", "RETRY_MIN=10ms", "RETRY_MAX=1s", "DRAIN_TIMEOUT=30s",
			"KAFKA_CONFIG_SESSION_TIMEOUT_MS=6000", "KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS=500", "KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS=2000",
		}, more...),
		Log: r.log,
	})
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() {
		r.Kill()
		if x.Failed() {
			text, _ := os.ReadFile(r.log)
			x.Logf("%s", text[max(0, len(text)-20_000):])
		}
	})
	return r
}

func (r *running) get(path string) (int, string) {
	answer, err := http.Get("http://" + r.address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body)
}

// is waits for an answer of /readyz.
func (r *running) is(status int) {
	r.Helper()
	r.await(fmt.Sprintf("/readyz answers %d", status), func() bool { got, _ := r.get("/readyz"); return got == status })
}

// metric is the sum over a metric's lines that contain all of some texts.
func (r *running) metric(name string, having ...string) (sum float64, found bool) {
	_, text := r.get("/metrics")
next:
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name) {
			continue
		}
		for _, h := range having {
			if !strings.Contains(line, h) {
				continue next
			}
		}
		fields := strings.Fields(line)
		if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

// lines are the log's lines of warning or worse that contain a text.
func (r *running) lines(text string) (found []string) {
	log, err := os.ReadFile(r.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it has not begun
		r.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		var entry struct{ Severity string }
		if json.Unmarshal(line, &entry) == nil && entry.Severity != "INFO" && entry.Severity != "DEBUG" &&
			strings.Contains(string(line), text) {
			found = append(found, string(line))
		}
	}
	return found
}

// ends waits for the process.
func (r *running) ends() error {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	return r.Wait(ctx)
}

// Protects the records of a topic's next life: the offsets that were committed for
// the last one are beyond its end, or point into its middle.
func topicAnew(x *trouble) {
	r := x.bridge()
	x.produce(x.topics[0], "before", 20)
	x.comes("before", 20)
	x.settled(r)
	if _, err := x.admin.DeleteTopics(x.ctx, x.topics[:1]); err != nil {
		x.Fatal(err)
	}
	x.await("the topic is gone", func() bool {
		m, err := x.admin.GetMetadata(&x.topics[0], false, 5000)
		return err == nil && m.Topics[x.topics[0]].Error.Code() == client.ErrUnknownTopicOrPart
	})
	x.produce(x.topics[1], "meanwhile", 4) // the other topic's are not held up
	x.comes("meanwhile", 4)
	x.create(x.topics[0])
	x.produce(x.topics[0], "after", 4)
	x.comes("after", 4)
	x.produce(x.topics[0], "later", 40) // past the old life's committed offsets
	x.comes("later", 40)
	r.is(200)
	x.settled(r)
}

// settled waits until all is acknowledged, by the bridge's own account.
func (x *trouble) settled(r *running) {
	x.Helper()
	x.await("a lag of 0", func() bool { lag, known := r.metric("sluice_bridge_lag"); return known && lag == 0 })
}

// deny makes and returns the rule that denies anybody an operation.
func (x *trouble) deny(kind client.ResourceType, name string, operation client.ACLOperation) (grant func()) {
	x.Helper()
	rule := client.ACLBinding{Type: kind, Name: name, ResourcePatternType: client.ResourcePatternTypeLiteral,
		Principal: "User:ANONYMOUS",
		Host:      "*", Operation: operation, PermissionType: client.ACLPermissionTypeDeny}
	others := rule // a resource with a rule is no longer open to all
	others.Operation, others.PermissionType = client.ACLOperationAll, client.ACLPermissionTypeAllow
	results, err := x.admin.CreateACLs(x.ctx, client.ACLBindings{rule, others})
	if err != nil {
		x.Fatal(err)
	}
	for _, result := range results {
		if result.Error.Code() != client.ErrNoError {
			x.Fatal(result.Error)
		}
	}
	return func() {
		if _, err := x.admin.DeleteACLs(x.ctx, client.ACLBindingFilters{rule}); err != nil {
			x.Fatal(err)
		}
	}
}

// Protects a topic from its neighbour's missing rights, and the operator from
// silence: the denied topic is named.
func topicDenied(x *trouble) {
	r := x.bridge()
	x.produce(x.topics[0], "first", 4)
	x.comes("first", 4)
	grant := x.deny(client.ResourceTopic, x.topics[0], client.ACLOperationRead)
	x.await("a line names the topic and what is wrong", func() bool { return len(r.lines(x.topics[0])) > 0 })
	x.produce(x.topics[0], "denied", 4)
	x.produce(x.topics[1], "granted", 4)
	x.comes("granted", 4)
	if n := x.forwarded("denied"); n > 0 {
		x.Errorf("%d records of the denied topic were read: the rule does nothing", n)
	}
	grant()
	x.comes("denied", 4)
	x.settled(r)
	r.is(200)
}

// Protects an operator from silence when the group's rights are taken, and the
// records while they are: nothing is committed, so all must come again.
func groupDenied(x *trouble) {
	r := x.bridge()
	x.produce(x.topics[0], "first", 4)
	x.comes("first", 4)
	x.settled(r)
	grant := x.deny(client.ResourceGroup, x.group, client.ACLOperationRead)
	x.await("a line names what is wrong", func() bool { return len(r.lines("roup authorization failed")) > 0 })
	r.is(503)
	x.produce(x.topics[0], "denied", 4)
	grant()
	x.comes("denied", 4)
	r.is(200)
	x.settled(r)
	// And at the start.
	grant = x.deny(client.ResourceGroup, x.group, client.ACLOperationRead)
	if err := r.Stop(x.ctx); err != nil {
		x.Log(err)
	}
	r = x.bridge()
	x.await("a line names what is wrong", func() bool { return len(r.lines("roup authorization failed")) > 0 })
	r.is(503)
	grant()
	x.produce(x.topics[1], "start", 4)
	x.comes("start", 4)
	r.is(200)
}

// Protects against two members that take each other's partitions away for ever: the
// older one ends and says why.
func staticTwice(x *trouble) {
	older := x.bridge("KAFKA_CONFIG_GROUP_INSTANCE_ID=one")
	x.produce(x.topics[0], "older", 4)
	x.comes("older", 4)
	newer := x.bridge("KAFKA_CONFIG_GROUP_INSTANCE_ID=one")
	if err := older.ends(); err == nil {
		x.Error("the fenced member ended as if all were well")
	}
	if len(older.lines("group.instance.id")) == 0 {
		x.Error("the fenced member's log does not say that another has its group.instance.id")
	}
	x.produce(x.topics[0], "newer", 4)
	x.comes("newer", 4)
	newer.is(200)
	x.settled(newer)
}

// Protects a member that was held up for longer than the group waits (a frozen
// machine, a moved container): it joins again and what came meanwhile is forwarded.
func stopped(x *trouble) {
	r := x.bridge("KAFKA_CONFIG_MAX_POLL_INTERVAL_MS=6000")
	x.produce(x.topics[0], "before", 4)
	x.comes("before", 4)
	if err := r.Pause(); err != nil {
		x.Fatal(err)
	}
	x.produce(x.topics[0], "meanwhile", 4)
	other := x.bridge() // the group has thrown the first one out when this one has all
	x.comes("meanwhile", 4)
	x.await("the other one has all partitions", func() bool {
		n,
			_ := other.metric("sluice_bridge_partitions_assigned")
		return n == 4
	})
	if err := r.Resume(); err != nil {
		x.Fatal(err)
	}
	x.produce(x.topics[0], "after", 4)
	x.comes("after", 4)
	if err := other.Stop(x.ctx); err != nil {
		x.Fatal(err)
	}
	x.produce(x.topics[1], "alone", 4)
	x.comes("alone", 4)
	r.is(200)
	x.settled(r)
}

// Protects a start before the brokers' names are there: it waits, is not ready, says
// why, and needs one name of several only.
func unresolved(x *trouble) {
	r := x.bridge("KAFKA_BROKERS=no-such-host.invalid:9092")
	x.await("a line says which name does not resolve", func() bool { return len(r.lines("no-such-host.invalid")) > 0 })
	if status, why := r.get("/readyz"); status != 503 {
		x.Errorf("/readyz answers %d %q", status, why)
	}
	if status, why := r.get("/livez"); status != 200 {
		x.Errorf("/livez answers %d %q: a restart would not help", status, why)
	}
	time.Sleep(20 * time.Second)
	if n := len(r.lines("")); n > 12 {
		x.Errorf("%d lines in 20 s", n)
	}
	if err := r.Stop(x.ctx); err != nil {
		x.Error(err)
	}
	r = x.bridge("KAFKA_BROKERS=no-such-host.invalid:9092," + x.kafka.Brokers())
	x.produce(x.topics[0], "one name is enough", 4)
	x.comes("one name is enough", 4)
	r.is(200)
}

// Protects the log of a long outage: its size, and that it says what is wrong.
func brokersAway(x *trouble) {
	r := x.bridge()
	x.produce(x.topics[0], "before", 4)
	x.comes("before", 4)
	x.settled(r)
	if err := x.kafka.Stop(x.ctx, 0); err != nil {
		x.Fatal(err)
	}
	r.is(503)
	const minutes = 3
	time.Sleep(minutes * time.Minute)
	if n := len(r.lines("")); n < 1 || n > minutes*12 {
		x.Errorf("%d lines in %d minutes", n, minutes)
	}
	if status, why := r.get("/livez"); status != 200 {
		x.Errorf("/livez answers %d %q: a restart would not help", status, why)
	}
	if err := x.kafka.StartBroker(x.ctx, 0); err != nil {
		x.Fatal(err)
	}
	x.produce(x.topics[0], "after", 4)
	x.comes("after", 4)
	r.is(200)
	x.settled(r)
}

// Protects the container of 512 MiB that the bridge is deployed in: a backlog on
// several brokers, compressed well, is fetched while Pub/Sub takes nothing. What is
// fetched is bounded by its compressed size in Kafka's protocol, so each broker's
// answer may become many times larger in memory.
func TestBridgeMemory(t *testing.T) {
	ctx := starting(t)
	program := filepath.Join(t.TempDir(), "bridge")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program,
		"sluice/bridge/cmd/bridge").CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	k, err := kafka.Start(ctx, kafka.Config{Dir: t.TempDir(), Brokers: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	for _, c := range []struct {
		name    string
		differs int // bytes of a record that differ from the one before
	}{
		{"ten to one", 100},
		{"a hundred to one", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newTrouble(ctx, t, k, program)
			x.topics = []string{"backlog-" + x.group}
			const partitions, records = 12, 720_000 // about 720 MB
			if err := k.CreateTopic(ctx, x.topics[0], partitions,
				map[string]string{"min.insync.replicas": "1"}); err != nil {
				t.Fatal(err)
			}
			x.backlog(x.topics[0], partitions, records, c.differs)
			x.refuse.Store(true)
			r := x.bridge()
			x.await("publishing fails", func() bool {
				v,
					_ := r.metric("sluice_bridge_publish_failing")
				return v == 1
			})
			time.Sleep(20 * time.Second)
			if most := r.peak(); most > 512<<20 {
				t.Errorf("%d MiB were resident at most", most>>20)
			} else {
				t.Logf("%d MiB were resident at most", most>>20)
			}
			x.refuse.Store(false)
			x.await("everything is forwarded", func() bool {
				n,
					_ := r.metric("sluice_bridge_records_out")
				return n == records
			})
			if most := r.peak(); most > 512<<20 {
				t.Errorf("%d MiB were resident at most, all in all", most>>20)
			} else {
				t.Logf("%d MiB were resident at most, all in all", most>>20)
			}
		})
	}
}

// backlog produces records of 1,000 bytes each.
func (x *trouble) backlog(topic string, partitions, records, differs int) {
	x.Helper()
	config := x.kafka.Client()
	for name, value := range map[string]client.ConfigValue{"compression.type": "zstd", "batch.size": 1_000_000,
		"linger.ms":                    200,
		"queue.buffering.max.messages": 1_000_000, "go.delivery.reports": false, "go.batch.producer": false} {
		(*config)[name] = value
	}
	p, err := client.NewProducer(config)
	if err != nil {
		x.Fatal(err)
	}
	defer p.Close()
	random := rand.New(rand.NewPCG(1, 2))
	value := bytes.Repeat([]byte("clickstream "), 84)[:1000]
	for i := range records {
		for range differs {
			value[random.IntN(len(value))] = byte('a' + random.IntN(26))
		}
		for {
			err := p.Produce(&client.Message{TopicPartition: client.TopicPartition{Topic: &topic,
				Partition: int32(i % partitions)}, Value: value}, nil)
			if err == nil {
				break
			}
			p.Flush(100)
		}
	}
	if left := p.Flush(60_000); left > 0 {
		x.Fatalf("%d records are not produced", left)
	}
}

// peak is the most memory that the process had resident, in bytes.
func (r *running) peak() int64 {
	r.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		r.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				r.Fatal(err)
			}
			return kib << 10
		}
	}
	r.Fatal("no VmHWM")
	return 0
}

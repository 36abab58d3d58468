package bridge_test

import (
	"context"
	"hash/crc32"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/bridge"
	"sluice/bridge/internal/servers"
	"sluice/internal/batch"
)

// lag is the lag of a partition, if it is known.
func lag(b *servers.Running, partition int32) (int64, bool) {
	n, ok := b.Stats().Lag[bridge.TopicPartition{Topic: servers.KafkaTopic, Partition: partition}]
	return n, ok
}

// The lag is what Pub/Sub has not acknowledged, also before the first commit;
// unknown is absent, not zero; and an idle partition has none.
func TestLag(t *testing.T) {
	t.Parallel()
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, 2, fault.Option())
	messages := s.Numbered(0, 100)
	for _, m := range messages {
		m.TopicPartition.Partition = 0 // partition 1 stays empty
	}
	s.Produce(messages...)
	answer := make(chan struct{})
	s.Broker.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.Broker.SleepControl(func() { <-answer })
		return nil, nil, false
	})
	b := s.Start(quick)
	servers.Wait(t, "the assignment", func() bool { return b.Stats().Assigned == 2 })
	if n, ok := lag(b, 0); ok {
		t.Errorf("before Kafka has told how much there is the lag is %d, want it absent", n)
	}
	if _, body := get(b, "/metrics"); strings.Contains(body, "\nsluice_bridge_lag{") {
		t.Error("/metrics tells a lag that is not known")
	}
	close(answer)
	servers.Wait(t, "the lag of a partition without a commit", func() bool { n, _ := lag(b, 0); return n == 100 })
	servers.Wait(t, "the lag of an idle partition", func() bool { n, ok := lag(b, 1); return ok && n == 0 })
	if _, body := get(b, "/metrics"); !strings.Contains(body,
		`sluice_bridge_lag{messaging_destination_name="clickstream",messaging_destination_partition_id="0"} 100`) {
		t.Error("/metrics does not tell the lag")
	}
	// Kafka tells how many records there are before the bridge has taken one.
	servers.Wait(t, "the age of the oldest unacknowledged record", func() bool { return b.Stats().OldestUnacknowledged > 0 })
	fault.Set(nil)
	servers.Wait(t, "the lag to go", func() bool {
		n, ok := lag(b, 0)
		return ok && n == 0 &&
			b.Stats().OldestUnacknowledged == 0
	})
	b.Shutdown()

	// A bridge that finds everything committed knows so without a record.
	b = s.Start(quick)
	servers.Wait(t, "the lag after a restart", func() bool { n, ok := lag(b, 0); return ok && n == 0 })
}

// /livez tells a stuck poll loop, which nothing but a restart can mend, and
// /readyz a bridge that has no part in the group yet.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 1)
	block := make(chan struct{})
	var blocked atomic.Bool
	s.Broker.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.Broker.KeepControl()
		blocked.Store(true)
		s.Broker.SleepControl(func() { <-block })
		return nil, nil, false
	})
	b := s.Start(func(c *bridge.Config) { c.StuckAfter = 5 * time.Second })
	servers.Wait(t, "the join", blocked.Load)
	if code, body := get(b, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "assigned") {
		t.Errorf("before the group has answered, /readyz answers %d %s", code, body)
	}
	if code, body := get(b, "/livez"); code != http.StatusOK {
		t.Errorf("before the group has answered, /livez answers %d %s", code, body)
	}
	close(block)
	servers.Wait(t, "readiness", func() bool { code, _ := get(b, "/readyz"); return code == http.StatusOK })
	b.Shutdown()
	// The loop has ended and so turns no more: to /livez that looks as if it hung.
	servers.Wait(t, "/livez to notice", func() bool {
		code,
			_ := get(b, "/livez")
		return code == http.StatusServiceUnavailable
	})
}

// A member for which the group has no partition to spare is ready: it stands by.
func TestStandbyIsReady(t *testing.T) {
	s := servers.New(t, 1)
	a := s.Start(quick)
	servers.Wait(t, "the assignment", func() bool { return a.Stats().Assigned == 1 })
	b := s.Start(quick)
	servers.Wait(t, "readiness of both", func() bool {
		first, _ := get(a, "/readyz")
		second, _ := get(b, "/readyz")
		return first == http.StatusOK && second == http.StatusOK
	})
	if a.Stats().Assigned+b.Stats().Assigned != 1 {
		t.Error("one partition is not assigned once")
	}
}

// A member that stands by has no partitions to lose. Thrown out of the group, it is not
// ready all the same, until it is in again: nobody would take over from the others.
func TestStandbyThrownOutIsNotReady(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 1)
	named := func(name string) func(*bridge.Config) {
		return func(c *bridge.Config) { quick(c); c.Consumer = name }
	}
	members := map[string]*servers.Running{"one": s.Start(named("one")), "two": s.Start(named("two"))}
	ready := func(name string) bool { code, _ := get(members[name], "/readyz"); return code == http.StatusOK }
	servers.Wait(t, "readiness of both", func() bool { return ready("one") && ready("two") })
	var works, standsBy string
	servers.Wait(t, "the assignment", func() bool {
		works, standsBy = "one", "two"
		if members["two"].Stats().Assigned == 1 {
			works, standsBy = "two", "one"
		}
		return members[works].Stats().Assigned == 1 && members[standsBy].Stats().Assigned == 0
	})
	join := make(chan struct{})
	s.Broker.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if req.(*kmsg.JoinGroupRequest).MemberID == "" {
			s.Broker.SleepControl(func() { <-join })
		}
		return nil, nil, false
	})
	s.Evict(standsBy)
	servers.Wait(t, "the end of readiness", func() bool { return !ready(standsBy) })
	if !ready(works) {
		t.Error("the other member is not ready either")
	}
	close(join)
	servers.Wait(t, "readiness after the return", func() bool { return ready("one") && ready("two") })
}

// A member that the group has thrown out drops what it holds without committing, is
// not ready, joins again, and everything comes.
func TestLostPartitions(t *testing.T) {
	t.Parallel()
	const n = 400
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, 2, fault.Option())
	s.Produce(s.Numbered(0, n)...)
	b := s.Start(quick)
	servers.Wait(t, "refusals", func() bool { return b.Stats().RecordsIn == n && b.Stats().Retries > 3 })
	join := make(chan struct{})
	s.Broker.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.Broker.SleepControl(func() { <-join })
		return nil, nil, false
	})
	s.Broker.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		res := req.ResponseKind().(*kmsg.HeartbeatResponse)
		res.ErrorCode = kerr.UnknownMemberID.Code
		return res, nil, true
	})
	servers.Wait(t, "the loss", func() bool { return b.Stats().Lost == 2 })
	if code, body := get(b, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "thrown out") {
		t.Errorf("out of the group, /readyz answers %d %s", code, body)
	}
	close(join)
	servers.Wait(t, "the new assignment", func() bool { return b.Stats().Assigned == 2 && b.Stats().Joined })
	for p := range int32(2) {
		if got := s.Committed(p); got >= 0 {
			t.Errorf("partition %d: %d is committed, and nothing acknowledged", p, got)
		}
	}
	fault.Set(nil)
	servers.Wait(t, "all commits", func() bool { return s.Committed(0) == n/2 && s.Committed(1) == n/2 })
	servers.Wait(t, "the results of the first assignment", func() bool {
		return b.Stats().LateResults > 0 &&
			b.Stats().InflightBytes == 0
	})
	if d := s.CheckAll(n); d != 0 {
		t.Errorf("%d duplicates, although nothing that was refused had been taken", d)
	}
}

// A partition that comes back to a member that had read ahead of what was acknowledged is
// not committed up to where the member had read: that was in another assignment.
func TestNothingIsCommittedForAnEarlierAssignment(t *testing.T) {
	t.Parallel()
	const n = 100
	var fault servers.PublishFault
	fault.Set(func(string, *batch.Batch) error { return status.Error(codes.Unavailable, "refused by the test") })
	s := servers.New(t, 1, fault.Option())
	s.Produce(s.Numbered(0, n)...)
	b := s.Start(func(c *bridge.Config) {
		quick(c)
		c.Consumer = "one"
		if err := c.Properties.Set("auto.commit.interval.ms=100"); err != nil {
			panic(err)
		}
	})
	servers.Wait(t, "refusals", func() bool { return b.Stats().RecordsIn == n && b.Stats().Retries > 3 })
	answer := make(chan struct{})
	s.Broker.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.Broker.SleepControl(func() { <-answer })
		return nil, nil, false
	})
	s.Evict("one")
	servers.Wait(t, "the new assignment", func() bool {
		return b.Stats().Lost == 1 && b.Stats().Assigned == 1 &&
			b.Stats().InflightBatches == 0
	})
	// Some statistics, of a partition with nothing on its way, with time to commit what they lead to.
	before := b.Stats().Standings
	servers.Wait(t, "statistics", func() bool { return b.Stats().Standings >= before+5 })
	if got := s.Committed(0); got >= 0 {
		t.Errorf("%d is committed, and nothing acknowledged", got)
	}
	fault.Set(nil)
	close(answer)
	servers.Wait(t, "the commit", func() bool { return s.Committed(0) == n })
	b.Shutdown()
	if d := s.CheckAll(n); d != 0 {
		t.Errorf("%d duplicates, although nothing that was refused had been taken", d)
	}
}

// Records that cannot be decompressed hold up their partition, with an error that is
// counted: neither they nor what is behind them is passed over.
func TestRecordsThatCannotBeDecompressed(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 2)
	s.Produce(s.Numbered(0, 10)...)
	const records, zstd = 3, 4
	b := kmsg.RecordBatch{Magic: 2, Attributes: zstd, LastOffsetDelta: records - 1, NumRecords: records, ProducerID: -1,
		ProducerEpoch: -1, FirstSequence: -1, Records: []byte("this is not zstd")}
	const beforeLength, beforeSum = 12, 21 // bytes that the length and the checksum leave out
	b.Length = int32(len(b.AppendTo(nil)) - beforeLength)
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[beforeSum:], crc32.MakeTable(crc32.Castagnoli)))
	s.ProduceRaw(0, b.AppendTo(nil))
	s.Produce(s.Numbered(10, 10)...)
	bridge := s.Start(quick)
	servers.Wait(t, "the error, and the other partition", func() bool {
		return bridge.Stats().KafkaErrors > 3 &&
			s.Committed(1) == 10
	})
	if got := s.Committed(0); got != 5 {
		t.Errorf("%d is committed, want 5: before the records that cannot be read", got)
	}
	if n := bridge.Stats().RecordsIn; n != 15 {
		t.Errorf("%d records were taken, want 15", n)
	}
}

// A client error that no retry can mend ends Run with an error: the program must
// not stay up and do nothing.
func TestFatalErrorEndsRun(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 1)
	static := func(c *bridge.Config) {
		quick(c)
		c.CommitTimeout, c.CloseTimeout = time.Second, time.Second // a fenced member gets no answer
		if err := c.Properties.Set("group.instance.id=one"); err != nil {
			t.Fatal(err)
		}
	}
	a := s.Start(static)
	servers.Wait(t, "the assignment", func() bool { return a.Stats().Assigned == 1 })
	s.Start(static) // takes the first one's place
	<-a.Done()
	if err := a.Err(); err == nil || !strings.Contains(err.Error(), "fatal") {
		t.Errorf("Run returned %v, want a fatal error", err)
	}
	a.Expect()
}

// Several topics, and a regular expression over topics.
func TestTopics(t *testing.T) {
	t.Parallel()
	for _, topics := range []string{"clickstream,other", "^(click|oth).*"} {
		t.Run(topics, func(t *testing.T) {
			s := servers.New(t, 1)
			if err := s.Broker.CreateTopic("other", 1, nil); err != nil {
				t.Fatal(err)
			}
			s.Produce(s.Numbered(0, 10)...)
			s.ProduceTo("other", s.Numbered(0, 10)...)
			b := s.Start(func(c *bridge.Config) { c.Topics = topics })
			servers.Wait(t, "both topics", func() bool { return b.Stats().RecordsIn == 20 })
			b.Shutdown()
			_, records, _ := s.Published(servers.Topic)
			from := map[string]int{}
			for _, r := range records {
				from[r.Topic]++
			}
			if from["clickstream"] != 10 || from["other"] != 10 {
				t.Errorf("records by topic: %v", from)
			}
		})
	}
}

// A new group begins with the earliest record, or with what comes from then on.
func TestOffsetReset(t *testing.T) {
	s := servers.New(t, 1)
	s.Produce(s.Numbered(0, 10)...)
	b := s.Start(func(c *bridge.Config) { quick(c); c.OffsetReset, c.Group = "latest", "late" })
	servers.Wait(t, "the end of the topic", func() bool { n, ok := lag(b, 0); return ok && n == 0 })
	s.Produce(s.Numbered(10, 5)...)
	servers.Wait(t, "what is new", func() bool { return b.Stats().Acknowledged > 0 })
	b.Shutdown()
	if _, records, _ := s.Published(servers.Topic); len(records) != 5 || records[0].Offset != 10 {
		t.Errorf("%d records came, want the 5 new ones", len(records))
	}
	b = s.Start(nil)
	servers.Wait(t, "what there is", func() bool { return b.Stats().RecordsIn == 15 })
}

// What Kafka deletes before it is read, because the bridge was away for longer than the
// retention, is gone: the bridge goes on with what is left and says what it has missed.
func TestRecordsDeletedBeforeTheyWereRead(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 1)
	s.Produce(s.Numbered(0, 10)...)
	b := s.Start(quick)
	servers.Wait(t, "the commit", func() bool { return s.Committed(0) == 10 })
	b.Shutdown()
	s.Produce(s.Numbered(10, 10)...)
	admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": s.Brokers, "enable.metrics.push": false})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := servers.KafkaTopic
	if _, err := admin.DeleteRecords(t.Context(), []kafka.TopicPartition{{Topic: &topic, Offset: 15}}); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	s.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b = s.Start(quick)
	servers.Wait(t, "the commit of what is left", func() bool { return s.Committed(0) == 20 })
	if n := b.Stats().RecordsIn; n != 5 {
		t.Errorf("%d records were taken, want the 5 that are left", n)
	}
	if line := log.String(); !strings.Contains(line, "clickstream [0]: offset reset (at offset 10") ||
		!strings.Contains(line, "offset 15") {
		t.Errorf("the log does not tell what is missing:\n%s", line)
	}
}

// A group that must not guess where to begin says so and does nothing. The partition
// is asked about again and again, and begins where it is told to, with what it then
// reads still going to the fetcher.
func TestOffsetResetError(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 1)
	s.Produce(s.Numbered(0, 10)...)
	b := s.Start(func(c *bridge.Config) { quick(c); c.OffsetReset, c.ReviveAfter = "error", time.Second })
	servers.Wait(t, "the error", func() bool { return b.Stats().KafkaErrors > 0 })
	if n := b.Stats().RecordsIn; n != 0 {
		t.Errorf("%d records were taken", n)
	}
	if got := s.Committed(0); got >= 0 {
		t.Errorf("%d is committed", got)
	}
	s.Broker.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		s.Broker.KeepControl()
		res := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.(*kmsg.OffsetFetchRequest).Groups {
			p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			p.Offset = 4
			topic := kmsg.NewOffsetFetchResponseGroupTopic()
			topic.Topic, topic.Partitions = servers.KafkaTopic, append(topic.Partitions, p)
			group := kmsg.NewOffsetFetchResponseGroup()
			group.Group, group.Topics = g.Group, append(group.Topics, topic)
			res.Groups = append(res.Groups, group)
		}
		return res, nil, true
	})
	servers.Wait(t, "the records from the offset on", func() bool { return b.Stats().Acknowledged > 0 })
	b.Shutdown()
	if n := b.Stats().RecordsIn; n != 6 {
		t.Errorf("%d records were taken, want 6", n)
	}
}

// A partition that ends with the marker of a transaction has no lag, although its
// last offset is not a record's, and neither has the group in Kafka's books; what was
// aborted does not come, what is behind the marker does.
func TestTransactions(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 1)
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": s.Brokers, "transactional.id": "t",
		"enable.metrics.push": false, "go.delivery.reports": false})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(p.InitTransactions(t.Context()))
	topic := servers.KafkaTopic
	transaction := func(value string, end func(context.Context) error) {
		t.Helper()
		check(p.BeginTransaction())
		check(p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic}, Value: []byte(value)}, nil))
		p.Flush(10_000)
		check(end(t.Context()))
	}
	transaction("aborted", p.AbortTransaction)
	transaction("committed", p.CommitTransaction)
	b := s.Start(quick)
	servers.Wait(t, "the committed record", func() bool { return b.Stats().Acknowledged == 1 })
	servers.Wait(t, "the lag to go", func() bool { n, ok := lag(b, 0); return ok && n == 0 })
	servers.Wait(t, "the commit behind the marker", func() bool { return s.Committed(0) == 4 })
	transaction("after", p.CommitTransaction)
	transaction("aborted", p.AbortTransaction)
	servers.Wait(t, "the commit behind the last marker", func() bool { return s.Committed(0) == 8 })
	b.Shutdown()
	_, records, _ := s.Published(servers.Topic)
	if len(records) != 2 || string(records[0].Value)+string(records[1].Value) != "committedafter" {
		t.Errorf("%d records came, want the two committed ones", len(records))
	}
}

// A commit may fail for some partitions and succeed for others: that is counted too.
func TestCommitThatFailsInPart(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 2)
	s.Broker.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.OffsetCommitRequest)
		if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 2 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		topic := kmsg.NewOffsetCommitResponseTopic()
		topic.Topic = r.Topics[0].Topic
		for i, p := range r.Topics[0].Partitions {
			partition := kmsg.NewOffsetCommitResponseTopicPartition()
			partition.Partition = p.Partition
			if i == 0 {
				partition.ErrorCode = kerr.TopicAuthorizationFailed.Code
			}
			topic.Partitions = append(topic.Partitions, partition)
		}
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	s.Produce(s.Numbered(0, 100)...)
	b := s.Start(quick)
	servers.Wait(t, "the error", func() bool { return b.Stats().CommitErrors > 0 })
}

// A coordinator that moves just after an assignment makes librdkafka forget the
// partition; the bridge takes it up again without a rebalance.
func TestForgottenPartitionIsRevived(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 2)
	s.Produce(s.Numbered(0, 100)...)
	s.Broker.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		res := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		res.ErrorCode = kerr.NotCoordinator.Code
		for _, g := range req.(*kmsg.OffsetFetchRequest).Groups {
			group := kmsg.NewOffsetFetchResponseGroup()
			group.Group, group.ErrorCode = g.Group, kerr.NotCoordinator.Code
			res.Groups = append(res.Groups, group)
		}
		return res, nil, true
	})
	b := s.Start(func(c *bridge.Config) { quick(c); c.ReviveAfter = time.Second })
	servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == 100 })
	b.Shutdown()
	if b.Stats().Revived != 2 {
		t.Errorf("%d partitions were revived, want 2", b.Stats().Revived)
	}
	if d := s.CheckAll(100); d != 0 {
		t.Errorf("%d duplicates", d)
	}
}

// Protects what comes while a bridge restarts, with KAFKA_OFFSET_RESET=latest: a partition
// that was owned and brought no record has a committed place all the same, and what comes
// behind it is forwarded.
func TestLatestSkipsNothingOfARestart(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 2)
	s.Produce(s.Numbered(0, 10)...) // before the group: latest leaves these out
	latest := func(c *bridge.Config) { c.OffsetReset = "latest" }
	b := s.Start(latest)
	for partition := range s.Partitions {
		servers.Wait(t, "a committed place", func() bool { return s.Committed(partition) == 5 })
	}
	b.Shutdown()
	s.Produce(s.Numbered(10, 10)...)
	s.Start(latest)
	servers.Wait(t, "the records of the restart", func() bool {
		copies, _, _ := s.Published(servers.Topic)
		return len(copies) == 10
	})
	copies, _, _ := s.Published(servers.Topic)
	for at := range copies {
		if at.Offset < 5 {
			t.Errorf("partition %d offset %d was there before the group, and is forwarded", at.Partition, at.Offset)
		}
	}
}

// Protects the pipeline from Kafka's own topics: a regular expression that matches every name
// takes the user's topics only, and a topic that is named twice is read once.
func TestInternalTopicsAreNotTaken(t *testing.T) {
	t.Parallel()
	s := servers.NewKafka(t, 1, []kfake.Opt{kfake.SeedTopics(1, "__transactions", "other")})
	s.ProduceTo("__transactions", s.Numbered(0, 3)...)
	s.ProduceTo("other", s.Numbered(0, 2)...)
	s.Produce(s.Numbered(0, 4)...)
	s.Start(func(c *bridge.Config) { c.Topics = "^.*, " + servers.KafkaTopic + ", " + servers.KafkaTopic })
	topics := func() map[string]int {
		_, records, _ := s.Published(servers.Topic)
		from := map[string]int{}
		for _, r := range records {
			from[r.Topic]++
		}
		return from
	}
	servers.Wait(t, "the records of both topics", func() bool {
		got := topics()
		return got["other"] == 2 && got[servers.KafkaTopic] == 4
	})
	if n := topics()["__transactions"]; n != 0 {
		t.Errorf("%d records of an internal topic were published", n)
	}
}

// Protects what comes to a partition that is added while the bridge runs, with
// KAFKA_OFFSET_RESET=latest: the bridge hears of it later than producers do, and the end is then
// behind their records.
func TestLatestReadsAddedPartitionsFromTheirBeginning(t *testing.T) {
	t.Parallel()
	s := servers.New(t, 2)
	s.Produce(s.Numbered(0, 10)...) // before the group: latest leaves these out
	s.Start(func(c *bridge.Config) {
		c.OffsetReset = "latest"
		if err := c.Properties.Set("topic.metadata.refresh.interval.ms=2000"); err != nil {
			t.Fatal(err)
		}
	})
	for partition := range s.Partitions {
		servers.Wait(t, "a committed place", func() bool { return s.Committed(partition) == 5 })
	}
	s.AddPartition()
	s.Produce(
		&kafka.Message{TopicPartition: kafka.TopicPartition{Partition: 2}, Value: []byte("first")},
		&kafka.Message{TopicPartition: kafka.TopicPartition{Partition: 2}, Value: []byte("second")},
	)
	servers.Wait(t, "the records of the added partition", func() bool {
		copies, _, _ := s.Published(servers.Topic)
		return copies[servers.Coordinate{Partition: 2, Offset: 0}] == 1 &&
			copies[servers.Coordinate{Partition: 2, Offset: 1}] == 1
	})
	if copies, _, _ := s.Published(servers.Topic); len(copies) != 2 {
		t.Errorf("%d records are forwarded, want the two of the added partition", len(copies))
	}
}

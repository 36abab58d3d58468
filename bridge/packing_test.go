package bridge_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/bridge"
	"sluice/bridge/internal/servers"
	"sluice/internal/batch"
)

// Without lingering, batches leave exactly when they are full of records; what is
// left leaves at the end.
func TestBatchesFillUpToMaxRecords(t *testing.T) {
	s := servers.New(t, 1)
	s.Produce(s.Numbered(0, 250)...)
	b := s.Start(func(c *bridge.Config) { c.BatchRecords, c.Linger = 100, time.Hour })
	servers.Wait(t, "two full batches", func() bool {
		return b.Stats().Acknowledged == 2 &&
			b.Stats().RecordsIn == 250
	})
	b.Shutdown()
	_, _, batches := s.Published(servers.Topic)
	sizes := map[int]int{}
	for _, p := range batches {
		sizes[len(p.Records)]++
	}
	if len(batches) != 3 || sizes[100] != 2 || sizes[50] != 1 {
		t.Errorf("batches by size are %v, want two of 100 and one of 50", sizes)
	}
	s.CheckAll(250)
}

// A batch never exceeds its bytes, unless a single record does: that travels alone.
func TestBatchesFillUpToMaxBytes(t *testing.T) {
	s := servers.New(t, 1)
	var messages []*kafka.Message
	for i := range 100 {
		n := 1000
		if i == 50 {
			n = 50_000
		}
		messages = append(messages, &kafka.Message{Value: bytes.Repeat([]byte{'x'}, n)})
	}
	s.Produce(messages...)
	const limit = 10_000
	b := s.Start(func(c *bridge.Config) { c.BatchBytes, c.Linger = limit, time.Hour })
	servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == 100 })
	b.Shutdown()
	_, _, batches := s.Published(servers.Topic)
	for _, p := range batches {
		n := 0
		for _, r := range p.Records {
			n += len(r.Value)
		}
		if n > limit && len(p.Records) > 1 {
			t.Errorf("a batch of %d records has %d bytes, more than %d", len(p.Records), n, limit)
		}
	}
	// 9 records of 1,000 bytes fit, and their framing; the 50 before the large one
	// and the 49 after it make 6 batches each.
	if len(batches) != 13 {
		t.Errorf("%d batches, want 13", len(batches))
	}
	s.CheckAll(100)
}

// A batch never has more record headers than the functions accept, however small they are.
func TestBatchesStayWithinTheLimitOfHeaders(t *testing.T) {
	const records, headers = 40, 10_000
	s := servers.New(t, 1)
	var messages []*kafka.Message
	for range records {
		messages = append(messages, &kafka.Message{Headers: make([]kafka.Header, headers)})
	}
	s.Produce(messages...)
	b := s.Start(func(c *bridge.Config) { c.Linger = time.Hour })
	servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == records })
	b.Shutdown()
	s.CheckAll(records) // decodes with the functions' limits
}

// librdkafka reads at most 100,000 headers of a record. One with more goes on without
// them, and that is told and counted.
func TestHeadersThatCannotBeRead(t *testing.T) {
	s := servers.New(t, 1)
	s.Produce(&kafka.Message{Value: []byte("v"), Headers: make([]kafka.Header, 100_001)},
		&kafka.Message{Value: []byte("after")})
	b := s.Start(nil)
	servers.Wait(t, "both records", func() bool { return b.Stats().RecordsIn == 2 })
	b.Shutdown()
	if n := b.Stats().KafkaErrors; n != 1 {
		t.Errorf("%d errors are counted, want 1", n)
	}
	s.CheckAll(2)
}

// When all that may be in flight is unfinished batches, they leave: no further record
// would come to fill them. Otherwise each linger would move only that much.
func TestALongLingerDoesNotHoldUpAFullBridge(t *testing.T) {
	const partitions, n = 4, 4000
	s := servers.New(t, partitions)
	var messages []*kafka.Message
	for i := range n {
		messages = append(messages, &kafka.Message{TopicPartition: kafka.TopicPartition{Partition: int32(i % partitions)}, Value: make([]byte, 1000)})
	}
	s.Produce(messages...)
	b := s.Start(func(c *bridge.Config) {
		c.Linger, c.BatchRecords, c.BatchBytes, c.MaxInflightBytes = time.Hour, 10_000, 1<<20, 1<<20
	})
	servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == n })
	b.Shutdown()
	s.CheckAll(n)
}

// A lone record leaves without a second one, for however long none comes.
func TestALoneRecordLeaves(t *testing.T) {
	s := servers.New(t, 1)
	b := s.Start(nil)
	for i := range 3 {
		s.Produce(s.Numbered(i, 1)...)
		servers.Wait(t, "the record", func() bool { return b.Stats().Acknowledged == int64(i+1) })
	}
	if _, records, _ := s.Published(servers.Topic); len(records) != 3 {
		t.Errorf("%d records, want 3", len(records))
	}
}

// Keys, values and headers are any bytes, null is not empty, and each record keeps
// its coordinates and time.
func TestRecordsAreOpaque(t *testing.T) {
	s := servers.New(t, 1)
	at := time.UnixMilli(1_700_000_000_123)
	s.Produce(
		&kafka.Message{Key: []byte("\x00k\xff"), Value: []byte("\xff\xfe\x00"), Timestamp: at, Headers: []kafka.Header{
			{Key: "h", Value: []byte("\x00\xff")}, {Key: "h", Value: nil}, {Key: "é\xff", Value: []byte{}},
		}},
		&kafka.Message{Timestamp: at},
		&kafka.Message{Key: []byte{}, Value: []byte{}, Timestamp: at},
	)
	b := s.Start(nil)
	servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == 3 })
	b.Shutdown()
	_, records, batches := s.Published(servers.Topic)
	want := []string{
		`0 1700000000123 "\x00k\xff"="\xff\xfe\x00" ["h"="\x00\xff" "h"=null "é\xff"=""]`,
		`1 1700000000123 null=null []`,
		`2 1700000000123 ""="" []`,
	}
	if len(records) != len(want) {
		t.Fatalf("%d records, want %d", len(records), len(want))
	}
	for i, r := range records {
		if got := describe(&r); got != want[i] {
			t.Errorf("record %d is\n%s\nwant\n%s", i, got, want[i])
		}
	}
	if r, h := records[0], batches[0].Header; r.Topic != servers.KafkaTopic || r.Partition != 0 ||
		h.Origin != (batch.Origin{}) {
		t.Errorf("the first record is %+v, the header %+v", r, h)
	}
}

func describe(r *batch.Record) string {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, fmt.Sprintf("%q=%s", h.Key, quote(h.Value)))
	}
	return fmt.Sprintf("%d %d %s=%s [%s]", r.Offset, r.Timestamp, quote(r.Key), quote(r.Value),
		strings.Join(headers, " "))
}

func quote(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

// A record that no Pub/Sub message can carry goes to the dead-letter topic with all
// that is needed to find and to explain it; its neighbours and its partition go on.
func TestTooLarge(t *testing.T) {
	s := servers.New(t, 1)
	const limit = 1 << 20
	large := make([]byte, limit+1)
	rand.Read(large)
	fits := make([]byte, limit-100_000) // alone, and without compressing
	rand.Read(fits)
	s.Produce(
		&kafka.Message{Value: []byte("before")},
		&kafka.Message{Key: bytes.Repeat([]byte("k"), 100_000), Value: large,
			Timestamp: time.UnixMilli(1_700_000_000_123),
			Headers:   []kafka.Header{{Key: "h", Value: []byte("v")}}},
		&kafka.Message{Value: fits},
		&kafka.Message{Value: []byte("after")},
		&kafka.Message{Value: []byte("small"), Key: []byte("k"), Headers: []kafka.Header{{Key: "h", Value: large}}},
	)
	b := s.Start(func(c *bridge.Config) {
		c.MaxMessageBytes, c.BatchBytes, c.Consumer = limit, 64<<10, "bridge-7"
	})
	servers.Wait(t, "the dead letter", func() bool { return b.Stats().DeadLettered == 2 && b.Stats().RecordsIn == 5 })
	b.Shutdown()

	if got := s.Committed(0); got != 5 {
		t.Errorf("committed %d, want 5: the partition did not move on", got)
	}
	copies, _, _ := s.Published(servers.Topic)
	for _, offset := range []int64{0, 2, 3} {
		if copies[servers.Coordinate{Partition: 0, Offset: offset}] != 1 {
			t.Errorf("record %d came %d times", offset, copies[servers.Coordinate{Partition: 0, Offset: offset}])
		}
	}
	_, records, batches := s.Published(servers.DeadLetter)
	if len(records) != 2 {
		t.Fatalf("%d dead letters, want 2", len(records))
	}
	slices.SortFunc(records, func(a, b batch.Record) int { return cmp.Compare(a.Offset, b.Offset) })
	r, h := records[0], batches[0].Header
	sum := sha256.Sum256(large)
	switch {
	case r.Topic != servers.KafkaTopic || r.Partition != 0 || r.Offset != 1 || r.Timestamp != 1_700_000_000_123:
		t.Errorf("its coordinates are %s[%d]@%d at %d", r.Topic, r.Partition, r.Offset, r.Timestamp)
	case h.Origin.Consumer != "bridge-7" || h.Origin.FailedAt == 0:
		t.Errorf("its origin is %+v", h.Origin)
	case r.Rejection.Code != "too_large" || r.Rejection.Message == "":
		t.Errorf("its code is %q, its message %q", r.Rejection.Code, r.Rejection.Message)
	case r.Rejection.Size != limit+1 || !bytes.Equal(r.Rejection.SHA256, sum[:]):
		t.Errorf("its size is %d and its hash %x", r.Rejection.Size, r.Rejection.SHA256)
	case len(r.Headers) != 1 || string(r.Headers[0].Value) != "v":
		t.Errorf("it has %d headers", len(r.Headers))
	case !bytes.Equal(r.Value, large[:64<<10]):
		t.Errorf("it has %d bytes of its value, want the first 64 KiB", len(r.Value))
	case r.Key != nil || r.Rejection.Left != batch.LeftKey:
		t.Errorf("it has %d bytes of its key and says that %d is left out: a part of a key is another key", len(r.Key),
			r.Rejection.Left)
	}
	// A record that is too large by its headers: its value is whole, and does not pass for cut.
	r = records[1]
	if r.Offset != 4 || string(r.Value) != "small" || string(r.Key) != "k" || r.Rejection.Size != 0 ||
		r.Rejection.SHA256 != nil || r.Rejection.Left != batch.LeftHeaders {
		t.Errorf("the record with large headers became %+v", r)
	}
}

// A dead letter that is acknowledged moves the offset past no record before it.
func TestADeadLetterOvertakesNothing(t *testing.T) {
	var fault servers.PublishFault
	fault.Set(func(topic string, _ *batch.Batch) error {
		if topic == servers.DeadLetter {
			return nil
		}
		return status.Error(codes.Unavailable, "refused by the test")
	})
	s := servers.New(t, 1, fault.Option())
	const limit = 1 << 20
	s.Produce(&kafka.Message{Value: []byte("before")}, &kafka.Message{Value: make([]byte, limit)})
	b := s.Start(func(c *bridge.Config) {
		c.MaxMessageBytes, c.BatchBytes, c.DrainTimeout = limit, 64<<10, 100*time.Millisecond
	})
	servers.Wait(t, "the dead letter", func() bool { return b.Stats().DeadLettered == 1 })
	b.Shutdown()
	if got := s.Committed(0); got >= 0 {
		t.Errorf("%d is committed, although the record before the dead letter was refused", got)
	}
}

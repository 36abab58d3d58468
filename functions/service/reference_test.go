package service_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	client "cloud.google.com/go/pubsub/v2"

	"sluice/functions/service"
	"sluice/internal/local/objects"
	"sluice/internal/local/pubsub"
	"sluice/internal/reference"
)

// stored is a world whose messages may refer to objects.
type stored struct {
	*world
	objects *objects.Server
	bucket  *reference.Bucket
}

func startStored(t *testing.T, o options) *stored {
	t.Helper()
	s := &stored{}
	var err error
	s.objects, err = objects.Start("127.0.0.1:0", "payloads")
	check(t, err)
	t.Cleanup(func() { s.objects.Close() })
	s.bucket, err = reference.Open(t.Context(), "payloads", s.objects.Addr())
	check(t, err)
	t.Cleanup(func() { s.bucket.Close() })
	more := o.config
	o.config = func(c *service.Config) {
		c.PayloadBucket, c.StorageEmulator = "payloads", s.objects.Addr()
		if more != nil {
			more(c)
		}
	}
	s.world = start(t, o)
	return s
}

// put writes a payload, as a bridge does, and returns the data of its message.
func (s *stored) put(payload []byte) (reference.Reference, []byte) {
	s.t.Helper()
	r, err := s.bucket.Put(s.t.Context(), payload)
	check(s.t, err)
	return r, r.Append(nil)
}

// post publishes a message and does not wait for it.
func (s *stored) post(data []byte) {
	s.t.Helper()
	_, err := s.topic.Publish(s.t.Context(), &client.Message{Data: data}).Get(s.t.Context())
	check(s.t, err)
}

func (s *stored) wait() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	check(s.t, s.pubsub.WaitIdle(ctx))
}

// rows are how many rows and letters there are, and the objects that are left.
func (s *stored) rows(landed, letters, left int) {
	s.t.Helper()
	if n := s.count("SELECT COUNT(*) FROM fact_events"); n != landed {
		s.t.Errorf("%d rows, want %d", n, landed)
	}
	if n := s.count("SELECT COUNT(*) FROM events_dlq"); n != letters {
		s.t.Errorf("%d letters, want %d: %+v", n, letters, s.letters())
	}
	if names := s.objects.Names("payloads"); len(names) != left {
		s.t.Errorf("%d objects are left, want %d", len(names), left)
	}
}

// Protects that a record's way does not depend on where its message has it: rows, dead letters
// with their places in Kafka, and then the object is deleted, in both forms of a push.
func TestRecordsOfAReference(t *testing.T) {
	t.Parallel()
	for _, wrapped := range []bool{false, true} {
		s := startStored(t, options{wrapped: wrapped})
		_, data := s.put(pack(t, good("a"), "not json", good("b")))
		s.publish(data)
		s.rows(2, 1, 0)
		if l := s.letters(); len(l) == 1 && (l[0].Topic != "clicks" || l[0].Partition != 3 || l[0].Offset != 101) {
			t.Errorf("%+v", l[0])
		}
		if !s.log.has("object_bytes") {
			t.Error("the log line does not tell of the object")
		}
	}
}

// Protects from waiting for ever, and from a second row: a message whose object is gone was brought home
// by the delivery before, whose answer was lost.
func TestDeliveredAgainAfterItsObjectIsGone(t *testing.T) {
	t.Parallel()
	s := startStored(t, options{})
	s.pubsub.FailPush(pubsub.PushFault{Subscription: "ingest", LoseAnswer: true})
	_, data := s.put(pack(t, good("a"), "not json"))
	s.publish(data)
	s.publish(data) // the bridge did not hear of its acknowledgement either
	s.rows(1, 1, 0)
	if !s.log.has("object_gone") {
		t.Error("the log line does not tell that the object is gone")
	}
}

// Protects from acknowledging what nobody has read, and from dead-lettering what is good: while the
// bucket cannot be read the message waits, and lands when it can.
func TestBucketThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]objects.Fault{
		"forbidden":   {Count: -1, Status: 403},
		"unavailable": {Operation: objects.Read, Count: -1},
		"no bucket":   {Count: -1, Status: 404},
		"hangs":       {Operation: objects.Read, Count: -1, Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStored(t, options{attempts: 100, config: func(c *service.Config) {
				c.HandlerTimeout,
					c.AppendTimeout = time.Second, 500*time.Millisecond
			}})
			_, data := s.put(pack(t, good("a")))
			remove := s.objects.Fail(fault)
			s.post(data)
			for s.pubsub.Stats("ingest").Failed < 2 {
				time.Sleep(10 * time.Millisecond)
			}
			s.rows(0, 0, 1)
			remove()
			s.wait()
			s.rows(1, 0, 0)
		})
	}
}

// Protects the other way round: rows that are safe are acknowledged, even if their object cannot be deleted.
func TestObjectThatCannotBeDeleted(t *testing.T) {
	t.Parallel()
	s := startStored(t, options{})
	s.objects.Fail(objects.Fault{Operation: objects.Delete, Count: -1, Status: 403})
	_, data := s.put(pack(t, good("a")))
	s.publish(data)
	s.rows(1, 0, 1)
	if !s.log.has("object_left") {
		t.Error("the log line does not tell of the object that is left")
	}
}

// Protects the object of a batch that BigQuery does not take, which Pub/Sub gives up at last: DeadLetter opens it, and
// each event is a dead letter of its own.
func TestReferenceThatIsGivenUp(t *testing.T) {
	t.Parallel()
	s := startStored(t, options{config: func(c *service.Config) { c.FactEventsTable = "no_such_table" }})
	_, data := s.put(pack(t, good("a"), good("b"), good("c")))
	s.publish(data)
	s.rows(0, 3, 0)
	for i, l := range s.letters() {
		if l.Code != "delivery_attempts_exhausted" || l.Topic != "clicks" || l.Offset != int64(100+i) ||
			!strings.HasPrefix(l.Event, "{") {
			t.Errorf("%+v", l)
		}
	}
}

// Protects from trusting what somebody changed: the object's content becomes a dead letter that says so,
// once, and stays for those who look into it.
func TestDamagedObject(t *testing.T) {
	t.Parallel()
	s := startStored(t, options{})
	payload := pack(t, good("a"))
	r, data := s.put(payload)
	s.objects.Set("payloads", r.Object, append([]byte("x"), payload[1:]...))
	s.publish(data)
	s.rows(0, 1, 1)
	for _, l := range s.letters() {
		if l.Code != "undecodable_payload" || !strings.Contains(l.Error, "another SHA-256") {
			t.Errorf("%+v", l)
		}
	}
}

// Protects from messages that are made up: what is no reference is a dead letter, and no other bucket than the
// configured one is read.
func TestForgedReferences(t *testing.T) {
	t.Parallel()
	s := startStored(t, options{})
	s.publish([]byte(reference.Magic), []byte(reference.Magic+"\x01\x0a\x01b"))
	s.rows(0, 2, 0)
	for _, l := range s.letters() {
		if l.Code != "undecodable_payload" || !strings.Contains(l.Error, "its reference to an object") {
			t.Errorf("%+v", l)
		}
	}
	other := reference.Of("elsewhere", "object", []byte("x"))
	newer := append([]byte(reference.Magic), reference.Version+1)
	for _, data := range [][]byte{other.Append(nil), newer} {
		failed := s.pubsub.Stats("ingest").Failed
		s.post(data)
		for s.pubsub.Stats("ingest").Failed < failed+1 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if n := s.objects.Count(objects.Read); n != 0 {
		t.Errorf("%d objects were read", n)
	}
	for !s.log.has("deploy its version's functions first") { // the line comes behind the answer
		time.Sleep(10 * time.Millisecond)
	}
	if !s.log.has(`the bucket \"elsewhere\", and PAYLOAD_BUCKET is \"payloads\"`) {
		t.Error("the log does not say what to do")
	}
	s.pubsub.Pause("ingest") // they would come again and again
}

// Protects memory: what an object takes is reserved before it is fetched.
func TestMemoryOfReferences(t *testing.T) {
	t.Parallel()
	s := startStored(t, options{attempts: 100, config: func(c *service.Config) { c.MaxInFlight = 1 << 20 }})
	remove := s.objects.Fail(objects.Fault{Operation: objects.Read, Count: -1, Hang: true})
	defer remove()
	const n = 4
	for range n {
		noise := make([]byte, 450_000)
		_, _ = rand.Read(noise) // never fails
		r, data := s.put(pack(t, base64.StdEncoding.EncodeToString(noise)))
		if r.Size < 400_000 {
			t.Fatalf("an object has %d bytes: it is to be more than a third of the memory", r.Size)
		}
		s.post(data)
	}
	for s.pubsub.Stats("ingest").Failed < n-2 {
		time.Sleep(10 * time.Millisecond)
	}
	if reads := s.objects.Count(objects.Read); reads > 2 {
		t.Errorf("%d objects were being fetched within 1 MiB", reads)
	}
	remove()
	s.wait()
	s.rows(0, n, 0)
}

// Package fetch reads records from a confluent-kafka-go consumer in batches and
// without copying them, and separately from the consumer's events.
//
// confluent-kafka-go hands out one record a call and makes eight allocations
// for each. The C library below it can do better: a partition's queue may be
// forwarded to a queue of our own, and that queue be read many records at a time.
// The consumer keeps everything else: configuration, group, rebalances, offsets,
// errors, tokens.
//
// Two queues instead of one also give back pressure that costs nothing. Whoever
// stops reading records still polls the consumer, and so stays a member of its
// group; what librdkafka has prefetched stays where it is (Consumer.Pause would
// throw it away), and its bound (queued.max.messages.kbytes) is the bound.
//
// In the order of use:
//
//	f, err := fetch.New(consumer, 1000)
//	f.Forward(topic, partition)       // in the rebalance callback, before IncrementalAssign
//	for {
//		consumer.Poll(0)              // rebalances, errors
//		for i := range f.Fetch(100 * time.Millisecond) {
//			source := f.Source(i)     // where record i comes from, or an error of that partition
//			f.Record(i, &record)      // its bytes are librdkafka's: valid until Release
//		}
//		f.Release()                   // always, before the next Fetch
//	}
//	f.Close()                         // before consumer.Close: that waits for our queue
//
// A Fetcher belongs to one goroutine.
package fetch

/*
#cgo darwin LDFLAGS: -Wl,-undefined,dynamic_lookup
#include <stdlib.h>
#include "rdkafka.h"

// Whether the librdkafka in this program has all that this package calls.
static int complete(void) {
	return rd_kafka_queue_new &&
	       rd_kafka_queue_destroy &&
	       rd_kafka_queue_get_partition &&
	       rd_kafka_queue_forward &&
	       rd_kafka_consume_queue &&
	       rd_kafka_consume_batch_queue &&
	       rd_kafka_message_destroy &&
	       rd_kafka_message_timestamp &&
	       rd_kafka_message_leader_epoch &&
	       rd_kafka_message_headers &&
	       rd_kafka_header_cnt &&
	       rd_kafka_header_get_all &&
	       rd_kafka_topic_name;
}

// A record, flat, so that Go reads it without another call into C.
typedef struct {
	const void *value, *key;
	size_t value_len, key_len;
	int64_t offset, timestamp;
	rd_kafka_topic_t *topic;
	rd_kafka_headers_t *headers;
	int32_t partition, leader_epoch;
	int32_t err, headers_err;
} record_t;

typedef struct {
	const char *name;
	const void *value;
	size_t size;
} header_t;

// RD_KAFKA_RESP_ERR__NOENT: the record has no headers.
static const int no_headers = -156;

// Waits up to timeout_ms for the first record, then takes what is there without
// waiting: librdkafka's own batch call would wait for a full batch.
static int fetch(rd_kafka_queue_t *q, int timeout_ms, rd_kafka_message_t **m, record_t *r, int max) {
	ssize_t n = rd_kafka_consume_batch_queue(q, 0, m, max);
	if (n <= 0) {
		if (timeout_ms == 0 || !(m[0] = rd_kafka_consume_queue(q, timeout_ms)))
			return 0;
		n = 1;
		if (max > 1) {
			ssize_t more = rd_kafka_consume_batch_queue(q, 0, m + 1, max - 1);
			if (more > 0)
				n += more;
		}
	}
	for (int i = 0; i < n; i++) {
		r[i].value = m[i]->payload;
		r[i].value_len = m[i]->len;
		r[i].key = m[i]->key;
		r[i].key_len = m[i]->key_len;
		r[i].offset = m[i]->offset;
		r[i].topic = m[i]->rkt;
		r[i].partition = m[i]->partition;
		r[i].err = m[i]->err;
		r[i].headers = NULL;
		r[i].headers_err = 0;
		r[i].timestamp = 0;
		r[i].leader_epoch = -1;
		if (m[i]->err == 0) {
			r[i].leader_epoch = rd_kafka_message_leader_epoch(m[i]);
			int64_t ts = rd_kafka_message_timestamp(m[i], NULL);
			r[i].timestamp = ts > 0 ? ts : 0;
			r[i].headers_err = rd_kafka_message_headers(m[i], &r[i].headers);
			if (r[i].headers_err != 0)
				r[i].headers = NULL;
			if (r[i].headers_err == no_headers)
				r[i].headers_err = 0;
		}
	}
	return (int)n;
}

static void release(rd_kafka_message_t **m, int n) {
	for (int i = 0; i < n; i++)
		rd_kafka_message_destroy(m[i]);
}

static int headers(rd_kafka_headers_t *h, header_t *out, int max) {
	int n = 0;
	while (n < max && rd_kafka_header_get_all(h, n, &out[n].name, &out[n].value, &out[n].size) == 0)
		n++;
	return n;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
	"sluice/internal/batch"
)

// Fetcher reads the records of one consumer. Create it with New.
type Fetcher struct {
	client   *C.rd_kafka_t
	queue    *C.rd_kafka_queue_t
	messages []*C.rd_kafka_message_t // C memory, as is records
	records  []C.record_t
	headers  []C.header_t
	n        int // records held since the last Fetch
}

// New returns a Fetcher of up to max records a call.
func New(c *kafka.Consumer, max int) (*Fetcher, error) {
	// The C client is a private field, and there is no other way to it. Reading it
	// by reflection breaks, if it ever does, here and with a sentence.
	rk := reflect.ValueOf(c).Elem()
	for _, name := range []string{"handle", "rk"} {
		if rk.Kind() != reflect.Struct || !rk.FieldByName(name).IsValid() {
			return nil, errors.New("fetch: this version of confluent-kafka-go keeps no rd_kafka_t in Consumer.handle.rk: pin " +
				"the version that go.mod names")
		}
		rk = rk.FieldByName(name)
	}
	if rk.Kind() != reflect.Pointer || !strings.HasSuffix(rk.Type().Elem().Name(), "rd_kafka_s") || rk.IsNil() {
		return nil, fmt.Errorf("fetch: Consumer.handle.rk is a %s and no pointer to a live rd_kafka_t: pin the version of "+
			"confluent-kafka-go that go.mod names", rk.Type())
	}
	if C.complete() == 0 {
		return nil, errors.New("fetch: the librdkafka that this program is linked with lacks functions that librdkafka " +
			"2.x has: build with the one that comes with confluent-kafka-go")
	}
	client := (*C.rd_kafka_t)(rk.UnsafePointer())
	f := &Fetcher{client: client, queue: C.rd_kafka_queue_new(client)}
	f.messages = cArray[*C.rd_kafka_message_t](max)
	f.records = cArray[C.record_t](max)
	f.headers = cArray[C.header_t](64) // grows with the record that has the most
	return f, nil
}

// cArray allocates n zeroed Ts outside of Go's heap: C code may keep pointers
// of its own in them.
func cArray[T any](n int) []T {
	var zero T
	return unsafe.Slice((*T)(C.calloc(C.size_t(n), C.size_t(unsafe.Sizeof(zero)))), n)
}

// Forward routes a partition's records to this Fetcher. It must be called each
// time the partition is assigned, before the assignment is confirmed.
func (f *Fetcher) Forward(topic string, partition int32) error {
	name := C.CString(topic)
	defer C.free(unsafe.Pointer(name))
	q := C.rd_kafka_queue_get_partition(f.client, name, C.int32_t(partition))
	if q == nil {
		return fmt.Errorf("fetch: no queue for partition %s[%d]", topic, partition)
	}
	C.rd_kafka_queue_forward(q, f.queue)
	C.rd_kafka_queue_destroy(q)
	return nil
}

// Fetch waits up to timeout for records and returns how many there are. What the
// last Fetch returned must have been released.
func (f *Fetcher) Fetch(timeout time.Duration) int {
	f.n = int(C.fetch(f.queue, C.int(timeout.Milliseconds()), &f.messages[0], &f.records[0], C.int(len(f.records))))
	return f.n
}

// Release gives the records of the last Fetch back to librdkafka.
func (f *Fetcher) Release() {
	if f.n > 0 {
		C.release(&f.messages[0], C.int(f.n))
		f.n = 0
	}
}

// Source says where record i comes from. Its handle is the same for all records of a topic as long as one of
// its partitions is assigned; TopicName tells the name.
func (f *Fetcher) Source(i int) bridge.Source {
	r := &f.records[i]
	return bridge.Source{Topic: uintptr(unsafe.Pointer(r.topic)), Partition: int32(r.partition)}
}

// TopicName is the name of record i's topic.
func (f *Fetcher) TopicName(i int) string {
	return C.GoString(C.rd_kafka_topic_name(f.records[i].topic))
}

// Offset is that of record i, or where the error in its place occurred, if that is known.
func (f *Fetcher) Offset(i int) int64 { return int64(f.records[i].offset) }

// LeaderEpoch is the leader epoch of the partition in which record i was written; -1: the
// broker is too old to say.
func (f *Fetcher) LeaderEpoch(i int) int32 { return int32(f.records[i].leader_epoch) }

// Err is the partition's error that stands in place of record i, or 0.
func (f *Fetcher) Err(i int) kafka.ErrorCode { return kafka.ErrorCode(f.records[i].err) }

// Record fills in record i. Its bytes stay librdkafka's: they are valid until
// Release. r.Headers is reused; it is empty if librdkafka cannot read the record's
// headers, of which there are more than 100,000 then: that is the error, otherwise 0.
func (f *Fetcher) Record(i int, r *batch.Record) kafka.ErrorCode {
	c := &f.records[i]
	r.Offset = int64(c.offset)
	r.Timestamp = int64(c.timestamp)
	r.Key = view(c.key, c.key_len)
	r.Value = view(c.value, c.value_len)
	r.Headers = r.Headers[:0]
	if c.headers == nil {
		return kafka.ErrorCode(c.headers_err)
	}
	n := int(C.rd_kafka_header_cnt(c.headers))
	if n > len(f.headers) {
		C.free(unsafe.Pointer(&f.headers[0]))
		f.headers = cArray[C.header_t](2 * n)
	}
	for _, h := range f.headers[:C.headers(c.headers, &f.headers[0], C.int(n))] {
		key := unsafe.Pointer(h.name)
		r.Headers = append(r.Headers, batch.RecordHeader{
			Key:   unsafe.Slice((*byte)(key), cLen((*byte)(key))),
			Value: view(h.value, h.size),
		})
	}
	return 0
}

// view is C memory as a slice: nil where Kafka says null, and empty where it
// says empty.
func view(p unsafe.Pointer, n C.size_t) []byte {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*byte)(p), int(n))
}

// cLen is the length of a C string: librdkafka gives header names without one.
func cLen(p *byte) int {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return n
}

// Close releases everything. It must come before the consumer's Close.
func (f *Fetcher) Close() {
	if f.queue == nil {
		return
	}
	f.Release()
	C.rd_kafka_queue_destroy(f.queue)
	f.queue = nil
	C.free(unsafe.Pointer(&f.messages[0]))
	C.free(unsafe.Pointer(&f.records[0]))
	C.free(unsafe.Pointer(&f.headers[0]))
}

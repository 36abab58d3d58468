package pubsub

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	store "sluice/internal/local/objects"
	"sluice/internal/reference"
)

// Protects the way around the bucket: what it cannot take goes in the message, a passing fault costs a try, a
// lasting one is told once and costs no batch but one each pause its time.
func TestPayloadsGoAroundTheBucket(t *testing.T) {
	server, err := store.Start("127.0.0.1:0", "payloads")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	bucket, err := reference.Open(t.Context(), "payloads", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	var log bytes.Buffer
	var c counters
	o := newObjects(nil, 1000, slog.New(slog.NewTextHandler(&log, nil)), &c)
	payload := bytes.Repeat([]byte("x"), 1001)
	inline := func(data []byte) bool { return bytes.Equal(data, payload) }
	if !inline(o.data(t.Context(), payload)) {
		t.Error("without a bucket there is a reference")
	}
	o.bucket, o.timeout, o.pause = bucket, 200*time.Millisecond, time.Hour

	if !bytes.Equal(o.data(t.Context(), payload[1:]), payload[1:]) {
		t.Error("a payload that is not large becomes an object")
	}
	server.Fail(store.Fault{Operation: store.Create, Count: 1})
	data := o.data(t.Context(), payload)
	r, err := reference.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bucket.Get(t.Context(), &r); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("the object has %d bytes: %v", len(got), err)
	}
	if log.Len() > 0 || c.references.Load() != 1 || c.storeErrors.Load() != 0 {
		t.Errorf("%d references, %d errors, after a passing fault: %s", c.references.Load(), c.storeErrors.Load(),
			log.String())
	}

	// Whose batch is no longer wanted says nothing of the bucket.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if !inline(o.data(gone, payload)) || c.storeErrors.Load() != 0 {
		t.Error("a batch that was given up is an error of the bucket")
	}

	remove := server.Fail(store.Fault{Operation: store.Create, Count: -1, Hang: true})
	tried := server.Count(store.Create)
	for range 3 {
		if !inline(o.data(t.Context(), payload)) {
			t.Error("there is a reference to an object that was not written")
		}
	}
	if n := server.Count(store.Create) - tried; n != 1 || c.storeErrors.Load() != 1 {
		t.Errorf("%d writes were tried, %d errors, want one", n, c.storeErrors.Load())
	}
	o.next = time.Now() // the pause is over: one batch tries, and the others do not wait for it
	tried = server.Count(store.Create)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { o.data(t.Context(), payload) })
	}
	all.Wait()
	if n := server.Count(store.Create) - tried; n != 1 {
		t.Errorf("after the pause %d writes were tried, want one", n)
	}
	remove()
	o.next = time.Now() // and again
	for range 2 {
		if inline(o.data(t.Context(), payload)) {
			t.Error("the bucket is not used again")
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(),
		"written to the bucket again") {
		t.Errorf("%d lines, want one of the trouble and one of its end: %s", n, log.String())
	}
}

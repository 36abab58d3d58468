package reference_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"sluice/internal/batch"
	"sluice/internal/local/objects"
	"sluice/internal/reference"
	"sluice/internal/reference/referencepb"
)

// Protects what functions read from what bridges write, and that a message which is not whole
// is no reference.
func TestParse(t *testing.T) {
	r := reference.Of("bucket", "object", []byte("payload"))
	data := r.Append(nil)
	if got, err := reference.Parse(data); err != nil || got != r || !reference.Is(data) {
		t.Errorf("%+v, %v", got, err)
	}
	if reference.Is([]byte(`{"event_id":"1"}`)) || reference.Is([]byte(batch.Magic)) || reference.Is(nil) {
		t.Error("an event or a batch is taken for a reference")
	}
	for cut := len(reference.Magic); cut < len(data); cut++ {
		if got, err := reference.Parse(data[:cut]); err == nil {
			t.Errorf("cut to %d bytes: %+v", cut, got)
		}
	}
	newer := slices.Clone(data)
	newer[len(reference.Magic)]++
	if _, err := reference.Parse(newer); !errors.Is(err, reference.ErrVersion) {
		t.Errorf("of a newer version: %v", err)
	}
	for name, change := range map[string]func(*referencepb.Reference){
		"names no object":  func(p *referencepb.Reference) { p.Object = "" },
		"names no object ": func(p *referencepb.Reference) { p.Bucket = "" },
		"has no SHA-256":   func(p *referencepb.Reference) { p.Sha256 = p.Sha256[1:] },
		"has 0 bytes":      func(p *referencepb.Reference) { p.Size = 0 },
		"has 10000001":     func(p *referencepb.Reference) { p.Size = reference.MaxBytes + 1 },
	} {
		p := &referencepb.Reference{Bucket: "b", Object: "o", Size: 1, Sha256: make([]byte, 32)}
		change(p)
		body, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := reference.Parse(slices.Concat([]byte(reference.Magic), []byte{reference.Version},
			body)); err == nil ||
			!strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Protects functions from messages that somebody else published: whatever is parsed is within the
// bounds that memory is reserved by, and is what would be published again.
func FuzzParse(f *testing.F) {
	r := reference.Of("bucket", "object", []byte("payload"))
	f.Add(r.Append(nil))
	f.Add([]byte(reference.Magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := reference.Parse(data)
		if err != nil {
			return
		}
		if r.Size < 1 || r.Size > reference.MaxBytes || r.Bucket == "" || r.Object == "" {
			t.Errorf("%+v", r)
		}
		if again, err := reference.Parse(r.Append(nil)); err != nil || again != r {
			t.Errorf("%+v becomes %+v, %v", r, again, err)
		}
	})
}

// world is a bucket in a Cloud Storage of its own.
func world(t *testing.T, name string) (*objects.Server, *reference.Bucket) {
	t.Helper()
	s, err := objects.Start("127.0.0.1:0", "payloads")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b, err := reference.Open(t.Context(), name, s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return s, b
}

// Protects the way of a payload: written once, read as it was, deleted, and then gone for certain.
func TestPayloadComesBack(t *testing.T) {
	s, b := world(t, "payloads")
	payload := bytes.Repeat([]byte("payload"), 100_000)
	r, err := b.Put(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Get(t.Context(), &r)
	if err != nil || !bytes.Equal(got, payload) || r.Check(got) != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n, size, err := b.Orphans(t.Context(), time.Now().Add(time.Minute)); err != nil || n != 1 ||
		size != int64(len(payload)) {
		t.Errorf("%d orphans of %d bytes, %v", n, size, err)
	}
	if n, _, err := b.Orphans(t.Context(), time.Now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("%d orphans, although it is young, %v", n, err)
	}
	for range 2 {
		if err := b.Delete(t.Context(), &r); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Get(t.Context(), &r); !errors.Is(err, reference.ErrGone) {
		t.Errorf("a deleted object: %v", err)
	}
	if names := s.Names("payloads"); len(names) != 0 {
		t.Errorf("objects %q are left", names)
	}
}

// Protects that data is never taken for lost or for changed: what somebody put in an object's
// place is told.
func TestAnotherContent(t *testing.T) {
	s, b := world(t, "payloads")
	r, err := b.Put(t.Context(), []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ content, want string }{
		{"qayload", "another SHA-256"}, {"pay", "another size"}, {strings.Repeat("payload", 1000), "another size"}, {"", "another size"},
	} {
		s.Set("payloads", r.Object, []byte(c.content))
		got, err := b.Get(t.Context(), &r)
		if err != nil {
			t.Errorf("%q: %v", c.content, err)
			continue
		}
		if err := r.Check(got); err == nil || !strings.Contains(err.Error(), c.want) || len(got) > len("payload")+1 {
			t.Errorf("%q is read as %d bytes: %v", c.content, len(got), err)
		}
	}
}

// Protects against acknowledging what was never read: only an object that does not exist in a
// bucket that does is gone. Everything else is an error that says what to do, and comes within
// the caller's time.
func TestGoneIsCertain(t *testing.T) {
	s, b := world(t, "payloads")
	_, other := world(t, "elsewhere")
	r, err := b.Put(t.Context(), []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := other.Get(short(), &r); err == nil || errors.Is(err, reference.ErrGone) ||
		!strings.Contains(err.Error(), "no bucket of that name") {
		t.Errorf("of a bucket that is not there: %v", err)
	}
	if _, err := other.Put(short(), []byte("x")); err == nil || !strings.Contains(err.Error(),
		"no bucket of that name") {
		t.Errorf("to a bucket that is not there: %v", err)
	}
	for _, c := range []struct {
		name  string
		fault objects.Fault
		want  string
	}{
		{"forbidden", objects.Fault{Count: -1, Status: 403}, "lacks the role"},
		{"unavailable", objects.Fault{Count: -1}, "deadline exceeded"},
		{"hangs", objects.Fault{Count: -1, Hang: true}, "deadline exceeded"},
	} {
		remove := s.Fail(c.fault)
		if _, err := b.Get(short(), &r); err == nil || errors.Is(err, reference.ErrGone) ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: read: %v", c.name, err)
		}
		if _, err := b.Put(short(), []byte("x")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: written: %v", c.name, err)
		}
		if err := b.Delete(short(), &r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: deleted: %v", c.name, err)
		}
		remove()
	}
	// The object is gone, and nobody says whether the bucket is there.
	if err := b.Delete(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	defer s.Fail(objects.Fault{Operation: objects.Bucket, Count: -1, Status: 403})()
	if _, err := b.Get(short(), &r); err == nil || errors.Is(err, reference.ErrGone) {
		t.Errorf("of a bucket that cannot be looked at: %v", err)
	}
}

// Protects against giving up for a passing fault, and against a second object when only an answer was lost.
func TestPassingFaults(t *testing.T) {
	s, b := world(t, "payloads")
	for _, o := range []objects.Operation{objects.Create, objects.Read, objects.Delete} {
		for _, lose := range []bool{false, true} {
			r, err := b.Put(t.Context(), []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			remove := s.Fail(objects.Fault{Operation: o, LoseAnswer: lose})
			switch o {
			case objects.Create:
				if r, err = b.Put(t.Context(), []byte("payload")); err == nil {
					_, err = b.Get(t.Context(), &r)
				}
				if n := len(s.Names("payloads")); n != 2 {
					t.Errorf("%d objects, want 2", n)
				}
			case objects.Read:
				_, err = b.Get(t.Context(), &r)
			case objects.Delete:
				err = b.Delete(t.Context(), &r)
			}
			if err != nil {
				t.Errorf("%s, answer lost: %v: %v", o, lose, err)
			}
			remove()
			for _, name := range s.Names("payloads") {
				if err := b.Delete(t.Context(), &reference.Reference{Object: name}); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

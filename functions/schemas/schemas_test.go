package schemas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"sluice/functions/event"
	"sluice/internal/contract"
	"sluice/internal/registry"
	"sluice/internal/schema"
)

// world is a registry and the schemas of a contract that names it.
type world struct {
	*Schemas
	registry *srfake.Registry
	asked    atomic.Int32 // for schemas by id
	answer   atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func start(t *testing.T, c Config) *world {
	t.Helper()
	w := &world{registry: srfake.New()}
	t.Cleanup(w.registry.Close)
	w.registry.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/schemas/ids/") && !strings.HasSuffix(r.URL.Path, "/versions") {
			w.asked.Add(1)
		}
		if f := w.answer.Load(); f != nil {
			return (*f)(rw, r)
		}
		return false
	})
	of, err := contract.Read("c.yaml", []byte("contract: 1\ntopics: t\nrest: drop\nformat: avro\nregistry: "+w.registry.URL()+"\ncolumns: [{name: f, type: STRING}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(*of.Registry, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if w.Schemas, err = New(of, client, c, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) seed(ids ...int) {
	for _, id := range ids {
		w.registry.SeedSchema("s", id, id, sr.Schema{Schema: fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"f","type":"string"}]}`, id)})
	}
}

func ids(numbers ...int) (out []schema.ID) {
	for _, n := range numbers {
		out = append(out, schema.ID{Number: int64(n)})
	}
	return out
}

// Protects the registry from an instance's requests: however many messages need a schema at once, it is asked once;
// what a caller that has left had asked for is there for the others.
func TestAskedOnce(t *testing.T) {
	w := start(t, Config{})
	w.seed(7)
	release := make(chan struct{})
	slow := func(http.ResponseWriter, *http.Request) bool { <-release; return false }
	w.answer.Store(&slow)
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := w.View(leaving, ids(7))
		left <- err
	}()
	for w.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who has left is told %v", err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			v, err := w.View(t.Context(), ids(7))
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := v.Program(ids(7)[0]); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	all.Wait()
	if n := w.asked.Load(); n != 1 {
		t.Errorf("the registry was asked %d times", n)
	}
}

// Protects an instance's memory: no more is kept than Keep, and what is used stays.
func TestKept(t *testing.T) {
	w := start(t, Config{Keep: 10})
	var numbers []int
	for id := range 30 {
		numbers = append(numbers, id+1)
	}
	w.seed(numbers...)
	for _, id := range numbers {
		for _, of := range []int{id, 1} { // the first one is used all the time
			if v, err := w.View(t.Context(), ids(of)); err != nil {
				t.Fatal(err)
			} else if _, err := v.Program(ids(of)[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(w.known); n != 10 {
		t.Errorf("%d are kept", n)
	}
	if n := w.asked.Load(); n != 30 {
		t.Errorf("the registry was asked %d times for 30 schemas", n)
	}
	// A view has all that its message needs, also if that is more than is kept.
	v, err := w.View(t.Context(), ids(numbers...))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids(numbers...) {
		if _, err := v.Program(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// Protects a registry that fails from being asked by every message, and events from being called bad for it.
func TestBreaker(t *testing.T) {
	w := start(t, Config{BreakerOpen: 200 * time.Millisecond})
	w.seed(7)
	down := func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(http.StatusBadGateway); return true }
	w.answer.Store(&down)
	for range 20 {
		_, err := w.View(t.Context(), ids(7))
		var rejection *event.Rejection
		if err == nil || errors.As(err, &rejection) {
			t.Fatalf("%v", err)
		}
	}
	if n := w.asked.Load(); n != breakerFailures {
		t.Errorf("the registry was asked %d times, want %d", n, breakerFailures)
	}
	w.answer.Store(nil)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := w.View(t.Context(), ids(7)); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Protects the time of a request: a registry that does not answer is given up after Fetch, and an id that it does not
// know after Wait.
func TestBoundedWaits(t *testing.T) {
	w := start(t, Config{Fetch: 100 * time.Millisecond, Wait: 100 * time.Millisecond, Poll: 10 * time.Millisecond,
		Reject: 200 * time.Millisecond})
	w.seed(7)
	hang := func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	w.answer.Store(&hang)
	begin := time.Now()
	if _, err := w.View(t.Context(), ids(7)); err == nil || time.Since(begin) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	w.answer.Store(nil)
	v, err := w.View(t.Context(), ids(7, 8))
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); v, err = w.View(t.Context(),
		ids(7, 8)) {
		time.Sleep(10 * time.Millisecond) // the request before may be still on its way
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Program(ids(8)[0]); !Missing(err) {
		t.Errorf("before the wait: %v", err)
	}
	if err := v.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r *event.Rejection
	if _, err := v.Program(ids(8)[0]); !errors.As(err, &r) || r.Code != contract.CodeUnknownSchema {
		t.Errorf("after the wait: %v", err)
	}
	if _, err := v.Program(ids(7)[0]); err != nil {
		t.Error(err)
	}
	// It is not unknown for ever.
	w.seed(8)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if v, err = w.View(t.Context(), ids(8)); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Program(ids(8)[0]); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Protects an instance from doing nothing but wait: a few messages wait for a schema that is not there, the others come
// again; and all of them together wait once, not one after the other.
func TestFewWait(t *testing.T) {
	w := start(t, Config{Wait: 300 * time.Millisecond, Poll: 10 * time.Millisecond, MaxWaiting: 3})
	begin := time.Now()
	var views []*View
	for range 3 {
		v, err := w.View(t.Context(), ids(8))
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
	}
	if _, err := w.View(t.Context(), ids(8)); err == nil || !strings.Contains(err.Error(), "comes again") {
		t.Errorf("the fourth: %v", err)
	}
	views[0].Close()
	views[0].Close()
	if v, err := w.View(t.Context(), ids(8)); err != nil {
		t.Errorf("after one has left: %v", err)
	} else {
		views[0] = v
	}
	for _, v := range views {
		if err := v.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		var r *event.Rejection
		if _, err := v.Program(ids(8)[0]); !errors.As(err, &r) || r.Code != contract.CodeUnknownSchema {
			t.Error(err)
		}
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("they were rejected after %v", took)
	}
	if w.waiting != 0 || len(w.first) != 0 {
		t.Errorf("%d are waiting, for %v", w.waiting, w.first)
	}
}

// Protects a registry from values that only look as if they named a schema: of very many ids in one message a few are
// waited for, the others are asked for once.
func TestManyIDs(t *testing.T) {
	w := start(t, Config{Wait: 200 * time.Millisecond, Poll: 20 * time.Millisecond, MaxUnknown: 5})
	var numbers []int
	for i := range 200 {
		numbers = append(numbers, 1000+i)
	}
	v, err := w.View(t.Context(), ids(numbers...))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids(numbers...) {
		var r *event.Rejection
		if _, err := v.Program(id); !errors.As(err, &r) || r.Code != contract.CodeUnknownSchema {
			t.Errorf("%s: %v", id, err)
		}
	}
	if n := w.asked.Load(); n > 300 {
		t.Errorf("the registry was asked %d times for 200 ids", n)
	}
}

// Protects from trying what cannot be: schemas of another format, or that cannot be compiled, are an answer, and are
// not asked for again.
func TestUnusable(t *testing.T) {
	w := start(t, Config{})
	w.registry.SeedSchema("p", 1, 1, sr.Schema{Schema: "syntax = \"proto3\"; message M {}", Type: sr.TypeProtobuf})
	w.registry.SeedSchema("a", 1, 2, sr.Schema{Schema: `{"type":"record","name":"R","fields":[{"name":"f","type":"geo.Missing"}]}`})
	w.registry.SeedSchema("s", 1, 3, sr.Schema{Schema: `"string"`})
	for range 2 {
		v, err := w.View(t.Context(), ids(1, 2, 3))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"p version 1 (id 1), which is of the type protobuf, and the contract says format: avro", "a version 1 (id 2), which cannot be used", "an event is a record"} {
			var r *event.Rejection
			if _, err := v.Program(ids(i + 1)[0]); !errors.As(err, &r) || r.Code != contract.CodeUndecodableValue ||
				!strings.Contains(r.Message, want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
	if n := w.asked.Load(); n != 3 {
		t.Errorf("the registry was asked %d times", n)
	}
}

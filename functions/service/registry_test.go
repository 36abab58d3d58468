package service_test

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/functions/schemas"
	"sluice/functions/service"
	"sluice/internal/contract"
)

// written is a world whose events are written with schemas of a registry.
type written struct {
	*world
	registry *srfake.Registry
	asked    atomic.Int32 // requests for schemas by id
	fault    atomic.Pointer[srfake.Interceptor]
}

const (
	orderV1    = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"amount","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]}]}`
	orderV2    = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"amount","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},{"name":"coupon","type":["null","string"],"default":null}]}`
	orderV3    = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}`
	orderProto = "syntax = \"proto3\";\npackage shop;\nmessage Other { int32 n = 1; }\nmessage Order { string id = 1; string coupon = 2; }\n"
)

func startWritten(t *testing.T, format string, o options) *written {
	t.Helper()
	return startWrittenWith(t, format, "- {name: id, type: STRING, mode: REQUIRED}\n- {name: amount, type: NUMERIC}\n",
		o)
}

func startWrittenWith(t *testing.T, format, columns string, o options) *written {
	t.Helper()
	w := &written{world: &world{t: t}, registry: srfake.New()}
	t.Cleanup(w.registry.Close)
	w.registry.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/schemas/ids/") && !strings.Contains(r.URL.Path, "/versions") {
			w.asked.Add(1)
		}
		// as registries answer that have none; this one says it in plain text
		if strings.Contains(r.URL.Path, "/associations/") {
			rw.WriteHeader(http.StatusNotFound)
			fmt.Fprint(rw, `{"error_code":404,"message":"HTTP 404 Not Found"}`)
			return true
		}
		if f := w.fault.Load(); f != nil {
			return (*f)(rw, r)
		}
		return false
	})
	c, err := contract.Read("orders.yaml", []byte("contract: 1\ntopics: clicks\nformat: "+format+"\nregistry: {url: "+w.registry.URL()+", subject: clicks-value, version: 1}\ncolumns:\n"+columns+
		"- {name: rest, type: JSON, rest: true}\n"))
	check(t, err)
	o.contracts = []*contract.Contract{c}
	if o.before != nil {
		o.before(w)
	}
	more := o.config
	o.config = func(c *service.Config) {
		c.Schemas = schemas.Config{Wait: 300 * time.Millisecond, Poll: 20 * time.Millisecond,
			BreakerOpen: 20 * time.Millisecond, Reject: time.Minute}
		if more != nil {
			more(c)
		}
	}
	w.world = start(t, o)
	return w
}

// register adds a version of the schema and returns its id.
func (w *written) register(text string, kind sr.SchemaType) int {
	w.t.Helper()
	check(w.t, w.registry.SetCompat("clicks-value", sr.CompatNone))
	id, _, err := w.registry.RegisterSchema("clicks-value", sr.Schema{Schema: text, Type: kind})
	check(w.t, err)
	return id
}

// failing is a registry that answers everything with a status.
func failing(status int) *srfake.Interceptor {
	var f srfake.Interceptor = func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "no", status)
		return true
	}
	return &f
}

func framed(id int, value ...byte) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), value...))
}

func order(t *testing.T, id int, schema string, event map[string]any) string {
	t.Helper()
	value, err := avro.MustParse(schema).Encode(event)
	check(t, err)
	return framed(id, value...)
}

// Protects events in Avro: their rows, a version that adds a field while the functions run, one that breaks the
// contract, and what is no such event. The dead letters have the bytes as they came, and the reason names the versions.
func TestEventsInAvro(t *testing.T) {
	t.Parallel()
	w := startWritten(t, "avro", options{})
	v1 := w.register(orderV1, sr.TypeAvro)
	w.publish(pack(t, order(t, v1, orderV1, map[string]any{"id": "a", "amount": "12.50"}),
		order(t, v1, orderV1, map[string]any{"id": "b", "amount": nil})))
	v2 := w.register(orderV2, sr.TypeAvro)
	v3 := w.register(orderV3, sr.TypeAvro)
	broken := order(t, v3, orderV3, map[string]any{"id": 7})
	w.publish(pack(t,
		order(t, v2, orderV2, map[string]any{"id": "c", "amount": "1", "coupon": "x"}),
		broken,
		order(t, v1, orderV1, map[string]any{"id": "d", "amount": "-0.01"}),
		framed(v1, 99),
		`{"id":"json"}`,
		tombstone,
		order(t, v2, orderV2, map[string]any{"id": "e", "amount": nil, "coupon": nil})))
	for query, want := range map[string]int{
		"SELECT COUNT(*) FROM orders":                                            5,
		"SELECT COUNT(*) FROM orders WHERE id = 'a' AND amount = 12.50":          1,
		"SELECT COUNT(*) FROM orders WHERE id = 'd' AND amount = -0.01":          1,
		"SELECT COUNT(*) FROM orders WHERE id = 'c' AND (rest->>'coupon') = 'x'": 1,
		"SELECT COUNT(*) FROM orders WHERE id IN ('b', 'e') AND amount IS NULL":  2,
	} {
		if n := w.count(query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	letters := w.letters()
	for i, want := range []struct{ code, field, message string }{
		{"wrong_type", "id", "it was written with clicks-value version 3 (id 3), and the contract with clicks-value version 1"},
		{"undecodable_value", "id", "clicks-value version 1 (id 1)"},
		{"undecodable_value", "", "is plain JSON: say format: json"},
		{"undecodable_value", "", "tombstone"},
	} {
		if i >= len(letters) {
			t.Fatalf("%d letters: %+v", len(letters), letters)
		}
		if l := letters[i]; l.Code != want.code || l.Field != want.field || !strings.Contains(l.Error, want.message) {
			t.Errorf("%+v, want %v", l, want)
		}
	}
	if letters[0].Event+string(letters[0].Bytes) != broken {
		t.Errorf("the letter has %q %x, the record %x", letters[0].Event, letters[0].Bytes, broken)
	}
	if n := w.count("SELECT COUNT(*) FROM events_dlq WHERE schema_id = '3' AND schema_subject = 'clicks-value' AND schema_version = 3 AND error_code = 'wrong_type'"); n != 1 {
		t.Errorf("%d letters with the schema's id, subject and version", n)
	}
	if n := w.count("SELECT COUNT(*) FROM events_dlq WHERE schema_subject IS NULL AND schema_version IS NULL"); n != 2 {
		t.Errorf("%d letters without a subject, want the plain JSON and the tombstone", n)
	}
	if !w.log.has("schemas_ms") {
		t.Error("the log line does not tell how long the registry took")
	}
	if n := w.asked.Load(); n != 3 {
		t.Errorf("the registry was asked %d times for 3 schemas", n)
	}
}

// Protects the start of an instance: the newest schema of the contract's subject is there before the first message
// needs it, and a registry that does not answer keeps no instance from starting.
func TestWarmStart(t *testing.T) {
	t.Parallel()
	for _, of := range []struct {
		format, text string
		kind         sr.SchemaType
		value        func(id int) string
	}{
		{"avro", orderV1, sr.TypeAvro, func(id int) string {
			return order(t, id, orderV1, map[string]any{"id": "a", "amount": nil})
		}},
		{"protobuf", "syntax = \"proto3\";\nmessage Order { string id = 1; }\n", sr.TypeProtobuf, func(id int) string {
			return framed(id, append([]byte{0}, protowire.AppendString([]byte{1<<3 | 2}, "a")...)...)
		}},
	} {
		t.Run(of.format, func(t *testing.T) {
			id := 0
			w := startWritten(t, of.format, options{before: func(w *written) { id = w.register(of.text, of.kind) }})
			w.fault.Store(failing(http.StatusServiceUnavailable)) // it is not asked again
			w.publish(pack(t, of.value(id)))
			if n := w.count("SELECT COUNT(*) FROM orders WHERE id = 'a'"); n != 1 {
				t.Errorf("%d rows", n)
			}
			if n := w.asked.Load(); n != 0 {
				t.Errorf("the first message asked the registry %d times", n)
			}
		})
	}
	t.Run("no registry", func(t *testing.T) {
		var id int
		w := startWritten(t, "avro", options{before: func(w *written) {
			id = w.register(orderV1, sr.TypeAvro)
			w.fault.Store(failing(http.StatusInternalServerError))
		}})
		w.fault.Store(nil)
		w.publish(pack(t, order(t, id, orderV1, map[string]any{"id": "a", "amount": nil})))
		if n := w.count("SELECT COUNT(*) FROM orders WHERE id = 'a'"); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}

// Protects events in Protobuf: the indexes before a value say which message it is.
func TestEventsInProtobuf(t *testing.T) {
	t.Parallel()
	w := startWritten(t, "protobuf", options{})
	id := w.register(orderProto, sr.TypeProtobuf)
	value := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a")
	value = protowire.AppendString(protowire.AppendTag(value, 2, protowire.BytesType), "x")
	w.publish(pack(t,
		framed(id, append([]byte{2, 2}, value...)...), // one index, 1: Order
		framed(id, append([]byte{0}, 8, 5)...),        // Other, which has no id
		framed(id, append([]byte{2, 8}, value...)...), // the fifth message
		framed(id, 0xff),
		framed(id, 2, 2, 0xff)))
	if n := w.count("SELECT COUNT(*) FROM orders WHERE id = 'a' AND (rest->>'coupon') = 'x'"); n != 1 {
		t.Errorf("%d rows", n)
	}
	letters := w.letters()
	for i, want := range []struct{ code, message string }{
		{"missing_field", "id is missing"},
		{"undecodable_value", "no message at the indexes [4]"},
		{"undecodable_value", "does not say which message"},
		{"undecodable_value", "wire format"},
	} {
		if i >= len(letters) || letters[i].Code != want.code || !strings.Contains(letters[i].Error, want.message) {
			t.Errorf("letter %d of %+v, want %v", i, letters, want)
		}
	}
}

// Protects from losing events for a registry: while it is down, slow, or refuses its credentials, nothing is rejected,
// and all lands when it is back.
func TestRegistryThatFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]srfake.Interceptor{
		"down": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
		"forbidden": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		},
		"not a registry": func(w http.ResponseWriter, _ *http.Request) bool { http.NotFound(w, nil); return true },
		"no JSON":        func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>"); return true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWritten(t, "avro", options{attempts: 100})
			id := w.register(orderV1, sr.TypeAvro)
			w.fault.Store(&fault)
			time.AfterFunc(300*time.Millisecond, func() { w.fault.Store(nil) })
			w.publish(pack(t, order(t, id, orderV1, map[string]any{"id": "a", "amount": nil})))
			if rows, letters := w.count("SELECT COUNT(*) FROM orders"), w.letters(); rows != 1 || len(letters) > 0 {
				t.Errorf("%d rows, letters %+v", rows, letters)
			}
			if !w.log.has("schema registry") {
				t.Error("the log does not tell what is wrong")
			}
		})
	}
}

// Protects neighbours from an id that the registry does not know: they land at once. The event itself waits a little,
// because a replica may be behind; then it is rejected, and the next one with the id at once.
func TestSchemaThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	w := startWritten(t, "avro", options{config: func(c *service.Config) { c.Schemas.Wait = 2 * time.Second }})
	id := w.register(orderV1, sr.TypeAvro)
	landed := make(chan int, 1)
	time.AfterFunc(time.Second, func() {
		landed <- w.count("SELECT COUNT(*) FROM orders")
		w.register(orderV2, sr.TypeAvro)
	})
	w.publish(pack(t,
		order(t, id, orderV1, map[string]any{"id": "a", "amount": nil}),
		order(t, id+1, orderV2, map[string]any{"id": "b", "amount": nil, "coupon": "x"}),
		order(t, id, orderV1, map[string]any{"id": "c", "amount": nil})))
	if n := <-landed; n != 2 {
		t.Errorf("%d rows while the schema was not there", n)
	}
	if rows, letters := w.count("SELECT COUNT(*) FROM orders"), w.letters(); rows != 3 || len(letters) > 0 {
		t.Errorf("%d rows, letters %+v", rows, letters)
	}
	if lines := w.log.pushes(t); lines[len(lines)-1]["landed"] != 3.0 {
		t.Errorf("the line says %v", lines[len(lines)-1])
	}
	begin := time.Now()
	w.publish(pack(t, framed(77, 1)))
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("the event was rejected after %v", took)
	}
	asked := w.asked.Load()
	w.publish(pack(t, framed(77, 1), framed(77, 1)))
	if letters := w.letters(); len(letters) != 3 || letters[0].Code != "unknown_schema" ||
		!strings.Contains(letters[0].Error, "names the schema 77") {
		t.Errorf("letters %+v", letters)
	}
	if n := w.asked.Load(); n != asked {
		t.Errorf("the registry was asked %d times again", n-asked)
	}
}

// Protects from standing still for values that only look as if they had a prefix: every one names another id.
func TestManyUnknownSchemas(t *testing.T) {
	t.Parallel()
	w := startWritten(t, "avro", options{config: func(c *service.Config) { c.Schemas.Keep = 20; c.Schemas.Wait = 200 * time.Millisecond }})
	id := w.register(orderV1, sr.TypeAvro)
	var values []string
	for i := range 300 {
		values = append(values, framed(1000+i, 1))
	}
	values = append(values, order(t, id, orderV1, map[string]any{"id": "a", "amount": nil}))
	w.publish(pack(t, values...))
	if rows, letters := w.count("SELECT COUNT(*) FROM orders"), w.count("SELECT COUNT(*) FROM events_dlq WHERE error_code = 'unknown_schema'"); rows != 1 || letters != 300 {
		t.Errorf("%d rows, %d letters", rows, letters)
	}
}

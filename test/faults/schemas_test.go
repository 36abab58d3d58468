package faults

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"sluice/bridge"
	"sluice/functions/schemas"
	"sluice/functions/service"
	"sluice/internal/contract"
	"sluice/internal/generate"
	"sluice/internal/local/registry"
	"sluice/internal/schema"
	"sluice/scripts/pipeline"
)

// The versions of the schema of events in Avro: the second adds a field, the third makes a text a number.
const (
	clickV1 = `{"type":"record","name":"Click","fields":[{"name":"event_id","type":"string"},{"name":"event_type","type":"string"},
		{"name":"event_timestamp","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"user_id","type":"string"},
		{"name":"page_url","type":["null","string"],"default":null},{"name":"product_id","type":["null","string"],"default":null}]}`
	clickV2ID, clickV3ID = 1002, 1003
)

var (
	clickV2 = strings.Replace(clickV1, `{"name":"page_url"`,
		`{"name":"campaign","type":["null","string"],"default":null},{"name":"page_url"`, 1)
	clickV3 = strings.Replace(clickV1, `{"name":"user_id","type":"string"}`, `{"name":"user_id","type":"long"}`, 1)
)

// inAvro has a contract for the generator's events in Avro, with a registry that knows the first version of their
// schema.
func inAvro(c *pipeline.Config) {
	text, err := os.ReadFile(filepath.Join("..", "..", "internal", "contract", "presets", "clickstream.yaml"))
	if err != nil {
		panic(err)
	}
	text = append(text, "\nformat: avro\nregistry: {url: https://registry.example.com, subject: clicks-value, version: 1}\nschema: click.avsc\n"...)
	read, err := contract.ReadIn(contract.Folder{"click.avsc": clickV1}, "clickstream.yaml", text)
	if err != nil {
		panic(err)
	}
	c.Contracts = []*contract.Contract{read}
	c.TuneBridge = func(b *bridge.Config) { smallBatches(b) }
	c.TuneFunctions = func(s *service.Config) {
		s.Schemas = schemas.Config{Wait: time.Minute, Poll: 50 * time.Millisecond, BreakerOpen: 100 * time.Millisecond}
	}
}

// writeAvro has producers write with a version of the schema from now on. code is what becomes of events that are good;
// empty: they land.
func (w *world) writeAvro(id int, text, code string) {
	program, err := schema.Avro(text)
	w.must(err)
	encode := func(e generate.Event) ([]byte, string) {
		var event map[string]any
		if e.Code != "" || json.Unmarshal(e.Value, &event) != nil {
			return e.Value, "undecodable_value" // no prefix, or a tombstone
		}
		written := map[string]any{}
		for _, name := range []string{"event_id", "event_type", "event_timestamp", "user_id", "page_url",
			"product_id"} {
			written[name] = event[name]
		}
		if id == clickV3ID {
			written["user_id"] = len(e.Value)
		}
		value, err := json.Marshal(written)
		if err == nil {
			value, err = program.Write(value)
		}
		if err != nil {
			panic(err)
		}
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), value...), code
	}
	w.encode.Store(&encode)
}

// firstVersion is what producers begin with.
func firstVersion(w *world) {
	w.writeAvro(registry.ID(w.Contracts()[0]), clickV1, "")
}

// newVersion registers a version.
func (w *world) newVersion(version, id int, text string) {
	w.Registry.SeedSchema("clicks-value", version, id, sr.Schema{Schema: text})
}

// ofSchemas are the faults of schemas and their registry.
var ofSchemas = []fault{
	{
		name: "producers switch to new versions of a schema, one of which breaks the contract", duplicates: none,
		delay: "none; events of the version that breaks it are dead letters that name both versions",
		stack: inAvro, before: firstVersion,
		strike: func(w *world) {
			w.newVersion(2, clickV2ID, clickV2)
			w.newVersion(3, clickV3ID, clickV3)
			w.writeAvro(clickV2ID, clickV2, "")
			w.flow(500)
			w.writeAvro(clickV3ID, clickV3, "wrong_type")
			w.produce(500)
			w.writeAvro(registry.ID(w.Contracts()[0]), clickV1, "")
			w.flow(200)
			w.writeAvro(clickV2ID, clickV2, "")
			w.until("the version that breaks the contract is dead-lettered", func() bool {
				return w.one("SELECT COUNT(*) FROM events_dlq WHERE error LIKE '%clicks-value version 3 (id 1003), and the contract with clicks-value version 1%'") > 0
			})
		},
	},
	{
		name: "the schema registry fails when a new version comes", duplicates: none,
		delay: "batches with events of that version, until it answers, then seconds; nothing is dead-lettered",
		stack: inAvro, before: firstVersion,
		strike: func(w *world) {
			w.newVersion(2, clickV2ID, clickV2)
			var down atomic.Bool
			var met atomic.Int64
			down.Store(true)
			w.Registry.Intercept(func(answer http.ResponseWriter, _ *http.Request) bool {
				if down.Load() {
					met.Add(1)
					answer.WriteHeader(http.StatusServiceUnavailable)
				}
				return down.Load()
			})
			w.writeAvro(clickV2ID, clickV2, "")
			w.produce(1500)
			w.until("the fault is met", func() bool { return met.Load() > 5 })
			down.Store(false)
		},
	},
	{
		name: "a new version of a schema arrives at the registry after its events", duplicates: none,
		delay: "its events, until it is there, 3 s at most; after that `unknown_schema`. Neighbours land",
		stack: inAvro, before: firstVersion,
		strike: func(w *world) {
			w.writeAvro(clickV2ID, clickV2, "")
			w.produce(300)
			w.writeAvro(registry.ID(w.Contracts()[0]), clickV1, "")
			w.produce(300)
			w.newVersion(2, clickV2ID, clickV2) // within the time that is waited for it, which is longer here
		},
	},
}

func init() { matrix = append(matrix, ofSchemas...) }

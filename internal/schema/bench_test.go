package schema

import (
	"testing"
	"time"

	"github.com/twmb/avro"
)

// clickSchema is the shape of a clickstream event, as teams write it in Avro.
const clickSchema = `{"type":"record","name":"Click","namespace":"shop","fields":[
	{"name":"event_id","type":{"type":"string","logicalType":"uuid"}},
	{"name":"event_type","type":{"type":"enum","name":"Type","symbols":["page_view","add_to_cart","purchase","search"]}},
	{"name":"event_timestamp","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"user_id","type":["null","string"],"default":null},
	{"name":"session_id","type":"string"},
	{"name":"page_url","type":["null","string"],"default":null},
	{"name":"referrer","type":["null","string"],"default":null},
	{"name":"user_agent","type":["null","string"],"default":null},
	{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}],"default":null},
	{"name":"quantity","type":["null","int"],"default":null},
	{"name":"viewport","type":{"type":"record","name":"Viewport","fields":[{"name":"width","type":"int"},{"name":"height","type":"int"}]}},
	{"name":"tags","type":{"type":"array","items":"string"}},
	{"name":"custom","type":{"type":"map","values":"string"}},
	{"name":"score","type":"double"}
]}`

func click(tb testing.TB, s *avro.Schema) []byte {
	tb.Helper()
	value, err := s.Encode(map[string]any{
		"event_id": "8f14e45f-ceea-467f-a0e6-0f8d3b1c2a90", "event_type": "purchase",
		"event_timestamp": time.Date(2026, 11, 28, 12, 30, 1, 123456000, time.UTC),
		"user_id":         "user-1234567", "session_id": "s-9f8e7d6c5b4a", "page_url": "https://shop.example/products/1234?color=blue&size=42",
		"referrer": "https://search.example/?q=blue+shoes", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
		"price": "129.90", "quantity": 2, "viewport": map[string]any{"width": 1920, "height": 1080},
		"tags": []string{"sale", "autumn"}, "custom": map[string]string{"experiment": "B", "campaign": "november"}, "score": 0.8125,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

// BenchmarkAvro compares reading an event as JSON with what the library makes of it: generic values.
func BenchmarkAvro(b *testing.B) {
	s, err := avro.Parse(clickSchema)
	if err != nil {
		b.Fatal(err)
	}
	value := click(b, s)
	b.Run("json", func(b *testing.B) {
		p, err := Avro(clickSchema)
		if err != nil {
			b.Fatal(err)
		}
		var r Reader
		var out []byte
		b.SetBytes(int64(len(value)))
		b.ReportAllocs()
		for b.Loop() {
			if out, err = r.AppendJSON(out[:0], p, value, Limits{Bytes: 1 << 20, Depth: 100}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(out)), "json_bytes")
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(value)))
		b.ReportAllocs()
		for b.Loop() {
			var v any
			if _, err := s.Decode(value, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

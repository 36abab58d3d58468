package event

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/twmb/avro"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/contract"
)

// BenchmarkWrittenVsLibrary times events in Avro and in Protobuf, from the value to the row, in interleaved rounds
// against what the library makes of the same value, which is no row yet: generic values.
//
//	avro_vs_library       against github.com/twmb/avro into any
//	protobuf_vs_library   against google.golang.org/protobuf into dynamicpb
//	written_allocs_per_event
func BenchmarkWrittenVsLibrary(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	avroContract, protoContract := readContract(b, "clicks_avro.yaml"), readContract(b, "clicks_protobuf.yaml")
	library, err := avro.Parse(avroContract.Schema.Files[avroContract.Schema.Name])
	if err != nil {
		b.Fatal(err)
	}
	descriptor := messageDescriptor(b, "testdata/written", "click.proto")
	var avroValues, protoValues [][]byte
	for i := range chunkSize {
		avroValues = append(avroValues, clickAvro(b, library, i))
		protoValues = append(protoValues, clickProto(b, descriptor, i))
	}
	row := make([]byte, 0, 8192)
	decode := func(c *contract.Contract) func(value []byte) error {
		d, err := New(c, Fast, time.Now)
		if err != nil {
			b.Fatal(err)
		}
		return func(value []byte) error { _, err := d.AppendRow(row, value, meta); return err }
	}
	variants := []struct {
		values [][]byte
		do     func(value []byte) error
	}{
		{avroValues, decode(avroContract)},
		{avroValues, func(value []byte) error {
			var v any
			_, err := library.Decode(value, &v)
			return err
		}},
		{protoValues, decode(protoContract)},
		{protoValues, func(value []byte) error { return proto.Unmarshal(value, dynamicpb.NewMessage(descriptor)) }},
	}
	var vsAvro, vsProto, avroNs, protoNs []float64
	for b.Loop() {
		vsAvro, vsProto, avroNs, protoNs = nil, nil, nil, nil
		for round := range rounds {
			var ns [4]float64
			for i := range variants {
				v := (i + round) % len(variants) // each comes first as often
				start := time.Now()
				for _, value := range variants[v].values {
					if err := variants[v].do(value); err != nil {
						b.Fatal(err)
					}
				}
				ns[v] = float64(time.Since(start)) / chunkSize
			}
			vsAvro, vsProto = append(vsAvro, ns[0]/ns[1]), append(vsProto, ns[2]/ns[3])
			avroNs, protoNs = append(avroNs, ns[0]), append(protoNs, ns[2])
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(vsAvro), "avro_vs_library")
	b.ReportMetric(median(vsProto), "protobuf_vs_library")
	b.ReportMetric(median(avroNs), "avro_ns_per_event")
	b.ReportMetric(median(protoNs), "protobuf_ns_per_event")
	b.ReportMetric(testing.AllocsPerRun(1, func() {
		for i, value := range avroValues {
			if variants[0].do(value) != nil || variants[2].do(protoValues[i]) != nil {
				b.Fatal("cannot decode")
			}
		}
	})/chunkSize/2, "written_allocs_per_event")
}

func readContract(tb testing.TB, name string) *contract.Contract {
	tb.Helper()
	c, err := contract.ReadFile("testdata/written/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// clickAvro is an event of click.avsc, one of many.
func clickAvro(tb testing.TB, s *avro.Schema, i int) []byte {
	tb.Helper()
	value, err := s.Encode(click(i))
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

// click is an event as the library of Avro takes it.
func click(i int) map[string]any {
	types := []string{"page_view", "add_to_cart", "purchase", "search"}
	event := map[string]any{
		"event_id": "8f14e45f-ceea-467f-a0e6-0f8d3b1c2a90", "event_type": types[i%len(types)],
		"event_timestamp": time.Date(2026, 11, 28, 12, 30, i%60, 123456000, time.UTC),
		"user_id":         "user-1234567", "session_id": "s-9f8e7d6c5b4a", "page_url": "https://shop.example/products/1234?color=blue&size=42",
		"referrer": nil, "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
		"price": nil, "quantity": nil, "viewport": map[string]any{"width": 1920, "height": 1080},
		"tags": []string{"sale", "autumn"}, "custom": map[string]string{"experiment": "B",
			"campaign": "november"}, "score": 0.8125,
	}
	if i%2 == 0 {
		event["referrer"], event["price"], event["quantity"] = "https://search.example/?q=blue+shoes", "129.90", i%5
	}
	return event
}

// messageDescriptor is the only message of a schema's file, as the library has it.
func messageDescriptor(tb testing.TB, folder, file string) protoreflect.MessageDescriptor {
	tb.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{folder}})}
	files, err := c.Compile(tb.Context(), file)
	if err != nil {
		tb.Fatal(err)
	}
	return files[0].Messages().Get(0)
}

// clickProto is the same event in Protobuf.
func clickProto(tb testing.TB, d protoreflect.MessageDescriptor, i int) []byte {
	tb.Helper()
	object := click(i)
	for name, v := range object {
		if v == nil {
			delete(object, name)
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		tb.Fatal(err)
	}
	m := dynamicpb.NewMessage(d)
	if err := protojson.Unmarshal(text, m); err != nil {
		tb.Fatal(err)
	}
	value, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

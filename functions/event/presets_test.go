package event

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/contract"
)

// samples returns the events that come with a preset, in the shapes of its specification.
func samples(tb testing.TB, preset string) [][]byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("../../internal/contract/presets/samples", preset+".ndjson"))
	if err != nil {
		tb.Fatal(err)
	}
	var events [][]byte
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		events = append(events, bytes.Clone(s.Bytes()))
	}
	return events
}

// then is a time at which the samples are of these days.
func then() time.Time { return time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC) }

// Protects the presets: what the specifications allow lands, by both decoders alike, anonymous
// events too, and the columns that every user looks at first have their values.
func TestPresets(t *testing.T) {
	for preset, want := range map[string][]map[string]any{
		"segment": {
			{"message_id": "ajs-f8ca1e4de5024d9430b3928bd8ac6b96", "event": "Course Clicked", "user_id": "AiUGstSDIg", "page_url": "https://shop.example/academy/", "timestamp": time.Date(2026, 11, 12, 19, 11, 1, 249e6, time.UTC).UnixMicro()},
			{"user_id": "97980", "order_id": "50314b8e9bcf000000000000", "campaign_source": "Newsletter", "properties": `{"coupon":"hasbros","products":[{"url":"https://shop.example/product/path"}]}`, "other": `{"version":1.1}`},
			{"type": "page", "name": "Home", "anonymous_id": "507f191e810c19729de860ea", "page_path": "/"},
			{"traits": `{"name":"Peter","email":"user@example.com","plan":"premium","logins":5}`, "user_id": "97980cfea0067"},
			{"group_id": "0e8c78ea9d97a7b8185e8632"},
			{"previous_id": "507f191e810c19729de860ea", "timestamp": time.Date(2026, 11, 15, 0, 30, 11, 0, time.UTC).UnixMicro()},
			{"name": "Feed", "anonymous_id": "device-7", "properties": `{"Feed Type":"private"}`},
		},
		"rudderstack": {
			{"session_id": "1685697527906", "product_id": "9578257311", "rudder_id": "35ad9c43-3b9b-4b6d-8d5a-2f1c5d0f8e11", "ip": "192.0.2.77"},
			{"anonymous_id": "c82cbdff", "timestamp": time.Date(2026, 11, 9, 10, 2, 0, 0, time.UTC).UnixMicro()},
			{"order_id": "1234", "user_id": "u-1"},
			{"type": "identify"},
		},
		"snowplow": {
			{"event_name": "page_view", "domain_sessionidx": int64(3), "geo_latitude": 37.443604},
			{"user_id": "jon.doe@example.com"},
			{"event_name": "struct", "se_value": 23.4},
			{"tr_orderid": "order-123"},
		},
		"ga4": {
			{"session_id": int64(1795169470), "page_location": "https://shop.example/", "event_timestamp": int64(1795169472345678), "event_date": int32(20777), "device_browser": "Chrome", "engagement_time_msec": int64(100)},
			{"transaction_id": "T-1", "purchase_revenue": 19.99},
			{"event_name": "session_start", "event_bundle_sequence_id": int64(-9)},
		},
		"posthog": {
			{"current_url": "https://shop.example/", "browser_version": "122", "properties": `{"distinct_id":"018daf23-anon","$set":{"email":"user@example.com"},"utm_source":"newsletter"}`},
			{"distinct_id": "u-1", "person_id": "018daf23-person"},
			{"timestamp": time.Date(2026, 11, 20, 10, 12, 13, 345e6, time.UTC).UnixMicro()},
		},
		"matomo": {
			{"site_id": int64(1), "visitor_id": "1b1c2d3e4f5a6b7c", "action_name": "Help / Feedback"},
			{"event_category": "Buy", "event_value": 2.0, "requested_at": time.Date(2026, 11, 22, 2, 32, 22, 867e6, time.UTC).UnixMicro()},
			{"goal_id": int64(0), "order_items": `[["SKU1","Shirt",["Clothes"],19.99,1]]`, "requested_at": int64(1795300000e6)},
			{"search_count": int64(12)},
		},
	} {
		c, err := contract.Preset(preset)
		if err != nil {
			t.Fatal(err)
		}
		r := newReader(t, c.Table)
		fast, err := New(c, Fast, then)
		if err != nil {
			t.Fatal(err)
		}
		strict, _ := New(c, Strict, then)
		events := samples(t, preset)
		if len(events) != len(want) {
			t.Errorf("%s has %d samples, %d are looked at", preset, len(events), len(want))
			continue
		}
		for i, value := range events {
			row, err := fast.AppendRow(nil, value, Meta{Offset: -1})
			slow, slowErr := strict.AppendRow(nil, value, Meta{Offset: -1})
			if err != nil || slowErr != nil {
				t.Errorf("%s, sample %d: %v; strict: %v", preset, i+1, err, slowErr)
				continue
			}
			if normal(t, r, row) != normal(t, r, slow) {
				t.Errorf("%s, sample %d: the decoders differ", preset, i+1)
			}
			got := r.read(t, row)
			for column, v := range want[i] {
				if got[column] != v {
					t.Errorf("%s, sample %d, %s: %v (%[4]T), want %v (%[5]T)", preset, i+1, column, got[column], v)
				}
			}
			m := dynamicpb.NewMessage(r.descriptor)
			if err := proto.Unmarshal(row, m); err != nil || proto.CheckInitialized(m) != nil {
				t.Errorf("%s, sample %d: the row lacks a required column", preset, i+1)
			}
		}
	}
}

// segmentEvents makes events like those that Segment's libraries send: the calls, members and
// styles of three libraries, in a mixture.
func segmentEvents(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	events := make([][]byte, n)
	for i := range events {
		at := then().Add(-time.Duration(r.IntN(1e9)) * time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00")
		page := map[string]any{"path": one("/", "/cart", "/p/1", "/search"), "title": one("Shop", "Cart", "Product"),
			"url":      "https://shop.example" + one("/", "/cart", "/p/1?utm=x"),
			"referrer": one("", "https://search.example/"), "search": ""}
		user := any(nil)
		if r.IntN(3) > 0 {
			user = fmt.Sprintf("user-%d", r.IntN(5000))
		}
		context := map[string]any{"library": map[string]any{"name": "analytics.js", "version": "2.11.1"}, "page": page,
			"userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "ip": fmt.Sprintf("192.0.2.%d", r.IntN(255)), "locale": one("en-US", "de-CH", "nl-NL")}
		if r.IntN(4) == 0 {
			context["campaign"] = map[string]any{"source": "newsletter", "medium": "email", "name": "spring"}
		}
		properties := map[string]any{"variant": one("a", "b"), "position": r.IntN(20)}
		e := []any{"anonymousId", fmt.Sprintf("%08x-1234-4abc-9def-%012x", r.Uint32(), r.Uint32()), "context", context}
		switch r.IntN(4) {
		case 0:
			e = append(e, "type", "page", "name", one("Home", "Cart"))
		case 1:
			var products []any
			for range 1 + r.IntN(4) {
				products = append(products, map[string]any{"product_id": fmt.Sprint(r.IntN(1e6)),
					"sku": fmt.Sprintf("%d-32", r.IntN(1e5)), "name": "Monopoly", "price": r.IntN(100), "quantity": 1 +
						r.IntN(3), "category": "Games"})
			}
			properties["order_id"], properties["revenue"], properties["currency"], properties["products"] = fmt.Sprint(r.IntN(1e9)), float64(r.IntN(10000))/100, "USD", products
			e = append(e, "type", "track", "event", "Order Completed")
		default:
			properties["product_id"], properties["price"] = fmt.Sprint(r.IntN(1e6)), r.IntN(100)
			e = append(e, "type", "track", "event", one("Product Viewed", "Product Added", "Products Searched"))
		}
		e = append(e, "integrations", map[string]any{}, "messageId", fmt.Sprintf("ajs-%016x", r.Uint64()), "properties",
			properties, "receivedAt", at, "sentAt", at, "timestamp", at, "userId", user)
		var b bytes.Buffer
		for k := 0; k < len(e); k += 2 {
			b.WriteByte(map[bool]byte{true: '{', false: ','}[k == 0])
			v, err := json.Marshal(e[k+1])
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(&b, "%q:%s", e[k], v)
		}
		events[i] = append(b.Bytes(), "}      "...)[:b.Len()+1] // room behind, as in a batch
	}
	return events
}

// BenchmarkSegmentVs times the Segment preset, with its nested, repeated and first-of columns,
// against the check that the text is valid JSON, in interleaved rounds over the same events:
//
//	segment_vs_strict
//	segment_allocs_per_event
func BenchmarkSegmentVs(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c, err := contract.Preset("segment")
	if err != nil {
		b.Fatal(err)
	}
	d, err := New(c, Fast, then)
	if err != nil {
		b.Fatal(err)
	}
	events := segmentEvents(corpusSize)
	var text []byte // one behind the other, as in a decompressed batch
	for _, value := range events {
		text = append(text, value...)
	}
	for i, value := range events {
		events[i], text = text[:len(value):len(value)], text[len(value):]
	}
	row := make([]byte, 0, 1<<16)
	at := Meta{IngestedAt: then().UnixMicro(), Topic: "segment", Offset: 1}
	decode := func(events [][]byte) float64 {
		start := time.Now()
		for _, value := range events {
			if _, err := d.AppendRow(row, value, at); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(start))
	}
	valid := func(events [][]byte) float64 {
		start := time.Now()
		for _, value := range events {
			if !jsontext.Value(value).IsValid() {
				b.Fatal("invalid")
			}
		}
		return float64(time.Since(start))
	}
	decode(events) // warms up
	var ratios []float64
	for b.Loop() {
		ratios = nil
		for round := range rounds / 2 {
			from := 2 * round * chunkSize % corpusSize
			one, other := events[from:][:chunkSize], events[from+chunkSize:][:chunkSize]
			took, check := decode(one), valid(one) // who comes first has to fetch the events from memory
			check += valid(other)
			took += decode(other)
			ratios = append(ratios, took/check)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios), "segment_vs_strict")
	b.ReportMetric(testing.AllocsPerRun(1, func() { decode(events) })/corpusSize, "segment_allocs_per_event")
}

// Package generate makes realistic clickstream events, deterministic by seed:
// four producers with their own JSON styles, skewed users and products, unicode,
// escapes and nested extras, and on request a share of broken and of duplicated
// events.
//
//	g := generate.New(generate.Config{Seed: 1, Bad: 1, Duplicate: 0.5, Now: time.Now})
//	e := g.Next()       // valid until the next Next
//	e.Key, e.Value      // the Kafka record
//	e.Code              // the rejection that the event must meet; empty: it must land
//
// The same Config gives the same events, but for their event_timestamp, which
// follows Now.
package generate

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// Config says what to generate.
type Config struct {
	Seed      uint64
	Bad       float64          // percent of events that must be rejected
	Duplicate float64          // percent of events that repeat an earlier one, byte for byte
	Now       func() time.Time // event times lie in the seconds before it; nil: time.Now
}

// Event is one Kafka record to be.
type Event struct {
	Key   []byte // the user
	Value []byte // the event, JSON unless it is a bad one
	// Code is the rejection that the event must meet; empty: it must land.
	Code string
	// Duplicate reports that the event repeats an earlier one.
	Duplicate bool
}

// Generator makes events. It is not safe for concurrent use.
type Generator struct {
	config Config
	rand   *rand.Rand
	object object
	value  []byte
	key    []byte
	recent [][]byte // what duplicates are drawn from
	keys   [][]byte
	count  int
}

// New returns a generator at its first event.
func New(c Config) *Generator {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Generator{config: c, rand: rand.New(rand.NewPCG(c.Seed, 0x510ce))}
}

// Next returns the next event. Its slices are valid until the next call.
func (g *Generator) Next() Event {
	g.count++
	if g.chance(g.config.Duplicate) && len(g.recent) > 0 {
		i := g.rand.IntN(len(g.recent))
		return Event{Key: g.keys[i], Value: g.recent[i], Duplicate: true}
	}
	if g.chance(g.config.Bad) {
		code := g.bad()
		return Event{Key: g.key, Value: g.value, Code: code}
	}
	g.good()
	if g.config.Duplicate > 0 {
		g.remember()
	}
	return Event{Key: g.key, Value: g.value}
}

// remember keeps the current event as one that may be repeated later.
func (g *Generator) remember() {
	const most = 256
	if len(g.recent) < most {
		g.recent = append(g.recent, append([]byte(nil), g.value...))
		g.keys = append(g.keys, append([]byte(nil), g.key...))
		return
	}
	i := g.count % most
	g.recent[i] = append(g.recent[i][:0], g.value...)
	g.keys[i] = append(g.keys[i][:0], g.key...)
}

func (g *Generator) chance(percent float64) bool {
	return percent > 0 && g.rand.Float64()*100 < percent
}

// skewed draws from [0, n), low numbers far more often: cubic skew.
func (g *Generator) skewed(n int) int {
	f := g.rand.Float64()
	return int(f * f * f * float64(n))
}

func pick[T any](g *Generator, of []T) T { return of[g.rand.IntN(len(of))] }

// good writes a good event into g.value and its user into g.key.
func (g *Generator) good() {
	producer := g.producer()
	g.members(producer)
	if g.chance(5) {
		m := g.object.members
		g.rand.Shuffle(len(m), func(i, j int) { m[i], m[j] = m[j], m[i] })
	}
	g.value = g.object.appendTo(g.value[:0])
}

// producer draws who sends the event.
func (g *Generator) producer() *style {
	switch p := g.rand.IntN(100); {
	case p < 60:
		return &styles[web]
	case p < 85:
		return &styles[mobile]
	case p < 97:
		return &styles[python]
	default:
		return &styles[php]
	}
}

// members fills g.object with the members of a good event in the producer's order.
func (g *Generator) members(s *style) {
	o := &g.object
	o.reset(s)
	user := g.skewed(2000)
	g.key = strconv.AppendInt(append(g.key[:0], "user-"...), int64(user), 10)
	at := g.config.Now().Add(-time.Duration(g.rand.IntN(3000)) * time.Millisecond)
	kind := g.kind()

	switch s.order {
	case 0:
		o.raw("event_id", g.uuid)
		o.string("event_type", kind)
		o.time("event_timestamp", at)
		o.string("user_id", string(g.key))
	case 1:
		o.time("event_timestamp", at)
		o.string("user_id", string(g.key))
		o.string("event_type", kind)
		o.raw("event_id", g.uuid)
	default:
		o.string("event_type", kind)
		o.raw("event_id", g.uuid)
		o.string("user_id", string(g.key))
		o.time("event_timestamp", at)
	}

	product := fmt.Sprintf("sku-%05d", g.skewed(500))
	switch kind {
	case "page_view":
		if g.chance(45) {
			o.string("page_url", "https://shop.example/p/"+product+"?ref="+pick(g, referrers))
			o.string("product_id", product)
		} else {
			o.string("page_url", "https://shop.example/"+pick(g, pages))
			if g.chance(20) {
				o.null("product_id")
			}
		}
	case "search":
		o.string("page_url", "https://shop.example/search")
		o.string("query", pick(g, searches))
		o.int("results", int64(g.skewed(400)))
	case "add_to_cart":
		o.string("page_url", "https://shop.example/p/"+product)
		o.string("product_id", product)
		o.int("quantity", int64(1+g.skewed(5)))
	case "purchase":
		o.string("product_id", product)
		o.string("order_id", fmt.Sprintf("o-%08d", g.rand.IntN(1e8)))
		o.number("amount", fmt.Sprintf("%d.%02d", 5+g.skewed(300), g.rand.IntN(100)))
		o.string("currency", pick(g, currencies))
	}

	o.string("session_id", fmt.Sprintf("s-%d-%04x", user, g.rand.IntN(4)))
	o.string("user_agent", pick(g, agents))
	if g.chance(60) {
		o.nest("device", func() {
			o.string("type", pick(g, devices))
			o.nest("viewport", func() {
				o.int("w", int64(320+16*g.rand.IntN(100)))
				o.int("h", int64(480+16*g.rand.IntN(60)))
			})
			o.bool("touch", g.chance(50))
		})
	}
	if g.chance(25) {
		o.nest("utm", func() {
			o.string("source", pick(g, referrers))
			o.string("campaign", pick(g, campaigns))
		})
	}
	if g.chance(30) {
		o.string("referrer", "https://www."+pick(g, referrers)+".example/")
	}
	if g.chance(15) {
		o.list("experiments", func() {
			for range 1 + g.rand.IntN(3) {
				o.item(fmt.Sprintf("exp-%02d:%c", g.rand.IntN(20), 'a'+rune(g.rand.IntN(3))))
			}
		})
	}
	if g.chance(20) {
		o.nest("geo", func() {
			o.string("country", pick(g, countries))
			o.number("lat", strconv.FormatFloat(float64(g.rand.IntN(18000))/100-90, 'g', -1, 64))
			o.number("lon", strconv.FormatFloat(float64(g.rand.IntN(36000))/100-180, 'e', 3, 64))
		})
	}
}

func (g *Generator) kind() string {
	switch p := g.rand.IntN(10); {
	case p < 6:
		return "page_view"
	case p < 8:
		return "search"
	case p < 9:
		return "add_to_cart"
	default:
		return "purchase"
	}
}

// uuid appends a quoted version 4 UUID.
func (g *Generator) uuid(dst []byte) []byte {
	const hex = "0123456789abcdef"
	hi, lo := g.rand.Uint64(), g.rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(0xc<<60) | 0x8<<60
	dst = append(dst, '"')
	for i := range 32 {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			dst = append(dst, '-')
		}
		word := hi
		if i >= 16 {
			word = lo
		}
		dst = append(dst, hex[word>>(60-4*(i%16))&0xf])
	}
	return append(dst, '"')
}

var (
	pages      = []string{"", "sale", "new", "help/returns", "account/orders", "brands/wörk", "blog/2026/why-we-bake"}
	referrers  = []string{"google", "bing", "newsletter", "instagram", "duckduckgo", "partner"}
	campaigns  = []string{"autumn-26", "black friday", "retarget/cart", "ブランド", "été"}
	currencies = []string{"EUR", "USD", "GBP", "JPY"}
	devices    = []string{"desktop", "phone", "tablet"}
	countries  = []string{"DE", "US", "FR", "JP", "BR", "UA", "IN"}
	searches   = []string{
		"running shoes", "grüne Jacke größe 42", "ランニングシューズ", "кроссовки", "🎁 gift ideas", `27" monitor`,
		"c:\\temp", "two\nlines", "naïve café", "size 38/40", "100% wool", "<b>bold</b> & co", "tab\there", "",
	}
	agents = []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15",
		"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
		"Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 Chrome/141.0.0.0 Mobile Safari/537.36",
		"shop-app/7.4.1 (android; 16)",
		"shop-app/7.4.0 (ios; 19.0)",
	}
)

package livepage

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

// Protects the page of contracts of one's own: its lists, stories, examples and statements are of their tables and
// topics, and several streams stand side by side.
func TestOwnContracts(t *testing.T) {
	segment, err := contract.Preset("segment")
	if err != nil {
		t.Fatal(err)
	}
	_, err = contract.Read("orders.yaml", []byte("contract: 1\ntopics: [orders, it's]\ntable: {name: orders}\ncolumns:\n- {name: number, type: INT64, mode: REQUIRED}\n"+
		"- {name: note, type: STRING}\nrest: drop\n"))
	if err == nil {
		t.Fatal("a topic with a quote is taken: the story's statement has it")
	}
	orders, err := contract.Read("orders.yaml", []byte("contract: 1\ntopics: orders\ntable: {name: orders}\ncolumns:\n- {name: number, type: INT64, mode: REQUIRED}\n"+
		"- {name: note, type: STRING}\nrest: drop\n"))
	if err != nil {
		t.Fatal(err)
	}
	observer := NewObserver(slog.DiscardHandler)
	s, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{Log: slog.New(observer.LogHandler()),
		Around:    observer.Around,
		Contracts: []*contract.Contract{segment, orders}, Topic: "segment"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	producer, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	const event = `{"messageId":"m1","timestamp":"2026-11-28T00:00:00Z","type":"track","event":"Signed Up","userId":"u"}`
	page, err := New(Config{Stack: s, Producer: producer, Observer: observer, Example: []byte(event),
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := Listen("127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	page.Serve(listener)
	t.Cleanup(func() { page.Close(context.Background()) }) // behind the browser, which would complain
	url := "http://" + listener.Addr().String()

	var examples []Example
	if status := call(t, "GET", url+"/api/examples", "", &examples); status != http.StatusOK || len(examples) != 2 ||
		examples[0].Event != event {
		t.Fatalf("examples %d %+v", status, examples)
	}
	var at Coordinates
	if status := call(t, "POST", url+"/api/events", event, &at); status != http.StatusOK || at.Topic != "segment" {
		t.Fatalf("published %d %+v", status, at)
	}
	story := await(t, url, at)
	if story.Outcome != "landed" || story.Table != segment.Table.Name {
		t.Errorf("the story is %+v", story)
	}
	other, err := local.NewProducer(s.Kafka.Brokers(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, value := range []string{`{"number":7,"note":"fragile"}`, `{"number":"seven"}`} {
		if _, err := other.ProduceAcked(t.Context(), nil, []byte(value), nil); err != nil {
			t.Fatal(err)
		}
	}
	f := newFeed(s, page.streams)
	var events []Event
	var rejected []Rejected
	for end := time.Now().Add(time.Minute); len(events) < 2 || len(rejected) < 1; time.Sleep(100 * time.Millisecond) {
		if events, rejected, err = f.latest(t.Context()); err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %+v, %v", events, rejected, err)
		}
	}
	for _, e := range events {
		switch e.Topic {
		case "segment":
			if e.ID != "m1" || e.Type != "track" || !strings.Contains(e.About, "Signed Up") {
				t.Errorf("%+v", e)
			}
		case "orders": // without an id, told by its coordinates
			if e.Type != "orders" || !strings.Contains(e.ID, "/") || e.About != "fragile" {
				t.Errorf("%+v", e)
			}
		}
	}
	if story := await(t, url, rejected[0].Coordinates); rejected[0].Topic != "orders" || story.Outcome != "rejected" ||
		story.Table != "orders" {
		t.Errorf("%+v, its story %+v", rejected[0], story)
	}
	var refusal struct{ Error string }
	if status := call(t, "GET", url+"/api/record?topic=nobody%27s&partition=0&offset=0", "",
		&refusal); status != http.StatusNotFound {
		t.Errorf("a topic that there is not: %d", status)
	}
	for _, q := range page.offers {
		var answer Answer
		if status := call(t, "POST", url+"/api/sql", q.SQL, &answer); status != http.StatusOK {
			t.Errorf("%s: %d", q.SQL, status)
		}
	}
	if len(page.offers) < 5 {
		t.Errorf("%d statements are offered", len(page.offers))
	}
	var verdict Verdict
	// commits take a second
	for end := time.Now().Add(time.Minute); verdict.Consumed < 3; time.Sleep(200 * time.Millisecond) {
		if status := call(t, "POST", url+"/api/audit", "", &verdict); status != http.StatusOK || verdict.Missing != 0 ||
			time.Now().After(end) {
			t.Fatalf("audit: %d %+v", status, verdict)
		}
	}
	ctx := browser(t)
	do(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url))
	until(t, ctx, "an event of one's own in the form", `document.querySelector('#event').value.includes('Signed Up')`)
	do(t, ctx, chromedp.Click(chromedp.CSS("#publish button[type=submit]")))
	until(t, ctx, "its landing", `document.querySelector('#mine li')?.dataset.outcome == 'landed'`)
	until(t, ctx, "events of both streams", `/Signed Up/.test(document.querySelector('#events').textContent) && /fragile/.test(document.querySelector('#events').textContent)`)
	response, err := http.Get(url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text := new(strings.Builder)
	if _, err := io.Copy(text, response.Body); err != nil || strings.Contains(text.String(),
		"{{") || !strings.Contains(text.String(), "table segment_events, orders") {
		t.Errorf("the page names other tables: %v", err)
	}
}

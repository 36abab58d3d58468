package livepage

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"sluice/internal/generate"
	"sluice/internal/local"
	"sluice/scripts/pipeline"
)

var screenshots = flag.String("screenshots", "", "write screenshots of the live page into this folder")

// startPipeline is the page of a stack with steady traffic, 1 % of it bad.
func startPipeline(t *testing.T) (url string) {
	t.Helper()
	_, url = withStack(t, "127.0.0.1:0")
	return url
}

// withStack is the page, at that address, and its stack.
func withStack(t *testing.T, addr string) (_ *local.Stack, url string) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	observer := NewObserver(log.Handler())
	s, err := pipeline.Start(t.Context(), pipeline.Config{Config: local.Config{
		Log: slog.New(observer.LogHandler()), Around: observer.Around,
	}})
	if err != nil {
		t.Fatal(err)
	}
	producer, err := s.NewProducer()
	if err != nil {
		t.Fatal(err)
	}
	page, err := New(Config{Stack: s, Producer: producer, Observer: observer, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := Listen(addr, true)
	if err != nil {
		t.Fatal(err)
	}
	page.Serve(listener)

	flowing, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- traffic(flowing, producer) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := page.Close(ctx); err != nil {
			t.Error(err)
		}
		producer.Close()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + listener.Addr().String()
}

// traffic produces until ctx ends.
func traffic(ctx context.Context, p *local.Producer) error {
	g := generate.New(generate.Config{Seed: 7, Bad: 1})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for range 10 {
			e := g.Next()
			if err := p.Produce(context.Background(), e.Key, e.Value, nil); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return p.Flush(context.Background())
		case <-tick.C:
		}
	}
}

// browser starts Chromium. What its console complains about fails the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("the live page is tested in Chromium: apt-get install chromium, or let ./scripts/test do it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	// The browser lives as long as the context of its first action.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	listening, stop := context.WithCancel(ctx)
	messages, ended := chromedp.Console(listening), make(chan struct{})
	go func() {
		defer close(ended)
		for m, err := range messages {
			if err != nil {
				return
			}
			// A statement with a mistake is answered 400, which browsers write down.
			if strings.HasSuffix(m.URL, "/api/sql") && strings.Contains(m.Text, "400") {
				continue
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException ||
				m.Type == chromedp.ConsoleWarning {
				t.Errorf("the browser's console: %s: %s (%s)", m.Type, m.Text, m.URL)
			}
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	return ctx
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// until waits for a JavaScript expression to be true.
func until(t *testing.T, ctx context.Context, what, expression string) {
	t.Helper()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(100*time.Millisecond),
		chromedp.WithPollingTimeout(3*time.Minute)))
	if err != nil {
		text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("waiting for this: %s: %v\nthe page says:\n%s", what, err, text)
	}
}

func eval[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// publish fills the form with the example that meets code ("": the good one) and sends it.
func publish(t *testing.T, ctx context.Context, code string) {
	t.Helper()
	until(t, ctx, "examples to choose from", `document.querySelectorAll('#example option').length > 10`)
	match := fmt.Sprintf(`o => o.text.endsWith('(%s)')`, code)
	if code == "" {
		match = `o => o.text == 'a good event'`
	}
	before := eval[string](t, ctx, `document.querySelector('#event').value`)
	eval[bool](t, ctx, fmt.Sprintf(`(() => {
		const select = document.querySelector('#example'), o = [...select.options].find(%s);
		select.value = o.value;
		select.dispatchEvent(new Event('change'));
		return true;
	})()`, match))
	until(t, ctx, "the example in the form", fmt.Sprintf(`document.querySelector('#event').value != %q`, before))
	do(t, ctx, chromedp.Click(chromedp.CSS("#publish button[type=submit]")))
}

// The page in a real browser, from loading it to recovering from an outage: the
// promises that it makes to who watches.
func TestPageInChromium(t *testing.T) {
	url := startPipeline(t)
	ctx := browser(t)
	do(t, ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(url))

	// Numbers arrive and move.
	until(t, ctx, "all parts well", `document.querySelectorAll('.part[data-state=good]').length == 8`)
	rows := `parseInt(document.querySelector('#total-rows').textContent.replaceAll(',', ''))`
	first := eval[float64](t, ctx, rows)
	until(t, ctx, "more rows", fmt.Sprintf(`%s > %f`, rows, first))
	until(t, ctx, "charts", `document.querySelectorAll('.chart canvas').length == 5`)
	until(t, ctx, "the latest events", `document.querySelectorAll('#events tr').length == 12`)

	// A good event of one's own lands, and tells how long it took.
	publish(t, ctx, "")
	until(t, ctx, "the event to land", `document.querySelector('#mine li')?.dataset.outcome == 'landed' && / after you pressed Publish/.test(document.querySelector('#mine li').textContent)`)
	do(t, ctx, chromedp.Click(chromedp.CSS("#mine button")))
	until(t, ctx, "its story", `document.querySelector('#story').open && /You pressed Publish[^]*Kafka acknowledged[^]*Pub.Sub pushed[^]*BigQuery acknowledged/.test(document.querySelector('#story').innerText)`)
	do(t, ctx, chromedp.KeyEvent("\x1b"))
	until(t, ctx, "the story to close by Escape", `!document.querySelector('#story').open`)

	// A bad one is rejected with its reason.
	publish(t, ctx, "invalid_event_type")
	until(t, ctx, "the event to be rejected", `document.querySelector('#mine li')?.dataset.outcome == 'rejected' && /invalid_event_type at event_type/.test(document.querySelector('#mine li').textContent)`)

	// BigQuery down: that part turns red, and only Pub/Sub fills up; then the backlog drains.
	do(t, ctx, chromedp.Click(chromedp.CSS("#switch-warehouse-down")))
	until(t, ctx, "a red BigQuery", `document.querySelector('#part-warehouse').dataset.state == 'bad' && document.querySelector('#switch-warehouse-down').getAttribute('aria-checked') == 'true'`)
	until(t, ctx, "the overall state", `/Trouble: BigQuery/.test(document.querySelector('#overall').textContent)`)
	backlog := `parseInt(document.querySelector('#part-pubsub dd').textContent)`
	until(t, ctx, "a backlog", backlog+` > 20`)
	capture(t, ctx, "bigquery-down")
	do(t, ctx, chromedp.Click(chromedp.CSS("#switch-warehouse-down")))
	until(t, ctx, "the backlog to drain", backlog+` < 10 && document.querySelectorAll('.part[data-state=good]').length == 8`)

	// Rows that BigQuery refused land by a replay once it takes them, and nothing is missing.
	do(t, ctx, chromedp.Click(chromedp.CSS("#switch-warehouse-rejects")))
	until(t, ctx, "rows that BigQuery refuses", `/row_rejected/.test(document.querySelector('#rejected').textContent)`)
	do(t, ctx, chromedp.Click(chromedp.CSS("#switch-warehouse-rejects")))
	until(t, ctx, "an end of the refusals", `document.querySelector('#switch-warehouse-rejects').getAttribute('aria-checked') == 'false'`)
	do(t, ctx, chromedp.Focus(chromedp.CSS("#code")))
	until(t, ctx, "letters to replay", `[...document.querySelectorAll('#code option')].some(o => o.value == 'row_rejected')`)
	eval[bool](t, ctx, `(() => { const s = document.querySelector('#code'); s.value = 'row_rejected'; s.dispatchEvent(new Event('change')); return true })()`)
	do(t, ctx, chromedp.Click(chromedp.CSS("#replay button[type=submit]")))
	until(t, ctx, "the replayed rows to land", `/^Replay .*: ([1-9][0-9]*) sent, \1 landed, 0 rejected/.test(document.querySelector('#replayed').textContent)`)
	do(t, ctx, chromedp.Click(chromedp.CSS("#audit")))
	until(t, ctx, "the audit", `/^Nothing is missing/.test(document.querySelector('#verdict').textContent)`)

	// SQL answers, and only reads.
	ask := func(statement string) {
		eval[bool](t, ctx, fmt.Sprintf(`(() => { document.querySelector('#statement').value = %q; document.querySelector('#sql').requestSubmit(); return true })()`, statement))
	}
	ask("SELECT 40 + 2 AS answer")
	until(t, ctx, "an answer", `document.querySelector('#answer td')?.textContent == '42'`)
	ask("DROP TABLE fact_events")
	until(t, ctx, "a refusal", `/write one SELECT/i.test(document.querySelector('#sql-says').textContent)`)

	// Nothing hangs over at any width, in either theme.
	for _, theme := range []string{"light", "dark"} {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme",
			Value: theme}}}
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int64{390, 768, 1280} {
			do(t, ctx, chromedp.EmulateViewport(width, 900))
			until(t, ctx, "the theme "+theme, fmt.Sprintf(`document.documentElement.dataset.theme == %q`, theme))
			// The charts take their new width with the next frame.
			until(t, ctx, fmt.Sprintf("nothing that hangs over at %d pixels", width),
				`document.documentElement.scrollWidth <= innerWidth`)
			capture(t, ctx, fmt.Sprintf("%s-%d", theme, width))
		}
	}
}

// Who uses no mouse gets everywhere: every control can be reached, and has a name.
func TestEveryControlHasAName(t *testing.T) {
	url := startPipeline(t)
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(url))
	until(t, ctx, "the switches", `document.querySelectorAll('[role=switch]').length > 5`)
	nameless := eval[[]string](t, ctx, `[...document.querySelectorAll('button, select, textarea, input, [tabindex="0"]')]
		.filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length))
		.map(e => e.outerHTML)`)
	if len(nameless) > 0 {
		t.Errorf("no name: %s", strings.Join(nameless, "\n"))
	}
	// A switch works by its keyboard, too, and keeps the focus when it has worked.
	do(t, ctx, chromedp.Focus(chromedp.CSS("#switch-publish-refused")), chromedp.KeyEvent(" "))
	until(t, ctx, "a refusing Pub/Sub", `document.querySelector('#part-pubsub').dataset.state == 'bad'`)
	until(t, ctx, "the switch to be done", `!document.querySelector('#switch-publish-refused').hasAttribute('aria-busy')`)
	do(t, ctx, chromedp.KeyEvent("\r"))
	until(t, ctx, "recovery", `document.querySelectorAll('.part[data-state=good]').length == 8`)
}

// On an address that others can reach the page shows everything, says why it changes
// nothing, and offers no control that would be refused.
func TestReadOnlyPage(t *testing.T) {
	_, url := withStack(t, "0.0.0.0:0")
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(strings.Replace(url, "[::]", "127.0.0.1", 1)))
	until(t, ctx, "all parts well", `document.querySelectorAll('.part[data-state=good]').length == 8`)
	until(t, ctx, "the reason", `/Others can reach this page/.test(document.querySelector('#read-only').innerText)`)
	until(t, ctx, "locked controls", `document.querySelectorAll('[role=switch]').length > 5 && document.querySelectorAll('[role=switch]:not(:disabled), #publish button:not(:disabled), #replay [type=submit]:not(:disabled)').length == 0`)
	do(t, ctx, chromedp.Click(chromedp.CSS("#audit")))
	until(t, ctx, "the audit", `/^Nothing is missing/.test(document.querySelector('#verdict').textContent) && !document.querySelector('#audit').disabled`)
}

// capture writes a screenshot of the whole page, if -screenshots asks for it.
func capture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if *screenshots == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

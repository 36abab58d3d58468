// Package livepage shows a running pipeline in a browser: where the records are,
// how fast and how well they arrive, each record's story, and what happens when a
// part breaks.
//
//	observer := livepage.NewObserver(log.Handler())
//	s, err := local.Start(ctx, local.Config{Log: slog.New(observer.LogHandler()), Around: observer.Around, …})
//	page, err := livepage.New(livepage.Config{Stack: s, Producer: producer, Observer: observer, Log: log})
//	listener, err := livepage.Listen(livepage.DefaultAddr, false)
//	page.Serve(listener)
//	…
//	page.Close(ctx)   // mends what its switches broke, then ends; before s.Stop
//
// What it knows, it knows from the places that operators look at in production:
// the bridge's numbers, the functions' log lines, Pub/Sub's counters, and SQL. The
// page itself is static files in assets, one stream of server-sent events, and a
// few requests; it needs no other server, the internet included.
//
// Everything that changes something (publishing, switches, replay) is refused
// unless the listener is on loopback.
package livepage

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sluice/internal/contract"
	"sluice/internal/local"
)

// DefaultAddr is where the page is unless somebody says otherwise.
const DefaultAddr = "127.0.0.1:8080"

//go:embed assets
var assets embed.FS

// Config is what the page shows. All fields but Example are needed.
type Config struct {
	Stack    *local.Stack
	Producer *local.Producer // of the stack's topic
	Observer *Observer       // that the stack was started with
	Example  []byte          // an event to begin with, where the contract is the user's
	Host     string          // host:port that was asked to be listened on
	Log      *slog.Logger
}

// Page is a live page.
type Page struct {
	stack    *local.Stack
	producer *local.Producer
	observer *Observer
	log      *slog.Logger

	server   *http.Server
	sampler  *sampler
	host     string
	switches *switches
	examples *examples
	streams  []listed
	offers   []Query // statements to begin with
	sent     *sent
	queries  chan struct{} // tokens: as many statements run at a time

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// New returns a page of a running stack; Serve shows it.
func New(c Config) (*Page, error) {
	p := &Page{
		stack: c.Stack, host: c.Host, producer: c.Producer, observer: c.Observer, log: c.Log,
		switches: newSwitches(c.Stack), sent: newSent(),
		queries: make(chan struct{}, 4),
	}
	contracts := c.Stack.Contracts()
	if len(contracts) == 0 {
		preset, err := contract.Preset("clickstream")
		if err != nil {
			return nil, err
		}
		contracts = []*contract.Contract{preset}
	}
	p.streams, p.offers = newStreams(contracts), queries
	if builtIn(contracts) {
		p.examples = newExamples()
	} else {
		p.examples, p.offers = ownExamples(c.Example), ownQueries(p.streams)
	}
	// Statements from the page read tables, not this machine's files.
	if _, err := p.stack.Warehouse.DB().Exec("SET enable_external_access = false"); err != nil {
		return nil, fmt.Errorf("live page: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.sampler = newSampler(p)
	p.ended.Go(func() { p.sampler.run(p.ctx) })
	return p, nil
}

// Serve begins to serve the page on l, until Close.
func (p *Page) Serve(l net.Listener) {
	p.server = &http.Server{
		Handler:           p.handler(l.Addr()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return p.ctx },
	}
	p.ended.Go(func() {
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("the live page has ended", "error", err.Error())
		}
	})
}

// handler returns the page's handler for a listener on addr.
func (p *Page) handler(addr net.Addr) http.Handler {
	g := newGuard(addr, p.host)
	mux := http.NewServeMux()
	static, err := fs.Sub(assets, "assets")
	if err != nil { // the name is a constant
		panic(err)
	}
	mux.Handle("GET /", http.FileServerFS(static))
	mux.HandleFunc("GET /{$}", p.index)
	mux.HandleFunc("GET /api/stream", p.stream(g))
	mux.HandleFunc("GET /api/record", p.record)
	mux.HandleFunc("GET /api/examples", p.example)
	mux.HandleFunc("POST /api/sql", p.limited(func(w http.ResponseWriter, r *http.Request) { p.sql(g, w, r) }))
	mux.HandleFunc("POST /api/audit", p.limited(p.audit))
	mux.HandleFunc("POST /api/replay/plan", g.mutating(p.limited(p.plan)))
	mux.HandleFunc("POST /api/replay", g.mutating(p.replay))
	mux.HandleFunc("POST /api/events", g.mutating(p.publish))
	mux.HandleFunc("POST /api/switches/{id}", g.mutating(p.flip))
	return g.wrap(mux)
}

// index is GET /: the page with the names of this pipeline's tables and topics.
func (p *Page) index(w http.ResponseWriter, _ *http.Request) {
	text, err := assets.ReadFile("assets/index.html")
	if err != nil { // the name is a constant
		panic(err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, strings.NewReplacer("{{tables}}", html.EscapeString(p.tables()), "{{topics}}",
		html.EscapeString(strings.Join(p.topics(), ", ")),
		"{{views}}", html.EscapeString(p.views())).Replace(string(text)))
}

// limited lets a few requests at a time read the tables; the others wait.
func (p *Page) limited(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case p.queries <- struct{}{}:
			defer func() { <-p.queries }()
			next(w, r)
		case <-r.Context().Done():
		}
	}
}

// Close mends what the switches broke and ends the page.
func (p *Page) Close(ctx context.Context) error {
	p.cancel() // ends the streams, which would keep Shutdown waiting
	var err error
	if p.server != nil {
		err = p.server.Shutdown(ctx)
	}
	p.ended.Wait()
	return errors.Join(err, p.switches.mend(ctx))
}

// Listen listens on addr, host:port. If the port is taken, explicit says whether
// that is an error; otherwise another free port is chosen.
func Listen(addr string, explicit bool) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	if explicit {
		return nil, fmt.Errorf("--listen %s: %w: give another host:port, or --listen off", addr, err)
	}
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return nil, err
	}
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

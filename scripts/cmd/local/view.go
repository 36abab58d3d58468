package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"sluice/internal/local"
	"sluice/internal/local/livepage"
	"sluice/scripts/pipeline"
)

// view is the live page of a run; a nil view is none.
type view struct {
	listener net.Listener
	observer *livepage.Observer
	log      *slog.Logger
	host     string
	chosen   bool // somebody asked for this address
	page     *livepage.Page
	example  []byte // an event to begin with
}

// openView takes the page's port before anything is started, and puts the page's
// observer into the stack's configuration.
func openView(f runFlags, c *pipeline.Config) (*view, error) {
	if f.listen == "" || f.listen == "off" {
		return nil, nil
	}
	listener, err := livepage.Listen(f.listen, f.listenSet)
	if err != nil {
		return nil, err
	}
	v := &view{listener: listener, observer: livepage.NewObserver(c.Log.Handler()), log: c.Log, chosen: f.listenSet,
		host: f.listen}
	c.Log, c.Around = slog.New(v.observer.LogHandler()), v.observer.Around
	return v, nil
}

// show serves the page and says where.
func (v *view) show(s *local.Stack, p *local.Producer, progress *progress) error {
	if v == nil {
		return nil
	}
	page, err := livepage.New(livepage.Config{Stack: s, Producer: p, Observer: v.observer, Example: v.example,
		Host: v.host, Log: v.log})
	if err != nil {
		return err
	}
	v.page = page
	page.Serve(v.listener)
	address, note := v.listener.Addr().String(), ""
	if tcp, ok := v.listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		note = "  (others can reach it, so that it only shows)"
		if tcp.IP.IsUnspecified() {
			address = fmt.Sprintf("localhost:%d", tcp.Port)
		}
	}
	if !v.chosen && v.listener.Addr().String() != livepage.DefaultAddr {
		note = "  (the default port is taken; --listen chooses one)"
	}
	fmt.Fprintf(progress, "live page: http://%s%s\n", address, note)
	return nil
}

// close mends what the page's switches broke, and ends it.
func (v *view) close() error {
	if v == nil || v.page == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	page := v.page
	v.page = nil
	return page.Close(ctx)
}

// release gives the port back.
func (v *view) release() {
	if v != nil {
		v.listener.Close()
	}
}

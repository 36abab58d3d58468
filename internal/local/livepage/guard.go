package livepage

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
)

// guard keeps other web sites away from a page on this machine, and everybody from
// changing anything through a page that others can reach.
type guard struct {
	loopback bool
	names    []string // of this machine, besides localhost, if others can reach the page
	origin   *http.CrossOriginProtection
}

// newGuard makes that of a page on addr; host is what was asked to be listened on, a name perhaps.
func newGuard(addr net.Addr, host string) *guard {
	tcp, ok := addr.(*net.TCPAddr)
	g := &guard{loopback: ok && tcp.IP.IsLoopback(), origin: http.NewCrossOriginProtection()}
	if name, err := os.Hostname(); err == nil {
		g.names = append(g.names, name)
	}
	if name, _, err := net.SplitHostPort(host); err == nil && name != "" {
		g.names = append(g.names, name)
	}
	return g
}

// readOnly is why nothing can be changed, or empty.
func (g *guard) readOnly() string {
	if g.loopback {
		return ""
	}
	return "Others can reach this page, so it only shows: publishing, switches, replays and statements of your own " +
		"work where ./scripts/run listens on 127.0.0.1."
}

// wrap checks every request.
func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A site whose name is made to resolve to this machine has its own name in Host.
		if why := g.foreign(r.Host); why != "" {
			refuse(w, http.StatusForbidden, why)
			return
		}
		if err := g.origin.Check(r); err != nil {
			refuse(w, http.StatusForbidden, "Another site sent this request: use the page itself.")
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// mutating refuses requests that change something where the page is read-only.
func (g *guard) mutating(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if why := g.readOnly(); why != "" {
			refuse(w, http.StatusForbidden, why)
			return
		}
		next(w, r)
	}
}

// foreign is why a request with that Host header is not answered, or empty. Where others can reach the
// page, addresses are as good as names of this machine: nobody makes them resolve.
func (g *guard) foreign(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	ip := net.ParseIP(host)
	named := func(name string) bool { return strings.EqualFold(host, name) }
	switch {
	case strings.EqualFold(host, "localhost"), ip != nil && (ip.IsLoopback() || !g.loopback):
		return ""
	case g.loopback:
		return "This page answers only to localhost, 127.0.0.1 and [::1]: the request names another host."
	case !slices.ContainsFunc(g.names, named):
		return "This page answers to addresses, to this machine's name and to the one of --listen: the request names another host."
	}
	return ""
}

// refuse answers {"error": …} with a sentence to show.
func refuse(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": sentence})
}

// reply answers v as JSON.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has left needs no answer
}

package livepage

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
)

// guard keeps other web sites away from a page on this machine, and everybody from
// changing anything through a page that others can reach.
type guard struct {
	loopback bool
	origin   *http.CrossOriginProtection
}

func newGuard(addr net.Addr) *guard {
	tcp, ok := addr.(*net.TCPAddr)
	return &guard{loopback: ok && tcp.IP.IsLoopback(), origin: http.NewCrossOriginProtection()}
}

// readOnly is why nothing can be changed, or empty.
func (g *guard) readOnly() string {
	if g.loopback {
		return ""
	}
	return "Others can reach this page, so it only shows: publishing and switches work where ./scripts/run listens on 127.0.0.1."
}

// wrap checks every request.
func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A site whose name is made to resolve to 127.0.0.1 has its own name in Host.
		if g.loopback && !loopbackHost(r.Host) {
			refuse(w, http.StatusForbidden, "This page answers only to localhost, 127.0.0.1 and [::1]: the request names another host.")
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

// loopbackHost reports whether a Host header names this machine for itself.
func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
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

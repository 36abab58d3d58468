package livepage

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A page on this machine can break things and shows events: no other web site may
// use it through the browser of who has it open, and a page that others can reach
// changes nothing.
func TestGuard(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	public := &net.TCPAddr{IP: net.IPv4zero, Port: 8080}
	for _, c := range []struct {
		name    string
		addr    net.Addr
		method  string
		host    string
		headers map[string]string
		want    int
	}{
		{"the page reads", loopback, "GET", "127.0.0.1:8080", nil, 200},
		{"by the name localhost", loopback, "GET", "localhost:8080", nil, 200},
		{"by IPv6", loopback, "GET", "[::1]:8080", nil, 200},
		{"through a forwarded port", loopback, "GET", "localhost:9999", nil, 200},
		{"by a name that was made to resolve here", loopback, "GET", "evil.example:8080", nil, 403},
		{"by a name that begins like ours", loopback, "GET", "localhost.evil.example", nil, 403},
		{"without a host", loopback, "GET", "", nil, 403},
		{"the page changes something", loopback, "POST", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"}, 200},
		{"curl changes something", loopback, "POST", "127.0.0.1:8080", nil, 200},
		{"another site's form", loopback, "POST", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, 403},
		{"another port's page", loopback, "POST", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, 403},
		{"an old browser's cross-origin form", loopback, "POST", "127.0.0.1:8080", map[string]string{"Origin": "http://evil.example"}, 403},
		{"others may look", public, "GET", "demo.example:8080", nil, 200},
		{"by an address", public, "GET", "192.0.2.1:8080", nil, 200},
		{"by a name that was made to resolve here too", public, "GET", "evil.example:8080", nil, 403},
		{"by a name that begins like this one", public, "GET", "demo.example.evil.example:8080", nil, 403},
		{"others may change nothing", public, "POST", "demo.example:8080", nil, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuard(c.addr, "demo.example:8080")
			ok := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
			mux := http.NewServeMux()
			mux.HandleFunc("GET /", ok)
			mux.HandleFunc("POST /", g.mutating(ok))
			r := httptest.NewRequest(c.method, "/", nil)
			r.Host = c.host
			for name, value := range c.headers {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			g.wrap(mux).ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%d %s, want %d", w.Code, strings.TrimSpace(w.Body.String()), c.want)
			}
		})
	}
}

// A taken port is an error for who chose it, and no reason not to start for who did not.
func TestListenOnATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if l, err := Listen(taken.Addr().String(), true); err == nil {
		l.Close()
		t.Error("an explicit address that is taken was taken for another")
	} else if !strings.Contains(err.Error(), "--listen "+taken.Addr().String()) {
		t.Errorf("the error does not name the flag and the address: %v", err)
	}
	l, err := Listen(taken.Addr().String(), false)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

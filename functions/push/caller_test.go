package push_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/functions/push"
)

// keyServer is Google's list of public keys, with keys of our own. It answers
// whatever URL the token library asks for.
type keyServer struct {
	keys    map[string]*rsa.PrivateKey
	fetched atomic.Int32
	down    atomic.Bool
	instead atomic.Pointer[struct {
		status int
		body   string
	}] // what is answered instead of keys
	url *url.URL
}

func startKeys(t *testing.T) *keyServer {
	t.Helper()
	k := &keyServer{keys: make(map[string]*rsa.PrivateKey)}
	for _, id := range []string{"key-1", "key-2"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		k.keys[id] = key
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		k.fetched.Add(1)
		if other := k.instead.Load(); other != nil {
			w.Header().Set("Cache-Control", "public, max-age=3600")
			w.WriteHeader(other.status)
			io.WriteString(w, other.body)
			return
		}
		var list struct{ Keys []map[string]string }
		for id, key := range k.keys {
			list.Keys = append(list.Keys, map[string]string{"kid": id, "kty": "RSA", "alg": "RS256", "use": "sig",
				"n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())})
		}
		w.Header().Set("Cache-Control", "public, max-age=3600")
		json.NewEncoder(w).Encode(map[string]any{"keys": list.Keys})
	}))
	t.Cleanup(s.Close)
	k.url, _ = url.Parse(s.URL)
	return k
}

// RoundTrip sends every request to the key server.
func (k *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.down.Load() {
		return nil, http.ErrServerClosed
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = k.url.Scheme, k.url.Host
	return http.DefaultTransport.RoundTrip(r)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a token of the claims.
func (k *keyServer) sign(header map[string]any, claims map[string]any, key *rsa.PrivateKey) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	content := encode(h) + "." + encode(c)
	sum := sha256.Sum256([]byte(content))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return content + "." + encode(signature)
}

const (
	audience = "https://ingest.sluice.internal"
	email    = "push@p.iam.gserviceaccount.com"
)

// Protects the functions from every caller but Pub/Sub, and what the wrong ones
// learn: a status that says nothing about why.
func TestCaller(t *testing.T) {
	k := startKeys(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// token signs the claims of a right token with changes; nil removes a claim.
	token := func(changes map[string]any) string {
		now := time.Now()
		claims := map[string]any{"aud": audience, "iss": "https://accounts.google.com", "email": email,
			"email_verified": true,
			"sub":            "1", "azp": "1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		for name, value := range changes {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
		return k.sign(map[string]any{"alg": "RS256", "kid": "key-1", "typ": "JWT"}, claims, k.keys["key-1"])
	}
	parts := strings.Split(token(nil), ".")
	es256, _ := json.Marshal(map[string]any{"alg": "ES256", "kid": "key-1"})
	sum := sha256.Sum256([]byte(encode(es256) + "." + parts[1]))
	r, s, _ := ecdsa.Sign(rand.Reader, elliptical, sum[:])
	hour := int64(3600)
	now := time.Now().Unix()
	for _, test := range []struct {
		name   string
		header string
		status int
	}{
		{"right", "Bearer " + token(nil), 204},
		{"right, lower case scheme", "bearer " + token(nil), 204},
		{"right, the issuer's short name", "Bearer " + token(map[string]any{"iss": "accounts.google.com"}), 204},
		{"missing", "", 401},
		{"other scheme", "Basic " + token(nil), 401},
		{"empty", "Bearer ", 401},
		{"no token", "Bearer abc", 401},
		{"three dots", "Bearer ...", 401},
		{"huge", "Bearer " + strings.Repeat("a", 9000), 401},
		{"wrong audience", "Bearer " + token(map[string]any{"aud": "https://other.example"}), 401},
		{"no audience", "Bearer " + token(map[string]any{"aud": nil}), 401},
		{"wrong issuer", "Bearer " + token(map[string]any{"iss": "https://evil.example"}), 401},
		{"wrong email", "Bearer " + token(map[string]any{"email": "someone@p.iam.gserviceaccount.com"}), 403},
		{"no email", "Bearer " + token(map[string]any{"email": nil}), 403},
		{"unverified email", "Bearer " + token(map[string]any{"email_verified": false}), 403},
		{"email verified by a word", "Bearer " + token(map[string]any{"email_verified": "true"}), 403},
		{"no word of verification", "Bearer " + token(map[string]any{"email_verified": nil}), 403},
		{"expired", "Bearer " + token(map[string]any{"exp": now - 60, "iat": now - hour}), 401},
		{"no expiry", "Bearer " + token(map[string]any{"exp": nil}), 401},
		{"not yet valid", "Bearer " + token(map[string]any{"nbf": now + hour}), 401},
		{"issued in the future", "Bearer " + token(map[string]any{"iat": now + hour, "exp": now + 2*hour}), 401},
		{"wrong key", "Bearer " + k.sign(map[string]any{"alg": "RS256", "kid": "key-1"}, map[string]any{"aud": audience, "exp": now + hour}, other), 401},
		{"unknown key", "Bearer " + k.sign(map[string]any{"alg": "RS256", "kid": "key-3"}, map[string]any{"aud": audience, "exp": now + hour}, other), 401},
		{"the other key's signature", "Bearer " + k.sign(map[string]any{"alg": "RS256", "kid": "key-2"}, map[string]any{"aud": audience, "exp": now + hour}, k.keys["key-1"]), 401},
		{"changed claims", "Bearer " + parts[0] + "." + encode([]byte(`{"aud":"`+audience+`"}`)) + "." + parts[2], 401},
		{"no signature", "Bearer " + parts[0] + "." + parts[1] + ".", 401},
		{"alg none", "Bearer " + encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", 401},
		{"alg HS256", "Bearer " + encode([]byte(`{"alg":"HS256","kid":"key-1"}`)) + "." + parts[1] + "." + parts[2], 401},
		{"signature removed by Cloud Run", "Bearer " + parts[0] + "." + parts[1] + ".SIGNATURE_REMOVED_BY_GOOGLE", 401},
		{"alg ES256", "Bearer " + encode(es256) + "." + parts[1] + "." + encode(append(r.Bytes(), s.Bytes()...)), 401},
		{"alg ES256, short signature", "Bearer " + encode(es256) + "." + parts[1] + "." + encode([]byte("x")), 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body, line := call(t, k, test.header, false)
			if status != test.status {
				t.Fatalf("answered %d %q, want %d (%v)", status, body, test.status, line["error"])
			}
			if status == 204 {
				return
			}
			if want := http.StatusText(status) + "\n"; body != want {
				t.Errorf("the answer says %q, want %q", body, want)
			}
			if line["outcome"] != "denied" || line["error"] == nil {
				t.Errorf("line %v", line)
			}
			for _, secret := range []string{email, "evil", "someone", "other.example"} {
				if reason := line["error"].(string); strings.Contains(reason, secret) {
					t.Errorf("the log quotes a claim: %s", reason)
				}
			}
		})
	}
}

// Protects deployments with Cloud Run's IAM check, which takes the signatures away:
// the claims are checked all the same, and what has a signature is verified.
func TestCallerBehindCloudRun(t *testing.T) {
	k := startKeys(t)
	now := time.Now()
	claims := func(name string, value any) map[string]any {
		c := map[string]any{"aud": audience, "iss": "https://accounts.google.com", "email": email,
			"email_verified": true,
			"iat":            now.Unix(), "exp": now.Add(time.Hour).Unix()}
		if name != "" {
			c[name] = value
		}
		return c
	}
	header := map[string]any{"alg": "RS256", "kid": "key-1"}
	removed := func(name string, value any) string {
		token := k.sign(header, claims(name, value), k.keys["key-1"])
		return "Bearer " + token[:strings.LastIndex(token, ".")] + ".SIGNATURE_REMOVED_BY_GOOGLE"
	}
	for _, test := range []struct {
		name   string
		header string
		status int
	}{
		{"right", removed("", nil), 204},
		{"wrong audience", removed("aud", "x"), 401},
		{"wrong email", removed("email", "x"), 403},
		{"unverified email", removed("email_verified", false), 403},
		{"expired", removed("exp", now.Unix()-60), 401},
		{"wrong issuer", removed("iss", "x"), 401},
		{"not yet valid", removed("nbf", now.Unix()+3600), 401},
		{"no claims", "Bearer a.b.SIGNATURE_REMOVED_BY_GOOGLE", 401},
		{"with its signature", "Bearer " + k.sign(header, claims("", nil), k.keys["key-1"]), 204},
		{"with another's signature", "Bearer " + k.sign(header, claims("", nil), k.keys["key-2"]), 401},
		{"missing", "", 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			if status, _, line := call(t, k, test.header, true); status != test.status {
				t.Errorf("answered %d, want %d (%v)", status, test.status, line["error"])
			}
		})
	}
}

// call makes a push with that Authorization and returns the answer and the log line.
func call(t *testing.T, k *keyServer, authorization string, trust bool) (int, string, map[string]any) {
	t.Helper()
	c, err := push.NewCaller(t.Context(), push.CallerConfig{Audience: audience, Email: email, TrustCloudRun: trust,
		Client: &http.Client{Transport: k}})
	if err != nil {
		t.Fatal(err)
	}
	url, _, log := serve(t, push.Config{Caller: c}, func(context.Context, *push.Message) error { return nil })
	var header []string
	if authorization != "" {
		header = []string{"Authorization", authorization}
	}
	status, body := post(t, url, "data", header...)
	return status, body, log.push(t)
}

// Protects the pushes' speed and Google's patience: keys are fetched once, and an
// outage of the key server does not matter while they are fresh. Without any keys
// the answer is 503: nothing is wrong with the caller.
func TestKeysAreCached(t *testing.T) {
	k := startKeys(t)
	c, err := push.NewCaller(t.Context(), push.CallerConfig{Audience: audience, Email: email,
		Client: &http.Client{Transport: k}})
	if err != nil {
		t.Fatal(err)
	}
	url, _, _ := serve(t, push.Config{Caller: c}, func(context.Context, *push.Message) error { return nil })
	token := "Bearer " + k.sign(map[string]any{"alg": "RS256", "kid": "key-1"}, map[string]any{"aud": audience,
		"iss":   "https://accounts.google.com",
		"email": email, "email_verified": true, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}, k.keys["key-1"])
	k.down.Store(true)
	if status, _ := post(t, url, "data", "Authorization", token); status != 503 {
		t.Errorf("without keys: answered %d, want 503", status)
	}
	k.down.Store(false)
	awaitKeys(t, url, token)
	k.fetched.Store(1)
	for i := range 5 {
		if status, _ := post(t, url, "data", "Authorization", token); status != 204 {
			t.Errorf("answered %d", status)
		}
		k.down.Store(i > 1)
	}
	if n := k.fetched.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// awaitKeys waits until the keys are asked for again.
func awaitKeys(t *testing.T, url, token string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if status, _ := post(t, url, "data", "Authorization", token); status == 204 {
			return
		} else if status != 503 || time.Now().After(end) {
			t.Fatalf("with keys again: answered %d", status)
		}
	}
}

// Protects events from a key server that answers, but not with keys: that is no caller's fault, so 503 and never 401;
// it is not asked for every push, and what it answered is not kept.
func TestKeyServerThatAnswersAnythingElse(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"an error":           {500, "oops"},
		"a page":             {200, "<html>"},
		"no keys":            {200, `{"keys":[]}`},
		"another thing":      {200, `{"error":"x"}`},
		"an error with keys": {503, `{"keys":[{"kid":"key-1","kty":"RSA"}]}`},
		"no end":             {200, `{"keys":[{"kid":"` + strings.Repeat("x", 2<<20) + `"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startKeys(t)
			k.instead.Store(&answer)
			c, err := push.NewCaller(t.Context(), push.CallerConfig{Audience: audience, Email: email,
				Client: &http.Client{Transport: k}})
			if err != nil {
				t.Fatal(err)
			}
			url, _, _ := serve(t, push.Config{Caller: c}, func(context.Context, *push.Message) error { return nil })
			token := "Bearer " + k.sign(map[string]any{"alg": "RS256", "kid": "key-1"}, map[string]any{"aud": audience,
				"iss":   "https://accounts.google.com",
				"email": email, "email_verified": true, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}, k.keys["key-1"])
			for range 20 {
				if status, _ := post(t, url, "data", "Authorization", token); status != 503 {
					t.Errorf("answered %d, want 503", status)
				}
			}
			if n := k.fetched.Load(); n > 3 {
				t.Errorf("the key server was asked %d times for 20 pushes", n)
			}
			k.instead.Store(nil)
			awaitKeys(t, url, token)
		})
	}
}

// Protects operators from half a configuration.
func TestCallerNeedsBoth(t *testing.T) {
	for _, c := range []push.CallerConfig{{}, {Audience: audience}, {Email: email}} {
		if _, err := push.NewCaller(t.Context(), c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

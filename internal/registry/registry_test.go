package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"sluice/internal/contract"
	"sluice/internal/schema"
)

const record = `{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}`

// environment is a lookup of variables.
func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// Protects who may ask: each kind of authentication reaches a registry that wants it, as a value and from a file;
// without it, or with a wrong one, the error says what to check and does not show the secret.
func TestAuthentication(t *testing.T) {
	const basic, bearer = "Basic dXNlcjpodW50ZXIy", "Bearer hunter3" // user:hunter2
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		want  string // by the registry
		auth  contract.Auth
		env   []string
		fault string
	}{
		{"none", "", contract.AuthNone, nil, ""},
		{"none where some is wanted", basic, contract.AuthNone, nil, "answers 401 for schema 1: check the contract's auth and SCHEMA_REGISTRY_*"},
		{"basic", basic, contract.AuthBasic, []string{"SCHEMA_REGISTRY_USER", "user", "SCHEMA_REGISTRY_PASSWORD", "hunter2"}, ""},
		{"basic from a file", basic, contract.AuthBasic, []string{"SCHEMA_REGISTRY_USER", "user", "SCHEMA_REGISTRY_PASSWORD_FILE", file}, ""},
		{"basic, wrong", basic, contract.AuthBasic, []string{"SCHEMA_REGISTRY_USER", "user", "SCHEMA_REGISTRY_PASSWORD", "hunter4"}, "answers 403"},
		{"basic without a password", basic, contract.AuthBasic, []string{"SCHEMA_REGISTRY_USER", "user"}, "SCHEMA_REGISTRY_PASSWORD is not set, and the contract's registry needs it"},
		{"basic from an empty file", basic, contract.AuthBasic, []string{"SCHEMA_REGISTRY_USER", "user", "SCHEMA_REGISTRY_PASSWORD_FILE", empty}, "names an empty file"},
		{"basic from no file", basic, contract.AuthBasic, []string{"SCHEMA_REGISTRY_USER", "user", "SCHEMA_REGISTRY_PASSWORD_FILE", file + "x"}, "read SCHEMA_REGISTRY_PASSWORD_FILE"},
		{"bearer", bearer, contract.AuthBearer, []string{"SCHEMA_REGISTRY_TOKEN", "hunter3"}, ""},
		{"bearer without a token", bearer, contract.AuthBearer, nil, "SCHEMA_REGISTRY_TOKEN is not set"},
		{"mtls without a pair", "", contract.AuthMTLS, []string{"SCHEMA_REGISTRY_CERTIFICATE", "x", "SCHEMA_REGISTRY_KEY", "hunter2"}, "are no pair in PEM"},
		{"no authority", "", contract.AuthNone, []string{"SCHEMA_REGISTRY_CA", "x"}, "SCHEMA_REGISTRY_CA has no certificate in PEM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var options []srfake.Option
			if c.want != "" {
				options = append(options, srfake.WithAuth(c.want))
			}
			r := srfake.New(options...)
			defer r.Close()
			if _, _, err := r.RegisterSchema("s", sr.Schema{Schema: record}); err != nil {
				t.Fatal(err)
			}
			client, err := New(contract.Registry{URL: r.URL(), Auth: c.auth}, environment(c.env...))
			if err == nil {
				_, err = client.Schema(t.Context(), schema.ID{Number: 1})
			}
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("%v, want %q", err, c.fault)
			}
			if err != nil && strings.Contains(err.Error(), "hunter") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// Protects registries that know their callers by certificates, and have one of an authority of their own.
func TestMutualTLS(t *testing.T) {
	r := srfake.New()
	defer r.Close()
	if _, _, err := r.RegisterSchema("s", sr.Schema{Schema: record}); err != nil {
		t.Fatal(err)
	}
	authority, certificate, key := pair(t)
	server := httptest.NewUnstartedServer(r.Handler())
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(authority))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for _, c := range []struct {
		env  []string
		auth contract.Auth
		ok   bool
	}{
		{[]string{"SCHEMA_REGISTRY_CA", ca, "SCHEMA_REGISTRY_CERTIFICATE", certificate, "SCHEMA_REGISTRY_KEY", key}, contract.AuthMTLS, true},
		{[]string{"SCHEMA_REGISTRY_CERTIFICATE", certificate, "SCHEMA_REGISTRY_KEY", key}, contract.AuthMTLS, false},
		{[]string{"SCHEMA_REGISTRY_CA", ca}, contract.AuthNone, false},
	} {
		client, err := New(contract.Registry{URL: server.URL, Auth: c.auth}, environment(c.env...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Schema(t.Context(), schema.ID{Number: 1}); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.auth, err)
		}
	}
}

// pair makes a certificate that is its own authority.
func pair(t *testing.T) (authority, certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "functions"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return certificate, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

// Protects schemas that refer to others, through several steps, in both languages: the program has all it needs.
func TestReferences(t *testing.T) {
	r := srfake.New()
	defer r.Close()
	register := func(subject, text string, kind sr.SchemaType, references ...sr.SchemaReference) int {
		id, _, err := r.RegisterSchema(subject, sr.Schema{Schema: text, Type: kind, References: references})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	register("city", `{"type":"record","name":"City","namespace":"geo","fields":[{"name":"name","type":"string"}]}`,
		sr.TypeAvro)
	register("address", `{"type":"record","name":"Address","namespace":"geo","fields":[{"name":"city","type":"City"}]}`,
		sr.TypeAvro, sr.SchemaReference{Name: "geo.City", Subject: "city", Version: 1})
	avroID := register("order", `{"type":"record","name":"Order","fields":[{"name":"from","type":"geo.Address"},{"name":"to","type":"geo.City"}]}`, sr.TypeAvro,
		sr.SchemaReference{Name: "geo.Address", Subject: "address", Version: 1}, sr.SchemaReference{Name: "geo.City",
			Subject: "city", Version: 1})
	register("p-city", "syntax = \"proto3\";\npackage geo;\nmessage City { string name = 1; }", sr.TypeProtobuf)
	protoID := register("p-order", "syntax = \"proto3\";\nimport \"geo/city.proto\";\nmessage Order { geo.City to = 1; }", sr.TypeProtobuf,
		sr.SchemaReference{Name: "geo/city.proto", Subject: "p-city", Version: 1})
	client, err := New(contract.Registry{URL: r.URL() + "/"}, environment())
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int]struct{ value, json, name string }{
		avroID:  {"\x02a\x02b", `{"from":{"city":{"name":"a"}},"to":{"name":"b"}}`, fmt.Sprintf("order version 1 (id %d)", avroID)},
		protoID: {"\x0a\x03\x0a\x01a", `{"to":{"name":"a"}}`, fmt.Sprintf("p-order version 1 (id %d)", protoID)},
	} {
		s, err := client.Schema(t.Context(), schema.ID{Number: int64(id)})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Program([]int{0})
		if err != nil {
			t.Fatal(err)
		}
		var reader schema.Reader
		if got, err := reader.AppendJSON(nil, p, []byte(want.value), schema.Limits{Bytes: 1000,
			Depth: 10}); err != nil || string(got) != want.json {
			t.Errorf("%s, %v, want %s", got, err, want.json)
		}
		if s.String() != want.name {
			t.Errorf("its name is %q, want %q", s, want.name)
		}
	}
	if s, err := client.Latest(t.Context(), "order"); err != nil || s.Version != 1 || s.ID.Number != int64(avroID) ||
		len(s.References) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Protects from calling a schema unknown, and rejecting its events, for anything but the registry's own word.
func TestUnknown(t *testing.T) {
	var status int
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer server.Close()
	client, err := New(contract.Registry{URL: server.URL}, environment())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status  int
		body    string
		unknown bool
	}{
		{404, `{"error_code":40403,"message":"Schema 7 not found"}`, true},
		{404, `{"error":{"code":404,"message":"Schema not found","status":"NOT_FOUND"}}`, true},
		{404, `{"error_code":404,"message":"HTTP 404 Not Found"}`, false},
		{404, `404 page not found`, false},
		{404, ``, false},
		{200, ``, false},
		{200, `[]`, false},
		{401, `{"error_code":40403}`, false},
		{500, `{"error_code":50001,"message":"Error in the backend data store"}`, false},
		{503, ``, false},
		{302, ``, false},
		{200, `{"schema":"` + strings.Repeat("x", maxAnswer) + `"}`, false},
	} {
		status, body = c.status, c.body
		for _, id := range []schema.ID{{Number: 7}, {UUID: [16]byte{1}}} {
			_, err := client.Schema(t.Context(), id)
			if err == nil || errors.Is(err, ErrUnknown) != c.unknown {
				t.Errorf("%d %.60s: %v", c.status, c.body, err)
			}
		}
	}
	if _, err := client.Schema(t.Context(), schema.ID{Glue: true}); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// Protects the names of ids in headers, as serializers write them.
func TestHeaderIDs(t *testing.T) {
	guid := "\x01\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
	for value, want := range map[string]string{
		guid:                               "00112233-4455-6677-8899-aabbccddeeff",
		guid + "\x02\x04":                  "00112233-4455-6677-8899-aabbccddeeff [2]",
		"\x00\x00\x00\x00\x07":             "7",
		"\x00\x00\x00\x00\x07\x00":         "7 [0]",
		"\x00\x00\x00\x07":                 "7",
		"\x00\x00\x00\x00\x00\x00\x00\x07": "7",
		"12":                               "12",
		"":                                 "",
		"\x01":                             "",
		"0":                                "",
		"x":                                "",
		guid + "\x02":                      "",
	} {
		id, ok := schema.HeaderID([]byte(value))
		got := id.String()
		if id.Message != "" {
			got += fmt.Sprint(" ", id.Indexes())
		}
		if ok != (want != "") || ok && got != want {
			t.Errorf("%x: %s, %v, want %s", value, got, ok, want)
		}
	}
	if i := (schema.ID{}).Indexes(); !slices.Equal(i, []int{0}) {
		t.Error(i)
	}
}

// Package registry asks a schema registry for the schemas that events were written with: any that speaks Confluent's
// API, such as Confluent's, Redpanda's, Karapace, Apicurio's (under /apis/ccompat/v7) and Google's managed one.
//
//	client, err := registry.New(contract.Registry{URL: "https://registry.example.com", Auth: contract.AuthBasic}, os.LookupEnv)
//	s, err := client.Schema(ctx, id)     // or ErrUnknown: the registry answers that it does not know the id
//	latest, err := client.Latest(ctx, "orders-value")
//
// Credentials come from the environment, as values or, with _FILE behind the name, as paths of mounted files:
//
//	SCHEMA_REGISTRY_USER, SCHEMA_REGISTRY_PASSWORD    auth: basic
//	SCHEMA_REGISTRY_TOKEN                             auth: bearer
//	SCHEMA_REGISTRY_CERTIFICATE, SCHEMA_REGISTRY_KEY  auth: mtls, in PEM
//	SCHEMA_REGISTRY_CA                                in PEM: whom to trust instead of the system's authorities
//
// See https://docs.confluent.io/platform/current/schema-registry/develop/api.html.
package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/auth/credentials"
	"github.com/twmb/franz-go/pkg/sr"

	"sluice/internal/contract"
	"sluice/internal/dial"
	"sluice/internal/schema"
)

const (
	requestTimeout = 5 * time.Second
	maxAnswer      = 8 << 20 // bytes of one
	maxReferences  = 200     // schemas that one refers to, with those that they refer to
)

// ErrUnknown is the answer to an id that the registry does not know.
var ErrUnknown = errors.New("the schema registry does not know it")

// Client asks one registry. It is safe for concurrent use.
type Client struct {
	sr   *sr.Client
	host string
}

// Schema is a schema that a registry knows.
type Schema struct {
	Type       contract.Format // FormatAvro, FormatProtobuf or FormatJSONSchema
	Text       string
	References []Reference // behind those that they refer to themselves
	Subject    string      // under which it was registered, of several the first; empty: unknown
	Version    int         // of the subject
	ID         schema.ID
}

// Reference is a schema that another refers to.
type Reference struct {
	Name string // by which it is referred to: of Protobuf, the path of the import
	Text string
}

// String names the schema in messages.
func (s *Schema) String() string {
	if s.Subject == "" {
		return "schema " + s.ID.String()
	}
	return fmt.Sprintf("%s version %d (id %s)", s.Subject, s.Version, s.ID)
}

// Program compiles the schema; indexes lead to the message of a Protobuf schema.
func (s *Schema) Program(indexes []int) (*schema.Program, error) {
	byName := make(map[string]string, len(s.References))
	for _, r := range s.References {
		byName[r.Name] = r.Text
	}
	switch s.Type {
	case contract.FormatProtobuf:
		return schema.Protobuf(s.Text, byName, indexes)
	case contract.FormatJSONSchema:
		return schema.JSON(s.Text, byName)
	}
	var texts []string
	for _, r := range s.References {
		texts = append(texts, r.Text)
	}
	return schema.Avro(s.Text, texts...)
}

// New returns a Client. lookup finds variables of the environment: os.LookupEnv.
func New(r contract.Registry, lookup func(string) (string, bool)) (*Client, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, errors.New("the schema registry's address cannot be read")
	}
	transport := dial.HTTP()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca, err := variable(lookup, "SCHEMA_REGISTRY_CA", false); err != nil {
		return nil, err
	} else if ca != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("SCHEMA_REGISTRY_CA has no certificate in PEM: give that of the authority that the " +
				"registry's certificate comes from")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	options := []sr.ClientOpt{sr.URLs(r.URL), sr.UserAgent("sluice")}
	switch r.Auth {
	case contract.AuthBasic:
		user, err := variable(lookup, "SCHEMA_REGISTRY_USER", true)
		if err != nil {
			return nil, err
		}
		password, err := variable(lookup, "SCHEMA_REGISTRY_PASSWORD", true)
		if err != nil {
			return nil, err
		}
		options = append(options, sr.BasicAuth(user, password))
	case contract.AuthBearer:
		token, err := variable(lookup, "SCHEMA_REGISTRY_TOKEN", true)
		if err != nil {
			return nil, err
		}
		options = append(options, sr.BearerToken(token))
	case contract.AuthMTLS:
		certificate, err := variable(lookup, "SCHEMA_REGISTRY_CERTIFICATE", true)
		if err != nil {
			return nil, err
		}
		key, err := variable(lookup, "SCHEMA_REGISTRY_KEY", true)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			return nil, errors.New("SCHEMA_REGISTRY_CERTIFICATE and SCHEMA_REGISTRY_KEY are no pair in PEM: give the " +
				"client's certificate and its key")
		}
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	case contract.AuthGoogle:
		found, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"}})
		if err != nil {
			return nil, fmt.Errorf("find the credentials for the schema registry: %w", err)
		}
		options = append(options, sr.PreReq(func(req *http.Request) error {
			token, err := found.Token(req.Context())
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+token.Value)
			return nil
		}))
	}
	options = append(options, sr.HTTPClient(&http.Client{Timeout: requestTimeout, Transport: bounded{transport}}))
	client, err := sr.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("make the schema registry's client: %w", err)
	}
	return &Client{sr: client, host: u.Host}, nil
}

// variable returns a variable of the environment, or what the file has that NAME_FILE names.
func variable(lookup func(string) (string, bool), name string, needed bool) (string, error) {
	if value, ok := lookup(name); ok && value != "" {
		return value, nil
	}
	if path, ok := lookup(name + "_FILE"); ok && path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read %s_FILE: %w", name, err)
		}
		if value := strings.TrimRight(string(text), "\r\n"); value != "" {
			return value, nil
		}
		return "", fmt.Errorf("%s_FILE names an empty file: put the value there", name)
	}
	if needed {
		return "", fmt.Errorf("%s is not set, and the contract's registry needs it: set it from a secret, or set %s_FILE "+
			"to the path of a mounted one", name, name)
	}
	return "", nil
}

// bounded cuts off answers of absurd lengths.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

// Schema returns the schema of that id, with all that it refers to.
func (c *Client) Schema(ctx context.Context, id schema.ID) (*Schema, error) {
	if id.Glue {
		return nil, fmt.Errorf("%w: it is AWS Glue's, which speaks another protocol: name the schema's file under ids of "+
			"schema in the contract", ErrUnknown)
	}
	var found sr.SubjectSchema
	var err error
	if id.Number != 0 {
		found.Schema, err = c.sr.SchemaByID(ctx, int(id.Number))
	} else {
		found, err = c.sr.SchemaByGUID(ctx, id.String())
	}
	if err != nil {
		return nil, c.problem("schema "+id.String(), err)
	}
	if id.Number != 0 {
		// Only for messages: without it, they name the id.
		if versions, err := c.sr.SchemaVersionsByID(ctx, int(id.Number)); err == nil && len(versions) > 0 {
			slices.SortFunc(versions, func(a, b sr.SubjectVersion) int {
				return strings.Compare(a.Subject, b.Subject)
			})
			found.Subject, found.Version = versions[0].Subject, versions[0].Version
		}
	}
	return c.whole(ctx, id, &found)
}

// Latest returns the newest schema of a subject.
func (c *Client) Latest(ctx context.Context, subject string) (*Schema, error) {
	found, err := c.sr.SchemaByVersion(ctx, subject, -1)
	if err != nil {
		return nil, c.problem("subject "+subject, err)
	}
	return c.whole(ctx, schema.ID{Number: int64(found.ID)}, &found)
}

// whole adds what a schema refers to.
func (c *Client) whole(ctx context.Context, id schema.ID, found *sr.SubjectSchema) (*Schema, error) {
	s := &Schema{Text: found.Schema.Schema, Subject: found.Subject, Version: found.Version, ID: id}
	switch found.Type {
	case sr.TypeAvro:
		s.Type = contract.FormatAvro
	case sr.TypeProtobuf:
		s.Type = contract.FormatProtobuf
	case sr.TypeJSON:
		s.Type = contract.FormatJSONSchema
	}
	seen := make(map[string]bool)
	var add func(references []sr.SchemaReference) error
	add = func(references []sr.SchemaReference) error {
		for _, r := range references {
			key := fmt.Sprintf("%s\x00%d\x00%s", r.Subject, r.Version, r.Name)
			if seen[key] {
				continue
			}
			if seen[key] = true; len(seen) > maxReferences {
				return fmt.Errorf("%s refers to more than %d others", s, maxReferences)
			}
			to, err := c.sr.SchemaByVersion(ctx, r.Subject, r.Version)
			if err != nil {
				return c.problem(fmt.Sprintf("version %d of %s, to which %s refers", r.Version, r.Subject, s), err)
			}
			if err := add(to.References); err != nil {
				return err
			}
			s.References = append(s.References, Reference{Name: r.Name, Text: to.Schema.Schema})
		}
		return nil
	}
	if err := add(found.References); err != nil {
		return nil, err
	}
	return s, nil
}

// problem says what the registry could not give; it wraps ErrUnknown if the registry does not know it.
func (c *Client) problem(what string, err error) error {
	answer, ok := errors.AsType[*sr.ResponseError](err)
	if !ok {
		return fmt.Errorf("ask the schema registry %s for %s: %w", c.host, what, err)
	}
	if unknown(answer) {
		return fmt.Errorf("%s: %w", what, ErrUnknown)
	}
	advice := ""
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		advice = ": check the contract's auth and SCHEMA_REGISTRY_*"
	case http.StatusNotFound:
		advice = ": nothing of a schema registry is at this address; check the contract's registry"
	}
	return fmt.Errorf("the schema registry %s answers %d for %s%s", c.host, answer.StatusCode, what, advice)
}

// unknown reports whether the answer is that what was asked for is not there. A 404 alone is not: any web server says
// so.
func unknown(answer *sr.ResponseError) bool {
	if answer.StatusCode != http.StatusNotFound {
		return false
	}
	switch answer.ErrorCode {
	case 40401, 40402, 40403: // no such subject, version, schema
		return true
	}
	var google struct {
		Error struct{ Status string }
	}
	return json.NewDecoder(bytes.NewReader(answer.Raw)).Decode(&google) == nil && google.Error.Status == "NOT_FOUND"
}

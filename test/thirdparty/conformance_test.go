//go:build thirdparty

// Package thirdparty runs the conformance suite of the whole pipeline on servers
// that are not this project's.
package thirdparty

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/internal/contract"
	"sluice/internal/local"
	embeddedkafka "sluice/internal/local/kafka"
	"sluice/test/conformance"
	"sluice/test/thirdparty/bigquery"
	"sluice/test/thirdparty/kafka"
	"sluice/test/thirdparty/pubsub"
)

const (
	project = local.Project
	dataset = local.Dataset
)

// The servers that a combination is made of; each sets its part. What none sets is embedded.

func embeddedKafka(t *testing.T, s *conformance.Servers) {
	k, err := embeddedkafka.Start(embeddedkafka.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	s.By.Kafka = k.Brokers()
	s.Compact = k.Cluster().Compact
}

func apacheKafka(ctx context.Context, t *testing.T, s *conformance.Servers, c kafka.Config) *kafka.Cluster {
	t.Helper()
	c.Dir = t.TempDir()
	k, err := kafka.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	s.By.Kafka, s.By.KafkaClient, s.Replicas = k.Brokers(), *k.Client(), min(max(c.Brokers, 1), 3)
	s.RestartBroker = func(ctx context.Context) error {
		if err := k.Stop(ctx, 0); err != nil {
			return err
		}
		return k.StartBroker(ctx, 0)
	}
	if c.Security == nil {
		s.Producers = map[string]func(ctx context.Context, topic, lines string) error{
			"Java console producer": func(ctx context.Context, topic, lines string) error {
				return k.Tool(ctx, "org.apache.kafka.tools.ConsoleProducer", strings.NewReader(lines), "--topic", topic)
			},
			"kcat": func(ctx context.Context, topic, lines string) error { return kcat(ctx, k, topic, lines) },
		}
	}
	if c.Brokers > 1 {
		s.Failover = func(_ context.Context, topic string) (func(context.Context) error, error) {
			leader, err := k.Leader(topic, 0)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context) error { return k.StartBroker(ctx, leader) }, k.Kill(leader)
		}
	}
	return k
}

// kcat is librdkafka's command-line client.
func kcat(ctx context.Context, k *kafka.Cluster, topic, lines string) error {
	if _, err := exec.LookPath("kcat"); err != nil {
		return fmt.Errorf("kcat is one of the producers tested (Debian: apt-get install kcat): %w", err)
	}
	cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", k.Brokers(), "-t", topic, "-z", "snappy")
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kcat: %w:\n%s", err, out)
	}
	return nil
}

func googlePubSub(ctx context.Context, t *testing.T, s *conformance.Servers) {
	p, err := pubsub.Start(ctx, pubsub.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s.By.PubSub = p.Addr()
	s.Wrapped = true // see package pubsub: binary payloads
}

func bigQueryEmulator(ctx context.Context, t *testing.T, s *conformance.Servers) {
	b, err := bigquery.Start(ctx, bigquery.Config{Dir: t.TempDir(), Project: project, Dataset: dataset})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if err := b.CreateTables(ctx); err != nil {
		t.Fatal(err)
	}
	for _, view := range contract.Views() {
		text, err := contract.SQL(view, dataset)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.CreateView(ctx, view, text); err != nil {
			t.Fatal(err)
		}
	}
	s.By.BigQueryREST, s.By.BigQueryGRPC, s.MaxAppend = b.REST(), b.Addr(), 4_000_000 // see package bigquery
}

func starting(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Protects against misunderstandings of Kafka that the embedded broker shares.
func TestApacheKafka(t *testing.T) {
	s := conformance.Servers{}
	apacheKafka(starting(t), t, &s, kafka.Config{})
	conformance.Run(t, s)
}

// Protects against misunderstandings of Pub/Sub.
func TestPubSubEmulator(t *testing.T) {
	s := conformance.Servers{}
	embeddedKafka(t, &s)
	googlePubSub(starting(t), t, &s)
	conformance.Run(t, s)
}

// Protects against misunderstandings of BigQuery.
func TestBigQueryEmulator(t *testing.T) {
	s := conformance.Servers{}
	embeddedKafka(t, &s)
	bigQueryEmulator(starting(t), t, &s)
	conformance.Run(t, s)
}

// Protects the whole: no server of this project's takes part.
func TestAllThirdParty(t *testing.T) {
	s := conformance.Servers{}
	ctx := starting(t)
	apacheKafka(ctx, t, &s, kafka.Config{Brokers: 3})
	googlePubSub(ctx, t, &s)
	bigQueryEmulator(ctx, t, &s)
	conformance.Run(t, s)
}

// Protects deployments on a secured cluster: TLS with a private authority, and
// SCRAM, given to the bridge by the environment as in production.
func TestSecuredKafka(t *testing.T) {
	s := conformance.Servers{}
	security := secure(t)
	k := apacheKafka(starting(t), t, &s, kafka.Config{Security: security})
	authority := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, []byte(security.Authority), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Environment = []string{
		"KAFKA_CONFIG_SECURITY_PROTOCOL=SASL_SSL", "KAFKA_CONFIG_SASL_MECHANISMS=SCRAM-SHA-512", "KAFKA_CONFIG_SASL_USERNAME=" + security.User,
		"KAFKA_CONFIG_SASL_PASSWORD=" + security.Password, "KAFKA_CONFIG_SSL_CA_LOCATION=" + authority,
	}
	conformance.Run(t, s)
	wrong := k.Client()
	if err := wrong.SetKey("sasl.password", "wrong"); err != nil {
		t.Fatal(err)
	}
	admin, err := client.NewAdminClient(wrong)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.GetMetadata(nil, true, 3000); err == nil {
		t.Error("a wrong password was taken: nothing is secured here")
	}
}

// secure makes an authority, a certificate for 127.0.0.1 and a user.
func secure(t *testing.T) *kafka.Security {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, *x509.Certificate) {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), c
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	from, to := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	rootKey, brokerKey := newKey(), newKey()
	rootTemplate := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, rootCertificate := sign(rootTemplate, rootTemplate, rootKey, rootKey)
	broker, _ := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, rootCertificate, brokerKey, rootKey)
	key, err := x509.MarshalPKCS8PrivateKey(brokerKey)
	if err != nil {
		t.Fatal(err)
	}
	return &kafka.Security{
		User: "sluice", Password: "a test's password",
		Certificate: string(broker), Authority: string(root),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}
}

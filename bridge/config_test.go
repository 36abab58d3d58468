package bridge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
	member "sluice/bridge/kafka"
)

// parse parses a command line with only the given environment.
func parse(t *testing.T, env []string, args ...string) (bridge.Config, string, error) {
	t.Helper()
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "KAFKA_") || strings.HasPrefix(name, "PUBSUB_") || strings.HasPrefix(name,
			"GOOGLE_") {
			t.Setenv(name, "")
		}
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	var out strings.Builder
	fs := flag.NewFlagSet("bridge", flag.ContinueOnError)
	fs.SetOutput(&out)
	c, err := bridge.ParseConfig(fs, args)
	return c, out.String(), err
}

var required = []string{"KAFKA_BROKERS=localhost:9092", "GOOGLE_CLOUD_PROJECT=p"}

// Flags win over the environment, the environment over defaults.
func TestConfigPrecedence(t *testing.T) {
	c, _, err := parse(t, append(required, "KAFKA_GROUP=from-environment", "KAFKA_TOPICS=a,b", "LINGER=1s",
		"KAFKA_CONFIG_LOG_LEVEL=7", "KAFKA_CONFIG_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE=/secrets/key.pem",
		"KAFKA_CONFIG_FETCH_MIN_BYTES=10", "KAFKA_CONFIG_FETCH_WAIT_MAX_MS=20"),
		"--kafka-group", "from-flag", "--kafka-config", "fetch.min.bytes=30")
	if err != nil {
		t.Fatal(err)
	}
	d := bridge.DefaultConfig()
	if c.Group != "from-flag" || c.Topics != "a,b" || c.Linger != time.Second || c.BatchRecords != d.BatchRecords ||
		c.OffsetReset != "earliest" {
		t.Errorf("got group %q, topics %q, linger %s, batch %d, reset %q", c.Group, c.Topics, c.Linger, c.BatchRecords,
			c.OffsetReset)
	}
	m := *member.ConfigMap(&c)
	// Names that do not follow the rule.
	if m["log_level"] != "7" || m["sasl.oauthbearer.assertion.private.key.file"] != "/secrets/key.pem" {
		t.Errorf("got log_level %v, private key file %v", m["log_level"],
			m["sasl.oauthbearer.assertion.private.key.file"])
	}
	if m["fetch.min.bytes"] != "30" || m["fetch.wait.max.ms"] != "20" || m["group.id"] != "from-flag" {
		t.Errorf("got fetch.min.bytes %v, fetch.wait.max.ms %v, group.id %v", m["fetch.min.bytes"],
			m["fetch.wait.max.ms"], m["group.id"])
	}
}

// A mistake is told with the field, the kind of value and the remedy, and without
// the value where that could be a secret.
func TestConfigMistakes(t *testing.T) {
	const password = "hunter2-secret"
	for _, test := range []struct {
		name string
		env  []string
		args []string
		want []string
	}{
		{"nothing set", nil, nil, []string{"--kafka-brokers (KAFKA_BROKERS)", "host:port", "--google-cloud-project (GOOGLE_CLOUD_PROJECT)"}},
		{"broker without a port", append(required, "KAFKA_BROKERS=a:1,b"), nil, []string{"--kafka-brokers", "server 2 of 2", "host:port"}},
		{"broker with no port", append(required, "KAFKA_BROKERS=a:1,b:99999"), nil, []string{"server 2 of 2", "from 1 to 65535"}},
		{"broker with port 0", append(required, "KAFKA_BROKERS=a:0"), nil, []string{"server 1 of 1", "from 1 to 65535"}},
		{"a property without its prefix", append(required, "KAFKA_SASL_USERNAME=u"), nil,
			[]string{"KAFKA_SASL_USERNAME", "write KAFKA_CONFIG_SASL_USERNAME"}},
		{"a property that has a setting", append(required, "KAFKA_GROUP_ID=g"), nil, []string{"KAFKA_GROUP_ID", "write KAFKA_GROUP"}},
		{"no regular expression", append(required, "KAFKA_TOPICS=^("), nil, []string{"--kafka-topics", "topic 1", "regular expression"}},
		{"an extension that librdkafka does not know", append(required, "KAFKA_TOPICS=^(?i)clicks"), nil, []string{"--kafka-topics", "topic 1", "POSIX"}},
		{"no topic name", append(required, "KAFKA_TOPICS=a b"), nil, []string{"--kafka-topics", "topic 1", "letters"}},
		{"no duration", append(required, "LINGER=fast"), nil, []string{"--linger (LINGER)", "no duration", "200ms"}},
		{"negative duration", append(required, "DRAIN_TIMEOUT=-1s"), nil, []string{"--drain-timeout (DRAIN_TIMEOUT)", "duration"}},
		{"no number", required, []string{"--batch-records", "many"}, []string{"--batch-records (BATCH_RECORDS)", "no whole number", "1000"}},
		{"too many records", required, []string{"--batch-records", "100000"}, []string{"--batch-records", "65536"}},
		{"batch larger than a message", required, []string{"--batch-bytes", "10000000"}, []string{"--batch-bytes", "--max-message-bytes"}},
		{"budget smaller than a batch", required, []string{"--max-inflight-bytes", "1000"}, []string{"--max-inflight-bytes", "--batch-bytes"}},
		{"message larger than Pub/Sub takes", required, []string{"--max-message-bytes", "20000000"}, []string{"--max-message-bytes", "10000000"}},
		{"no offset reset", append(required, "KAFKA_OFFSET_RESET=middle"), nil, []string{"--kafka-offset-reset", "earliest, latest or error"}},
		{"no Pub/Sub topic", append(required, "PUBSUB_TOPIC=a/b"), nil, []string{"--pubsub-topic", "projects/P/topics/T"}},
		{"no OAuth source", append(required, "KAFKA_OAUTH=azure"), nil, []string{"--kafka-oauth", "google"}},
		{"no level", append(required, "LOG_LEVEL=loud"), nil, []string{"--log-level", "debug, info, warn or error"}},
		{"several mistakes", append(required, "LINGER=fast", "KAFKA_GROUP=g", "KAFKA_CONFIG_GROUP_ID=g", "KAFKA_OFFSET_RESET=middle"), []string{"--batch-bytes", "x"},
			[]string{"--linger", "KAFKA_CONFIG_GROUP_ID", "--kafka-offset-reset", "--batch-bytes"}},
		{"no flag", required, []string{"--brokers", "x"}, []string{"-brokers", "-h"}},
		{"a secret that is no property", required, []string{"--kafka-config", password}, []string{"--kafka-config", "property=value"}},
		{"a value of a fixed property", required, []string{"--kafka-config", "bootstrap.servers=" + password}, []string{"--kafka-config", "--kafka-brokers"}},
		{"an alias of a secret on the command line", required, []string{"--kafka-config", "sasl.oauthbearer.client.credentials.client.secret=" + password},
			[]string{"KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_CREDENTIALS_CLIENT_SECRET", "_FILE"}},
		{"no property", required, []string{"--kafka-config", "fetch.min.bytes"}, []string{"kafka-config", "property=value"}},
		{"fixed property", required, []string{"--kafka-config", "enable.auto.commit=false"}, []string{"enable.auto.commit", "auto.commit.interval.ms"}},
		{"fixed property in the environment", append(required, "KAFKA_CONFIG_GROUP_ID=g"), nil, []string{"KAFKA_CONFIG_GROUP_ID", "--kafka-group"}},
		{"statistics turned off", append(required, "KAFKA_CONFIG_STATISTICS_INTERVAL_MS=0"), nil, []string{"KAFKA_CONFIG_STATISTICS_INTERVAL_MS", "1 to 60000"}},
		{"secret on the command line", required, []string{"--kafka-config", "sasl.password=" + password}, []string{"KAFKA_CONFIG_SASL_PASSWORD", "_FILE"}},
		{"secret file that is not there", append(required, "KAFKA_CONFIG_SASL_PASSWORD_FILE=/nowhere/at/all"), nil, []string{"KAFKA_CONFIG_SASL_PASSWORD_FILE", "cannot be read"}},
		{"words left over", required, []string{"extra"}, []string{"left over", "-h"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, out, err := parse(t, test.env, test.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not contain %q:\n%v", want, err)
				}
			}
			if test.name == "no number" && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one mistake is told:\n%v", err)
			}
			if strings.Contains(err.Error()+out, password) {
				t.Error("the error shows the password")
			}
		})
	}
}

// -h prints every setting with its default, and no secret.
func TestHelp(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter3-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, out, err := parse(t, append(required, "KAFKA_CONFIG_SASL_PASSWORD=hunter2-secret",
		"KAFKA_CONFIG_SSL_KEY_PASSWORD_FILE="+secret), "-h")
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("the error is %v, want flag.ErrHelp", err)
	}
	c := bridge.DefaultConfig()
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	c.Flags(fs)
	fs.VisitAll(func(f *flag.Flag) {
		if !strings.Contains(out, "-"+f.Name+" ") {
			t.Errorf("-h does not tell of -%s", f.Name)
		}
		if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(out, f.DefValue) {
			t.Errorf("-h does not tell the default of -%s", f.Name)
		}
	})
	if strings.Contains(out, "hunter") {
		t.Error("-h shows a secret")
	}
}

// Secrets come from the environment or a file, reach librdkafka, and appear in no
// form of the configuration that could be printed.
func TestSecrets(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter3-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := parse(t, append(required, "KAFKA_CONFIG_SASL_PASSWORD_FILE="+secret,
		"KAFKA_CONFIG_SSL_KEY_PASSWORD=hunter2-secret"))
	if err != nil {
		t.Fatal(err)
	}
	m := *member.ConfigMap(&c)
	if m["sasl.password"] != "hunter3-secret" || m["ssl.key.password"] != "hunter2-secret" {
		t.Error("the secrets do not reach librdkafka as they are")
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, &c.Properties) + fmt.Sprintf(format, c.Properties) +
			fmt.Sprintf(format, c); strings.Contains(s, "hunter") {
			t.Errorf("%s of the configuration shows a secret", format)
		}
	}
}

// Every example of the README is a configuration that the bridge and librdkafka
// take.
func TestREADMEExamples(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	secrets := t.TempDir()
	writeSecrets(t, secrets)
	examples := regexp.MustCompile("(?s)```env\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(examples) < 7 {
		t.Fatalf("%d examples found, want those of TLS, PLAIN, SCRAM and OAUTHBEARER at least", len(examples))
	}
	// Nothing but this machine is asked.
	replacer := strings.NewReplacer("/secrets", secrets, "https://login.example.com", "https://127.0.0.1:1")
	for i, example := range examples {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			c, _, err := parse(t, strings.Split(strings.TrimSpace(replacer.Replace(example[1])), "\n"))
			if err != nil {
				t.Fatal(err)
			}
			c.Brokers = "127.0.0.1:1" // where nobody answers
			consumer, err := kafka.NewConsumer(member.ConfigMap(&c))
			if err != nil {
				t.Fatal(err)
			}
			consumer.Close()
		})
	}
}

// writeSecrets writes what the examples mount, and returns the certificate that
// ca.pem trusts, of 127.0.0.1.
func writeSecrets(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		"ca.pem": certificate, "client.pem": certificate,
		"client.key":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		"kafka-password": []byte("hunter2-secret\n"), "client-secret": []byte("secret\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// way is one from Kafka to Pub/Sub or BigQuery.
type way struct {
	name, what string
	group      string // of Kafka's, before the round
	floor      bool   // it delivers nothing
	share      int    // it stops after 1 of so many events: of those that would take minutes

	count func(data []byte) (int, error) // of a message's events; nil: a message is one

	prepare func(ctx context.Context) error
	// start returns the commands of a run in a consumer group of that name, and what is to be undone behind them.
	start func(ctx context.Context, group string) ([]*exec.Cmd, func(), error)
}

// ways are all ways, the floors first.
func (b *bench) ways() []way {
	build := func(dir string, names ...string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			for _, name := range names {
				if err := command(ctx, dir, "go", "build", "-o", b.program(name), name); err != nil {
					return err
				}
			}
			return nil
		}
	}
	redpanda := build("redpanda", "sluice/test/peers/redpanda")
	const bridge, functions = "./bridge/cmd/bridge", "./functions/cmd/functions"
	return []way{
		{name: "nowhere: franz-go", what: "franz-go reads and discards: a floor", group: "franz", floor: true, share: 1,
			prepare: build(".", "./floor"), start: b.discard("-franz")},
		{name: "nowhere: confluent-kafka-go", what: "confluent-kafka-go, on which the bridge stands, reads and discards: a floor", group: "confluent",
			floor: true, share: 1, prepare: build(".", "./floor"), start: b.discard("-franz=false")},
		{name: "Pub/Sub: Sluice's bridge", what: "as it is deployed, without a bucket for payloads", group: "bridge",
			count: records, share: 1,
			prepare: build(b.root, bridge), start: func(ctx context.Context, group string) ([]*exec.Cmd, func(),
				error) {
				return []*exec.Cmd{b.bridge(ctx, group, b.sink.Addr)}, nil, nil
			}},
		{name: "Pub/Sub: Google's Kafka connector",
			what:  "pubsub-group-kafka-connector in a Kafka Connect worker of its own: a message for each event",
			group: "connector",
			share: 1, prepare: b.fetchConnect, start: b.connect},
		{name: "Pub/Sub: Redpanda Connect", group: "redpanda", share: 1,
			what: "version 4.27.0, the last under the name Benthos, kafka_franz to gcp_pubsub: a message for each event; " +
				"it reads 1,000 events at a time, because by its defaults it takes 43 CPU s",
			prepare: redpanda, start: b.redpanda("")},
		{name: "Pub/Sub: Redpanda Connect, gzip", count: gzipped, group: "gzip", share: 1,
			what:    "the same, each 1,000 events one message: archive as lines, compress with gzip; keys, offsets and timestamps are lost",
			prepare: redpanda, start: b.redpanda("{archive: {format: lines}}, {compress: {algorithm: gzip}}")},
		{name: "Pub/Sub: Redpanda Connect, lz4", count: lz4ed, group: "lz4", share: 1,
			what: "the same with lz4, the cheapest of its algorithms", prepare: redpanda,
			start: b.redpanda("{archive: {format: lines}}, {compress: {algorithm: lz4}}")},
		{name: "BigQuery: Sluice", what: "bridge and functions, between them a Pub/Sub that pushes", group: "sluice",
			share:   1,
			prepare: build(b.root, bridge, functions), start: b.sluice},
		{name: "BigQuery: a day's Go, struct", what: "confluent-kafka-go, encoding/json into a struct, managedwriter; members that the struct does not name are lost",
			group: "struct", share: 1, prepare: build(".", "./day"), start: b.day("-map=false")},
		{name: "BigQuery: a day's Go, map", what: "the same with a map, so that no member is lost", group: "map",
			share:   1,
			prepare: build(".", "./day"), start: b.day("-map")},
		{name: "BigQuery: a Python consumer", what: "kafka-python, json, insert_rows_json, up to 500 rows a request; it stopped after a tenth of the events",
			group: "python", share: 10, prepare: b.fetchPython, start: b.python},
	}
}

// program is where the program of a package is built.
func (b *bench) program(of string) string { return filepath.Join(b.dir, filepath.Base(of)) }

func (b *bench) discard(how string) func(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
	return func(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
		cmd := exec.CommandContext(ctx, b.program("floor"), "-brokers", b.kafka.Brokers(), "-topic", topic, "-group",
			group,
			"-records", fmt.Sprint(b.events), how)
		return []*exec.Cmd{cmd}, nil, b.counting(cmd)
	}
}

func (b *bench) day(how string) func(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
	return func(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
		return []*exec.Cmd{exec.CommandContext(ctx, b.program("day"), "-brokers", b.kafka.Brokers(), "-topic", topic,
			"-group", group,
			"-bigquery", b.sink.Addr, how)}, nil, nil
	}
}

// bridge is Sluice's, publishing to the Pub/Sub at address.
func (b *bench) bridge(ctx context.Context, group, address string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.program("bridge"))
	cmd.Env = append(os.Environ(), "KAFKA_BROKERS="+b.kafka.Brokers(), "KAFKA_TOPICS="+topic, "KAFKA_GROUP="+group,
		"GOOGLE_CLOUD_PROJECT=local", "PUBSUB_EMULATOR_HOST="+address, "HTTP_ADDR=off")
	return cmd
}

// redpanda is Redpanda Connect with these processors, in YAML.
func (b *bench) redpanda(processors string) func(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
	return func(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
		config := filepath.Join(b.dir, group+".yaml")
		err := os.WriteFile(config, fmt.Appendf(nil, `
http: {enabled: false}
logger: {level: WARN}
input:
  kafka_franz:
    seed_brokers: [%q]
    topics: [%q]
    consumer_group: %q
    checkpoint_limit: 100000
    batching: {count: 1000, period: 1s}
pipeline:
  processors: [%s]
output:
  gcp_pubsub: {project: local, topic: clickstream}
`, b.kafka.Brokers(), topic, group, processors), 0o644)
		cmd := exec.CommandContext(ctx, b.program("redpanda"), "-c", config)
		cmd.Env = append(os.Environ(), "PUBSUB_EMULATOR_HOST="+b.sink.Addr)
		return []*exec.Cmd{cmd}, nil, err
	}
}

// sluice is the bridge, Pub/Sub, and the functions.
func (b *bench) sluice(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	functions := exec.CommandContext(ctx, b.program("functions"))
	functions.Env = append(os.Environ(), "FUNCTION_TARGET=Ingest", fmt.Sprintf("PORT=%d", port),
		"GOOGLE_CLOUD_PROJECT=local",
		"BIGQUERY_STORAGE_EMULATOR_HOST="+b.sink.Addr, "PUBSUB_EMULATOR_HOST="+b.pubsub.Addr())
	return []*exec.Cmd{functions, b.bridge(ctx, group, b.pubsub.Addr())}, nil,
		// pushes before it listens are repeated
		b.pubsub.SetEndpoint(ctx, subscription, fmt.Sprintf("http://127.0.0.1:%d/", port))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// fetchPython makes an environment with the packages that the consumer needs.
func (b *bench) fetchPython(ctx context.Context) error {
	venv := filepath.Join(b.kept, "python")
	if _, err := os.Stat(filepath.Join(venv, "bin", "pip")); err != nil {
		if err := command(ctx, ".", "python3", "-m", "venv", venv); err != nil {
			return fmt.Errorf("install Python 3 with venv (Debian: apt-get install python3-venv): %w", err)
		}
	}
	return command(ctx, ".", filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check",
		"-r",
		"python/requirements.txt")
}

func (b *bench) python(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
	return []*exec.Cmd{exec.CommandContext(ctx, filepath.Join(b.kept, "python", "bin", "python"), "python/consumer.py",
		b.kafka.Brokers(),
		topic, group, b.sink.RESTAddr)}, nil, nil
}

func (b *bench) jars() string { return filepath.Join(b.kept, "connect") }

// fetchConnect fetches the jars, and makes the account and the trust store that the connector wants: it speaks TLS
// only, and asks for tokens.
func (b *bench) fetchConnect(ctx context.Context) error {
	if _, err := exec.LookPath("mvn"); err != nil {
		return fmt.Errorf("install Maven, which fetches Kafka Connect (Debian: apt-get install maven openjdk-17-jre-headless): %w", err)
	}
	if err := command(ctx, "connect", "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime",
		"-DoutputDirectory="+b.jars()); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	account, err := json.Marshal(map[string]string{"type": "service_account", "project_id": "local",
		"private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY",
			Bytes: der})), "client_email": "peers@local",
		"client_id": "1", "token_uri": "http://" + b.sink.RESTAddr + "/token"})
	if err != nil {
		return err
	}
	certificate := filepath.Join(b.dir, "certificate.pem")
	err = errors.Join(os.WriteFile(filepath.Join(b.dir, "account.json"), account, 0o600), os.WriteFile(certificate,
		b.sink.Certificate, 0o600))
	if err != nil {
		return err
	}
	return command(ctx, b.dir, "keytool", "-importcert", "-noprompt", "-alias", "sink", "-file", certificate,
		"-keystore", "trust.p12",
		"-storepass", "changeit")
}

// connect is a Kafka Connect worker with Google's connector, its settings the defaults.
func (b *bench) connect(ctx context.Context, group string) ([]*exec.Cmd, func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(b.dir, group)
	_, endpoint, err := net.SplitHostPort(b.sink.TLSAddr)
	if err != nil {
		return nil, nil, err
	}
	files := map[string][]string{
		"worker.properties": {
			"bootstrap.servers=" + b.kafka.Brokers(), "offset.storage.file.filename=" + filepath.Join(dir, "offsets"),
			"key.converter=org.apache.kafka.connect.converters.ByteArrayConverter",
			"value.converter=org.apache.kafka.connect.converters.ByteArrayConverter",
			fmt.Sprintf("listeners=http://127.0.0.1:%d", port),
		},
		"connector.properties": {
			"name=" + group, "connector.class=com.google.pubsub.kafka.sink.CloudPubSubSinkConnector", "tasks.max=1", "topics=" + topic,
			"cps.project=local", "cps.topic=clickstream", "cps.endpoint=localhost:" + endpoint,
			"gcp.credentials.file.path=" + filepath.Join(b.dir, "account.json"),
		},
		"log4j.properties": {"log4j.rootLogger=WARN, stdout", "log4j.appender.stdout=org.apache.log4j.ConsoleAppender",
			"log4j.appender.stdout.layout=org.apache.log4j.PatternLayout",
			"log4j.appender.stdout.layout.ConversionPattern=%d %p %m (%c)%n"},
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	for name, lines := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return nil, nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "java", "-Xms256M", "-Xmx2G", // as bin/connect-standalone.sh has it
		"-Djavax.net.ssl.trustStore="+filepath.Join(b.dir, "trust.p12"), "-Djavax.net.ssl.trustStorePassword=changeit",
		"-Dlog4j.configuration=file:"+filepath.Join(dir, "log4j.properties"),
		"-cp", filepath.Join(b.jars(), "*"), "org.apache.kafka.connect.cli.ConnectStandalone",
		filepath.Join(dir, "worker.properties"), filepath.Join(dir, "connector.properties"))
	return []*exec.Cmd{cmd}, nil, nil
}

// Package kafka runs Apache Kafka for tests: brokers in KRaft mode, of the version
// in pom.xml, as processes of their own on loopback, with their data in a folder
// of the test's.
//
//	k, err := kafka.Start(ctx, kafka.Config{Dir: t.TempDir(), Brokers: 3})
//	defer k.Close()
//	err = k.CreateTopic(ctx, "clickstream", 4, map[string]string{"cleanup.policy": "compact"})
//	// clients: bootstrap.servers = k.Brokers()
//	err = k.Kill(1)                  // a broker dies
//	err = k.StartBroker(ctx, 1)      // and comes back with its data
//	err = k.Tool(ctx, "org.apache.kafka.tools.ConsoleProducer", input, "--topic", "clickstream")
//
// It needs Java 17 and, the first time, Maven.
package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/test/thirdparty/process"
)

// Config says what to start.
type Config struct {
	Dir     string // data, configuration and logs; must exist
	Brokers int    // default 1; each is a controller too

	// Security of the clients' listener; nil: plain text.
	Security *Security
	// Settings of all brokers, added to the package's.
	Settings map[string]string
}

// Security is TLS with SASL/SCRAM-SHA-512 for one user.
type Security struct {
	User, Password string
	// PEM text: the brokers' certificate for 127.0.0.1 with its private key
	// (PKCS #8), and the certificate of who signed it.
	Certificate, Key, Authority string
}

// Cluster is a running cluster.
type Cluster struct {
	config  Config
	jars    string
	brokers []*broker
}

type broker struct {
	id         int
	port       int // of clients
	controller int // port
	dir        string
	process    *process.Process // nil: not running
}

// clusterID is any UUID in Kafka's base64 form.
const clusterID = "c2x1aWNlLXRlc3QtMDAwMQ"

// Start fetches Kafka if need be, formats the brokers' storage and starts them. It
// returns when the cluster answers.
func Start(ctx context.Context, c Config) (_ *Cluster, err error) {
	c.Brokers = max(c.Brokers, 1)
	jars, err := Install(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("java"); err != nil {
		return nil, fmt.Errorf("kafka: Java 17 is needed to run Apache Kafka (Debian: apt-get install openjdk-17-jre-headless): %w", err)
	}
	ports, err := process.FreePorts(2 * c.Brokers)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k := &Cluster{config: c, jars: jars}
	for id := range c.Brokers {
		k.brokers = append(k.brokers, &broker{id: id, port: ports[2*id], controller: ports[2*id+1],
			dir: filepath.Join(c.Dir, "broker-"+strconv.Itoa(id))})
	}
	defer func() {
		if err != nil {
			k.Close()
		}
	}()
	for _, b := range k.brokers {
		if err := k.format(ctx, b); err != nil {
			return nil, err
		}
	}
	// A quorum needs its members at the same time.
	for _, b := range k.brokers {
		if err := k.run(b); err != nil {
			return nil, err
		}
	}
	for _, b := range k.brokers {
		if err := b.process.WaitListening(ctx, b.address()); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
	}
	return k, k.await(ctx, c.Brokers)
}

func (b *broker) address() string { return "127.0.0.1:" + strconv.Itoa(b.port) }

func (b *broker) properties() string { return filepath.Join(b.dir, "server.properties") }

// format writes the broker's configuration and prepares its storage.
func (k *Cluster) format(ctx context.Context, b *broker) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if err := os.WriteFile(b.properties(), k.settings(b), 0o600); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	arguments := []string{"format", "-t", clusterID, "-c", b.properties()}
	if s := k.config.Security; s != nil {
		arguments = append(arguments, "--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", s.User,
			s.Password))
	}
	if out, err := k.java(ctx, "kafka.tools.StorageTool", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("kafka: format the storage of broker %d: %w:\n%s", b.id, err, out)
	}
	return nil
}

func (k *Cluster) settings(b *broker) []byte {
	replicas := strconv.Itoa(min(k.config.Brokers, 3))
	insync := strconv.Itoa(max(min(k.config.Brokers, 3)-1, 1))
	var voters []string
	for _, other := range k.brokers {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", other.id, other.controller))
	}
	protocol := "PLAINTEXT"
	if k.config.Security != nil {
		protocol = "SASL_SSL"
	}
	settings := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  strconv.Itoa(b.id),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "INTERNAL",
		"listeners":                                fmt.Sprintf("CLIENTS://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d,INTERNAL://127.0.0.1:0", b.port, b.controller),
		"listener.security.protocol.map":           "CLIENTS:" + protocol + ",CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT",
		"log.dirs":                                 filepath.Join(b.dir, "data"),
		"auto.create.topics.enable":                "false",
		"default.replication.factor":               replicas,
		"min.insync.replicas":                      insync,
		"offsets.topic.replication.factor":         replicas,
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": replicas,
		"transaction.state.log.min.isr":            insync,
		"transaction.state.log.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":         "0",
		"group.coordinator.rebalance.protocols":    "classic,consumer",
		"message.max.bytes":                        "20971520",
		"replica.fetch.max.bytes":                  "20971520",
		"controlled.shutdown.enable":               "true",
		// Soon enough for tests that wait for compaction and failover.
		"log.cleaner.backoff.ms":       "500",
		"broker.session.timeout.ms":    "6000",
		"broker.heartbeat.interval.ms": "1000",
	}
	if s := k.config.Security; s != nil {
		settings["sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
		settings["listener.name.clients.scram-sha-512.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		settings["listener.name.clients.ssl.keystore.type"] = "PEM"
		settings["listener.name.clients.ssl.keystore.certificate.chain"] = oneLine(s.Certificate)
		settings["listener.name.clients.ssl.keystore.key"] = oneLine(s.Key)
		settings["listener.name.clients.ssl.truststore.type"] = "PEM"
		settings["listener.name.clients.ssl.truststore.certificates"] = oneLine(s.Authority)
	}
	for name, value := range k.config.Settings {
		settings[name] = value
	}
	var text bytes.Buffer
	for name, value := range settings {
		fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	return text.Bytes()
}

// oneLine writes a text of several lines as a value of a properties file.
func oneLine(pem string) string { return strings.ReplaceAll(strings.TrimSpace(pem), "\n", "\\n") }

// options keep a broker small and quick to start.
var options = []string{"-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
	"-Dlog4j2.level=WARN"}

func (k *Cluster) classpath() string { return filepath.Join(k.jars, "*") }

func (k *Cluster) java(ctx context.Context, class string, arguments ...string) *exec.Cmd {
	all := append(append([]string{}, options...), "-cp", k.classpath(), class)
	return exec.CommandContext(ctx, "java", append(all, arguments...)...)
}

func (k *Cluster) run(b *broker) error {
	command := append([]string{"java"}, options...)
	command = append(command, "-cp", k.classpath(), "kafka.Kafka", b.properties())
	p, err := process.Start(process.Config{Command: command, Log: filepath.Join(b.dir, "log")})
	if err != nil {
		return fmt.Errorf("kafka: broker %d: %w", b.id, err)
	}
	b.process = p
	return nil
}

// Brokers are the brokers' addresses as bootstrap.servers wants them, those that
// do not run included.
func (k *Cluster) Brokers() string {
	var addresses []string
	for _, b := range k.brokers {
		addresses = append(addresses, b.address())
	}
	return strings.Join(addresses, ",")
}

// Client is the configuration of a client of the cluster.
func (k *Cluster) Client() *client.ConfigMap {
	m := &client.ConfigMap{"bootstrap.servers": k.Brokers(), "enable.metrics.push": false}
	if s := k.config.Security; s != nil {
		for name, value := range map[string]string{
			"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": s.User,
			"sasl.password": s.Password, "ssl.ca.pem": s.Authority,
		} {
			(*m)[name] = value
		}
	}
	return m
}

// await waits until so many brokers are in the cluster.
func (k *Cluster) await(ctx context.Context, brokers int) error {
	admin, err := client.NewAdminClient(k.Client())
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer admin.Close()
	for {
		m, err := admin.GetMetadata(nil, false, 2000)
		if err == nil && len(m.Brokers) >= brokers {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka: the cluster has not %d brokers: %w (%v)", brokers, ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// CreateTopic creates a topic, replicated to all brokers (at most three), and
// waits until its partitions have leaders.
func (k *Cluster) CreateTopic(ctx context.Context, name string, partitions int, settings map[string]string) error {
	admin, err := client.NewAdminClient(k.Client())
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer admin.Close()
	result, err := admin.CreateTopics(ctx, []client.TopicSpecification{{
		Topic: name, NumPartitions: partitions, ReplicationFactor: min(k.config.Brokers, 3), Config: settings,
	}}, client.SetAdminOperationTimeout(10*time.Second))
	if err != nil {
		return fmt.Errorf("kafka: topic %s: %w", name, err)
	}
	if e := result[0].Error; e.Code() != client.ErrNoError {
		return fmt.Errorf("kafka: topic %s: %w", name, e)
	}
	return nil
}

// StartBroker starts a broker that was stopped or killed, with its data.
func (k *Cluster) StartBroker(ctx context.Context, id int) error {
	b := k.brokers[id]
	if b.process != nil {
		return fmt.Errorf("kafka: broker %d runs", id)
	}
	if err := k.run(b); err != nil {
		return err
	}
	if err := b.process.WaitListening(ctx, b.address()); err != nil {
		return fmt.Errorf("kafka: broker %d: %w", id, err)
	}
	return nil
}

// Stop stops a broker in the orderly way, which moves its partitions first.
func (k *Cluster) Stop(ctx context.Context, id int) error {
	b := k.brokers[id]
	if b.process == nil {
		return nil
	}
	err := b.process.Stop(ctx)
	b.process = nil
	return err
}

// Kill kills a broker.
func (k *Cluster) Kill(id int) error {
	b := k.brokers[id]
	if b.process == nil {
		return nil
	}
	err := b.process.Kill()
	b.process = nil
	return err
}

// Leader is the number of the broker that leads a partition.
func (k *Cluster) Leader(topic string, partition int) (int, error) {
	admin, err := client.NewAdminClient(k.Client())
	if err != nil {
		return 0, fmt.Errorf("kafka: %w", err)
	}
	defer admin.Close()
	m, err := admin.GetMetadata(&topic, false, 10_000)
	if err != nil {
		return 0, fmt.Errorf("kafka: %w", err)
	}
	partitions := m.Topics[topic].Partitions
	if partition >= len(partitions) {
		return 0, fmt.Errorf("kafka: topic %s has %d partitions, no %d", topic, len(partitions), partition)
	}
	return int(partitions[partition].Leader), nil
}

// Tool runs one of Kafka's command-line tools against the cluster, by its class,
// with --bootstrap-server set.
func (k *Cluster) Tool(ctx context.Context, class string, input io.Reader, arguments ...string) error {
	cmd := k.java(ctx, class, append([]string{"--bootstrap-server", k.Brokers()}, arguments...)...)
	cmd.Stdin = input
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka: %s: %w:\n%s", class, err, out)
	}
	return nil
}

// Close kills all brokers: their data is the test's, and goes with it.
func (k *Cluster) Close() error {
	var errs []error
	for _, b := range k.brokers {
		errs = append(errs, k.Kill(b.id))
	}
	return errors.Join(errs...)
}

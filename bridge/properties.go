package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Properties are librdkafka properties that an operator has set. As a
// flag.Value it takes property=value, once per use of the flag.
type Properties struct {
	m map[string]string
	// exposed are the names of secrets that were given on the command line. They
	// are not refused at once: package flag would print the value that was refused.
	exposed []string
}

// environment is the prefix of variables that set a property.
const environment = "KAFKA_CONFIG_"

// secret are the properties whose values are accepted from the environment or a
// mounted file only, because command lines can be read by every process of a
// machine, and are shown nowhere.
var secret = []string{
	"sasl.password", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config",
	"sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.private.key.pem",
	"ssl.key.password", "ssl.key.pem", "ssl.keystore.password",
}

// fixed are the properties on which the bridge's guarantees rest, each with what
// to do instead of setting it.
var fixed = map[string]string{
	"bootstrap.servers":             "use --kafka-brokers",
	"metadata.broker.list":          "use --kafka-brokers",
	"group.id":                      "use --kafka-group",
	"auto.offset.reset":             "use --kafka-offset-reset",
	"client.id":                     "use --consumer-name",
	"enable.auto.offset.store":      "it is false: only what Pub/Sub has acknowledged is stored",
	"enable.auto.commit":            "it is true: only what is stored is committed; set auto.commit.interval.ms",
	"partition.assignment.strategy": "it is cooperative-sticky",
	"group.protocol":                "it is classic",
	"enable.partition.eof":          "it is false",
}

// Set adds a property, given as property=value.
func (p *Properties) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return fmt.Errorf("a librdkafka property is written property=value, such as security.protocol=SASL_SSL")
	}
	if slices.Contains(secret, name) {
		p.exposed = append(p.exposed, name)
		return nil
	}
	return p.set(name, value)
}

// validate reports the secrets that every process could have read.
func (p *Properties) validate() error {
	if len(p.exposed) == 0 {
		return nil
	}
	name := p.exposed[0]
	variable := environment + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
	return fmt.Errorf("%s is a secret, which every process of the machine can read on the command line: set %s, or %s_FILE to the path of a mounted file", name, variable, variable)
}

func (p *Properties) set(name, value string) error {
	if instead, ok := fixed[name]; ok {
		return fmt.Errorf("%s cannot be set: %s", name, instead)
	}
	if strings.HasPrefix(name, "go.") || strings.HasSuffix(name, "_cb") {
		return fmt.Errorf("%s cannot be set: it changes how the bridge and its Kafka client talk to each other", name)
	}
	if n, err := strconv.Atoi(value); name == "statistics.interval.ms" && (err != nil || n < 1 || n > 60_000) {
		return fmt.Errorf("%s is no number of milliseconds from 1 to 60000: partitions that stand still are found with it", name)
	}
	if p.m == nil {
		p.m = map[string]string{}
	}
	p.m[name] = value
	return nil
}

// String lists the names of what is set. Values are never shown: some are
// secrets, and which ones is not ours to guess for properties to come.
func (p Properties) String() string {
	return strings.Join(slices.Sorted(maps.Keys(p.m)), ",")
}

// GoString is String, for %#v.
func (p Properties) GoString() string { return p.String() }

// FromEnvironment adds a property for each variable KAFKA_CONFIG_<PROPERTY>, the
// property's name in capitals with underscores for dots, and for each
// KAFKA_CONFIG_<PROPERTY>_FILE, which holds the path of a file with the value. One
// line end after the value in a file is dropped.
func (p *Properties) FromEnvironment(environ []string, readFile func(string) ([]byte, error)) error {
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, environment) || value == "" {
			continue
		}
		key, isFile := strings.CutSuffix(strings.TrimPrefix(variable, environment), "_FILE")
		if isFile {
			b, err := readFile(value)
			if err != nil {
				return fmt.Errorf("%s: the file with the value cannot be read: %w", variable, err)
			}
			value = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		}
		name := strings.ReplaceAll(strings.ToLower(key), "_", ".")
		if err := p.set(name, value); err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
	}
	return nil
}

// ConsumerConfig is the configuration of the Kafka consumer: the bridge's
// defaults, what the operator has set over them, and what is fixed over that.
func (c *Config) ConsumerConfig() *kafka.ConfigMap {
	m := kafka.ConfigMap{
		// Duplicates after a crash are what was acknowledged since the last commit.
		"auto.commit.interval.ms": "1000",
		// The default of a second is the bottleneck of a consumer that keeps up.
		"fetch.queue.backoff.ms": "10",
		// Prefetched records are bounded by half of what may be in flight, and one
		// answer of a broker adds at most an eighth.
		"queued.max.messages.kbytes": fmt.Sprint(max(1024, c.MaxInflightBytes/2/1024)),
		"fetch.max.bytes":            fmt.Sprint(min(50<<20, max(2<<20, c.MaxInflightBytes/8))),
		"enable.metrics.push":        "false",
		// Where idle partitions stand, see statistics.
		"statistics.interval.ms": "5000",
		"log.connection.close":   "false",
	}
	if c.OAuth == "google" {
		m["security.protocol"] = "SASL_SSL"
		m["sasl.mechanisms"] = "OAUTHBEARER"
	}
	for name, value := range c.Properties.m {
		m[name] = value
	}
	m["bootstrap.servers"] = strings.Join(list(c.Brokers), ",")
	m["group.id"] = c.Group
	m["client.id"] = c.Consumer
	m["auto.offset.reset"] = c.OffsetReset
	m["enable.auto.offset.store"] = "false"
	m["enable.auto.commit"] = "true"
	m["partition.assignment.strategy"] = "cooperative-sticky"
	m["go.logs.channel.enable"] = true
	return &m
}

package bridge

import (
	"errors"
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
}

// environment is the prefix of variables that set a property.
const environment = "KAFKA_CONFIG_"

// secret are parts of the names of the properties whose values are accepted from the
// environment or a mounted file only, because command lines can be read by every
// process of a machine. Parts, because properties have aliases.
var secret = []string{"password", "passphrase", "secret", "key.pem", "sasl.oauthbearer.config"}

// irregular are the properties whose names do not follow from their variables'.
var irregular = map[string]string{
	"LOG_LEVEL":                                    "log_level",
	"SASL_OAUTHBEARER_ASSERTION_FILE":              "sasl.oauthbearer.assertion.file",
	"SASL_OAUTHBEARER_ASSERTION_JWT_TEMPLATE_FILE": "sasl.oauthbearer.assertion.jwt.template.file",
	"SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE":  "sasl.oauthbearer.assertion.private.key.file",
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
	"check.crcs":                    "it is false: librdkafka would skip the records of a batch whose checksum is wrong",
}

// Set adds a property, given as property=value.
func (p *Properties) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return fmt.Errorf("a librdkafka property is written property=value, such as security.protocol=SASL_SSL")
	}
	if slices.ContainsFunc(secret, func(part string) bool { return strings.Contains(name, part) }) {
		variable := environment + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
		return fmt.Errorf("%s is a secret, which every process of the machine can read on the command line: set %s, or %s_FILE to the path of a mounted file", name, variable, variable)
	}
	return p.set(name, value)
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
	var errs []error
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, environment) || value == "" {
			continue
		}
		key := strings.TrimPrefix(variable, environment)
		name, ok := irregular[key]
		if !ok {
			var isFile bool
			if key, isFile = strings.CutSuffix(key, "_FILE"); isFile {
				b, err := readFile(value)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: the file with the value cannot be read: %w", variable, err))
					continue
				}
				value = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
			}
			name = strings.ReplaceAll(strings.ToLower(key), "_", ".")
		}
		if err := p.set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", variable, err))
		}
	}
	return errors.Join(errs...)
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

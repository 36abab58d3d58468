package kafkaclient

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
// to do instead of setting it. They were looked for in librdkafka's CONFIGURATION.md (2.11):
// whatever decides what is committed, which records are delivered and how whole, or who is
// told of events.
var fixed = map[string]string{
	"bootstrap.servers":             "use --kafka-brokers",
	"metadata.broker.list":          "use --kafka-brokers",
	"group.id":                      "use --kafka-group",
	"auto.offset.reset":             "use --kafka-offset-reset",
	"client.id":                     "use --consumer-name",
	"partition.assignment.strategy": "it is cooperative-sticky",
	"group.protocol":                "it is classic",
	"group.protocol.type":           "it is consumer",
	"enable.partition.eof":          "it is false",

	// What is committed, and where.
	"enable.auto.offset.store":      "it is false: only what Pub/Sub has acknowledged is stored",
	"enable.auto.commit":            "it is true: only what is stored is committed; set auto.commit.interval.ms",
	"auto.commit.enable":            "it is true: only what is stored is committed; set auto.commit.interval.ms",
	"offset.store.method":           "it is broker: the group's offsets are Kafka's",
	"offset.store.path":             "offsets are stored in Kafka, not in a file",
	"offset.store.sync.interval.ms": "offsets are stored in Kafka, not in a file",

	// Which records are delivered, and how whole.
	"check.crcs":              "it is false: librdkafka would skip the records of a batch whose checksum is wrong",
	"isolation.level":         "it is read_committed: records of aborted transactions are no events",
	"api.version.request":     "it is true: the protocol of old brokers has neither headers nor timestamps",
	"broker.version.fallback": "the protocol of old brokers has neither headers nor timestamps",

	// How the bridge and its client talk to each other.
	"enabled_events":       "it is the Go binding's",
	"enabled.events":       "it is the Go binding's",
	"log.queue":            "it is the Go binding's; set log_level or debug for more lines",
	"interceptors":         "it is the Go binding's",
	"opaque":               "it is the Go binding's",
	"default_topic_conf":   "set its properties by themselves",
	"default.topic.conf":   "set its properties by themselves",
	"default.topic.config": "set its properties by themselves",
}

// bounded are the properties whose extremes switch off what the bridge relies on.
var bounded = map[string]struct {
	least, most int
	why         string
}{
	"statistics.interval.ms":             {1, 60_000, "partitions that stand still are found with it"},
	"auto.commit.interval.ms":            {1, 3_600_000, "0 would switch committing off"},
	"topic.metadata.refresh.interval.ms": {1, 3_600_000, "new partitions are found with it, and -1 would switch that off"},
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
		return fmt.Errorf("%s is a secret, which every process of the machine can read on the command line: set %s, or "+
			"%s_FILE to the path of a mounted file", name, variable, variable)
	}
	return p.set(name, value)
}

// set adds a property that nothing forbids.
func (p *Properties) set(name, value string) error {
	if instead, ok := fixed[name]; ok {
		return fmt.Errorf("%s cannot be set: %s", name, instead)
	}
	if strings.HasPrefix(name, "go.") || strings.HasSuffix(name, "_cb") {
		return fmt.Errorf("%s cannot be set: it changes how the bridge and its Kafka client talk to each other", name)
	}
	if b, ok := bounded[name]; ok {
		if n, err := strconv.Atoi(value); err != nil || n < b.least || n > b.most {
			return fmt.Errorf("%s is no number of milliseconds from %d to %d: %s", name, b.least, b.most, b.why)
		}
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

var (
	// properties of a connection: whoever forgets the prefix would connect without what they set
	connecting = regexp.MustCompile(`^KAFKA_((?:SASL|SSL)_.+|SECURITY_PROTOCOL)$`)
	// what Kubernetes sets for a service whose name begins with kafka
	ofService = regexp.MustCompile(`_SERVICE_(HOST|PORT.*)$|_PORT(_.*)?$`)
)

// Misnamed says which variables look like properties and are read by nobody, such as KAFKA_SASL_USERNAME or
// KAFKA_GROUP_ID, unless what they name is set otherwise. set tells whether a flag was.
func (p *Properties) Misnamed(environ []string, set func(flag string) bool) error {
	var errs []error
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		key, ok := strings.CutPrefix(variable, "KAFKA_")
		if value == "" || !ok || ofService.MatchString(variable) {
			continue
		}
		name, write := strings.ReplaceAll(strings.ToLower(strings.TrimSuffix(key, "_FILE")), "_", "."), ""
		if flag, ok := strings.CutPrefix(fixed[name], "use --"); ok && !set(flag) {
			write = strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
		} else if _, ok := p.m[name]; !ok && connecting.MatchString(variable) {
			write = environment + key
		}
		if write != "" {
			errs = append(errs, fmt.Errorf("the variable %s is read by nobody: write %s, or remove it", variable, write))
		}
	}
	return errors.Join(errs...)
}

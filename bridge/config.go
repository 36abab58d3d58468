package bridge

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"sluice/internal/batch"
	"sluice/internal/kafkaclient"
	"sluice/internal/reference"
	"sluice/internal/settings"
)

// Config is everything that can be set about a bridge. DefaultConfig has the
// defaults, Flags the one declaration of names and meanings, Validate the rules.
type Config struct {
	// Kafka: where the records come from.
	Brokers     string                 // bootstrap servers, host:port, separated by commas
	Topics      string                 // topics separated by commas; a name that begins with ^ is a regular expression
	Group       string                 // consumer group
	OffsetReset string                 // where a group without committed offsets begins: earliest, latest or error
	Properties  kafkaclient.Properties // further librdkafka properties
	OAuth       string                 // who supplies OAUTHBEARER tokens: empty (librdkafka) or google

	// Pub/Sub: where they go.
	Project         string // Google Cloud project of the topics
	Topic           string // topic for batches
	DeadLetterTopic string // topic for records that no Pub/Sub message can carry

	// Cloud Storage: where payloads go that would be dear as messages.
	PayloadBucket   string // empty: nowhere
	StorageEmulator string // host:port of another server than Google's
	ReferenceAbove  int    // bytes of a compressed batch above which it does

	// Packing. A batch leaves when it is full, or when its first record has waited long enough
	// for more.
	BatchRecords int           // records in a batch
	BatchBytes   int           // bytes in a batch before compression
	BatchGroups  string        // which topics may share batches; empty: each topic has its own
	Linger       time.Duration // wait of a batch that is worth a message
	MaxLinger    time.Duration // wait of a smaller one; Linger, if that is longer

	// Limits.
	MaxInflightBytes   int64         // packed and unacknowledged bytes, before compression, at which fetching stops
	MaxMessageBytes    int           // largest Pub/Sub message; larger records are dead-lettered
	PublishConcurrency int           // publish requests at a time
	PublishTimeout     time.Duration // for one publish request
	RetryMin, RetryMax time.Duration // backoff between tries of one batch

	// Time limits of what might wait.
	RevokeTimeout time.Duration // for the in-flight batches of a revoked partition
	DrainTimeout  time.Duration // for everything in flight at shutdown
	CommitTimeout time.Duration // for the last commit at shutdown
	CloseTimeout  time.Duration // for leaving the group at shutdown
	StuckAfter    time.Duration // without a turn of the poll loop, /livez fails
	// ReviveAfter is how long an assigned partition may go without being fetched from before it is assigned anew.
	// It is no flag: what is shorter than two of librdkafka's statistics would revive what has just been assigned.
	ReviveAfter time.Duration

	// The process.
	HTTPAddr string // /livez, /readyz and /metrics; empty or off: not served
	LogLevel string // debug, info, warn or error
	Consumer string // name of this instance in dead letters and in Kafka's client.id

	// MeterOptions are further readers of the metrics that /metrics shows, and their
	// resource. Not a flag: the program makes them of OTEL_* variables.
	MeterOptions []sdkmetric.Option
}

// DefaultConfig returns the defaults. Brokers and Project have none.
func DefaultConfig() Config {
	return Config{
		Topics:             "clickstream",
		Group:              "clickstream-to-bigquery",
		OffsetReset:        "earliest",
		Topic:              "clickstream",
		ReferenceAbove:     batch.DefaultPacking.ReferenceAbove,
		DeadLetterTopic:    "clickstream-dead-letter",
		BatchRecords:       batch.DefaultPacking.Records,
		BatchBytes:         batch.DefaultPacking.Bytes,
		Linger:             batch.DefaultPacking.Linger,
		MaxLinger:          batch.DefaultPacking.MaxLinger,
		MaxInflightBytes:   64 << 20,
		MaxMessageBytes:    10_000_000,
		PublishConcurrency: 32,
		PublishTimeout:     30 * time.Second,
		RetryMin:           100 * time.Millisecond,
		RetryMax:           10 * time.Second,
		ReviveAfter:        10 * time.Second,
		RevokeTimeout:      3 * time.Second,
		DrainTimeout:       6 * time.Second,
		CommitTimeout:      1500 * time.Millisecond,
		CloseTimeout:       1500 * time.Millisecond,
		StuckAfter:         30 * time.Second,
		HTTPAddr:           ":8080",
		LogLevel:           "info",
		Consumer:           "sluice-bridge",
	}
}

// Sections are the flags by purpose.
func (c *Config) Sections() []settings.Section {
	return []settings.Section{
		{Title: "Kafka", Flags: []string{"kafka-brokers", "kafka-topics", "kafka-group", "kafka-offset-reset", "kafka-config", "kafka-oauth"}},
		{Title: "Pub/Sub and Cloud Storage", Flags: []string{"google-cloud-project", "pubsub-topic",
			"pubsub-dead-letter-topic", "payload-bucket", "reference-above", "storage-emulator-host"}},
		{Title: "Batches: what messages cost, and how long records wait", Flags: []string{"batch-groups",
			"batch-records",
			"batch-bytes", "linger", "max-linger", "max-message-bytes"}},
		{Title: "Publishing and memory", Flags: []string{"max-inflight-bytes", "publish-concurrency", "publish-timeout",
			"retry-min", "retry-max"}},
		{Title: "Rebalances and shutdown", Flags: []string{"revoke-timeout", "drain-timeout", "commit-timeout", "close-timeout"}},
		{Title: "Operation", Flags: []string{"http-addr", "stuck-after", "log-level", "consumer-name"}},
	}
}

// Flags declares the configuration on a flag set. The defaults are c's values.
func (c *Config) Flags(fs *flag.FlagSet) {
	fs.StringVar(&c.Brokers, "kafka-brokers", c.Brokers,
		"Kafka bootstrap `servers`: host:port, separated by commas (required)")
	fs.StringVar(&c.Topics, "kafka-topics", c.Topics,
		"`topics` separated by commas; one that begins with ^ is a regular expression")
	fs.StringVar(&c.Group, "kafka-group", c.Group, "consumer `group`")
	fs.StringVar(&c.OffsetReset, "kafka-offset-reset", c.OffsetReset,
		"`where` a group without a committed offset begins: earliest, latest (skips what is there) or error")
	fs.Var(&c.Properties, "kafka-config", "any librdkafka property as `property=value`; may be repeated. In the environment: KAFKA_CONFIG_<PROPERTY>=value,\n"+
		"or KAFKA_CONFIG_<PROPERTY>_FILE=path to read it from a mounted file. Secrets only in these two ways")
	fs.StringVar(&c.OAuth, "kafka-oauth", c.OAuth,
		"`source` of OAUTHBEARER tokens: google (application default credentials, for Managed Service for Apache Kafka) or empty")
	fs.StringVar(&c.Project, "google-cloud-project", c.Project, "`project` of the Pub/Sub topics (required)")
	fs.StringVar(&c.Topic, "pubsub-topic", c.Topic, "Pub/Sub `topic` for batches")
	fs.StringVar(&c.DeadLetterTopic, "pubsub-dead-letter-topic", c.DeadLetterTopic,
		"Pub/Sub `topic` for records that are too large to publish")
	fs.IntVar(&c.BatchRecords, "batch-records", c.BatchRecords, "most `records` in a batch")
	fs.IntVar(&c.BatchBytes, "batch-bytes", c.BatchBytes,
		"most `bytes` in a batch, before compression; a larger record travels alone")
	fs.StringVar(&c.PayloadBucket, "payload-bucket", c.PayloadBucket,
		"`bucket` of Cloud Storage for large batches, to which their messages refer then: cheaper. The functions need it first. Empty: none")
	fs.StringVar(&c.StorageEmulator, "storage-emulator-host", c.StorageEmulator,
		"`host:port` of a Cloud Storage server to use instead of Google's, without encryption or credentials")
	fs.IntVar(&c.ReferenceAbove, "reference-above", c.ReferenceAbove,
		"`bytes` of a compressed batch above which it goes to the bucket: at list price an object, with the time that fetching it takes, costs as much as a message of 100,000")
	fs.StringVar(&c.BatchGroups, "batch-groups", c.BatchGroups,
		"`topics` that may share batches, because they have one contract: names and regular expressions as in --kafka-topics,\n"+
			"separated by commas, groups by semicolons. A topic of no group has batches of its own")
	fs.DurationVar(&c.Linger, "linger", c.Linger, "longest `time` that a record waits for others in a batch that is half full")
	fs.DurationVar(&c.MaxLinger, "max-linger", c.MaxLinger,
		"longest `time` that it waits in a lighter one: messages cost money, however small. Less than --linger: that")
	fs.Int64Var(&c.MaxInflightBytes, "max-inflight-bytes", c.MaxInflightBytes,
		"packed and unacknowledged `bytes`, before compression, at which fetching pauses")
	fs.IntVar(&c.MaxMessageBytes, "max-message-bytes", c.MaxMessageBytes,
		"largest Pub/Sub message in `bytes`; larger records go to the dead-letter topic")
	fs.IntVar(&c.PublishConcurrency, "publish-concurrency", c.PublishConcurrency, "most publish `requests` at a time")
	fs.DurationVar(&c.PublishTimeout, "publish-timeout", c.PublishTimeout,
		"`time` limit of one publish request; it is then tried again")
	fs.DurationVar(&c.RetryMin, "retry-min", c.RetryMin, "first `backoff` of a batch that was refused")
	fs.DurationVar(&c.RetryMax, "retry-max", c.RetryMax, "longest `backoff` of a batch that is refused again and again")
	fs.DurationVar(&c.RevokeTimeout, "revoke-timeout", c.RevokeTimeout,
		"longest `wait` for the batches in flight of a partition that another member gets")
	fs.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "longest `wait` for batches in flight at shutdown")
	fs.DurationVar(&c.CommitTimeout, "commit-timeout", c.CommitTimeout,
		"longest `wait` for the last commit at shutdown")
	fs.DurationVar(&c.CloseTimeout, "close-timeout", c.CloseTimeout, "longest `wait` for leaving the group at shutdown")
	fs.DurationVar(&c.StuckAfter, "stuck-after", c.StuckAfter,
		"`time` without a turn of the poll loop after which /livez fails")
	fs.StringVar(&c.HTTPAddr, "http-addr", c.HTTPAddr, "`address` of /livez, /readyz and /metrics; off: none")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "lowest `level` logged: debug, info, warn or error")
	fs.StringVar(&c.Consumer, "consumer-name", c.Consumer,
		"`name` of this instance in dead letters and as Kafka's client.id")
}

// ParseConfig reads flags over environment variables over defaults, and
// validates: the error tells every mistake. For -h it prints what can be set to
// fs.Output(), and the error is flag.ErrHelp.
func ParseConfig(fs *flag.FlagSet, args []string) (Config, error) {
	c := DefaultConfig()
	properties := c.Properties.FromEnvironment(os.Environ(), os.ReadFile)
	c.Flags(fs)
	err := settings.Parse(fs, args, "moves records from Kafka to Pub/Sub", c.Sections(),
		func() error {
			set := make(map[string]bool)
			fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
			return errors.Join(properties, c.Properties.Misnamed(os.Environ(), func(f string) bool { return set[f] }),
				c.Validate())
		})
	return c, err
}

// framing is what a Batch message and zstd may add to the bytes of one record.
const framing = 64 << 10

// maxRecordBytes is the size from which on a record cannot be published, not
// even alone and not even if it does not compress.
func (c *Config) maxRecordBytes() int {
	return min(c.MaxMessageBytes-framing, batch.DefaultLimits.RecordBytes-framing)
}

// Subscription is the topics to subscribe to, each once: librdkafka refuses a list that names
// one twice.
func (c *Config) Subscription() []string {
	var out []string
	for _, t := range kafkaclient.List(c.Topics) {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// groups say which topics may share batches.
type groups []group

type group struct {
	name     string
	topics   []string
	patterns []*regexp.Regexp
}

// packing is when a batch leaves.
func (c *Config) packing() batch.Packing {
	return batch.Packing{Records: c.BatchRecords, Bytes: c.BatchBytes, Linger: c.Linger, MaxLinger: c.MaxLinger,
		ReferenceAbove: c.ReferenceAbove}
}

// groups returns those of a valid configuration.
func (c *Config) groups() groups {
	var all groups
	for i, list := range strings.Split(c.BatchGroups, ";") {
		g := group{name: fmt.Sprintf(";%d", i)} // which is no topic
		for _, t := range kafkaclient.List(list) {
			if strings.HasPrefix(t, "^") {
				g.patterns = append(g.patterns, regexp.MustCompilePOSIX(t))
			} else {
				g.topics = append(g.topics, t)
			}
		}
		all = append(all, g)
	}
	return all
}

// of returns the name of the topic's group.
func (g groups) of(topic string) string {
	for _, g := range g {
		if slices.Contains(g.topics, topic) || slices.ContainsFunc(g.patterns,
			func(p *regexp.Regexp) bool { return p.MatchString(topic) }) {
			return g.name
		}
	}
	return topic
}

// Validate reports every mistake: the field, what kind of value is wrong, and
// what would be right. It connects to nothing.
func (c *Config) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, settings.Mistake(flag, fmt.Sprintf(format, args...)))
	}
	if len(kafkaclient.List(c.Brokers)) == 0 {
		bad("kafka-brokers", "is empty: name at least one bootstrap server as host:port")
	}
	for _, mistake := range kafkaclient.BrokerMistakes(c.Brokers) {
		bad("kafka-brokers", "%s", mistake)
	}
	if len(c.Subscription()) == 0 {
		bad("kafka-topics", "is empty: name at least one topic, or a regular expression that begins with ^")
	}
	topics := func(flag string, list []string) {
		for i, t := range list {
			if strings.HasPrefix(t, "^") {
				// librdkafka's are those of the C library.
				if _, err := regexp.CompilePOSIX(t); err != nil {
					bad(flag, "topic %d is no POSIX extended regular expression: %v", i+1, err)
				}
			} else if !topicPattern.MatchString(t) {
				bad(flag, "topic %d is no topic name: use 1 to 249 letters, digits, dots, underscores and hyphens, or begin a "+
					"regular expression with ^", i+1)
			}
		}
	}
	topics("kafka-topics", c.Subscription())
	for _, group := range strings.Split(c.BatchGroups, ";") {
		topics("batch-groups", kafkaclient.List(group))
	}
	if c.Group == "" {
		bad("kafka-group", "is empty: name the consumer group")
	}
	if !slices.Contains([]string{"earliest", "latest", "error"}, c.OffsetReset) {
		bad("kafka-offset-reset", "is none of its values: use earliest, latest or error")
	}
	if c.OAuth != "" && c.OAuth != "google" {
		bad("kafka-oauth", "is none of its values: use google, or leave it empty")
	}
	if c.Project == "" {
		bad("google-cloud-project", "is empty: name the project of the Pub/Sub topics")
	}
	if !pubsubPattern.MatchString(c.Topic) {
		bad("pubsub-topic", "is no Pub/Sub topic: use its ID (a letter, then 2 to 254 letters, digits and -_.~+%%) or projects/P/topics/T")
	}
	if !pubsubPattern.MatchString(c.DeadLetterTopic) {
		bad("pubsub-dead-letter-topic", "is no Pub/Sub topic: use its ID (a letter, then 2 to 254 letters, digits and "+
			"-_.~+%%) or projects/P/topics/T")
	}
	if c.PayloadBucket != "" && !reference.ValidBucket.MatchString(c.PayloadBucket) {
		bad("payload-bucket", "is no bucket: use its name, without gs://")
	}
	if c.ReferenceAbove < 0 {
		bad("reference-above", "is %d: use 0 (every batch) or more", c.ReferenceAbove)
	}
	if most := batch.DefaultLimits.Records; c.BatchRecords < 1 || c.BatchRecords > most {
		bad("batch-records", "is %d: use 1 to %d, which is what the functions accept", c.BatchRecords, most)
	}
	if c.MaxMessageBytes < 2*framing || c.MaxMessageBytes > 10_000_000 {
		bad("max-message-bytes", "is %d: use %d to 10000000, Pub/Sub's own limit", c.MaxMessageBytes, 2*framing)
	} else if most := c.maxRecordBytes(); c.BatchBytes < 1 || c.BatchBytes > most {
		bad("batch-bytes", "is %d: use 1 to %d, so that a batch that does not compress fits into --max-message-bytes",
			c.BatchBytes, most)
	}
	if c.MaxInflightBytes < int64(c.BatchBytes) {
		bad("max-inflight-bytes", "is %d: it must hold at least one batch, --batch-bytes is %d", c.MaxInflightBytes,
			c.BatchBytes)
	}
	if c.PublishConcurrency < 1 {
		bad("publish-concurrency", "is %d: use 1 or more", c.PublishConcurrency)
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
		least time.Duration
	}{
		{"linger", c.Linger, 0},
		{"max-linger", c.MaxLinger, 0},
		{"publish-timeout", c.PublishTimeout, time.Millisecond},
		{"retry-min", c.RetryMin, time.Millisecond},
		{"revoke-timeout", c.RevokeTimeout, 0},
		{"drain-timeout", c.DrainTimeout, 0},
		{"commit-timeout", c.CommitTimeout, 0},
		{"close-timeout", c.CloseTimeout, 0},
		{"stuck-after", c.StuckAfter, time.Second},
	} {
		if d.value < d.least {
			bad(d.flag, "is %s: use a duration of %s or more, such as 2s", d.value, d.least)
		}
	}
	if c.RetryMax < c.RetryMin {
		bad("retry-max", "is %s: it must not be less than --retry-min, %s", c.RetryMax, c.RetryMin)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, strings.ToLower(c.LogLevel)) {
		bad("log-level", "is none of its values: use debug, info, warn or error")
	}
	if c.Consumer == "" {
		bad("consumer-name", "is empty: name this instance")
	} else if most := 249; len(c.Consumer) > most {
		bad("consumer-name", "has %d bytes: use at most %d", len(c.Consumer), most)
	}
	return errors.Join(errs...)
}

var (
	topicPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
	pubsubPattern = regexp.MustCompile(`^(projects/[^/]+/topics/)?[A-Za-z][A-Za-z0-9._~+%-]{2,254}$`)
)

// Connection is how the bridge reaches Kafka.
func (c *Config) Connection() *kafkaclient.Connection {
	return &kafkaclient.Connection{Brokers: c.Brokers, ClientID: c.Consumer, OAuth: c.OAuth, Properties: c.Properties}
}

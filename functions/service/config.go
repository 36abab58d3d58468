package service

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"sluice/functions/event"
	"sluice/functions/push"
	"sluice/functions/schemas"
	"sluice/functions/warehouse"
	"sluice/internal/contract"
	"sluice/internal/reference"
	"sluice/internal/settings"
)

// The functions.
const (
	Ingest     = "Ingest"
	DeadLetter = "DeadLetter"
)

// Config is the whole configuration. Flags has the same fields, with what they mean.
type Config struct {
	Port     string
	Target   string
	LogLevel slog.Level
	Revision string

	Project          string
	Dataset          string
	FactEventsTable  string
	EventsDLQTable   string
	DeadLetterTopic  string
	PayloadBucket    string
	BigQueryEmulator string
	PubSubEmulator   string
	StorageEmulator  string

	Contracts     string
	Read          []*contract.Contract // what Contracts would be read to; not a flag
	EventTypes    List
	EventMaxAge   time.Duration
	EventMaxAhead time.Duration
	EventDecoder  string

	SchemaRegistryURL string
	Schemas           schemas.Config // not a flag; zero: the defaults

	HandlerTimeout time.Duration
	AppendTimeout  time.Duration
	BreakerOpen    time.Duration
	MaxInFlight    int64

	// Not flags but what the program makes of OTEL_* variables; nil: nothing is exported.
	Tracer trace.Tracer
	Meter  metric.Meter
	Flush  func() // sends what has been told, bounded; called after every request

	PushAudience       string
	PushServiceAccount string
	PushTrustCloudRun  bool
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	rules := event.DefaultConfig()
	return Config{
		Port:            "8080",
		Dataset:         "clickstream",
		FactEventsTable: "fact_events",
		EventsDLQTable:  "events_dlq",
		DeadLetterTopic: "clickstream-dead-letter",
		EventTypes:      rules.Types,
		EventMaxAge:     rules.MaxAge,
		EventMaxAhead:   rules.MaxAhead,
		EventDecoder:    rules.Decoder,
		HandlerTimeout:  push.DefaultConfig().Timeout,
		AppendTimeout:   warehouse.DefaultAppenderConfig().Timeout,
		BreakerOpen:     warehouse.DefaultAppenderConfig().BreakerOpen,
		MaxInFlight:     push.DefaultBudget,
	}
}

// Sections are the flags by purpose.
func (c *Config) Sections() []settings.Section {
	return []settings.Section{
		{Title: "What is served", Flags: []string{"function-target", "port"}},
		{Title: "BigQuery, Pub/Sub and Cloud Storage", Flags: []string{"google-cloud-project", "bigquery-dataset",
			"fact-events-table", "events-dlq-table",
			"pubsub-dead-letter-topic", "payload-bucket"}},
		{Title: "Events", Flags: []string{"contracts", "schema-registry-url", "event-types", "event-max-age",
			"event-max-ahead", "event-decoder"}},
		{Title: "Time and memory", Flags: []string{"handler-timeout", "append-timeout", "breaker-open", "max-inflight-bytes"}},
		{Title: "Who may push", Flags: []string{"push-audience", "push-service-account", "push-trust-cloud-run"}},
		{Title: "Operation", Flags: []string{"log-level", "k-revision"}},
		{Title: "Servers of a test", Flags: []string{"bigquery-storage-emulator-host", "pubsub-emulator-host", "storage-emulator-host"}},
	}
}

// Flags declares the fields on fs; their present values are the defaults. Each flag
// is an environment variable too: --handler-timeout is HANDLER_TIMEOUT.
func (c *Config) Flags(fs *flag.FlagSet) {
	fs.StringVar(&c.Port, "port", c.Port, "port to listen on")
	fs.StringVar(&c.Target, "function-target", c.Target, "function to serve at /: Ingest or DeadLetter; empty: both, "+
		"at /Ingest and /DeadLetter")
	fs.TextVar(&c.LogLevel, "log-level", c.LogLevel, "least severe lines to log: DEBUG, INFO, WARN or ERROR")
	fs.StringVar(&c.Revision, "k-revision", c.Revision, "name of this revision in dead letters; Cloud Run sets it")

	fs.StringVar(&c.Project, "google-cloud-project", c.Project, "project of the dataset and the topics (required)")
	fs.StringVar(&c.Dataset, "bigquery-dataset", c.Dataset, "dataset of the tables")
	fs.StringVar(&c.FactEventsTable, "fact-events-table", c.FactEventsTable,
		"table of the events of the built-in contract")
	fs.StringVar(&c.EventsDLQTable, "events-dlq-table", c.EventsDLQTable, "table of the rejected events")
	fs.StringVar(&c.DeadLetterTopic, "pubsub-dead-letter-topic", c.DeadLetterTopic,
		"topic for events that can never be inserted")
	fs.StringVar(&c.PayloadBucket, "payload-bucket", c.PayloadBucket, "bucket of Cloud Storage with the payloads that "+
		"messages refer to: the bridge's. Empty: there are none")
	fs.StringVar(&c.BigQueryEmulator, "bigquery-storage-emulator-host", c.BigQueryEmulator, "host:port of a Storage "+
		"Write API server to use instead of BigQuery's, without encryption or credentials")
	fs.StringVar(&c.PubSubEmulator, "pubsub-emulator-host", c.PubSubEmulator, "host:port of a Pub/Sub server to use "+
		"instead of Google's, without encryption or credentials")
	fs.StringVar(&c.StorageEmulator, "storage-emulator-host", c.StorageEmulator, "host:port of a Cloud Storage server "+
		"to use instead of Google's, without encryption or credentials")

	fs.StringVar(&c.Contracts, "contracts", c.Contracts, "folder of the streams' contracts, one file NAME.yaml each, "+
		"or one such file; empty: the built-in contract, for every topic")
	fs.Var(&c.EventTypes, "event-types", "of the built-in contract: values that event_type may have, separated by commas")
	fs.DurationVar(&c.EventMaxAge, "event-max-age", c.EventMaxAge, "of the built-in contract: how far back "+
		"event_timestamp may be; BigQuery's partitions take 5 years")
	fs.DurationVar(&c.EventMaxAhead, "event-max-ahead", c.EventMaxAhead, "of the built-in contract: how far ahead "+
		"event_timestamp may be; BigQuery's partitions take 1 year")
	fs.StringVar(&c.EventDecoder, "event-decoder", c.EventDecoder,
		"fast, or strict: the slower reference, if the fast "+
			"one should ever be in doubt")

	fs.StringVar(&c.SchemaRegistryURL, "schema-registry-url", c.SchemaRegistryURL, "address of the schema registry to "+
		"ask instead of the one that contracts name, such as a test's; empty: theirs")

	fs.DurationVar(&c.HandlerTimeout, "handler-timeout", c.HandlerTimeout,
		"bound of one push; must be below the subscription's ack deadline")
	fs.DurationVar(&c.AppendTimeout, "append-timeout", c.AppendTimeout,
		"bound of one request to BigQuery; must be below handler-timeout")
	fs.DurationVar(&c.BreakerOpen, "breaker-open", c.BreakerOpen,
		"how long BigQuery is left alone after several failures in a row")
	fs.Int64Var(&c.MaxInFlight, "max-inflight-bytes", c.MaxInFlight,
		"memory that the requests of an instance may hold "+
			"together; above it they are answered 429. About a quarter of the instance's")

	fs.StringVar(&c.PushAudience, "push-audience", c.PushAudience, "audience of the OIDC tokens that Pub/Sub pushes "+
		"with; empty: tokens are left to Cloud Run's IAM check")
	fs.StringVar(&c.PushServiceAccount, "push-service-account", c.PushServiceAccount, "email of the service account "+
		"that Pub/Sub pushes as; needed with push-audience")
	fs.BoolVar(&c.PushTrustCloudRun, "push-trust-cloud-run", c.PushTrustCloudRun, "Cloud Run's IAM check is on: it "+
		"verifies tokens and removes their signatures, so that only their claims are checked here. Never without that check")
}

// The names that Google Cloud allows, as far as a slip of the hand goes.
var (
	projectName = regexp.MustCompile(`^[a-z][a-z0-9.:-]*[a-z0-9]$`)
	tableName   = regexp.MustCompile(`^[\p{L}\p{M}\p{N}\p{Pc}\p{Pd} ]+$`)
	datasetName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	topicName   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$`)
)

// Validate returns every mistake in c, each by the name of its flag: what kind of value
// is wrong, and what would be right.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, settings.Mistake(flag, fmt.Sprintf(format, args...)))
	}
	if port, err := strconv.Atoi(c.Port); err != nil || port < 0 || port > 65535 {
		wrong("port", "is no port: use a number from 0 to 65535")
	}
	if c.Target != "" && c.Target != Ingest && c.Target != DeadLetter {
		wrong("function-target", "is no function: use Ingest, DeadLetter, or nothing for both")
	}
	if !projectName.MatchString(c.Project) {
		wrong("google-cloud-project", "is no project: use its id, such as clickstream-prod")
	}
	if !datasetName.MatchString(c.Dataset) {
		wrong("bigquery-dataset", "is no dataset: use letters, digits and underscores, without the project")
	}
	if !tableName.MatchString(c.FactEventsTable) {
		wrong("fact-events-table", "is no table: use its name, without the dataset")
	}
	if !tableName.MatchString(c.EventsDLQTable) {
		wrong("events-dlq-table", "is no table: use its name, without the dataset")
	}
	if !topicName.MatchString(c.DeadLetterTopic) {
		wrong("pubsub-dead-letter-topic", "is no topic: use its id, without the project")
	}
	if c.PayloadBucket != "" && !reference.ValidBucket.MatchString(c.PayloadBucket) {
		wrong("payload-bucket", "is no bucket: use its name, without gs://")
	}
	if len(c.EventTypes) == 0 {
		wrong("event-types", "is empty: name at least one")
	}
	if c.EventMaxAge <= 0 {
		wrong("event-max-age", "is %s: use a positive duration, such as 43800h", c.EventMaxAge)
	}
	if c.EventMaxAhead <= 0 {
		wrong("event-max-ahead", "is %s: use a positive duration, such as 8760h", c.EventMaxAhead)
	}
	if c.EventDecoder != event.Fast && c.EventDecoder != event.Strict {
		wrong("event-decoder", "is no decoder: use fast or strict")
	}
	if c.SchemaRegistryURL != "" {
		if u, err := url.Parse(c.SchemaRegistryURL); err != nil || u.Host == "" || u.Scheme != "http" &&
			u.Scheme != "https" || u.User != nil {
			wrong("schema-registry-url", "is no address of one: use https://HOST, without a user or a password")
		}
	}
	if c.HandlerTimeout <= 0 || c.HandlerTimeout > 10*time.Minute {
		wrong("handler-timeout", "is %s: use a positive duration below the ack deadline, which is 10m at most",
			c.HandlerTimeout)
	}
	if c.AppendTimeout <= 0 || c.AppendTimeout >= c.HandlerTimeout {
		wrong("append-timeout", "is %s: use a positive duration below --handler-timeout, %s", c.AppendTimeout,
			c.HandlerTimeout)
	}
	if c.BreakerOpen <= 0 {
		wrong("breaker-open", "is %s: use a positive duration, such as 5s", c.BreakerOpen)
	}
	if c.MaxInFlight <= 0 {
		wrong("max-inflight-bytes", "is %d: use a positive number", c.MaxInFlight)
	}
	if (c.PushAudience == "") != (c.PushServiceAccount == "") {
		wrong("push-audience", "does not go alone: set it and --push-service-account both, or neither")
	}
	if c.PushTrustCloudRun && c.PushAudience == "" {
		wrong("push-trust-cloud-run", "does not go alone: set --push-audience and --push-service-account with it")
	}
	return errors.Join(errs...)
}

// Streams returns the contracts of the streams: those of Contracts, or the built-in one.
func (c *Config) Streams() ([]*contract.Contract, error) {
	if len(c.Read) > 0 {
		return c.Read, nil
	}
	if c.Contracts != "" {
		return contract.ReadPath(c.Contracts)
	}
	builtIn, err := contract.Clickstream(contract.FactEvents(), c.EventTypes, c.EventMaxAge, c.EventMaxAhead)
	if err != nil {
		return nil, err
	}
	builtIn.Table.Name = c.FactEventsTable
	return []*contract.Contract{builtIn}, nil
}

// serves reports whether the function is to be served.
func (c *Config) serves(target string) bool {
	return c.Target == "" || c.Target == target
}

// List is a flag of values separated by commas.
type List []string

// String is the flag's text.
func (l *List) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(*l, ",")
}

// Set parses the flag's text.
func (l *List) Set(s string) error {
	var values []string
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			values = append(values, v)
		}
	}
	*l = values
	return nil
}

package command

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"sluice/internal/audit"
	"sluice/internal/kafkaclient"
	"sluice/internal/reference"
	"sluice/internal/settings"
)

// Audit is the command that checks that every record that was consumed has arrived. local
// is nil in a program that audits BigQuery only.
func Audit(local *Local) Command {
	return func(ctx context.Context, args []string) error { return audits(ctx, local, args) }
}

func audits(ctx context.Context, local *Local, args []string) error {
	flags := flag.NewFlagSet("audit", flag.ContinueOnError)
	var (
		tables       = target{here: local}
		since, until moment
		eventsSince  moment
		topics       values
		connection   = kafkaclient.Connection{ClientID: "sluice-audit"}
		group        = DefaultGroup
		bucketName   = flags.String("payload-bucket", "",
			"`bucket` with the payloads that messages refer to: objects that nobody has fetched are counted")
		asJSON = flags.Bool("json", false, "print the report as one JSON object")
	)
	tables.flags(flags)
	flags.StringVar(&connection.Brokers, "kafka", "",
		"`servers` host:port, separated by commas: the consumed offsets are the group's committed ones, and gaps are looked up.\n"+
			"Empty: what has arrived tells what was consumed; with --data, the Kafka topics kept there are asked")
	flags.StringVar(&group, "group", group, "consumer `group` of the bridge")
	flags.Var(&connection.Properties, "kafka-config",
		"librdkafka property as `property=value`, as the bridge takes it; secrets as KAFKA_CONFIG_<PROPERTY> in the environment")
	flags.StringVar(&connection.OAuth, "kafka-oauth", "",
		"`source` of OAUTHBEARER tokens: google (Managed Service for Apache Kafka) or empty")
	flags.Var(&topics, "topic", "Kafka `topic` to audit; may be repeated. Default: all")
	flags.Var(&since, "since", "audit records from this `time` on, by Kafka's timestamp: RFC 3339, a day, or how long ago (24h)")
	flags.Var(&until, "until", "audit records before this `time`. On a running pipeline choose one before Pub/Sub's oldest unacknowledged message (15m)")
	flags.Var(&eventsSince, "events-since", "read only rows of events that happened, and dead letters that failed, from this `time` on: BigQuery reads, and bills, no older\n"+
		"partitions. Records of older events then count as missing, so choose it before --since by as much as events come late")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Says whether every record that was consumed from Kafka has landed or been dead-lettered.
Exit status 1 if anything is missing, 2 if that could not be found out.

  ./scripts/audit --data .data                                          a local run
  ./scripts/audit --project P --kafka kafka.example.com:9092 --until 15m   BigQuery

The queries are internal/contract/sql/audit_*.sql; they scan the event ids and the Kafka
columns of both tables, a few dozen bytes a row; --events-since reads less. Once a day, say:

  ./scripts/audit --project P --kafka kafka.example.com:9092 --since 25h --until 15m --events-since 30d

By hand, for the dataset clickstream:

  sed 's/${dataset}/clickstream/' internal/contract/sql/audit_partitions.sql | bq query --use_legacy_sql=false

`)
		settings.PrintSections(flags.Output(), flags, []settings.Section{
			{Title: "Where the tables are", Flags: tableFlags},
			{Title: "What was consumed", Flags: []string{"kafka", "group", "kafka-config", "kafka-oauth"}},
			{Title: "Which records", Flags: []string{"topic", "since", "until", "events-since"}},
			{Title: "Besides", Flags: []string{"payload-bucket", "json"}},
		})
	}
	if err := connection.Properties.FromEnvironment(os.Environ(), os.ReadFile); err != nil {
		return err
	}
	if err := Parse(flags, args); err != nil {
		return err
	}
	if err := NoMore(flags); err != nil {
		return err
	}
	if err := CheckBrokers(connection.Brokers); err != nil {
		return err
	}
	if err := tables.validate(); err != nil {
		return err
	}
	engine, closeTables, err := tables.engine(ctx)
	if err != nil {
		return err
	}
	defer closeTables()
	if connection.Brokers == "" && tables.local() {
		brokers, closeKafka, err := local.Kafka(tables.data)
		if err != nil {
			return err
		}
		defer closeKafka()
		connection.Brokers = brokers
	}
	var k *audit.Kafka
	if connection.Brokers != "" {
		token, err := connection.Token(ctx)
		if err != nil {
			return err
		}
		if k, err = audit.OpenKafka(ctx, connection.ConfigMap(), group, token); err != nil {
			return err
		}
		defer k.Close()
	}
	contracts, err := tables.contracts()
	if err != nil {
		return err
	}
	report, err := audit.Run(ctx, engine, k, audit.Config{Dataset: tables.name(), Contracts: contracts, Topics: topics,
		Since: since.Time, Until: until.Time, EventsSince: eventsSince.Time})
	if err != nil {
		return err
	}
	if report.Totals.Missing > 0 && tables.local() && report.EventsSince == nil {
		report.Notes = append(report.Notes, "A run that was killed leaves in the embedded Pub/Sub's memory what had not "+
			"arrived: the next ./scripts/run --data "+
			tables.data+" reads it from Kafka again.")
	}
	if *bucketName != "" {
		if err := countOrphans(ctx, report, *bucketName); err != nil {
			return err
		}
	}
	if *asJSON {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		err = report.Print(os.Stdout)
	}
	if err == nil && report.Totals.Missing > 0 {
		return ErrFailed
	}
	return err
}

// countOrphans has the report count the objects of a bucket that nobody has fetched.
func countOrphans(ctx context.Context, report *audit.Report, name string) error {
	bucket, err := reference.Open(ctx, name, os.Getenv("STORAGE_EMULATOR_HOST"))
	if err != nil {
		return err
	}
	defer bucket.Close()
	return report.CountOrphans(ctx, bucket, time.Now())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

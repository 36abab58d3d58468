package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	rdkafka "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
	"sluice/internal/audit"
	"sluice/internal/local/kafka"
)

// auditTables checks that every record that was consumed has arrived.
func auditTables(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("audit", flag.ContinueOnError)
	var (
		tables       target
		since, until moment
		eventsSince  moment
		topics       values
		consumer     = bridge.DefaultConfig()
		asJSON       = flags.Bool("json", false, "print the report as one JSON object")
	)
	consumer.Brokers, consumer.Consumer = "", "sluice-audit"
	tables.flags(flags)
	flags.StringVar(&consumer.Brokers, "kafka", "", "`servers` host:port, separated by commas: the consumed offsets are the group's committed ones, and gaps are looked up.\n"+
		"Empty: what has arrived tells what was consumed; with --data, the Kafka topics kept there are asked")
	flags.StringVar(&consumer.Group, "group", consumer.Group, "consumer `group` of the bridge")
	flags.Var(&consumer.Properties, "kafka-config", "librdkafka property as `property=value`, as the bridge takes it; secrets as KAFKA_CONFIG_<PROPERTY> in the environment")
	flags.StringVar(&consumer.OAuth, "kafka-oauth", "", "`source` of OAUTHBEARER tokens: google (Managed Service for Apache Kafka) or empty")
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
		flags.PrintDefaults()
	}
	if err := consumer.Properties.FromEnvironment(os.Environ(), os.ReadFile); err != nil {
		return err
	}
	if err := parse(flags, args); err != nil {
		return err
	}
	if err := noMore(flags); err != nil {
		return err
	}
	engine, closeTables, err := tables.engine(ctx)
	if err != nil {
		return err
	}
	defer closeTables()
	if kept := filepath.Join(tables.data, "kafka"); consumer.Brokers == "" && tables.local() && exists(kept) {
		k, err := kafka.Start(kafka.Config{Dir: kept})
		if err != nil {
			return err
		}
		defer k.Close()
		consumer.Brokers = k.Brokers()
	}
	var k *audit.Kafka
	if consumer.Brokers != "" {
		token, err := kafkaToken(ctx, consumer)
		if err != nil {
			return err
		}
		if k, err = audit.OpenKafka(*consumer.ConsumerConfig(), consumer.Group, token); err != nil {
			return err
		}
		defer k.Close()
	}
	report, err := audit.Run(ctx, engine, k, audit.Config{Dataset: tables.name(), Topics: topics, Since: since.Time, Until: until.Time, EventsSince: eventsSince.Time})
	if err != nil {
		return err
	}
	if report.Totals.Missing > 0 && tables.local() && report.EventsSince == nil {
		report.Notes = append(report.Notes, "A run that was killed leaves in the embedded Pub/Sub's memory what had not arrived: the next ./scripts/run --data "+
			tables.data+" reads it from Kafka again.")
	}
	if *asJSON {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		err = report.Print(os.Stdout)
	}
	if err == nil && report.Totals.Missing > 0 {
		return errFailed
	}
	return err
}

// kafkaToken is a token for Kafka if c asks for one.
func kafkaToken(ctx context.Context, c bridge.Config) (*rdkafka.OAuthBearerToken, error) {
	switch c.OAuth {
	case "":
		return nil, nil
	case "google":
		token, err := bridge.GoogleToken(ctx)
		return &token, err
	}
	return nil, usageError("--kafka-oauth is %q: use google, or leave it empty", c.OAuth)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

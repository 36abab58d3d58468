package command

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/pubsub/v2"

	"sluice/internal/contract"
	"sluice/internal/doctor"
	"sluice/internal/kafkaclient"
	"sluice/internal/settings"
)

// DefaultPage is where the live page listens unless told otherwise: internal/local/livepage, which the light program
// has not got.
const DefaultPage = "127.0.0.1:8080"

// Doctor is the command that looks whether what a pipeline needs is there.
func Doctor(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	var (
		project = flags.String("project", "", "Google Cloud `project` to look at; empty: this machine, for a local run")
		dataset = flags.String("dataset", "clickstream", "BigQuery `dataset` of the tables")
		path    = flags.String("contracts", "",
			"`folder` of the streams' contracts, or one contract's file; empty: the built-in one")
		batches     = flags.String("pubsub-topic", DefaultTopic, "Pub/Sub `topic` that the bridge publishes to")
		deadLetters = flags.String("dead-letter-topic", "clickstream-dead-letter", "Pub/Sub `topic` of dead letters")
		data        = flags.String("data", ".data", "the `folder` that ./scripts/run --data keeps")
		listen      = flags.String("listen", DefaultPage, "`host:port` that the live page is to have")
		group       = flags.String("group", DefaultGroup, "consumer `group` of the bridge")
		asJSON      = flags.Bool("json", false, "print the findings as one JSON array")
		connection  = kafkaclient.Connection{ClientID: "sluice-doctor"}
	)
	flags.StringVar(&connection.Brokers, "kafka", "",
		"`servers` host:port, separated by commas: Kafka is looked at, too")
	flags.Var(&connection.Properties, "kafka-config",
		"librdkafka property as `property=value`, as the bridge takes it; secrets as KAFKA_CONFIG_<PROPERTY> in the environment")
	flags.StringVar(&connection.OAuth, "kafka-oauth", "",
		"`source` of OAUTHBEARER tokens: google (Managed Service for Apache Kafka) or empty")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Looks whether what a pipeline needs is there, and says what to do where it is not. It changes nothing.
Exit status 1 if something does not work.

  ./scripts/doctor                                       this machine: tools, ports, the folder of a local run
  ./scripts/doctor --project P                           credentials, tables against the contracts, topics and subscriptions
  ./scripts/doctor --project P --kafka kafka.example.com:9092   and Kafka: topics, the bridge's group

`)
		settings.PrintSections(flags.Output(), flags, []settings.Section{
			{Title: "Where the tables are", Flags: tableFlags},
			{Title: "Kafka", Flags: []string{"kafka", "group", "kafka-config", "kafka-oauth"}},
			{Title: "Pub/Sub", Flags: []string{"pubsub-topic", "dead-letter-topic"}},
			{Title: "This machine, and what is printed", Flags: []string{"listen", "json"}},
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
	contracts, err := ownOrBuiltIn(*path)
	if err != nil {
		return err
	}
	var findings []doctor.Finding
	if *path != "" {
		findings = append(findings, doctor.Finding{State: doctor.OK, What: "contracts " + *path,
			Said: fmt.Sprintf("%d, without a mistake", len(contracts))})
	}
	if *project == "" {
		findings = append(findings, doctor.Tools(ctx)...)
		findings = append(findings, doctor.Port(*listen, "the live page", "--listen"))
		findings = append(findings, doctor.Folder(*data)...)
	} else {
		findings = append(findings, cloud(ctx, *project, *dataset, doctor.Topics{Project: *project, Batches: *batches,
			DeadLetters: *deadLetters}, contracts)...)
	}
	if connection.Brokers != "" {
		topics := contract.KafkaTopics(contracts)
		if len(topics) == 0 {
			topics = []string{DefaultTopic}
		}
		findings = append(findings, doctor.Kafka(ctx, &connection, *group, topics)...)
	}
	bad := false
	if *asJSON {
		for _, f := range findings {
			bad = bad || f.State == doctor.Failed
		}
		if err := json.NewEncoder(os.Stdout).Encode(findings); err != nil {
			return err
		}
	} else {
		bad = doctor.Print(os.Stdout, findings)
	}
	if bad {
		return ErrFailed
	}
	return nil
}

// ownOrBuiltIn reads the contracts at path; "" is the built-in one.
func ownOrBuiltIn(path string) ([]*contract.Contract, error) {
	if path != "" {
		return contract.ReadPath(path)
	}
	c, err := contract.Preset("clickstream")
	if err != nil {
		return nil, err
	}
	return []*contract.Contract{c}, nil
}

// patience is how long Google Cloud may take to answer all questions.
const patience = 2 * time.Minute

// cloud looks at a deployment.
func cloud(ctx context.Context, project, dataset string, topics doctor.Topics,
	contracts []*contract.Contract) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var found []doctor.Finding
	// Emulators want no credentials.
	if os.Getenv("BIGQUERY_EMULATOR_HOST") == "" || os.Getenv("PUBSUB_EMULATOR_HOST") == "" {
		found = append(found, doctor.Credentials(ctx))
		if found[0].State != doctor.OK {
			return found
		}
	}
	tables, err := bigquery.NewClient(ctx, project)
	if err != nil {
		return append(found, doctor.Finding{State: doctor.Failed, What: "BigQuery", Said: err.Error()})
	}
	defer tables.Close()
	found = append(found, doctor.Tables(ctx, tables, dataset, contracts)...)
	messages, err := pubsub.NewClient(ctx, project)
	if err != nil {
		return append(found, doctor.Finding{State: doctor.Failed, What: "Pub/Sub", Said: err.Error()})
	}
	defer messages.Close()
	return append(found, doctor.Messages(ctx, messages, topics)...)
}

// Package attach puts the product between servers of the user's choice: the bridge
// and the functions, as they are deployed, with any of Kafka, Pub/Sub and BigQuery
// reached by address, and the embedded servers in the places of the others. It is
// what ./scripts/run does with --kafka, --pubsub or --bigquery.
//
//	a, err := attach.Start(ctx, attach.Config{Kafka: "localhost:9092", Log: log})
//	defer a.Stop(ctx)
//	producer, err := local.NewProducer(a.Brokers(), a.Topic())
//	from, err := a.Ends()
//	…                                                  // produce
//	to, err := a.Ends()
//	account, err := a.Await(ctx, from, to, time.Minute)
//	account.Missing                                    // 0
//
// Topics, subscriptions, the dataset and the tables are created where they are
// missing. A subscription that exists is pointed at this process.
package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2"
	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/functions/service"
	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/internal/local/kafka"
	embedded "sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
)

// Config says what is reached by address; an empty address is an embedded server.
type Config struct {
	Kafka        string // bootstrap servers
	PubSub       string // host:port of a Pub/Sub emulator
	BigQueryREST string // host:port of a BigQuery emulator's REST interface,
	BigQueryGRPC string // and of its Storage API; both or none

	Dir        string // keeps the embedded warehouse; empty: in memory
	Project    string // default local.Project
	Topic      string // of Kafka; default local.Topic
	Partitions int    // of the Kafka topic if it is created; default 4
	Bridges    int    // default 1
	// Wrapped pushes in the JSON envelope. Google's emulator needs it: it makes text
	// of unwrapped payloads, which are binary here.
	Wrapped bool

	Log *slog.Logger
}

// Attached is the product between its servers.
type Attached struct {
	config  Config
	brokers string
	pubsub  string // host:port
	append  string // host:port
	engine  query.Engine
	admin   *client.AdminClient
	// embedded is Pub/Sub's server if it is ours: what it holds ends with it.
	embedded *embedded.Server
	stops    []func(ctx context.Context) error // in the order of starting
}

// Start starts the embedded servers that are wanted, creates what is missing, and
// starts the functions and the bridges.
func Start(ctx context.Context, c Config) (_ *Attached, err error) {
	c.Project = cmp.Or(c.Project, local.Project)
	c.Topic = cmp.Or(c.Topic, local.Topic)
	c.Partitions = cmp.Or(c.Partitions, 4)
	c.Bridges = cmp.Or(c.Bridges, 1)
	if (c.BigQueryREST == "") != (c.BigQueryGRPC == "") {
		return nil, errors.New("BigQuery needs two addresses: of its REST interface and of its Storage API")
	}
	for _, given := range []struct{ what, addresses string }{
		{"Kafka", c.Kafka}, {"Pub/Sub", c.PubSub}, {"BigQuery's REST interface", c.BigQueryREST}, {"BigQuery's Storage API", c.BigQueryGRPC},
	} {
		if err := reachable(ctx, given.addresses); err != nil {
			return nil, fmt.Errorf("%s does not answer: %w", given.what, err)
		}
	}
	a := &Attached{config: c}
	defer func() {
		if err != nil {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, a.Stop(stopping))
		}
	}()
	for _, step := range []struct {
		what string
		do   func(ctx context.Context) error
	}{
		{"BigQuery", a.startWarehouse}, {"Pub/Sub", a.startPubSub}, {"Kafka", a.startKafka}, {"functions", a.startFunctions},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	for range c.Bridges {
		if err := a.startBridge(ctx); err != nil {
			return nil, fmt.Errorf("bridge: %w", err)
		}
	}
	return a, nil
}

// reachable reports why none of the addresses, separated by commas, takes a connection:
// the clients behind them would try it again for minutes, or for ever.
func reachable(ctx context.Context, addresses string) error {
	if addresses == "" {
		return nil
	}
	var errs []error
	for address := range strings.SplitSeq(addresses, ",") {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", strings.TrimSpace(address))
		if err == nil {
			return c.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (a *Attached) onStop(f func(ctx context.Context) error) { a.stops = append(a.stops, f) }

// Stop takes everything down in the order of the flow.
func (a *Attached) Stop(ctx context.Context) error {
	var errs []error
	for i := len(a.stops) - 1; i >= 0; i-- {
		errs = append(errs, a.stops[i](ctx))
	}
	a.stops = nil
	return errors.Join(errs...)
}

// Brokers are Kafka's bootstrap servers.
func (a *Attached) Brokers() string { return a.brokers }

// Topic is the Kafka topic.
func (a *Attached) Topic() string { return a.config.Topic }

func (a *Attached) startWarehouse(ctx context.Context) error {
	tables := []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}
	if a.config.BigQueryREST != "" {
		return a.attachBigQuery(ctx, tables)
	}
	w, err := warehouse.Start(warehouse.Config{Dir: a.config.Dir, Project: a.config.Project, Dataset: local.Dataset,
		Tables: tables, Log: a.config.Log})
	if err != nil {
		return err
	}
	a.onStop(func(context.Context) error { return w.Close() })
	a.append = w.Addr()
	a.engine = query.Database{DB: w.DB()}
	return nil
}

func (a *Attached) startPubSub(context.Context) error {
	a.pubsub = a.config.PubSub
	if a.pubsub != "" {
		return nil
	}
	p, err := embedded.Start(embedded.Config{Project: a.config.Project, BackoffScale: 0.01, Log: a.config.Log})
	if err != nil {
		return err
	}
	a.onStop(func(context.Context) error { return p.Close() })
	a.pubsub, a.embedded = p.Addr(), p
	return nil
}

func (a *Attached) startKafka(ctx context.Context) error {
	a.brokers = a.config.Kafka
	if a.brokers == "" {
		k, err := kafka.Start(kafka.Config{Topics: map[string]int32{a.config.Topic: int32(a.config.Partitions)}})
		if err != nil {
			return err
		}
		a.onStop(func(context.Context) error { return k.Close() })
		a.brokers = k.Brokers()
	}
	admin, err := client.NewAdminClient(&client.ConfigMap{"bootstrap.servers": a.brokers, "enable.metrics.push": false})
	if err != nil {
		return err
	}
	a.admin = admin
	a.onStop(func(context.Context) error { admin.Close(); return nil })
	result, err := admin.CreateTopics(ctx, []client.TopicSpecification{{Topic: a.config.Topic,
		NumPartitions: a.config.Partitions, ReplicationFactor: -1}}, client.SetAdminOperationTimeout(20*time.Second))
	if err != nil {
		return err
	}
	if e := result[0].Error; e.Code() != client.ErrNoError && e.Code() != client.ErrTopicAlreadyExists {
		return e
	}
	// A new topic takes a moment to have leaders.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		ends, err := a.Ends()
		if err == nil && len(ends) > 0 {
			return nil
		}
		if time.Now().After(end) {
			return cmp.Or(err, fmt.Errorf("topic %s has no partitions", a.config.Topic))
		}
	}
}

// pubSubOptions reach Pub/Sub without encryption and credentials.
func (a *Attached) pubSubOptions() []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint(a.pubsub), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))}
}

func (a *Attached) startFunctions(ctx context.Context) error {
	c := service.DefaultConfig()
	c.Project, c.Dataset, c.DeadLetterTopic = a.config.Project, local.Dataset, local.DeadLetterTopic
	c.BigQueryEmulator, c.PubSubEmulator = a.append, a.pubsub
	c.Revision = "functions-local"
	made, err := service.New(ctx, c, a.config.Log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, made.Close(ctx))
	}
	mux := http.NewServeMux()
	for _, target := range []string{service.Ingest, service.DeadLetter} {
		mux.Handle("/"+target, made.Handler(target))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	a.onStop(func(ctx context.Context) error {
		err := errors.Join(made.Close(ctx), server.Close())
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	})
	if a.embedded != nil {
		a.onStop(a.embedded.WaitIdle)
	}
	return a.subscribe(ctx, "http://"+l.Addr().String())
}

func (a *Attached) startBridge(ctx context.Context) error {
	c := bridge.DefaultConfig()
	c.Brokers, c.Topics = a.brokers, a.config.Topic
	c.Project, c.Topic, c.DeadLetterTopic = a.config.Project, local.Topic, local.DeadLetterTopic
	c.HTTPAddr = ""
	publisher, err := pubsub.NewClient(ctx, a.config.Project, a.pubSubOptions()...)
	if err != nil {
		return err
	}
	b, err := connect.New(c, publisher, nil, a.config.Log)
	if err != nil {
		return errors.Join(err, publisher.Close())
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- b.Run(running) }()
	a.onStop(func(ctx context.Context) error {
		cancel()
		select {
		case err := <-ended:
			return errors.Join(err, publisher.Close())
		case <-ctx.Done():
			return fmt.Errorf("a bridge has not ended: %w", ctx.Err())
		}
	})
	return nil
}

// Ends returns the end offset of each partition of the Kafka topic.
func (a *Attached) Ends() (local.Offsets, error) {
	metadata, err := a.admin.GetMetadata(&a.config.Topic, false, 10_000)
	if err != nil {
		return nil, fmt.Errorf("topic %s of Kafka: %w", a.config.Topic, err)
	}
	latest := make(map[client.TopicPartition]client.OffsetSpec)
	for _, p := range metadata.Topics[a.config.Topic].Partitions {
		latest[client.TopicPartition{Topic: &a.config.Topic, Partition: p.ID}] = client.LatestOffsetSpec
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	result, err := a.admin.ListOffsets(ctx, latest)
	if err != nil {
		return nil, fmt.Errorf("topic %s of Kafka: %w", a.config.Topic, err)
	}
	ends := make(local.Offsets, len(latest))
	for p, info := range result.ResultInfos {
		if info.Error.Code() != client.ErrNoError {
			return nil, fmt.Errorf("topic %s of Kafka, partition %d: %w", a.config.Topic, p.Partition, info.Error)
		}
		ends[p.Partition] = int64(info.Offset)
	}
	return ends, nil
}

// between is the SQL condition for the records from the offsets from (inclusive) up to
// the offsets to (exclusive), empty if there are none, and how many they are.
func (a *Attached) between(from, to local.Offsets) (condition string, records int64) {
	var spans []string
	for partition, end := range to {
		begin := int64(0)
		if partition < len(from) {
			begin = from[partition]
		}
		if end > begin {
			spans = append(spans, fmt.Sprintf("(kafka_partition = %d AND kafka_offset >= %d AND kafka_offset < %d)",
				partition, begin, end))
			records += end - begin
		}
	}
	if len(spans) == 0 {
		return "", 0
	}
	return fmt.Sprintf("kafka_topic = '%s' AND (%s)", a.config.Topic, strings.Join(spans, " OR ")), records
}

// Account counts the records from the offsets from (inclusive) up to the offsets
// to (exclusive) by their coordinates, in SQL that every engine here takes.
func (a *Attached) Account(ctx context.Context, from, to local.Offsets) (local.Account, error) {
	condition, records := a.between(from, to)
	account := local.Account{Missing: records}
	if records == 0 {
		return account, nil
	}
	rows, err := a.integers(ctx, fmt.Sprintf(`
WITH arrived AS (
  SELECT kafka_partition, kafka_offset, 1 AS fact, 0 AS dlq FROM %[1]s.fact_events WHERE %[2]s
  UNION ALL
  SELECT kafka_partition, kafka_offset, 0 AS fact, 1 AS dlq FROM %[1]s.events_dlq WHERE %[2]s
),
records AS (SELECT kafka_partition, kafka_offset, SUM(fact) AS fact, SUM(dlq) AS dlq FROM arrived GROUP BY kafka_partition, kafka_offset)
SELECT COUNTIF(fact > 0), COUNTIF(fact = 0), COALESCE(SUM(fact) + SUM(dlq) - COUNTIF(fact > 0) - COUNTIF(dlq > 0), 0) FROM records`,
		local.Dataset, condition))
	if err != nil {
		return account, fmt.Errorf("counting the records in the warehouse: %w", err)
	}
	account.Landed, account.DeadLettered, account.DuplicateRows = rows[0][0], rows[0][1], rows[0][2]
	account.Missing -= account.Landed + account.DeadLettered
	return account, nil
}

// Await waits until every record between the offsets has landed or been
// dead-lettered, until nothing has arrived for patience, or until ctx ends.
func (a *Attached) Await(ctx context.Context, from, to local.Offsets, patience time.Duration) (local.Account, error) {
	missing, since := int64(-1), time.Now()
	for {
		account, err := a.Account(context.WithoutCancel(ctx), from, to)
		if err != nil || account.Missing == 0 {
			return account, err
		}
		if account.Missing != missing {
			missing, since = account.Missing, time.Now()
		}
		if time.Since(since) > patience {
			return account, nil
		}
		select {
		case <-ctx.Done():
			return account, ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// Latency is how long the records between the offsets took from Kafka's timestamp to the row that Ingest
// made; the append's acknowledgement comes a moment later and is not seen from here.
func (a *Attached) Latency(ctx context.Context, from, to local.Offsets) (local.Percentiles, error) {
	var none local.Percentiles
	condition, records := a.between(from, to)
	if records == 0 {
		return none, nil
	}
	rows, err := a.integers(ctx, fmt.Sprintf(`
SELECT DIV(UNIX_MICROS(ingested_at) - UNIX_MICROS(kafka_timestamp), 1000) AS ms, COUNT(*) AS n
FROM %s.fact_events WHERE %s AND kafka_timestamp IS NOT NULL GROUP BY ms ORDER BY ms`, local.Dataset, condition))
	if err != nil {
		return none, fmt.Errorf("latencies: %w", err)
	}
	var all int64
	for _, row := range rows {
		all += row[1]
	}
	if all == 0 {
		return none, nil
	}
	at := func(share float64) int64 {
		want, seen := int64(share*float64(all)), int64(0)
		for _, row := range rows {
			if seen += row[1]; seen > want {
				return row[0]
			}
		}
		return rows[len(rows)-1][0]
	}
	return local.Percentiles{P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: rows[len(rows)-1][0]}, nil
}

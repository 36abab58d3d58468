package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/internal/contract"
	"sluice/internal/local/kafka"
	"sluice/internal/local/objects"
	embedded "sluice/internal/local/pubsub"
	"sluice/internal/local/warehouse"
	"sluice/internal/query"
	"sluice/internal/reference"
)

// Servers are reached by address, each in the place of an embedded one; empty: the
// embedded one. Topics, subscriptions, the dataset and the tables are created where they
// are missing; a subscription that exists is pointed at this process.
type Servers struct {
	Kafka string // bootstrap servers: host:port, separated by commas
	// KafkaClient is what clients of Kafka are told besides, such as credentials. (Bridges are told by their own
	// configuration.)
	KafkaClient client.ConfigMap
	PubSub      string // host:port of an emulator, without encryption or credentials
	// BigQueryREST and BigQueryGRPC are an emulator's two addresses, host:port: both or none.
	BigQueryREST, BigQueryGRPC string
}

// Any reports whether one of them is reached by address.
func (s Servers) Any() bool { return s.Kafka != "" || s.PubSub != "" || s.BigQueryREST != "" }

// check names every server that does not answer: the clients behind them would try it
// again for minutes, or for ever.
func (s Servers) check(ctx context.Context) error {
	if (s.BigQueryREST == "") != (s.BigQueryGRPC == "") {
		return errors.New("BigQuery needs two addresses: of its REST interface and of its Storage API")
	}
	var errs []error
	for _, given := range []struct{ what, addresses string }{
		{"Kafka", s.Kafka}, {"Pub/Sub", s.PubSub}, {"BigQuery's REST interface", s.BigQueryREST},
		{"BigQuery's Storage API", s.BigQueryGRPC},
	} {
		if err := reachable(ctx, given.addresses); err != nil {
			errs = append(errs, fmt.Errorf("%s does not answer: %w", given.what, err))
		}
	}
	return errors.Join(errs...)
}

// reachable reports why none of the addresses, separated by commas, takes a connection.
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

// places are the servers as the parts reach them, embedded or not.
type places struct {
	brokers string
	pubsub  string // host:port
	append  string // host:port of the Storage Write API
	engine  query.Engine

	admin    *client.AdminClient // of Kafka by address; nil: it is embedded
	bigquery *bigquery.Client    // nil: the warehouse is embedded
}

func (p *places) close() (errs []error) {
	if p.admin != nil {
		p.admin.Close()
	}
	if p.bigquery != nil {
		errs = append(errs, p.bigquery.Close())
	}
	return errs
}

// Brokers are Kafka's bootstrap servers.
func (s *Stack) Brokers() string { return s.places.brokers }

// Topic is the Kafka topic that NewProducer sends to.
func (s *Stack) Topic() string { return s.config.Topic }

// Engine answers queries on the tables.
func (s *Stack) Engine() query.Engine { return s.places.engine }

// NewClient returns a client of Pub/Sub, which is the caller's to close.
func (s *Stack) NewClient(ctx context.Context) (*pubsub.Client, error) {
	return pubsub.NewClient(ctx, Project, option.WithEndpoint(s.places.pubsub), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
}

func (s *Stack) startWarehouse(ctx context.Context) (err error) {
	c := &s.config
	if c.Servers.BigQueryREST != "" {
		return s.reachBigQuery(ctx)
	}
	s.Warehouse, err = warehouse.Start(warehouse.Config{
		Dir: c.Dir, Project: Project, Dataset: Dataset, Now: c.WarehouseNow, Log: c.Log, Contracts: c.Contracts,
		OnAppend: func(table string, rows int, kafkaTimestamps []int64) {
			switch table {
			case contract.EventsDLQ().Name:
				s.dead.Add(int64(rows))
			case contract.EventsLeftOut().Name:
			default:
				s.rows.Add(int64(rows))
				s.Latency.record(time.Now(), kafkaTimestamps)
			}
		},
	})
	if err != nil {
		return err
	}
	s.places.append, s.places.engine = s.Warehouse.Addr(), query.Database{DB: s.Warehouse.DB()}
	return nil
}

// reachBigQuery creates the dataset and the tables that are missing.
func (s *Stack) reachBigQuery(ctx context.Context) error {
	c := &s.config.Servers
	made, err := bigquery.NewClient(ctx, Project, option.WithEndpoint("http://"+c.BigQueryREST),
		option.WithoutAuthentication())
	if err != nil {
		return err
	}
	s.places.bigquery, s.places.append, s.places.engine = made, c.BigQueryGRPC, query.BigQuery{Client: made}
	// The client tries requests again for as long as it may.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dataset := made.Dataset(Dataset)
	if _, err := dataset.Metadata(ctx); missing(err) {
		err = dataset.Create(ctx, nil)
		if err != nil {
			return fmt.Errorf("dataset %s: %w", Dataset, err)
		}
	} else if err != nil {
		return fmt.Errorf("dataset %s: %w", Dataset, err)
	}
	appends, err := storage.NewBigQueryWriteClient(ctx, option.WithEndpoint(c.BigQueryGRPC),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return err
	}
	defer appends.Close()
	partitions := warehouse.PartitionsOf(s.config.Contracts)
	every := map[string]contract.Granularity{}
	for _, of := range s.config.Contracts {
		every[of.Table.Name] = of.Partition.Every
	}
	for _, t := range warehouse.TablesOf(s.config.Contracts) {
		by := contract.Partition{Column: partitions[t.Name].Column, Every: cmp.Or(every[t.Name], contract.Day)}
		if err := createTable(ctx, dataset.Table(t.Name), t, by); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		// goccy's emulator knows a default stream from the first look at it.
		name := fmt.Sprintf("projects/%s/datasets/%s/tables/%s/streams/_default", Project, Dataset, t.Name)
		if _, err := appends.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: name}); err != nil {
			return fmt.Errorf("default stream of table %s: %w", t.Name, err)
		}
	}
	return nil
}

// createTable creates a table if it is missing.
func createTable(ctx context.Context, to *bigquery.Table, t *contract.Table, by contract.Partition) error {
	if _, err := to.Metadata(ctx); !missing(err) {
		return err
	}
	columns, err := bigquery.SchemaFromJSON(t.Schema())
	if err != nil {
		return err
	}
	data := &bigquery.TableMetadata{Schema: columns}
	if by.Column != "" {
		every := bigquery.TimePartitioningType(strings.ToUpper(string(by.Every)))
		data.TimePartitioning = &bigquery.TimePartitioning{Type: every, Field: by.Column}
	}
	return to.Create(ctx, data)
}

func missing(err error) bool {
	var e *googleapi.Error
	return errors.As(err, &e) && e.Code == http.StatusNotFound
}

func (s *Stack) startPubSub(context.Context) (err error) {
	c := &s.config
	s.places.pubsub = c.Servers.PubSub
	if s.places.pubsub != "" {
		return nil
	}
	s.PubSub, err = embedded.Start(embedded.Config{Project: Project, BackoffScale: c.Push.BackoffScale,
		MaxOutstanding: c.Push.MaxOutstanding, Now: c.PubSubNow, Log: c.Log})
	if err != nil {
		return err
	}
	s.places.pubsub = s.PubSub.Addr()
	return nil
}

// subscribe creates the topics and the push subscriptions as Terraform does, the
// dead-letter subscription before its topic is used.
func (s *Stack) subscribe(ctx context.Context) (err error) {
	c, err := s.NewClient(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	push, scale := s.config.Push, 1.0
	if s.PubSub == nil { // whose clock does not run fast
		scale = push.BackoffScale
	}
	scaled := func(d time.Duration) *durationpb.Duration {
		return durationpb.New(time.Duration(float64(d) * scale))
	}
	full := func(collection, name string) string { return "projects/" + Project + "/" + collection + "/" + name }
	for _, of := range []struct{ topic, name, path string }{
		{DeadLetterTopic, DeadLetter, "/DeadLetter"},
		{Topic, Ingest, "/Ingest"},
	} {
		_, err := c.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: full("topics", of.topic)})
		if err != nil && status.Code(err) != codes.AlreadyExists {
			return err
		}
		to := &pubsubpb.PushConfig{PushEndpoint: s.endpoint(of.path)}
		if !s.config.Wrapped {
			to.Wrapper = &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}
		}
		sub := &pubsubpb.Subscription{
			Name: full("subscriptions", of.name), Topic: full("topics", of.topic), PushConfig: to,
			AckDeadlineSeconds: int32(push.AckDeadline / time.Second),
			RetryPolicy: &pubsubpb.RetryPolicy{MinimumBackoff: scaled(push.MinBackoff),
				MaximumBackoff: scaled(push.MaxBackoff)},
		}
		if s.PubSub != nil { // Google's emulator keeps messages for 7 days, and refuses to be told of more
			sub.MessageRetentionDuration = durationpb.New(31 * 24 * time.Hour)
		}
		if of.topic == Topic {
			sub.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: full("topics", DeadLetterTopic),
				MaxDeliveryAttempts: int32(push.MaxDeliveryAttempts)}
		}
		_, err = c.SubscriptionAdminClient.CreateSubscription(ctx, sub)
		if status.Code(err) == codes.AlreadyExists {
			err = c.SubscriptionAdminClient.ModifyPushConfig(ctx,
				&pubsubpb.ModifyPushConfigRequest{Subscription: sub.Name, PushConfig: to})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startObjects starts Cloud Storage, which is always embedded.
func (s *Stack) startObjects(ctx context.Context) (err error) {
	if s.Objects, err = objects.Start("127.0.0.1:0", Bucket); err != nil {
		return err
	}
	s.bucket, err = reference.Open(context.WithoutCancel(ctx), Bucket, s.Objects.Addr())
	return err
}

func (s *Stack) startKafka(ctx context.Context) (err error) {
	c := &s.config
	if c.Servers.Kafka != "" {
		return s.reachKafka(ctx)
	}
	// What is kept is of use with the rows that were made of it.
	dir := ""
	if c.Dir != "" && s.Warehouse != nil {
		dir = filepath.Join(c.Dir, "kafka")
	}
	s.Kafka, err = kafka.Start(kafka.Config{Brokers: c.Brokers, Topics: s.Topics(), Dir: dir})
	if err != nil {
		return err
	}
	s.places.brokers = s.Kafka.Brokers()
	s.running.Go(func() { s.Kafka.Unstick(s.life, s.Group(), stuckAfter) })
	if dir == "" {
		return nil
	}
	for topic := range s.Topics() {
		if err := s.rewind(ctx, topic); err != nil {
			return err
		}
	}
	return nil
}

// reachKafka creates the topics that are missing.
func (s *Stack) reachKafka(ctx context.Context) (err error) {
	s.places.brokers = s.config.Servers.Kafka
	config := client.ConfigMap{"bootstrap.servers": s.places.brokers, "enable.metrics.push": false}
	for name, value := range s.config.Servers.KafkaClient {
		config[name] = value
	}
	if s.places.admin, err = client.NewAdminClient(&config); err != nil {
		return err
	}
	var wanted []client.TopicSpecification
	for name, partitions := range s.Topics() {
		wanted = append(wanted, client.TopicSpecification{Topic: name, NumPartitions: int(partitions), ReplicationFactor: -1})
	}
	results, err := s.places.admin.CreateTopics(ctx, wanted, client.SetAdminOperationTimeout(20*time.Second))
	if err != nil {
		return err
	}
	for _, r := range results {
		if code := r.Error.Code(); code != client.ErrNoError && code != client.ErrTopicAlreadyExists {
			return fmt.Errorf("topic %s: %w", r.Topic, r.Error)
		}
	}
	// A new topic takes a moment to have leaders.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		ends, err := s.Ends(ctx)
		if err == nil && len(ends) > 0 {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(err, fmt.Errorf("topic %s has no partitions", s.config.Topic))
		}
	}
}

// Ends returns the end offset of each partition of the Kafka topic.
func (s *Stack) Ends(ctx context.Context) (Offsets, error) {
	if s.Kafka != nil {
		return s.Kafka.EndOffsets(s.config.Topic), nil
	}
	topic, admin := s.config.Topic, s.places.admin
	metadata, err := admin.GetMetadata(&topic, false, 10_000)
	if err != nil {
		return nil, fmt.Errorf("topic %s of Kafka: %w", topic, err)
	}
	latest := make(map[client.TopicPartition]client.OffsetSpec)
	for _, p := range metadata.Topics[topic].Partitions {
		latest[client.TopicPartition{Topic: &topic, Partition: p.ID}] = client.LatestOffsetSpec
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	result, err := admin.ListOffsets(ctx, latest)
	if err != nil {
		return nil, fmt.Errorf("topic %s of Kafka: %w", topic, err)
	}
	ends := make(Offsets, len(latest))
	for p, info := range result.ResultInfos {
		if info.Error.Code() != client.ErrNoError {
			return nil, fmt.Errorf("topic %s of Kafka, partition %d: %w", topic, p.Partition, info.Error)
		}
		ends[p.Partition] = int64(info.Offset)
	}
	return ends, nil
}

// Took is how long the records between the offsets took from Kafka's timestamp to the append that BigQuery
// acknowledged. Of a warehouse by address it is to the row that Ingest made: what came later is not seen from here.
func (s *Stack) Took(ctx context.Context, from, to Offsets) (Percentiles, error) {
	var none Percentiles
	if s.Warehouse != nil {
		return s.Latency.Percentiles(), nil
	}
	var parts []string
	for _, span := range s.spans(from, to) {
		if span.End > span.First {
			parts = append(parts, fmt.Sprintf("(kafka_partition = %d AND kafka_offset >= %d AND kafka_offset < %d)",
				span.Partition, span.First, span.End))
		}
	}
	if len(parts) == 0 {
		return none, nil
	}
	rows, err := query.All(ctx, s.places.engine, fmt.Sprintf(`
SELECT DIV(UNIX_MICROS(ingested_at) - UNIX_MICROS(kafka_timestamp), 1000) AS ms, COUNT(*) AS n
FROM %s WHERE kafka_topic = '%s' AND (%s) AND kafka_timestamp IS NOT NULL GROUP BY ms ORDER BY ms`,
		s.Query().Rows(), s.config.Topic, strings.Join(parts, " OR ")))
	if err != nil {
		return none, fmt.Errorf("latencies: %w", err)
	}
	l := newLatency()
	for _, row := range rows {
		ms, count := row[0].(int64), row[1].(int64)
		if err := l.histogram.RecordValues(min(max(ms, 0), time.Hour.Milliseconds()), count); err != nil {
			return none, err
		}
	}
	return l.Percentiles(), nil
}

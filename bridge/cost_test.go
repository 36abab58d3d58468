package bridge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/grpc"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/bridge/internal/servers"
	member "sluice/bridge/kafka"
	"sluice/internal/batch"
	"sluice/internal/generate"
	"sluice/internal/zstd"
)

// costRecords is how many records each measurement of the cost benchmark moves.
const costRecords = 400_000

const costPartitions = 4

// serversVariable makes the test binary serve the cost benchmark instead: broker
// and Pub/Sub must not run in the process whose CPU time is measured.
const serversVariable = "SLUICE_BRIDGE_COST_SERVERS"

func TestMain(m *testing.M) {
	if os.Getenv(serversVariable) != "" {
		if err := serveCost(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// costAddresses is what the serving process tells the measuring one.
type costAddresses struct{ Brokers, PubSub string }

// publishSink acknowledges what is published and forgets it.
type publishSink struct {
	pubsubpb.UnimplementedPublisherServer
}

func (publishSink) Publish(_ context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	return &pubsubpb.PublishResponse{MessageIds: make([]string, len(r.Messages))}, nil
}

func serveCost() error {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(costPartitions, servers.KafkaTopic),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		return err
	}
	defer broker.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	pubsubpb.RegisterPublisherServer(srv, publishSink{})
	go srv.Serve(l)
	defer srv.Stop()

	brokers := broker.ListenAddrs()[0]
	p, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": brokers, "enable.metrics.push": false, "linger.ms": 50,
		"go.delivery.reports": false, "queue.buffering.max.messages": 2 * costRecords,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	// Realistic events, mean 400 bytes: what they cost to compress counts.
	g := generate.New(generate.Config{Seed: 1})
	topic := servers.KafkaTopic
	for i := range costRecords {
		e := g.Next()
		err := p.Produce(&kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: int32(i % costPartitions)},
			Key:            e.Key, Value: e.Value,
		}, nil)
		if err != nil {
			return err
		}
	}
	if left := p.Flush(120_000); left > 0 {
		return fmt.Errorf("%d records were not produced", left)
	}
	if err := json.NewEncoder(os.Stdout).Encode(costAddresses{brokers, l.Addr().String()}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin) // until the measuring process ends
	return err
}

// startCostServers starts the serving process.
func startCostServers(b *testing.B) costAddresses {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serversVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		b.Fatal("the serving process ended: ", err)
	}
	var a costAddresses
	if err := json.Unmarshal(line, &a); err != nil {
		b.Fatal(err)
	}
	return a
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func costConfig(a costAddresses, group string) bridge.Config {
	c := bridge.DefaultConfig()
	c.Brokers = a.Brokers
	c.Project = servers.Project
	c.Group = group
	return c
}

// discard consumes everything with a bare confluent-kafka-go consumer in the
// bridge's own configuration, and drops it.
func discard(b *testing.B, a costAddresses, group string) {
	c := costConfig(a, group)
	consumer, err := kafka.NewConsumer(member.ConfigMap(&c))
	if err != nil {
		b.Fatal(err)
	}
	if err := consumer.SubscribeTopics([]string{c.Topics}, nil); err != nil {
		b.Fatal(err)
	}
	for n := 0; n < costRecords; {
		if _, ok := consumer.Poll(100).(*kafka.Message); ok {
			n++
		}
	}
	if err := consumer.Close(); err != nil {
		b.Fatal(err)
	}
}

// move runs a bridge until everything is acknowledged.
func move(b *testing.B, a costAddresses, group string) {
	br, err := connect.New(costConfig(a, group), servers.Client(b, a.PubSub), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- br.Run(ctx) }()
	for {
		s := br.Stats()
		if s.RecordsIn >= costRecords && s.InflightBatches == 0 && s.InflightBytes == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// compress measures the part of the bridge's work that no way of fetching and
// publishing can spare: zstd over the same events, in batches of the same size.
func compress(b *testing.B) (perRecord float64) {
	g := generate.New(generate.Config{Seed: 1})
	const batches = 50
	encoders := make([]*batch.Encoder, batches)
	size := bridge.DefaultConfig().BatchRecords
	for i := range encoders {
		encoders[i] = batch.NewEncoder(batch.Header{})
		for n := range size {
			e := g.Next()
			encoders[i].Append(&batch.Record{Topic: servers.KafkaTopic, Offset: int64(n),
				Timestamp: time.Now().UnixMilli(), Key: e.Key, Value: e.Value})
		}
	}
	var payload []byte
	c := zstd.New()
	start := cpu(b)
	for _, e := range encoders {
		var err error
		if payload, err = e.PayloadWith(payload[:0], func(dst, src []byte) ([]byte, error) {
			return c.Append(dst, src,
				zstd.Fast)
		}); err != nil {
			b.Fatal(err)
		}
	}
	return float64((cpu(b) - start).Nanoseconds()) / float64(batches*size)
}

// BenchmarkBridgeVsDiscard reports what the bridge costs against the floor that
// there is without it: a bare consumer that discards. Rounds alternate, since
// the machine is never quiet, and the ratio is the median of the rounds'. It also
// tells how much of the cost is compression, which the floor has no part of.
func BenchmarkBridgeVsDiscard(b *testing.B) {
	a := startCostServers(b)
	const rounds = 5
	for n := 0; b.Loop(); n++ {
		var ratios, uncompressed, floors, bridges, allocs, zstds []float64
		for r := range rounds {
			measure := func(name string, f func(*testing.B, costAddresses, string)) (perRecord, mallocs float64) {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				start := cpu(b)
				f(b, a, fmt.Sprintf("%s-%d-%d", name, n, r))
				used := cpu(b) - start
				runtime.ReadMemStats(&after)
				return float64(used.Nanoseconds()) / costRecords, float64(after.Mallocs-before.Mallocs) / costRecords
			}
			floor, _ := measure("discard", discard)
			cost, mallocs := measure("bridge", move)
			zstd := compress(b)
			floors, bridges, zstds = append(floors, floor), append(bridges, cost), append(zstds, zstd)
			ratios, uncompressed = append(ratios, cost/floor), append(uncompressed, (cost-zstd)/floor)
			allocs = append(allocs, mallocs)
		}
		b.ReportMetric(median(ratios), "bridge_vs_discard")
		b.ReportMetric(median(uncompressed), "without_compression_vs_discard")
		b.ReportMetric(median(zstds), "compression_cpu_ns/record")
		b.ReportMetric(median(floors), "discard_cpu_ns/record")
		b.ReportMetric(median(bridges), "bridge_cpu_ns/record")
		b.ReportMetric(median(allocs), "bridge_allocs/record")
	}
	b.ReportMetric(0, "ns/op") // the time of all rounds says nothing
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// Package conformance is one suite of tests of the whole pipeline for any servers
// that speak the protocols of Kafka, Pub/Sub and BigQuery: the embedded ones of
// this project and those of other people. What passes on all of them is what the
// project may believe of the protocols; where one deviates, its Servers say so.
//
//	conformance.Run(t, conformance.Servers{…})
//
// Each case has a Kafka topic, a consumer group and a pipeline of its own. Where servers
// are reached by address, Pub/Sub's topics and BigQuery's tables are shared with the cases
// before: rows are told apart by their kafka_topic. The bridge and the functions are the
// product's, with the configuration that they are deployed with.
package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/local"
	"sluice/internal/query"
)

// Servers are what a pipeline runs between.
type Servers struct {
	// By are the servers that are reached by address: Kafka always, so that cases have a cluster to trouble.
	By local.Servers
	// Environment are variables of the bridge that reach these brokers, such as
	// KAFKA_CONFIG_SASL_PASSWORD=….
	Environment []string
	Replicas    int  // of topics; default 1
	Wrapped     bool // push wrapped: Google's emulator spoils binary payloads otherwise
	// MaxAppend is the largest append in bytes that BigQuery here takes; default 9 MB.
	MaxAppend int

	// RestartBroker restarts a Kafka broker; nil: not to be had.
	RestartBroker func(ctx context.Context) error
	// Failover takes the leader of a topic's partition 0 away, unasked, and returns
	// what brings it back; nil: not to be had.
	Failover func(ctx context.Context, topic string) (back func(ctx context.Context) error, err error)
	// Producers are programs that write lines to a topic of these brokers as
	// records, besides the suite's own client.
	Producers map[string]func(ctx context.Context, topic string, lines string) error
	// Compact compacts a topic now; nil: the brokers do it by themselves.
	Compact func()
}

// Run runs the suite.
func Run(t *testing.T, s Servers) {
	s.Replicas = max(s.Replicas, 1)
	if s.MaxAppend == 0 {
		s.MaxAppend = 9_000_000
	}
	type testCase struct {
		name string
		run  func(t *testing.T, s *Servers)
	}
	cases := []testCase{
		{"events land as sent and bad ones are dead-lettered", events},
		{"a contract of one's own", ownContract},
		{"all compressions", compressions},
		{"keys, headers, tombstones and empty values", shapes},
		{"aborted transactions are never forwarded", transactions},
		{"large records", large},
		{"records that fit a message and no append", between},
		{"partitions added while running", partitionsAdded},
		{"topic deleted and created again", topicRecreated},
		{"group reset to an earlier offset", groupReset},
		{"compacted topic", compacted},
		{"bridges join and leave", rebalance},
	}
	// The others need servers that can do it.
	if s.RestartBroker != nil {
		cases = append(cases, testCase{"broker restarted", brokerRestarted})
	}
	if s.Failover != nil {
		cases = append(cases, testCase{"leader lost under load", leaderLost})
	}
	if s.Producers != nil {
		cases = append(cases, testCase{"producers of other makers", otherProducers})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, &s) })
	}
}

// Text writes a row of a query in a form that is the same for all engines.
func Text(row []any) string {
	var out strings.Builder
	for i, v := range row {
		if i > 0 {
			out.WriteString(" | ")
		}
		switch v := v.(type) {
		case nil:
			out.WriteString("null")
		case time.Time:
			out.WriteString(v.UTC().Format(time.RFC3339Nano))
		case []byte:
			fmt.Fprintf(&out, "%x", v)
		case float64:
			fmt.Fprintf(&out, "%.6g", v)
		default:
			fmt.Fprint(&out, v)
		}
	}
	return out.String()
}

// Rows runs a query and returns its rows as Text.
func Rows(ctx context.Context, engine query.Engine, statement string) ([]string, error) {
	var rows []string
	for row, err := range engine.Query(ctx, statement) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, Text(row))
	}
	return rows, nil
}

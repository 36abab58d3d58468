// Package kafka is the bridge's member of a Kafka consumer group, on librdkafka: all that the bridge knows of it is
// here.
//
//	c := kafka.New(config, log)      // connects to nothing
//	b, err := bridge.New(config, c, publisher, log)
//
// librdkafka serves rebalances, errors and statistics in Poll, in the caller's goroutine; records come through package
// fetch, in batches. It commits what Store has stored, every second and when a partition is given up.
package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"sluice/bridge"
	"sluice/bridge/kafka/fetch"
	"sluice/internal/batch"
	"sluice/internal/kafkaclient"
)

// Consumer is a bridge.Consumer.
type Consumer struct {
	config  bridge.Config
	log     *slog.Logger
	member  bridge.Member
	client  *kafka.Consumer
	fetcher *fetch.Fetcher
	fatal   error       // Poll's
	leaving atomic.Bool // the client is being closed, by another goroutine

	tokens       kafkaclient.TokenSource // nil: librdkafka gets its own, or needs none
	tokenAnswers chan tokenAnswer
	tokenContext context.Context // ends when the client is closed
	noTokens     context.CancelFunc
}

// New returns a Consumer that connects to nothing yet.
func New(config bridge.Config, log *slog.Logger) *Consumer {
	c := &Consumer{config: config, log: log, tokens: config.Connection().Tokens(), tokenAnswers: make(chan tokenAnswer,
		1)}
	c.tokenContext, c.noTokens = context.WithCancel(context.Background())
	return c
}

// Join is bridge.Consumer's.
func (c *Consumer) Join(m bridge.Member) error {
	c.member = m
	client, err := kafka.NewConsumer(ConfigMap(&c.config))
	if err != nil {
		return fmt.Errorf("%w: librdkafka refuses a property, check --kafka-config and KAFKA_CONFIG_*: %w",
			bridge.ErrConfig, err)
	}
	c.client = client
	go c.forwardLogs(client.Logs())
	if c.fetcher, err = fetch.New(client, bridge.FetchRecords); err != nil {
		return err
	}
	return client.SubscribeTopics(c.config.Subscription(), c.rebalance)
}

// forwardLogs writes librdkafka's log lines to ours until the client is closed.
func (c *Consumer) forwardLogs(lines <-chan kafka.LogEvent) {
	for l := range lines {
		level := slog.LevelDebug
		switch { // syslog's levels; librdkafka's errors are mostly broken connections, which it mends
		case l.Tag == "FAIL": // broken connections, which Poll is told of, too
		case l.Level <= 2:
			level = slog.LevelError
		case l.Level <= 4:
			level = slog.LevelWarn
		case l.Level <= 6:
			level = slog.LevelInfo
		}
		c.log.Log(context.Background(), level, "librdkafka: "+l.Message, "facility", l.Tag)
	}
}

// Poll is bridge.Consumer's.
func (c *Consumer) Poll() error {
	// Rebalances are handled in their callback.
	switch e := c.client.Poll(0).(type) {
	case nil:
	case kafka.Error:
		if e.IsFatal() {
			return fmt.Errorf("bridge: fatal Kafka client error: %w", e)
		}
		c.member.Troubled(e.Code().String(), e)
	case kafka.OffsetsCommitted:
		if !nothingStored(e.Error) {
			c.member.CommitFailed(e.Error)
		}
	case *kafka.Stats:
		c.statistics(e.String())
	case kafka.OAuthBearerTokenRefresh:
		c.refreshToken()
	case *kafka.Message:
		// Every partition is forwarded to the fetcher before it is assigned. A record
		// that comes here would be skipped: after a restart it comes again.
		return errors.New("bridge: a record came past the fetcher: its partition was not forwarded")
	}
	c.passToken()
	return c.fatal
}

// nothingStored reports whether a commit went well, or there was nothing to commit.
func nothingStored(err error) bool {
	e, ok := err.(kafka.Error)
	return err == nil || ok && e.Code() == kafka.ErrNoOffset
}

// Fetch is bridge.Consumer's, as are the methods below.
func (c *Consumer) Fetch(d time.Duration) int { return c.fetcher.Fetch(d) }

func (c *Consumer) Release() { c.fetcher.Release() }

func (c *Consumer) Source(i int) bridge.Source { return c.fetcher.Source(i) }

func (c *Consumer) Topic(i int) string { return c.fetcher.TopicName(i) }

func (c *Consumer) Offset(i int) int64 { return c.fetcher.Offset(i) }

func (c *Consumer) LeaderEpoch(i int) int32 { return c.fetcher.LeaderEpoch(i) }

func (c *Consumer) Fault(i int) string { return name(c.fetcher.Err(i)) }

func (c *Consumer) Read(i int, r *batch.Record) string { return name(c.fetcher.Record(i, r)) }

// name is the name of an error, "" of none.
func name(code kafka.ErrorCode) string {
	if code == 0 {
		return ""
	}
	return code.String()
}

// Store is bridge.Consumer's.
func (c *Consumer) Store(offsets []bridge.Offset) error {
	parts := make([]kafka.TopicPartition, len(offsets))
	for i := range offsets {
		o := &offsets[i]
		parts[i] = kafka.TopicPartition{Topic: &o.Topic, Partition: o.Partition, Offset: kafka.Offset(o.Next)}
		if o.LeaderEpoch >= 0 {
			parts[i].LeaderEpoch = &o.LeaderEpoch
		}
	}
	stored, err := c.client.StoreOffsets(parts)
	for _, o := range stored {
		if o.Error != nil && !unassigned(o.Error) {
			err = o.Error
		}
	}
	if err != nil && !unassigned(err) {
		return err
	}
	return nil
}

// unassigned reports whether a partition is no longer assigned to this member: librdkafka's word for it is state.
func unassigned(err error) bool {
	e, ok := err.(kafka.Error)
	return ok && e.Code() == kafka.ErrState
}

// End is bridge.Consumer's. The high watermark comes with every answer to a fetch; reading it asks nobody.
func (c *Consumer) End(p bridge.TopicPartition) (int64, bool) {
	_, high, err := c.client.GetWatermarkOffsets(p.Topic, p.Partition)
	return high, err == nil && high >= 0
}

// Positions is bridge.Consumer's. librdkafka's position advances with what was fetched, errors included.
func (c *Consumer) Positions(parts []bridge.TopicPartition) []bridge.Offset {
	positions, err := c.client.Position(theirs(parts))
	if err != nil {
		c.log.Debug("positions cannot be read", "error", err.Error())
		return nil
	}
	var known []bridge.Offset
	for _, at := range positions {
		if at.Error == nil && at.Offset >= 0 {
			known = append(known, bridge.Offset{TopicPartition: ours(at), Next: int64(at.Offset), LeaderEpoch: -1})
		}
	}
	return known
}

// ours and theirs are partitions in the bridge's terms, and in librdkafka's.
func ours(tp kafka.TopicPartition) bridge.TopicPartition {
	return bridge.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}
}

func theirs(parts []bridge.TopicPartition) []kafka.TopicPartition {
	out := make([]kafka.TopicPartition, len(parts))
	for i := range parts {
		out[i] = kafka.TopicPartition{Topic: &parts[i].Topic, Partition: parts[i].Partition}
	}
	return out
}

// librdkafkaStats are the few of librdkafka's statistics that are of use here.
// See https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md.
type librdkafkaStats struct {
	Group struct {
		State string `json:"join_state"`
	} `json:"cgrp"`
	Topics map[string]struct {
		Partitions map[string]struct {
			State  string `json:"fetch_state"`
			Queued int64  `json:"fetchq_cnt"`
			Next   int64  `json:"next_offset"`
		} `json:"partitions"`
	} `json:"topics"`
}

func (c *Consumer) statistics(text string) {
	var stats librdkafkaStats
	if err := json.Unmarshal([]byte(text), &stats); err != nil {
		c.log.Warn("librdkafka's statistics cannot be read", "error", err.Error())
		return
	}
	var parts []bridge.Standing
	for topic, t := range stats.Topics {
		for id, s := range t.Partitions {
			n, err := strconv.ParseInt(id, 10, 32)
			if err != nil || n < 0 {
				continue // −1 are records of no partition yet
			}
			parts = append(parts, bridge.Standing{TopicPartition: bridge.TopicPartition{Topic: topic,
				Partition: int32(n)},
				State: s.State, Active: s.State == "active", Idle: s.State == "none" ||
					s.State == "stopped", Queued: s.Queued, Next: s.Next})
		}
	}
	c.member.Standing(stats.Group.State == "steady", parts)
}

// Leave is bridge.Consumer's.
func (c *Consumer) Leave() (committed, left <-chan bool) {
	committing, leaving := make(chan bool, 1), make(chan bool, 1)
	if c.client == nil { // it has not joined
		committing <- true
		leaving <- true
		return committing, leaving
	}
	c.leaving.Store(true)
	go func() {
		_, err := c.client.Commit()
		done := nothingStored(err)
		if !done {
			c.log.Warn("the last commit failed", "error", err.Error())
		}
		committing <- done
		c.noTokens()
		// Close must not run beside a call that has not returned. If that takes longer
		// than anybody waits for, the member is gone when the process is, or, in a process
		// that goes on, when the call returns.
		if c.fetcher != nil {
			c.fetcher.Close()
		}
		err = c.client.Close()
		if err != nil {
			c.log.Warn("the Kafka consumer was not closed", "error", err.Error())
		}
		leaving <- err == nil
	}()
	return committing, leaving
}

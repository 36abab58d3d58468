// Package kafkaclient is how this project's programs reach Kafka: the bridge, the audit and
// the replay take the same settings, and make consumers, producers and admin clients of them.
//
//	c := kafkaclient.Connection{Brokers: "kafka.example.com:9092", ClientID: "sluice-audit"}
//	err := c.Properties.FromEnvironment(os.Environ(), os.ReadFile) // KAFKA_CONFIG_…
//	properties := c.ConfigMap()     // what every client needs; add what a consumer or a producer does
//	token, err := c.Token(ctx)      // of OAUTHBEARER, for a client that lives for less than it lasts
package kafkaclient

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Connection says which Kafka is meant and how to get in.
type Connection struct {
	Brokers    string     // bootstrap servers, host:port, separated by commas
	ClientID   string     // Kafka's client.id
	OAuth      string     // who supplies OAUTHBEARER tokens: empty (librdkafka) or google
	Properties Properties // further librdkafka properties
}

// ConfigMap is what a client of any kind needs.
func (c *Connection) ConfigMap() kafka.ConfigMap {
	m := kafka.ConfigMap{"enable.metrics.push": "false", "log.connection.close": "false"}
	if c.OAuth == "google" {
		m["security.protocol"] = "SASL_SSL"
		m["sasl.mechanisms"] = "OAUTHBEARER"
	}
	for name, value := range c.Properties.m {
		m[name] = value
	}
	m["bootstrap.servers"] = strings.Join(List(c.Brokers), ",")
	m["client.id"] = c.ClientID
	return m
}

// Tokens is the source of OAUTHBEARER tokens that the connection asks for, nil if
// librdkafka gets its own, or needs none.
func (c *Connection) Tokens() TokenSource {
	if c.OAuth == "google" {
		return GoogleTokens()
	}
	return nil
}

// Token is one token of Tokens, nil if there is no source.
func (c *Connection) Token(ctx context.Context) (*kafka.OAuthBearerToken, error) {
	if c.OAuth != "" && c.OAuth != "google" {
		return nil, fmt.Errorf("--kafka-oauth is %q: use google, or leave it empty", c.OAuth)
	}
	source := c.Tokens()
	if source == nil {
		return nil, nil
	}
	token, err := source(ctx)
	return &token, err
}

var brokerPattern = regexp.MustCompile(`^([A-Za-z0-9_+]+://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$`)

// BrokerMistakes says which servers of a list are no host:port: librdkafka would look for them for ever, or take the
// remainder of a port above 65535.
func BrokerMistakes(list string) (mistakes []string) {
	brokers := List(list)
	for i, b := range brokers {
		m := brokerPattern.FindStringSubmatch(b)
		if m == nil {
			mistakes = append(mistakes, fmt.Sprintf("server %d of %d is not host:port: write it as kafka.example.com:9092",
				i+1, len(brokers)))
		} else if port, _ := strconv.Atoi(m[3]); port == 0 || port > math.MaxUint16 {
			mistakes = append(mistakes, fmt.Sprintf("server %d of %d has a port that is none: use one from 1 to 65535",
				i+1, len(brokers)))
		}
	}
	return mistakes
}

// List are the parts of a text with commas, without what is empty.
func List(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

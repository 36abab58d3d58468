// Package connect puts a bridge together as it is deployed: between a Kafka and a Pub/Sub.
package connect

import (
	"log/slog"

	gcp "cloud.google.com/go/pubsub/v2"

	"sluice/bridge"
	"sluice/bridge/kafka"
	"sluice/bridge/pubsub"
	"sluice/internal/reference"
)

// New returns a bridge that connects to nothing before its Run. client and bucket, which is nil unless large payloads
// go to one, remain the caller's to close.
func New(cfg bridge.Config, client *gcp.Client, bucket *reference.Bucket, log *slog.Logger) (*bridge.Bridge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return bridge.New(cfg, kafka.New(cfg, log), pubsub.New(cfg, client, bucket, log), log)
}

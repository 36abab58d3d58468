package bridge

import (
	"context"
	"log/slog"
	"time"
)

// LogStats writes a line about the bridge at once, then every so often, and a last one
// when ctx ends, which should be after Run: the sums of the lines are complete. Log-based
// metrics are made of these lines, because nothing scrapes /metrics in a Cloud Run worker
// pool: names and units of the fields are an interface.
//
//	records, bytes                 taken from Kafka
//	batches, payload_bytes         sent, and their size after compression
//	references, store_errors       batches that were written to the bucket, and that could not be
//	retries, dead_lettered         publish requests tried again, records too large to publish
//	rebalances, lost               of the group, and partitions taken away without asking
//	kafka_errors, commit_errors
//
// since the line before, and of the moment
//
//	assigned, paused               partitions
//	lag                            records not acknowledged; absent while a partition's is unknown
//	inflight_bytes, oldest_ms      packed and unacknowledged, and the age of the oldest batch
//	failing                        whether a batch is refused and tried again
func (b *Bridge) LogStats(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before Stats
	for {
		now := b.Stats()
		b.log.LogAttrs(ctx, slog.LevelInfo, "bridge", statsFields(&now, &before)...)
		if ctx.Err() != nil {
			return
		}
		before = now
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// statsFields are the fields of a line.
func statsFields(now, before *Stats) []slog.Attr {
	fields := []slog.Attr{
		slog.Int64("records", now.RecordsIn-before.RecordsIn),
		slog.Int64("bytes", now.BytesIn-before.BytesIn),
		slog.Int64("batches", now.Batches-before.Batches),
		slog.Int64("payload_bytes", now.PayloadBytes-before.PayloadBytes),
		slog.Int64("retries", now.Retries-before.Retries),
		slog.Int64("references", now.References-before.References),
		slog.Int64("store_errors", now.StoreErrors-before.StoreErrors),
		slog.Int64("dead_lettered", now.DeadLettered-before.DeadLettered),
		slog.Int64("rebalances", now.Rebalances-before.Rebalances),
		slog.Int64("lost", now.Lost-before.Lost),
		slog.Int64("kafka_errors", now.KafkaErrors-before.KafkaErrors),
		slog.Int64("commit_errors", now.CommitErrors-before.CommitErrors),
		slog.Int64("assigned", now.Assigned),
		slog.Int64("paused", now.Paused),
	}
	// Unknown is not zero, and part of the lag is not the lag.
	if lag, known := now.TotalLag(); int64(known) >= now.Assigned {
		fields = append(fields, slog.Int64("lag", lag))
	}
	return append(fields,
		slog.Int64("inflight_bytes", now.InflightBytes),
		slog.Float64("oldest_ms", float64(now.OldestUnacknowledged.Microseconds())/1000),
		slog.Bool("failing", now.Failing))
}

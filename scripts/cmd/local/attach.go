package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/internal/local"
	"sluice/test/attach"
)

// attached reports that some server is reached by address.
func (f runFlags) attached() bool { return f.kafka != "" || f.pubsub != "" || f.bigquery != "" }

// runAttached is run between servers of the user's.
func runAttached(ctx context.Context, f runFlags, in source, progress *progress) error {
	rest, grpc, _ := strings.Cut(f.bigquery, ",")
	a, err := attach.Start(ctx, attach.Config{
		Kafka: f.kafka, PubSub: f.pubsub, BigQueryREST: rest, BigQueryGRPC: grpc,
		Dir: f.data, Partitions: f.partitions, Bridges: f.bridges, Wrapped: f.wrapped || f.pubsub != "",
		Log: f.logger(progress),
	})
	if err != nil {
		return err
	}
	summary, err := driveAttached(ctx, a, f, in, progress)
	stopping, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := errors.Join(err, a.Stop(stopping)); err != nil {
		return err
	}
	return summary.report(f)
}

// driveAttached sends the input and waits for it as f says. What was in the topic
// before counts for nothing here: it may be anybody's.
func driveAttached(ctx context.Context, a *attach.Attached, f runFlags, in source, progress *progress) (Summary,
	error) {
	var summary Summary
	from, err := a.Ends()
	if err != nil {
		return summary, err
	}
	producer, err := local.NewProducer(a.Brokers(), a.Topic())
	if err != nil {
		return summary, err
	}
	defer producer.Close()

	begin := time.Now()
	stopProgress := progress.start(func() string {
		return fmt.Sprintf("in %d, %.0f events/s", producer.Delivered(),
			float64(producer.Delivered())/time.Since(begin).Seconds())
	})
	defer stopProgress()
	failed := produce(ctx, producer, in, f.rate)
	if !f.once && failed == nil {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		failed = nil
	}
	flushing, cancel := context.WithTimeout(context.Background(), max(f.patience, time.Minute))
	defer cancel()
	if err := producer.Flush(flushing); err != nil {
		return summary, fmt.Errorf("producing to Kafka: %w", err)
	}
	to, err := a.Ends()
	if err != nil {
		return summary, err
	}
	waiting := ctx
	if !f.once && ctx.Err() != nil {
		bounded, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		waiting = bounded
	}
	account, err := a.Await(waiting, from, to, f.patience)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return summary, err
	}
	seconds := time.Since(begin).Seconds()
	latency, err := a.Latency(context.WithoutCancel(ctx), from, to)
	if err != nil {
		return summary, err
	}
	return Summary{
		Produced: producer.Delivered(), Landed: account.Landed, DeadLettered: account.DeadLettered,
		DuplicateRows: account.DuplicateRows, Missing: account.Missing,
		Seconds: seconds, EventsPerSecond: float64(producer.Delivered()) / seconds, Latency: latency,
		interrupted: ctx.Err() != nil, failed: failed,
	}, nil
}

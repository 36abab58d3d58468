-- Per minute of processing: rows landed, records rejected, the share that landed
-- in percent, and the seconds from Kafka's timestamp to the row
-- (ingested_at - kafka_timestamp; null where no record came through Kafka).
--
-- It looks back 30 days: the tables are partitioned by these two columns, and a
-- filter on minute cannot prune what a view has grouped. Events that happened before
-- are not counted, whenever they came: for a backfill, lengthen the first interval.
WITH landed AS (
  SELECT
    TIMESTAMP_SECONDS(DIV(UNIX_SECONDS(ingested_at), 60) * 60) AS minute,
    COUNT(*) AS landed,
    APPROX_QUANTILES(UNIX_MICROS(ingested_at) - UNIX_MICROS(kafka_timestamp), 100) AS micros
  FROM ${dataset}.fact_events
  WHERE event_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)
  GROUP BY 1
),
rejected AS (
  SELECT
    TIMESTAMP_SECONDS(DIV(UNIX_SECONDS(failed_at), 60) * 60) AS minute,
    COUNT(*) AS rejected
  FROM ${dataset}.events_dlq
  WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)
  GROUP BY 1
)
SELECT
  COALESCE(l.minute, r.minute) AS minute,
  COALESCE(l.landed, 0) AS landed,
  COALESCE(r.rejected, 0) AS rejected,
  ROUND(100.0 * COALESCE(l.landed, 0) / (COALESCE(l.landed, 0) + COALESCE(r.rejected, 0)), 3) AS quality_percent,
  l.micros[ORDINAL(51)] / 1000000.0 AS latency_p50_seconds,
  l.micros[ORDINAL(96)] / 1000000.0 AS latency_p95_seconds,
  l.micros[ORDINAL(100)] / 1000000.0 AS latency_p99_seconds
FROM landed AS l
FULL JOIN rejected AS r ON l.minute = r.minute

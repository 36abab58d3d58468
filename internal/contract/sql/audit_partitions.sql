-- The audit, per topic and partition: how many records of a range of offsets have
-- a row in fact_events (landed), only in events_dlq (dead_lettered) or in both
-- (dead-lettered and landed after all, as after a replay); how many have neither
-- (missing); and how many rows repeat the coordinates of another row of their
-- table, which redelivery does.
--
-- The ranges are those between the first and the last record that has arrived. To
-- audit other offsets, change the CTE spans. Records that are on their way count as
-- missing if later ones have arrived; so do offsets that hold no record in Kafka
-- (transaction markers, compacted records): ./scripts/audit --kafka tells them apart.
--
-- BigQuery reads the Kafka columns of all rows. With .Since, a condition on the tables'
-- partitioning columns, it reads only what happened, or failed, since then; records of
-- older events then count as missing. Records that a contract leaves out are in
-- events_left_out, if it leaves out any.
WITH arrived AS (
  SELECT kafka_topic, kafka_partition, kafka_offset, 1 AS fact, 0 AS dlq
  FROM ${dataset}.fact_events
  WHERE kafka_offset IS NOT NULL
    {{.Since "event_timestamp"}}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset, 0, 1
  FROM ${dataset}.events_dlq
  WHERE kafka_offset IS NOT NULL
    {{.Since "failed_at"}}
  {{- if .LeftOut}}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset, 0, 0
  FROM ${dataset}.events_left_out
  WHERE kafka_offset IS NOT NULL
    {{.Since "left_out_at"}}
  {{- end}}
),
spans AS (
  SELECT kafka_topic, kafka_partition, MIN(kafka_offset) AS first_offset, MAX(kafka_offset) AS last_offset
  FROM arrived
  GROUP BY kafka_topic, kafka_partition
), -- end of spans
records AS (
  SELECT a.kafka_topic, a.kafka_partition, a.kafka_offset, SUM(a.fact) AS fact, SUM(a.dlq) AS dlq
  FROM arrived AS a
  JOIN spans AS s ON a.kafka_topic = s.kafka_topic AND a.kafka_partition = s.kafka_partition
  WHERE a.kafka_offset BETWEEN s.first_offset AND s.last_offset
  GROUP BY a.kafka_topic, a.kafka_partition, a.kafka_offset
),
counts AS (
  SELECT
    kafka_topic,
    kafka_partition,
    COUNTIF(fact > 0 AND dlq = 0) AS landed,
    COUNTIF(fact = 0 AND dlq > 0) AS dead_lettered,
    COUNTIF(fact > 0 AND dlq > 0) AS both_tables,
    SUM(fact) + SUM(dlq) - COUNTIF(fact > 0) - COUNTIF(dlq > 0) AS duplicate_rows,
    COUNTIF(fact = 0 AND dlq = 0) AS left_out
  FROM records
  GROUP BY kafka_topic, kafka_partition
)
SELECT
  s.kafka_topic,
  s.kafka_partition,
  s.first_offset,
  s.last_offset,
  COALESCE(c.landed, 0) AS landed,
  COALESCE(c.dead_lettered, 0) AS dead_lettered,
  COALESCE(c.both_tables, 0) AS both_tables,
  s.last_offset - s.first_offset + 1
    - COALESCE(c.landed, 0) - COALESCE(c.dead_lettered, 0) - COALESCE(c.both_tables, 0)
    - COALESCE(c.left_out, 0) AS missing,
  COALESCE(c.duplicate_rows, 0) AS duplicate_rows,
  COALESCE(c.left_out, 0) AS left_out
FROM spans AS s
LEFT JOIN counts AS c ON s.kafka_topic = c.kafka_topic AND s.kafka_partition = c.kafka_partition
ORDER BY s.kafka_topic, s.kafka_partition

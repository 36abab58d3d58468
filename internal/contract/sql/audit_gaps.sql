-- The ranges of offsets that have no row in fact_events nor in events_dlq, between
-- the first and the last record that has arrived. What audit_partitions.sql says
-- of ranges, of what counts as missing and of reading less holds here too.
WITH arrived AS (
  SELECT kafka_topic, kafka_partition, kafka_offset
  FROM ${dataset}.fact_events
  WHERE kafka_offset IS NOT NULL
    {{.Since "event_timestamp"}}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset
  FROM ${dataset}.events_dlq
  WHERE kafka_offset IS NOT NULL
    {{.Since "failed_at"}}
  {{- if .LeftOut}}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset
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
marks AS (
  SELECT a.kafka_topic, a.kafka_partition, a.kafka_offset
  FROM arrived AS a
  JOIN spans AS s ON a.kafka_topic = s.kafka_topic AND a.kafka_partition = s.kafka_partition
  WHERE a.kafka_offset BETWEEN s.first_offset AND s.last_offset
  UNION ALL
  SELECT kafka_topic, kafka_partition, first_offset - 1 FROM spans
  UNION ALL
  SELECT kafka_topic, kafka_partition, last_offset + 1 FROM spans
),
steps AS (
  SELECT
    kafka_topic,
    kafka_partition,
    kafka_offset,
    LAG(kafka_offset) OVER (PARTITION BY kafka_topic, kafka_partition ORDER BY kafka_offset) AS before
  FROM marks
)
SELECT
  kafka_topic,
  kafka_partition,
  before + 1 AS first_missing,
  kafka_offset - 1 AS last_missing,
  kafka_offset - before - 1 AS missing
FROM steps
WHERE kafka_offset > before + 1
ORDER BY kafka_topic, kafka_partition, first_missing

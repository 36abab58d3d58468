-- Which offsets have arrived, per topic and partition: the range between the first
-- and the last record. Rows without a topic are events that did not come through
-- Kafka, or whose coordinates nobody could read. For a window of time, replace the
-- two times: a record counts by Kafka's timestamp, or, where it has none, by the
-- time of its row.
WITH arrived AS (
  SELECT kafka_topic, kafka_partition, kafka_offset, COALESCE(kafka_timestamp, ingested_at) AS stamped, 1 AS fact
  FROM ${dataset}.fact_events
  WHERE TRUE
    {{.Since "event_timestamp"}}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset, COALESCE(kafka_timestamp, failed_at), 0
  FROM ${dataset}.events_dlq
  WHERE TRUE
    {{.Since "failed_at"}}
  {{- if .LeftOut}}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset, COALESCE(kafka_timestamp, left_out_at), 2
  FROM ${dataset}.events_left_out
  WHERE TRUE
    {{.Since "left_out_at"}}
  {{- end}}
)
SELECT
  kafka_topic,
  kafka_partition,
  MIN(kafka_offset) AS first_offset,
  MAX(kafka_offset) AS last_offset,
  COUNTIF(fact = 1) AS fact_rows,
  COUNTIF(fact = 0) AS dlq_rows,
  COUNTIF(fact = 2) AS left_out_rows
FROM arrived
WHERE stamped >= TIMESTAMP '0001-01-01 00:00:00' AND stamped < TIMESTAMP '9999-12-31 00:00:00'
GROUP BY kafka_topic, kafka_partition
ORDER BY kafka_topic, kafka_partition

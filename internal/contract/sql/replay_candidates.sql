-- Dead letters as a replay sees them: each record once, with its latest reason, and
-- whether it has landed by now (landed). Records that did not come through Kafka
-- have no coordinates to be found by: they are told apart by their bytes, so that
-- one that a replay brought back counts once, and never known to have landed.
WITH latest AS (
  SELECT *
  FROM ${dataset}.events_dlq
  WHERE TRUE
    {{.Failed}}
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY
      kafka_topic, kafka_partition, kafka_offset,
      CASE WHEN kafka_offset IS NULL THEN original_event END,
      CASE WHEN kafka_offset IS NULL THEN original_event_bytes END,
      CASE WHEN kafka_offset IS NULL THEN original_event_sha256 END
    ORDER BY failed_at DESC, pubsub_message_id DESC
  ) = 1
),
landed AS (
  SELECT DISTINCT kafka_topic, kafka_partition, kafka_offset
  FROM ${dataset}.fact_events
  WHERE kafka_offset IS NOT NULL
    {{.Since "event_timestamp"}}
)
SELECT
  d.original_event,
  d.original_event_bytes,
  d.original_event_size,
  d.error_code,
  d.error_field,
  d.failed_at,
  d.kafka_topic,
  d.kafka_partition,
  d.kafka_offset,
  d.kafka_key,
  d.kafka_timestamp,
  d.pubsub_message_id,
  f.kafka_offset IS NOT NULL AS landed,
  TO_JSON_STRING(d.kafka_headers) AS kafka_headers,
  d.left_out,
  d.contract
FROM latest AS d
LEFT JOIN landed AS f
  ON d.kafka_topic = f.kafka_topic
  AND d.kafka_partition = f.kafka_partition
  AND d.kafka_offset = f.kafka_offset

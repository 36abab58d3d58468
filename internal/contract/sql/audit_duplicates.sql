-- Events that their producer sent more than once, per topic: the same event_id in
-- records with different coordinates. repeated_events counts the ids,
-- producer_duplicates the records beyond the first of each. A copy by redelivery
-- has the same coordinates and does not count here.
WITH records AS (
  SELECT DISTINCT kafka_topic, kafka_partition, kafka_offset, event_id
  FROM ${dataset}.fact_events
  WHERE kafka_offset IS NOT NULL
    {{.Since "event_timestamp"}}
),
spans AS (
  SELECT kafka_topic, kafka_partition, MIN(kafka_offset) AS first_offset, MAX(kafka_offset) AS last_offset
  FROM records
  GROUP BY kafka_topic, kafka_partition
), -- end of spans
ids AS (
  SELECT r.kafka_topic, r.event_id, COUNT(*) AS records
  FROM records AS r
  JOIN spans AS s ON r.kafka_topic = s.kafka_topic AND r.kafka_partition = s.kafka_partition
  WHERE r.kafka_offset BETWEEN s.first_offset AND s.last_offset
  GROUP BY r.kafka_topic, r.event_id
)
SELECT
  kafka_topic,
  COUNT(*) AS repeated_events,
  SUM(records - 1) AS producer_duplicates
FROM ids
WHERE records > 1
GROUP BY kafka_topic
ORDER BY kafka_topic

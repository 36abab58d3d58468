-- Each event once: the copy that was ingested first. Copies come from redelivery
-- (same coordinates) and from producers (same event_id, other coordinates). A
-- copy has the same event_timestamp as well, so the window is partitioned by both
-- columns and a filter on event_timestamp prunes the table's partitions.
SELECT *
FROM ${dataset}.fact_events
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY event_id, event_timestamp
  ORDER BY ingested_at, kafka_topic NULLS LAST, kafka_partition, kafka_offset
) = 1

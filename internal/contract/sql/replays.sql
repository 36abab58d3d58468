-- What became of each replay: the rows that it brought into fact_events, those that
-- were rejected again, and when the first and the last came. The rows themselves
-- have its id in replay_id, and their record's first rejection has the same
-- coordinates in events_dlq.
WITH brought AS (
  SELECT replay_id, 1 AS landed, 0 AS rejected, ingested_at AS arrived_at
  FROM ${dataset}.fact_events
  WHERE replay_id IS NOT NULL
  UNION ALL
  SELECT replay_id, 0, 1, failed_at
  FROM ${dataset}.events_dlq
  WHERE replay_id IS NOT NULL
)
SELECT
  replay_id,
  COUNTIF(landed = 1) AS landed_rows,
  COUNTIF(rejected = 1) AS rejected_rows,
  MIN(arrived_at) AS first_arrived_at,
  MAX(arrived_at) AS last_arrived_at
FROM brought
GROUP BY replay_id
ORDER BY first_arrived_at

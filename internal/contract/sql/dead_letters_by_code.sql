-- What was rejected, per reason and field: how often, since when, until when.
SELECT
  error_code,
  error_field,
  COUNT(*) AS dead_letters,
  MIN(failed_at) AS first_failed_at,
  MAX(failed_at) AS last_failed_at,
  MAX(error) AS example
FROM ${dataset}.events_dlq
GROUP BY error_code, error_field

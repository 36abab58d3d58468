package livepage

// Query is a statement to begin with.
type Query struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

// queries are offered by the SQL box. Those with a heading of infra/RUNBOOK.md are
// its text; a test compares them.
var queries = []Query{
	{"Events by type", `SELECT event_type, COUNT(*) AS events, COUNT(DISTINCT user_id) AS users
FROM events
GROUP BY event_type
ORDER BY events DESC`},
	{"Health per minute", `SELECT *
FROM pipeline_health_per_minute
ORDER BY minute DESC
LIMIT 10`},
	{"Dead letters by reason", `SELECT error_code, error_field, MAX(error) AS example, COUNT(*) AS events, MAX(failed_at) AS newest
FROM clickstream.events_dlq
WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)
GROUP BY error_code, error_field
ORDER BY events DESC`},
	{"What lands, by minute", `SELECT
  TIMESTAMP_SECONDS(DIV(UNIX_SECONDS(ingested_at), 60) * 60) AS minute,
  COUNT(*) AS landed,
  MAX(UNIX_MILLIS(ingested_at) - UNIX_MILLIS(kafka_timestamp)) AS slowest_ms,
  MAX(event_timestamp) AS newest_event
FROM clickstream.fact_events
WHERE event_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 DAY)
  AND ingested_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 HOUR)
GROUP BY minute
ORDER BY minute DESC
LIMIT 60`},
	{"Rejected: since when, from where", `SELECT error_code, error_field, kafka_topic, kafka_partition,
  COUNT(*) AS events, MIN(failed_at) AS since, MAX(failed_at) AS until, MAX(error) AS example
FROM clickstream.events_dlq
WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 6 HOUR)
GROUP BY error_code, error_field, kafka_topic, kafka_partition
ORDER BY events DESC
LIMIT 50`},
	{"Given up after too many deliveries", `SELECT consumer, kafka_topic, kafka_partition, COUNT(*) AS events, MIN(failed_at) AS since, MAX(failed_at) AS until, MAX(error) AS example
FROM clickstream.events_dlq
WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)
  AND error_code = 'delivery_attempts_exhausted'
GROUP BY consumer, kafka_topic, kafka_partition
ORDER BY events DESC`},
	{"One event's rows", `SELECT event_id, event_timestamp, ingested_at, kafka_topic, kafka_partition, kafka_offset
FROM clickstream.fact_events
WHERE event_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)
  AND event_id = '1'
ORDER BY ingested_at`},
}

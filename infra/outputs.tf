output "functions" {
  description = "The functions' URLs; only Pub/Sub can call them."
  value       = { for name, service in google_cloud_run_v2_service.function : name => service.uri }
}

output "topics" {
  description = "Where to publish an event, and where dead letters pass."
  value = {
    events      = google_pubsub_topic.clickstream.id
    dead_letter = google_pubsub_topic.dead_letter.id
  }
}

output "tables" {
  description = "Where events end up, as BigQuery names them in SQL."
  value = {
    events      = "${var.project}.${google_bigquery_table.fact_events.dataset_id}.${google_bigquery_table.fact_events.table_id}"
    dead_letter = "${var.project}.${google_bigquery_table.events_dlq.dataset_id}.${google_bigquery_table.events_dlq.table_id}"
  }
}

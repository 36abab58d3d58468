# What infra/env/test.tfvars promises: everything scales to zero, everything can be
# deleted. Run with -var-file=env/test.tfvars.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789" }
  }
}

variables {
  project         = "acme-clickstream"
  region          = "europe-west1"
  functions_image = "europe-west1-docker.pkg.dev/acme-clickstream/sluice/functions:0123abc"
  bridge_image    = "europe-west1-docker.pkg.dev/acme-clickstream/sluice/bridge:0123abc"
}

run "scales_to_zero" {
  assert {
    condition     = alltrue([for s in google_cloud_run_v2_service.function : s.template[0].scaling[0].min_instance_count == 0])
    error_message = "No function keeps an instance warm in test."
  }
  assert {
    condition     = length(google_cloud_run_v2_worker_pool.bridge) == 0 && length(google_managed_kafka_cluster.clickstream) == 0
    error_message = "Without Kafka settings there is no bridge and no cluster."
  }
}

run "the_bridge_can_be_stopped" {
  variables {
    kafka            = { brokers = "kafka:9092", topics = "clickstream" }
    bridge_instances = 0
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.bridge[0].scaling[0].manual_instance_count == 0
    error_message = "bridge_instances = 0 runs no bridge."
  }
  assert {
    condition     = !contains(keys(google_monitoring_alert_policy.alert), "bridge_absent")
    error_message = "Nobody is called because of a bridge that was stopped on purpose."
  }
}

run "keeps_every_log_line" {
  assert {
    condition     = alltrue([for e in google_logging_project_exclusion.sample : e.disabled])
    error_message = "In test every line is stored."
  }
}

run "can_be_deleted" {
  assert {
    condition = alltrue([
      !google_bigquery_table.fact_events.deletion_protection,
      !google_bigquery_table.events_dlq.deletion_protection,
      google_bigquery_dataset.clickstream.delete_contents_on_destroy,
      alltrue([for s in google_cloud_run_v2_service.function : !s.deletion_protection]),
      google_pubsub_topic.clickstream.deletion_policy == "DELETE",
      google_pubsub_subscription.ingest.deletion_policy == "DELETE",
    ])
    error_message = "terraform destroy works in test."
  }
  assert {
    condition     = google_bigquery_table.fact_events.time_partitioning[0].expiration_ms == 14 * 86400000
    error_message = "Test data is deleted after two weeks."
  }
  assert {
    condition = alltrue([
      for e in google_cloud_run_v2_service.function["ingest"].template[0].containers[0].env : e.value == "312h" if e.name == "EVENT_MAX_AGE"
    ]) && anytrue([for e in google_cloud_run_v2_service.function["ingest"].template[0].containers[0].env : e.name == "EVENT_MAX_AGE"])
    error_message = "An event whose partition has expired is dead-lettered: BigQuery would accept and delete it."
  }
}

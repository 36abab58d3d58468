# What infra/env/prod.tfvars promises. Run with -var-file=env/prod.tfvars.

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
  kafka           = { topics = "clickstream" }
  managed_kafka   = { subnetwork = "projects/acme-clickstream/regions/europe-west1/subnetworks/default" }
}

run "is_protected_and_warm" {
  assert {
    condition = alltrue([
      google_bigquery_table.fact_events.deletion_protection,
      google_bigquery_table.events_dlq.deletion_protection,
      !google_bigquery_dataset.clickstream.delete_contents_on_destroy,
      alltrue([for s in google_cloud_run_v2_service.function : s.deletion_protection]),
      google_cloud_run_v2_worker_pool.bridge[0].deletion_protection,
      alltrue([for p in [google_pubsub_topic.clickstream, google_pubsub_topic.dead_letter] : p.deletion_policy == "PREVENT"]),
      alltrue([for s in [google_pubsub_subscription.ingest, google_pubsub_subscription.dead_letter] : s.deletion_policy == "PREVENT"]),
      google_managed_kafka_cluster.clickstream[0].deletion_policy == "PREVENT",
      google_managed_kafka_topic.clickstream[0].deletion_policy == "PREVENT",
    ])
    error_message = "Nothing in production is deleted by a plan."
  }
  assert {
    condition     = google_cloud_run_v2_service.function["ingest"].template[0].scaling[0].min_instance_count >= 1
    error_message = "Production keeps an instance of Ingest warm."
  }
  assert {
    condition     = var.retention.events_days == null
    error_message = "Production keeps events for ever."
  }
  assert {
    condition     = alltrue([for e in google_logging_project_exclusion.sample : !e.disabled])
    error_message = "Production stores one of a hundred lines that say that all is well."
  }
}

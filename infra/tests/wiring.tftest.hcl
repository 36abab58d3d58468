# What must hold whatever else changes: nobody but Pub/Sub can call the
# functions, nothing is dropped between the parts, and every deadline is shorter
# than the one around it.

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
  environment     = "prod"

  function_instances = { min = 1, max = 40 }
  kafka              = { brokers = "kafka:9092", topics = "clickstream" }
}

run "nobody_but_pubsub_calls_the_functions" {
  assert {
    condition     = alltrue([for m in google_cloud_run_v2_service_iam_member.push : m.role == "roles/run.invoker" && m.member == "serviceAccount:sluice-push@acme-clickstream.iam.gserviceaccount.com"])
    error_message = "Only the push account may invoke the functions."
  }
  assert {
    condition     = alltrue([for s in google_cloud_run_v2_service.function : s.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && s.invoker_iam_disabled != true])
    error_message = "The functions take internal traffic only, and check the caller's IAM."
  }
}

run "deadlines_are_ordered" {
  assert {
    condition     = local.handler_timeout_seconds < local.ack_deadline_seconds && local.ack_deadline_seconds <= local.request_timeout_seconds
    error_message = "handler < ack deadline <= Cloud Run timeout"
  }
  assert {
    condition = alltrue([
      google_pubsub_subscription.ingest.ack_deadline_seconds == local.ack_deadline_seconds,
      google_pubsub_subscription.dead_letter.ack_deadline_seconds == local.ack_deadline_seconds,
      alltrue([for s in google_cloud_run_v2_service.function : s.template[0].timeout == "${local.request_timeout_seconds}s"]),
    ])
    error_message = "The deadlines of subscriptions and services are those of versions.tf."
  }
}

run "dead_letters_have_somewhere_to_go" {
  assert {
    condition = alltrue([
      google_pubsub_subscription.ingest.dead_letter_policy[0].max_delivery_attempts == 100,
      google_pubsub_subscription.ingest.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letter.id,
      google_pubsub_subscription.dead_letter.topic == google_pubsub_topic.dead_letter.id,
      length(google_pubsub_subscription.dead_letter.dead_letter_policy) == 0,
    ])
    error_message = "100 attempts, then the dead-letter topic, which has a subscription without a policy of its own."
  }
  assert {
    condition = alltrue([
      google_pubsub_topic_iam_member.dead_letter_publishers["pubsub"].member == "serviceAccount:service-123456789@gcp-sa-pubsub.iam.gserviceaccount.com",
      google_pubsub_subscription_iam_member.ingest_pubsub.member == "serviceAccount:service-123456789@gcp-sa-pubsub.iam.gserviceaccount.com",
      google_pubsub_subscription_iam_member.ingest_pubsub.role == "roles/pubsub.subscriber",
    ])
    error_message = "Pub/Sub's agent publishes dead letters and is a subscriber of the source, or attempts are not even counted."
  }
}

run "subscriptions_keep_and_never_expire" {
  assert {
    condition = alltrue([for s in [google_pubsub_subscription.ingest, google_pubsub_subscription.dead_letter] : alltrue([
      s.expiration_policy[0].ttl == "",
      s.message_retention_duration == "2678400s",
      s.retry_policy[0].minimum_backoff == "10s",
      s.retry_policy[0].maximum_backoff == "600s",
      s.push_config[0].no_wrapper[0].write_metadata == true,
      s.push_config[0].oidc_token[0].service_account_email == "sluice-push@acme-clickstream.iam.gserviceaccount.com",
    ])])
    error_message = "31 days, never expiring, 10 s to 600 s, unwrapped with metadata, signed by the push account."
  }
}

run "tables_have_the_services_schema" {
  assert {
    condition = alltrue([
      jsondecode(google_bigquery_table.fact_events.schema) == jsondecode(file("${path.module}/../functions/warehouse/schema/fact_events.json")),
      jsondecode(google_bigquery_table.events_dlq.schema) == jsondecode(file("${path.module}/../functions/warehouse/schema/events_dlq.json")),
      google_bigquery_table.fact_events.time_partitioning[0].field == "event_timestamp",
      google_bigquery_table.events_dlq.time_partitioning[0].field == "failed_at",
    ])
    error_message = "Tables are made from the schema files that the functions are built from."
  }
}

run "production_is_protected" {
  assert {
    condition = alltrue([
      google_bigquery_table.fact_events.deletion_protection,
      google_bigquery_table.events_dlq.deletion_protection,
      !google_bigquery_dataset.clickstream.delete_contents_on_destroy,
      alltrue([for s in google_cloud_run_v2_service.function : s.deletion_protection]),
    ])
    error_message = "Production is protected from deletion."
  }
}

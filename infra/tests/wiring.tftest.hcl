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

run "functions_expect_the_token_that_is_sent" {
  assert {
    condition = alltrue([
      for name, subscription in { ingest = google_pubsub_subscription.ingest, dead-letter = google_pubsub_subscription.dead_letter } : alltrue([
        for variable, value in {
          PUSH_AUDIENCE        = subscription.push_config[0].oidc_token[0].audience
          PUSH_SERVICE_ACCOUNT = subscription.push_config[0].oidc_token[0].service_account_email
        } : anytrue([for e in google_cloud_run_v2_service.function[name].template[0].containers[0].env : e.name == variable && e.value == value])
      ]) && contains(google_cloud_run_v2_service.function[name].custom_audiences, subscription.push_config[0].oidc_token[0].audience)
    ])
    error_message = "Subscription, Cloud Run and function agree on audience and service account."
  }
}

run "deadlines_are_ordered" {
  assert {
    condition     = local.handler_timeout_seconds < local.ack_deadline_seconds && local.ack_deadline_seconds <= local.request_timeout_seconds
    error_message = "handler < ack deadline <= Cloud Run timeout"
  }
  assert {
    condition     = alltrue([for s in google_cloud_run_v2_service.function : anytrue([for e in s.template[0].containers[0].env : e.name == "HANDLER_TIMEOUT" && e.value == "${local.handler_timeout_seconds}s"])])
    error_message = "The functions get the handler's deadline."
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

run "events_stay_in_the_region" {
  assert {
    condition = alltrue([
      alltrue([for t in [google_pubsub_topic.clickstream, google_pubsub_topic.dead_letter] : tolist(t.message_storage_policy[0].allowed_persistence_regions) == tolist([var.region])]),
      alltrue([for s in google_cloud_run_v2_service.function : s.location == var.region]),
      google_bigquery_dataset.clickstream.location == var.region,
    ])
    error_message = "Pub/Sub, Cloud Run and BigQuery keep and process events in one region."
  }
}

run "tables_have_the_services_schema" {
  assert {
    condition = alltrue([
      jsondecode(google_bigquery_table.fact_events.schema) == jsondecode(file("${path.module}/../internal/contract/fact_events.json")),
      jsondecode(google_bigquery_table.events_dlq.schema) == jsondecode(file("${path.module}/../internal/contract/events_dlq.json")),
      google_bigquery_table.fact_events.time_partitioning[0].field == "event_timestamp",
      google_bigquery_table.events_dlq.time_partitioning[0].field == "failed_at",
    ])
    error_message = "Tables are made from the schema files that the functions are built from."
  }
  assert {
    condition     = google_bigquery_table.fact_events.ignore_auto_generated_schema && google_bigquery_table.events_dlq.ignore_auto_generated_schema
    error_message = "Columns that the schema files do not have are not dropped."
  }
}

run "payloads_by_reference" {
  assert {
    condition = alltrue([
      for containers in concat([for f in google_cloud_run_v2_service.function : f.template[0].containers[0]], [google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0]]) :
      anytrue([for e in containers.env : e.name == "PAYLOAD_BUCKET" && e.value == "acme-clickstream-sluice-payloads"])
    ])
    error_message = "The bridge writes large payloads where the functions read them."
  }
}

run "payloads_inline" {
  variables {
    by_reference = false
  }
  assert {
    condition     = anytrue([for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env : e.name == "PAYLOAD_BUCKET" && e.value == ""])
    error_message = "The bridge writes no objects."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : anytrue([for e in f.template[0].containers[0].env : e.name == "PAYLOAD_BUCKET" && e.value != ""])])
    error_message = "The functions read what messages still refer to."
  }
}

run "contracts_make_tables" {
  variables {
    streams = {
      orders = {
        table      = "orders", description = "", schema = "[{\"name\":\"a\",\"type\":\"STRING\"}]", partition = { column = "at", type = "MONTH", expiration_ms = 86400000 },
        clustering = ["a"], view = "orders_once", query = "SELECT 1", deployed = true
      }
      old = { table = "old", description = "", schema = "[]", clustering = [], view = "old_once", query = "SELECT 1", deployed = false }
    }
    stream_topics = "orders,^(a.*)$"
    batch_groups  = "^(a.*)$"
    leaves_out    = true
  }
  assert {
    condition     = google_bigquery_table.stream["orders"].time_partitioning[0].type == "MONTH" && google_bigquery_table.stream_view["orders"].table_id == "orders_once"
    error_message = "A contract has its table and view."
  }
  assert {
    condition     = keys(google_bigquery_table_iam_member.stream_ingest) == ["orders"] && contains(keys(google_bigquery_table.stream), "old")
    error_message = "The table of a contract that is gone stays, and nobody appends to it."
  }
  assert {
    condition     = anytrue([for e in google_cloud_run_v2_service.function["ingest"].template[0].containers[0].env : e.name == "CONTRACTS" && e.value == "/contracts"])
    error_message = "The functions take the contracts of their image."
  }
  assert {
    condition     = anytrue([for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env : e.name == "KAFKA_TOPICS" && e.value == "orders,^(a.*)$"])
    error_message = "The bridge reads the contracts' topics."
  }
  assert {
    condition     = anytrue([for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env : e.name == "BATCH_GROUPS" && e.value == "^(a.*)$"])
    error_message = "Topics of one contract share messages."
  }
  assert {
    condition     = length(google_bigquery_table.events_left_out) == 1
    error_message = "Records that are left out have a table."
  }
}

run "without_contracts_nothing_is_more" {
  assert {
    condition     = length(google_bigquery_table.stream) == 0 && length(google_bigquery_table.events_left_out) == 0 && anytrue([for e in google_cloud_run_v2_service.function["ingest"].template[0].containers[0].env : e.name == "CONTRACTS" && e.value == ""])
    error_message = "Without contracts there are the built-in one's tables only."
  }
}

run "the_bridge_gets_its_settings" {
  variables {
    kafka = {
      brokers    = "kafka:9093"
      topics     = "clicks,views"
      properties = { "security.protocol" = "SASL_SSL", "sasl.mechanisms" = "SCRAM-SHA-512" }
      secrets    = { "sasl.password" = "kafka-password" }
      network    = "default"
      subnetwork = "private"
    }
  }

  assert {
    condition = alltrue([
      for name, value in {
        KAFKA_BROKERS                  = "kafka:9093"
        KAFKA_TOPICS                   = "clicks,views"
        KAFKA_CONFIG_SECURITY_PROTOCOL = "SASL_SSL"
        KAFKA_CONFIG_SASL_MECHANISMS   = "SCRAM-SHA-512"
      } : anytrue([for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env : e.name == name && e.value == value])
    ])
    error_message = "Brokers, topics and properties are in the bridge's environment."
  }
  assert {
    condition = anytrue([
      for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env :
      e.name == "KAFKA_CONFIG_SASL_PASSWORD" && e.value_source[0].secret_key_ref[0].secret == "kafka-password" if length(e.value_source) > 0
    ])
    error_message = "The password comes from Secret Manager; Terraform never sees it."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.bridge[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == "private"
    error_message = "The bridge reaches Kafka through the VPC."
  }
}

run "a_receiver_of_traces" {
  variables {
    otlp = { endpoint = "https://otlp.example.com:4318", headers = "otlp-headers" }
  }

  assert {
    condition = alltrue([
      for env in concat([for s in google_cloud_run_v2_service.function : s.template[0].containers[0].env], [google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env]) :
      anytrue([for e in env : e.name == "OTEL_EXPORTER_OTLP_ENDPOINT" && e.value == "https://otlp.example.com:4318"])
      && anytrue([for e in env : e.name == "OTEL_EXPORTER_OTLP_HEADERS" && e.value_source[0].secret_key_ref[0].secret == "otlp-headers" if length(e.value_source) > 0])
    ])
    error_message = "Bridge and functions send to the receiver, with headers from Secret Manager."
  }
}

run "no_receiver_no_variables" {
  assert {
    condition     = alltrue([for s in google_cloud_run_v2_service.function : alltrue([for e in s.template[0].containers[0].env : !startswith(e.name, "OTEL_")])])
    error_message = "Without a receiver nothing is exported."
  }
}

run "secrets_are_not_properties" {
  command = plan

  variables {
    kafka = { brokers = "kafka:9093", topics = "clicks", properties = { "sasl.password" = "hunter2" } }
  }

  expect_failures = [var.kafka]
}

run "private_keys_are_not_properties" {
  command = plan

  variables {
    kafka = { brokers = "kafka:9093", topics = "clicks", properties = { "ssl.key.pem" = "-----BEGIN PRIVATE KEY-----" } }
  }

  expect_failures = [var.kafka]
}

run "brokers_are_needed" {
  command = plan

  variables {
    kafka = { topics = "clicks" }
  }

  expect_failures = [var.kafka]
}

run "images_can_be_rolled_back" {
  command = plan

  variables {
    functions_image = "europe-west1-docker.pkg.dev/acme-clickstream/sluice/functions:latest"
  }

  expect_failures = [var.functions_image]
}

run "a_managed_kafka" {
  variables {
    kafka         = { topics = "clickstream" }
    managed_kafka = { subnetwork = "projects/acme-clickstream/regions/europe-west1/subnetworks/default" }
  }

  assert {
    condition = anytrue([
      for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env :
      e.name == "KAFKA_BROKERS" && e.value == "bootstrap.clickstream.europe-west1.managedkafka.acme-clickstream.cloud.goog:9092"
    ])
    error_message = "The bridge reads the cluster that is made."
  }
  assert {
    condition     = anytrue([for e in google_cloud_run_v2_worker_pool.bridge[0].template[0].containers[0].env : e.name == "KAFKA_OAUTH" && e.value == "google"])
    error_message = "The bridge logs in as its service account."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.bridge[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == google_managed_kafka_cluster.clickstream[0].gcp_config[0].access_config[0].network_configs[0].subnet
    error_message = "The bridge reaches the cluster through the cluster's subnetwork."
  }
}

run "memory" {
  assert {
    condition = alltrue([
      for key, limit in { ingest = "870MiB", dead-letter = "435MiB" } :
      anytrue([for e in google_cloud_run_v2_service.function[key].template[0].containers[0].env : e.name == "GOMEMLIMIT" && e.value == limit])
    ])
    error_message = "Go knows how much memory an instance has."
  }
  assert {
    condition     = google_cloud_run_v2_service.function["ingest"].template[0].containers[0].resources[0].limits["memory"] == "1024Mi"
    error_message = "Ingest has 1 GiB: see TestMemoryOfFullBatches."
  }
}

run "a_schema_registry" {
  variables {
    schema_registry = {
      url        = "https://registry.internal"
      secrets    = { user = "registry-user", password = "registry-password" }
      subnetwork = "projects/acme-clickstream/regions/europe-west1/subnetworks/default"
    }
  }

  assert {
    condition = alltrue([
      for name, secret in { SCHEMA_REGISTRY_USER = "registry-user", SCHEMA_REGISTRY_PASSWORD = "registry-password" } : anytrue([
        for e in google_cloud_run_v2_service.function["ingest"].template[0].containers[0].env :
        e.name == name && try(e.value_source[0].secret_key_ref[0].secret, "") == secret
      ])
    ])
    error_message = "Ingest has the registry's credentials from Secret Manager."
  }
  assert {
    condition     = anytrue([for e in google_cloud_run_v2_service.function["ingest"].template[0].containers[0].env : e.name == "SCHEMA_REGISTRY_URL" && e.value == "https://registry.internal"])
    error_message = "Ingest asks the registry of the settings."
  }
  assert {
    condition = (
      google_cloud_run_v2_service.function["ingest"].template[0].vpc_access[0].egress == "PRIVATE_RANGES_ONLY" &&
      google_cloud_run_v2_service.function["ingest"].template[0].vpc_access[0].network_interfaces[0].subnetwork == "projects/acme-clickstream/regions/europe-west1/subnetworks/default"
    )
    error_message = "Ingest reaches a registry with a private address, and Google's services as before."
  }
  assert {
    condition = (
      length(google_cloud_run_v2_service.function["dead-letter"].template[0].vpc_access) == 0 &&
      !anytrue([for e in google_cloud_run_v2_service.function["dead-letter"].template[0].containers[0].env : startswith(e.name, "SCHEMA_REGISTRY")])
    )
    error_message = "DeadLetter asks no registry."
  }
}

run "a_schema_registry_with_mistakes" {
  command = plan

  variables {
    schema_registry = { url = "https://me:hunter2@registry", secrets = { pass = "registry password" } }
  }

  expect_failures = [var.schema_registry]
}

run "every_alert_has_its_runbook" {
  variables {
    runbook_url           = "https://example.com/RUNBOOK.md"
    notification_channels = ["projects/acme-clickstream/notificationChannels/1"]
  }

  assert {
    condition = alltrue([
      for name, alert in google_monitoring_alert_policy.alert :
      strcontains(file("${path.module}/RUNBOOK.md"), "\n### ${local.alerts[name].runbook}\n")
      && alert.documentation[0].links[0].url == "https://example.com/RUNBOOK.md#${local.anchors[name]}"
      && length(alert.notification_channels) == 1
    ])
    error_message = "Every alert links to a section of RUNBOOK.md that exists, and goes to the channels."
  }
  assert {
    condition     = length(google_monitoring_alert_policy.alert) == 17
    error_message = "All alerts of monitoring/alerts.yaml are made."
  }
}

run "views_read_this_dataset" {
  assert {
    condition = alltrue([
      for v in google_bigquery_table.view :
      strcontains(v.view[0].query, "FROM acme-clickstream.clickstream.") && !strcontains(v.view[0].query, "$${")
    ])
    error_message = "Views name the project and the dataset, and no placeholder is left."
  }
}

run "metrics_have_the_names_that_queries_use" {
  assert {
    condition = alltrue([
      google_logging_metric.distribution["landed"].name == "sluice_landed",
      google_logging_metric.distribution["landed"].value_extractor == "EXTRACT(jsonPayload.landed)",
      google_logging_metric.distribution["rejected_missing_field"].value_extractor == "EXTRACT(jsonPayload.rejected.missing_field)",
      google_logging_metric.distribution["bridge_lag"].label_extractors["instance"] == "EXTRACT(labels.instanceId)",
      google_logging_metric.counter["requests"].label_extractors["outcome"] == "EXTRACT(jsonPayload.outcome)",
    ])
    error_message = "The PromQL of alerts and charts calls them logging_googleapis_com:user_sluice_NAME."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.sluice.dashboard_json).mosaicLayout.tiles) == length(local.charts) && alltrue([for c in local.charts : length(c.series) > 0])
    error_message = "Every chart of monitoring/dashboard.yaml is on the dashboard."
  }
  assert {
    condition = (
      [for t in jsondecode(google_monitoring_dashboard.sluice.dashboard_json).mosaicLayout.tiles : [lookup(t, "xPos", 0), lookup(t, "yPos", 0)]]
      == [for i in range(length(local.charts)) : [i % 3 * 16, floor(i / 3) * 14]]
      && !strcontains(google_monitoring_dashboard.sluice.dashboard_json, "Pos\":0")
    )
    error_message = "The charts lie three a row; a zero is left out, as the service leaves it out."
  }
}

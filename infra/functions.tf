# The two functions, one image: FUNCTION_TARGET picks which one runs.
#
# Who calls is checked twice. Cloud Run's IAM verifies the token and lets in whoever
# may invoke, also by a role on the whole project. The functions then look at the
# token's claims and let in the push account only. They must not be deployed without
# the IAM check: it removes the signatures that it has verified, so that the functions
# cannot verify them (PUSH_TRUST_CLOUD_RUN).
# https://cloud.google.com/run/docs/troubleshooting#signature-removed

locals {
  functions = {
    ingest = {
      target   = "Ingest"
      account  = local.accounts["ingest"]
      audience = "https://ingest.sluice.internal"
      # A batch of 1,000 events is under a millisecond of CPU and a third of a
      # second of waiting for BigQuery: many requests share an instance.
      concurrency = 32
      memory      = 1024 # MiB
      max         = var.function_instances.max
      env = merge(
        {
          EVENT_TYPES              = join(",", var.event_types)
          FACT_EVENTS_TABLE        = google_bigquery_table.fact_events.table_id
          PUBSUB_DEAD_LETTER_TOPIC = google_pubsub_topic.dead_letter.name
        },
        # What is older, BigQuery would accept and delete with its expired partition.
        var.retention.events_days == null ? {} : {
          EVENT_MAX_AGE = "${min((var.retention.events_days - 1) * 24, 5 * 365 * 24)}h"
        },
      )
    }
    dead-letter = {
      target      = "DeadLetter"
      account     = local.accounts["dead-letter"]
      audience    = "https://dead-letter.sluice.internal"
      concurrency = 16
      memory      = 512
      max         = min(4, var.function_instances.max)
      env = {
        EVENTS_DLQ_TABLE   = google_bigquery_table.events_dlq.table_id
        MAX_INFLIGHT_BYTES = 96 * 1024 * 1024 # the default suits an instance of 1 GiB
      }
    }
  }
}

locals {
  payload_bucket = "${var.project}-sluice-payloads"

  own_contracts = anytrue([for stream in var.streams : stream.deployed])
}

locals {
  registry_env = try(var.schema_registry.url, "") == "" ? {} : { SCHEMA_REGISTRY_URL = var.schema_registry.url }
  # Variable => id of the secret that holds its value.
  registry_secrets = { for name, secret in try(var.schema_registry.secrets, {}) : "SCHEMA_REGISTRY_${upper(name)}" => secret }
  registry_network = try(var.schema_registry.network, "") != "" || try(var.schema_registry.subnetwork, "") != ""
}

resource "google_cloud_run_v2_service" "function" {
  for_each = local.functions

  name     = each.key
  location = var.region

  # Pub/Sub in the same project counts as internal; nothing outside can connect.
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  custom_audiences    = [each.value.audience]
  deletion_protection = local.production

  template {
    service_account                  = trimprefix(each.value.account, "serviceAccount:")
    timeout                          = "${local.request_timeout_seconds}s"
    max_instance_request_concurrency = each.value.concurrency

    # Direct VPC egress, for a schema registry with a private address; Google's services are reached as
    # before.
    dynamic "vpc_access" {
      for_each = each.key == "ingest" && local.registry_network ? [true] : []

      content {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = var.schema_registry.network == "" ? null : var.schema_registry.network
          subnetwork = var.schema_registry.subnetwork == "" ? null : var.schema_registry.subnetwork
        }
      }
    }

    scaling {
      min_instance_count = each.key == "ingest" ? var.function_instances.min : 0
      max_instance_count = each.value.max
    }

    containers {
      image = var.functions_image

      resources {
        limits = {
          cpu    = "1"
          memory = "${each.value.memory}Mi"
        }
        # CPU is paid for only while a request runs; nothing works in between.
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge({
          FUNCTION_TARGET      = each.value.target
          GOOGLE_CLOUD_PROJECT = var.project
          BIGQUERY_DATASET     = google_bigquery_dataset.clickstream.dataset_id
          PUSH_AUDIENCE        = each.value.audience
          PUSH_SERVICE_ACCOUNT = trimprefix(local.accounts["push"], "serviceAccount:")
          PUSH_TRUST_CLOUD_RUN = "true"
          HANDLER_TIMEOUT      = "${local.handler_timeout_seconds}s"
          # Go's collector works harder before Cloud Run kills the instance: what is left is for stacks, and for what is not Go's.
          GOMEMLIMIT = "${floor(each.value.memory * 0.85)}MiB"
          # The image has them. Without any, the functions know the built-in contract.
          CONTRACTS = local.own_contracts ? "/contracts" : ""
          # Also when no bridge writes to it any more: messages may refer to it for weeks.
          PAYLOAD_BUCKET = local.payload_bucket
        }, each.value.env, each.key == "ingest" ? local.registry_env : {}, local.otlp_env)

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = merge(each.key == "ingest" ? local.registry_secrets : {}, local.otlp_secrets)

        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }

      startup_probe {
        tcp_socket {
          port = 8080
        }
        period_seconds    = 1
        failure_threshold = 30
      }
    }
  }

  # A new column is there before the rows that have it.
  depends_on = [google_bigquery_table.stream, google_bigquery_table.events_left_out]
}

# The push identity is the only caller, of both.
resource "google_cloud_run_v2_service_iam_member" "push" {
  for_each = google_cloud_run_v2_service.function

  name     = each.value.name
  location = each.value.location
  role     = "roles/run.invoker"
  member   = local.accounts["push"]
}

# The bridge, as a worker pool: it pulls from Kafka, so nothing calls it and
# nothing scales it. A partition is read by one instance at a time, so more
# instances than partitions are idle.

locals {
  # With a cluster of managed_kafka, its address, its network and its way to log in.
  brokers          = try(coalesce(var.kafka.brokers), local.managed_brokers)
  kafka_network    = try(var.kafka.network, "")
  kafka_subnetwork = local.kafka_network == "" ? try(coalesce(var.kafka.subnetwork), var.managed_kafka.subnetwork, "") : try(var.kafka.subnetwork, "")

  kafka_properties = merge(
    var.managed_kafka == null ? {} : {
      "security.protocol" = "SASL_SSL"
      "sasl.mechanisms"   = "OAUTHBEARER"
    },
    try(var.kafka.properties, {}),
  )

  # The bridge reads a librdkafka property from KAFKA_CONFIG_ and its name.
  kafka_variable = {
    for property in concat(keys(local.kafka_properties), keys(try(var.kafka.secrets, {}))) :
    property => "KAFKA_CONFIG_${upper(replace(property, ".", "_"))}"
  }

  bridge_env = var.kafka == null ? {} : merge(
    {
      GOOGLE_CLOUD_PROJECT     = var.project
      KAFKA_BROKERS            = local.brokers
      KAFKA_TOPICS             = var.stream_topics == "" ? var.kafka.topics : var.stream_topics
      PAYLOAD_BUCKET           = var.by_reference ? local.payload_bucket : ""
      BATCH_GROUPS             = var.stream_topics == "" ? var.kafka.topics : var.batch_groups
      KAFKA_GROUP              = var.kafka.group
      KAFKA_OAUTH              = var.managed_kafka == null ? "" : "google"
      PUBSUB_TOPIC             = google_pubsub_topic.clickstream.name
      PUBSUB_DEAD_LETTER_TOPIC = google_pubsub_topic.dead_letter.name
    },
    { for property, value in local.kafka_properties : local.kafka_variable[property] => value },
    local.otlp_env,
  )

  # Variable => id of the secret that holds its value.
  bridge_secrets = merge(
    { for property, secret in try(var.kafka.secrets, {}) : local.kafka_variable[property] => secret },
    local.otlp_secrets,
  )
}

resource "google_cloud_run_v2_worker_pool" "bridge" {
  count = var.kafka == null ? 0 : 1

  name                = "bridge"
  location            = var.region
  deletion_protection = local.production

  # No scaling_mode: the provider has it from services, the API of worker pools knows none.
  scaling {
    manual_instance_count = var.bridge_instances
  }

  template {
    service_account = trimprefix(local.accounts["bridge"], "serviceAccount:")

    # Direct VPC egress, for brokers with private addresses; Pub/Sub is reached as
    # before.
    dynamic "vpc_access" {
      for_each = local.kafka_network == "" && local.kafka_subnetwork == "" ? [] : [true]

      content {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = local.kafka_network == "" ? null : local.kafka_network
          subnetwork = local.kafka_subnetwork == "" ? null : local.kafka_subnetwork
        }
      }
    }

    containers {
      image = var.bridge_image

      # At most 353 MiB were measured with the default budget of bytes in flight
      # (bridge/docs/adr-003-memory.md).
      resources {
        limits = {
          cpu    = "1"
          memory = "512Mi"
        }
      }

      dynamic "env" {
        for_each = local.bridge_env

        content {
          name  = env.key
          value = env.value
        }
      }

      # Read once, when an instance starts: a new version needs a new revision.
      dynamic "env" {
        for_each = local.bridge_secrets

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

      # A poll loop that is stuck is restarted; what it held is read again.
      liveness_probe {
        http_get {
          path = "/livez"
          port = 8080
        }
        initial_delay_seconds = 30
        period_seconds        = 10
        timeout_seconds       = 5
        failure_threshold     = 3
      }
    }
  }

  # Published before a subscription exists, an event or a dead letter is lost.
  depends_on = [
    google_pubsub_subscription.ingest,
    google_pubsub_subscription.dead_letter,
    google_pubsub_topic_iam_member.clickstream_bridge,
    google_pubsub_topic_iam_member.dead_letter_publishers,
    google_managed_kafka_topic.clickstream,
  ]
}

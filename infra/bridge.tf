# The bridge, as a worker pool: it pulls from Kafka, so nothing calls it and
# nothing scales it. One instance uses a partition at most once.

resource "google_cloud_run_v2_worker_pool" "bridge" {
  count = var.kafka == null ? 0 : 1

  name                = "bridge"
  location            = var.region
  deletion_protection = local.production
  # Worker pools are in preview in some regions still. Cloud Run answers with the
  # stage that it found sufficient.
  launch_stage = "BETA"

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.bridge_instances
  }

  template {
    service_account = trimprefix(local.accounts["bridge"], "serviceAccount:")

    dynamic "vpc_access" {
      for_each = var.kafka.network == "" ? [] : [var.kafka]

      content {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
        }
      }
    }

    containers {
      image = var.bridge_image

      resources {
        limits = {
          cpu    = "1"
          memory = "1Gi"
        }
      }

      dynamic "env" {
        for_each = {
          GOOGLE_CLOUD_PROJECT     = var.project
          KAFKA_BROKERS            = var.kafka.brokers
          KAFKA_TOPICS             = var.kafka.topics
          KAFKA_GROUP              = var.kafka.group
          PUBSUB_TOPIC             = google_pubsub_topic.clickstream.name
          PUBSUB_DEAD_LETTER_TOPIC = google_pubsub_topic.dead_letter.name
        }

        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [launch_stage]
  }

  # A dead letter published before the subscription exists is lost, and so is an
  # event.
  depends_on = [
    google_pubsub_subscription.dead_letter,
    google_pubsub_subscription.ingest,
  ]
}

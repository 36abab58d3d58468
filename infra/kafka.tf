# A Kafka of one's own, if there is none yet: Google's managed service. It cannot
# scale to zero. The bridge logs in as its service account, whose role
# infra/bootstrap grants.

locals {
  managed_brokers = var.managed_kafka == null ? "" : "bootstrap.clickstream.${var.region}.managedkafka.${var.project}.cloud.goog:9092"
}

resource "google_managed_kafka_cluster" "clickstream" {
  count = var.managed_kafka == null ? 0 : 1

  cluster_id      = "clickstream"
  location        = var.region
  deletion_policy = local.deletion_policy

  capacity_config {
    vcpu_count   = var.managed_kafka.vcpus
    memory_bytes = var.managed_kafka.memory_gib * 1024 * 1024 * 1024
  }

  gcp_config {
    access_config {
      network_configs {
        subnet = var.managed_kafka.subnetwork
      }
    }
  }

  rebalance_config {
    mode = "AUTO_REBALANCE_ON_SCALE_UP"
  }
}

resource "google_managed_kafka_topic" "clickstream" {
  count = var.managed_kafka == null ? 0 : 1

  cluster            = google_managed_kafka_cluster.clickstream[0].cluster_id
  location           = var.region
  topic_id           = var.managed_kafka.topic
  partition_count    = var.managed_kafka.partitions
  replication_factor = 3
  deletion_policy    = local.deletion_policy

  configs = {
    # A week in which anything can be read again.
    "retention.ms" = "604800000"
    # An event is only lost with two zones.
    "min.insync.replicas" = "2"
  }
}

# Objectives, over 28 days. Cloud Monitoring counts the points of a metric, and a
# point is a request, that is a batch: a batch is late if its oldest event was. The
# third objective, quality (99 % of events can land), would be wrong in batches:
# the alert "Reject ratio above 1 %" holds it in events.

resource "google_monitoring_custom_service" "sluice" {
  service_id   = "sluice"
  display_name = "Sluice"
}

# 99 % of events are in BigQuery within 5 s of Kafka's timestamp.
resource "google_monitoring_slo" "latency" {
  service             = google_monitoring_custom_service.sluice.service_id
  slo_id              = "latency"
  display_name        = "99 % of batches in BigQuery within 5 s"
  goal                = 0.99
  rolling_period_days = 28

  request_based_sli {
    distribution_cut {
      distribution_filter = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.distribution["latency"].name}\" AND resource.type=\"cloud_run_revision\""

      range {
        min = 0
        max = 5000
      }
    }
  }
}

# 99 % of Ingest's answers are no server error. The burn-rate alerts watch the same, and
# DeadLetter's.
resource "google_monitoring_slo" "answers" {
  service             = google_monitoring_custom_service.sluice.service_id
  slo_id              = "answers"
  display_name        = "99 % of pushes answered without a server error"
  goal                = 0.99
  rolling_period_days = 28

  request_based_sli {
    good_total_ratio {
      total_service_filter = local.ingest_requests
      bad_service_filter   = "${local.ingest_requests} AND metric.labels.response_code_class=\"5xx\""
    }
  }
}

locals {
  ingest_requests = "metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloud_run_v2_service.function["ingest"].name}\""
}

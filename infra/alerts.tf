# Alerts, as monitoring/alerts.yaml describes them.

locals {
  has_bridge = var.kafka != null && var.bridge_instances > 0

  alerts = {
    for name, alert in yamldecode(file("${path.module}/monitoring/alerts.yaml")) : name => alert
    # Without a bridge its silence means nothing.
    if local.has_bridge || !try(alert.bridge, false)
  }

  # As GitHub makes it of a heading: lower case, hyphens for spaces, other signs left out.
  anchors = { for name, alert in local.alerts : name => replace(replace(lower(alert.runbook), "/[^a-z0-9 -]/", ""), " ", "-") }
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  display_name          = "Sluice: ${each.value.runbook}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = var.notification_channels

  conditions {
    display_name = each.value.runbook

    condition_prometheus_query_language {
      query               = trimspace(each.value.query)
      duration            = each.value.for
      evaluation_interval = "60s"
      # A log-based metric is unknown until its first line is written.
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Sluice ${var.environment}: ${each.value.runbook}"
    content   = "Runbook: infra/RUNBOOK.md#${local.anchors[each.key]}"

    dynamic "links" {
      for_each = var.runbook_url == "" ? [] : [var.runbook_url]

      content {
        display_name = "Runbook"
        url          = "${links.value}#${local.anchors[each.key]}"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  depends_on = [google_logging_metric.distribution, google_logging_metric.counter]
}

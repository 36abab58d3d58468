# Log-based metrics, as monitoring/metrics.yaml describes them.

locals {
  metrics = yamldecode(file("${path.module}/monitoring/metrics.yaml"))

  distributions = merge(local.metrics.distributions, {
    for code in local.metrics.rejections.codes : "rejected_${code}" => {
      text    = replace(local.metrics.rejections.text, "CODE", code)
      filter  = replace(local.metrics.rejections.filter, "CODE", code)
      field   = replace(local.metrics.rejections.field, "CODE", code)
      unit    = "1"
      buckets = "counts"
    }
  })
}

resource "google_logging_metric" "distribution" {
  for_each = local.distributions

  name             = "sluice_${each.key}"
  description      = each.value.text
  filter           = each.value.filter
  value_extractor  = "EXTRACT(jsonPayload.${each.value.field})"
  label_extractors = { for label, field in try(each.value.labels, {}) : label => "EXTRACT(${field})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit

    dynamic "labels" {
      for_each = try(each.value.labels, {})

      content {
        key = labels.key
      }
    }
  }

  bucket_options {
    explicit_buckets {
      bounds = local.metrics.buckets[each.value.buckets]
    }
  }
}

resource "google_logging_metric" "counter" {
  for_each = local.metrics.counters

  name             = "sluice_${each.key}"
  description      = each.value.text
  filter           = each.value.filter
  label_extractors = { for label, field in try(each.value.labels, {}) : label => "EXTRACT(${field})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    dynamic "labels" {
      for_each = try(each.value.labels, {})

      content {
        key = labels.key
      }
    }
  }
}

resource "google_logging_project_exclusion" "sample" {
  for_each = local.metrics.exclusions

  name        = "sluice-${each.key}"
  description = each.value.text
  filter      = each.value.filter
  disabled    = !local.production
}

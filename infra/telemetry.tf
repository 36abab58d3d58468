# OpenTelemetry's standard variables, the same for bridge and functions: they turn on
# what internal/telemetry describes. Cloud Monitoring gets its metrics from log lines
# instead (metrics.tf), which need neither a receiver nor CPU between requests.

locals {
  otlp_env = var.otlp == null ? {} : {
    OTEL_EXPORTER_OTLP_ENDPOINT = var.otlp.endpoint
    OTEL_TRACES_SAMPLER         = "parentbased_traceidratio"
    OTEL_TRACES_SAMPLER_ARG     = tostring(var.otlp.traces)
    OTEL_RESOURCE_ATTRIBUTES    = "deployment.environment.name=${var.environment},cloud.provider=gcp,cloud.account.id=${var.project},cloud.region=${var.region}"
  }

  # Variable => id of the secret that holds its value.
  otlp_secrets = try(var.otlp.headers, "") == "" ? {} : { OTEL_EXPORTER_OTLP_HEADERS = var.otlp.headers }
}

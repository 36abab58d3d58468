# One service account for each part. Their rights stand beside the resources
# that they use, in infra/; here are only those that a project's owner gives.

locals {
  accounts = {
    bridge      = "Reads Kafka, publishes to the two topics."
    ingest      = "Appends to fact_events, publishes dead letters."
    dead-letter = "Appends to events_dlq."
    push        = "Pub/Sub's identity when it calls the functions."
    build       = "Builds and deploys."
  }
}

resource "google_service_account" "part" {
  for_each = local.accounts

  account_id   = "sluice-${each.key}"
  display_name = "Sluice ${each.key}"
  description  = each.value

  depends_on = [google_project_service.required]
}

# Append and nothing else: roles/bigquery.dataEditor could read and delete.
resource "google_project_iam_custom_role" "appender" {
  role_id     = "sluiceAppender"
  title       = "Sluice appender"
  description = "Appends rows to a table with the Storage Write API."
  permissions = [
    "bigquery.tables.get",
    "bigquery.tables.updateData",
  ]

  depends_on = [google_project_service.required]
}

# Pub/Sub signs the push requests' tokens as the push account. New projects give
# its agent this right by themselves; organisations may have taken it away.
resource "google_service_account_iam_member" "push_tokens" {
  service_account_id = google_service_account.part["push"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_secret_manager_secret_iam_member" "bridge" {
  for_each = var.kafka_secrets

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.part["bridge"].member
}

resource "google_secret_manager_secret_iam_member" "registry" {
  for_each = var.registry_secrets

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.part["ingest"].member
}

# It grants by project only; the role reads schemas, and changes nothing.
resource "google_project_iam_member" "ingest_registry" {
  count = var.google_registry ? 1 : 0

  project = var.project
  role    = "roles/managedkafka.schemaRegistryViewer"
  member  = google_service_account.part["ingest"].member
}

# Who sends OpenTelemetry's signals reads the headers to send with them.
resource "google_secret_manager_secret_iam_member" "otlp_headers" {
  for_each = var.otlp_headers == "" ? [] : toset(["bridge", "ingest", "dead-letter"])

  secret_id = var.otlp_headers
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.part[each.value].member
}

# Google's managed Kafka grants by project only.
resource "google_project_iam_member" "bridge_managed_kafka" {
  count = var.managed_kafka ? 1 : 0

  project = var.project
  role    = "roles/managedkafka.client"
  member  = google_service_account.part["bridge"].member
}

# The build's identity: it can change what infra/ describes and push images, but
# neither grant project-wide roles, nor make accounts, nor read secrets itself. What it
# deploys runs as the parts' accounts: who may push to the branch may use their rights.

resource "google_project_iam_member" "build" {
  for_each = toset([
    "roles/bigquery.dataOwner",       # dataset, tables, views, their IAM; the smoke test's rows
    "roles/bigquery.jobUser",         # the smoke test's queries
    "roles/browser",                  # the project's number
    "roles/cloudbuild.builds.viewer", # whose turn it is
    "roles/logging.configWriter",     # log-based metrics
    "roles/logging.logWriter",        # the build's own log
    "roles/managedkafka.admin",       # also without a cluster: a build deletes the one that is no longer wanted
    "roles/monitoring.editor",        # dashboards, alerts, SLOs
    "roles/pubsub.admin",             # topics, subscriptions, their IAM; the smoke test's events
    "roles/run.admin",                # services, worker pool, who may invoke
  ])

  project = var.project
  role    = each.value
  member  = google_service_account.part["build"].member
}

# To deploy a service under an account, and push under one, is to act as it.
resource "google_service_account_iam_member" "build_acts_as" {
  for_each = toset(["bridge", "ingest", "dead-letter", "push"])

  service_account_id = google_service_account.part[each.value].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.part["build"].member
}

resource "google_artifact_registry_repository_iam_member" "build" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.part["build"].member
}

resource "google_storage_bucket_iam_member" "build_state" {
  bucket = var.state_bucket
  role   = "roles/storage.objectAdmin"
  member = google_service_account.part["build"].member
}

resource "google_cloudbuild_trigger" "deploy" {
  count = var.repository == null ? 0 : 1

  name            = "sluice-${var.environment}"
  description     = "Test, build and deploy to ${var.environment}."
  location        = var.region
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.part["build"].id

  github {
    owner = var.repository.owner
    name  = var.repository.name
    push {
      branch = var.repository.branch
    }
  }

  substitutions = {
    _REGION       = var.region
    _ENVIRONMENT  = var.environment
    _STATE_BUCKET = var.state_bucket
    _VERSION      = "$${SHORT_SHA}"
  }

  # What changes only text deploys nothing.
  ignored_files = ["**/*.md"]

  # Production waits for a person.
  approval_config {
    approval_required = var.environment == "prod"
  }
}

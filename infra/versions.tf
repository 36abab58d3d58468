# One environment of Sluice in one Google Cloud project: topics, push
# subscriptions, the two functions, the bridge, the warehouse, monitoring.
#
# infra/bootstrap/ comes first: what a person with the project's owner role makes
# once (APIs, image registry, service accounts, the build and its trigger).
# This root needs none of those rights, so that a build can apply it.
#
# ./scripts/deploy runs both in order. By hand, the state bucket's name is given
# at init: terraform init -backend-config=bucket=BUCKET
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45" # deletion_policy of topics and subscriptions
    }
  }

  backend "gcs" {
    prefix = "sluice"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = local.labels
}

# Only the project's number is read here: service agents and the functions'
# stable URLs are named by it.
data "google_project" "this" {
  project_id = var.project
}

locals {
  production = var.environment == "prod"

  # Whatever holds events is gone with them: no plan of production deletes it.
  deletion_policy = local.production ? "PREVENT" : "DELETE"

  labels = {
    app         = "sluice"
    environment = var.environment
  }

  # Made by infra/bootstrap; their names are the contract between the two roots.
  accounts = {
    for part in ["bridge", "ingest", "dead-letter", "push"] :
    part => "serviceAccount:sluice-${part}@${var.project}.iam.gserviceaccount.com"
  }

  # Pub/Sub itself: it forwards to the dead-letter topic and counts attempts.
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  # Handler < ack deadline <= Cloud Run timeout: the function always answers
  # before Pub/Sub stops waiting, and Cloud Run never cuts a request that
  # Pub/Sub still waits for.
  handler_timeout_seconds = 50
  ack_deadline_seconds    = 60
  request_timeout_seconds = 60
}

# What a person with the owner role makes once for a project, so that a build can
# do the rest with few rights: APIs, the image registry, the service accounts, the
# build's own rights and its trigger.
#
#   terraform init -backend-config=bucket=BUCKET
#   terraform apply -var project=PROJECT -var region=REGION
#
# ./scripts/deploy does both, after it has made the state bucket.
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }

  backend "gcs" {
    prefix = "sluice-bootstrap"
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

resource "google_project_service" "required" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com", # direct VPC egress
    "iam.googleapis.com",
    "logging.googleapis.com",
    "managedkafka.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
  ])

  service = each.value
  # Other things in the project may need an API that this root no longer does.
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "sluice"
  description   = "Sluice's images: functions and bridge."
  format        = "DOCKER"
  location      = var.region

  docker_config {
    # A rollback names a tag and must get what ran under it.
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-20"
    action = "KEEP"
    most_recent_versions {
      keep_count = 20
    }
  }
  cleanup_policies {
    id     = "delete-after-90-days"
    action = "DELETE"
    condition {
      older_than = "7776000s"
    }
  }

  depends_on = [google_project_service.required]
}

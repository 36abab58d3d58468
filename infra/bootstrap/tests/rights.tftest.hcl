# The build deploys with few rights: none that would let a commit take over the
# project.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789" }
  }
}

variables {
  project      = "acme-clickstream"
  region       = "europe-west1"
  environment  = "prod"
  state_bucket = "acme-clickstream-sluice-state"
  repository   = { owner = "acme", name = "sluice" }
}

run "the_build_cannot_take_over" {
  command = plan

  assert {
    condition = length(setintersection(keys(google_project_iam_member.build), [
      "roles/owner", "roles/editor", "roles/resourcemanager.projectIamAdmin", "roles/iam.securityAdmin",
      "roles/iam.serviceAccountAdmin", "roles/iam.serviceAccountUser", "roles/iam.serviceAccountTokenCreator",
      "roles/iam.serviceAccountKeyAdmin", "roles/secretmanager.secretAccessor", "roles/secretmanager.admin",
    ])) == 0
    error_message = "The build has a project-wide right with which it could give itself any other."
  }
  assert {
    condition     = google_cloudbuild_trigger.deploy[0].approval_config[0].approval_required
    error_message = "Production deploys wait for a person."
  }
}

run "no_repository_no_trigger" {
  command = plan

  variables {
    repository  = null
    environment = "test"
  }

  assert {
    condition     = length(google_cloudbuild_trigger.deploy) == 0
    error_message = "Without a repository there is no trigger."
  }
}

run "the_appender_only_appends" {
  command = plan

  assert {
    condition     = toset(google_project_iam_custom_role.appender.permissions) == toset(["bigquery.tables.get", "bigquery.tables.updateData"])
    error_message = "The functions append to their table; they do not read, change or delete."
  }
}

run "the_trigger_names_what_it_builds" {
  command = plan

  assert {
    condition     = google_cloudbuild_trigger.deploy[0].substitutions["_VERSION"] == "$${SHORT_SHA}" && google_cloudbuild_trigger.deploy[0].substitutions["_STATE_BUCKET"] == "acme-clickstream-sluice-state"
    error_message = "Cloud Build puts the commit in, not Terraform."
  }
}

run "only_the_bridge_reads_its_secrets" {
  variables {
    kafka_secrets = ["kafka-password"]
    otlp_headers  = "otlp-headers"
    managed_kafka = true
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.bridge["kafka-password"].role == "roles/secretmanager.secretAccessor" && google_secret_manager_secret_iam_member.bridge["kafka-password"].member == google_service_account.part["bridge"].member
    error_message = "The bridge reads the secrets that it is given, and nobody else does."
  }
  assert {
    condition     = toset(keys(google_secret_manager_secret_iam_member.otlp_headers)) == toset(["bridge", "ingest", "dead-letter"])
    error_message = "Who exports telemetry reads the headers for it."
  }
  assert {
    condition     = google_project_iam_member.bridge_managed_kafka[0].role == "roles/managedkafka.client"
    error_message = "With managed Kafka the bridge may connect to it."
  }
}

run "only_ingest_asks_the_schema_registry" {
  variables {
    registry_secrets = ["registry-password"]
    google_registry  = true
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.registry["registry-password"].role == "roles/secretmanager.secretAccessor" && google_secret_manager_secret_iam_member.registry["registry-password"].member == google_service_account.part["ingest"].member
    error_message = "Ingest reads the secrets for the registry, and nobody else does."
  }
  assert {
    condition     = google_project_iam_member.ingest_registry[0].role == "roles/managedkafka.schemaRegistryViewer" && google_project_iam_member.ingest_registry[0].member == google_service_account.part["ingest"].member
    error_message = "Of Google's managed registry, Ingest reads the schemas and changes nothing."
  }
}

run "accounts_have_the_names_that_infra_uses" {
  command = plan

  assert {
    condition     = toset([for a in google_service_account.part : a.account_id]) == toset(["sluice-bridge", "sluice-ingest", "sluice-dead-letter", "sluice-push", "sluice-build"])
    error_message = "infra/versions.tf finds the accounts by their names."
  }
  assert {
    condition     = google_project_iam_custom_role.appender.role_id == "sluiceAppender"
    error_message = "infra/bigquery.tf finds the role by its name."
  }
}

run "mistakes_are_named" {
  command = plan

  variables {
    state_bucket  = "gs://acme-clickstream-sluice-state"
    kafka_secrets = ["projects/acme-clickstream/secrets/kafka-password"]
    otlp_headers  = "authorization=Bearer x"
    repository    = { owner = "https://github.com/acme", name = "sluice" }

    registry_secrets = ["hunter2 "]
  }

  expect_failures = [var.state_bucket, var.kafka_secrets, var.registry_secrets, var.otlp_headers, var.repository]
}

run "payloads" {
  command = plan

  assert {
    condition = (google_storage_bucket.payloads.uniform_bucket_level_access && google_storage_bucket.payloads.public_access_prevention == "enforced"
      && google_storage_bucket.payloads.soft_delete_policy[0].retention_duration_seconds == 0
    && alltrue([for rule in google_storage_bucket.payloads.lifecycle_rule : one(rule.condition).age > 2 * 31]))
    error_message = "Payloads are nobody else's, outlive every message, and cost nothing when they are deleted."
  }
  assert {
    condition     = google_storage_bucket_iam_member.payloads_bridge.role == "roles/storage.objectCreator" && keys(google_storage_bucket_iam_member.payloads_functions) == ["dead-letter", "ingest"]
    error_message = "The bridge only creates, the functions only read and delete."
  }
}

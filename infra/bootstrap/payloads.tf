# The bucket for batches that are dear as messages: the bridge writes an object, its message
# refers to it, and the function that has brought the records home deletes it. It is made
# here because who may make buckets, and grant on them, may read the others.

resource "google_storage_bucket" "payloads" {
  name     = "${var.project}-sluice-payloads"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # What was brought home is gone, and costs nothing more.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # For what nobody fetches. A message lives for 31 days in each of the two subscriptions
  # (infra/pubsub.tf), and its object must outlive it.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 63
    }
  }

  depends_on = [google_project_service.required]
}

# Writes new objects; it can neither read, overwrite nor delete them.
resource "google_storage_bucket_iam_member" "payloads_bridge" {
  bucket = google_storage_bucket.payloads.name
  role   = "roles/storage.objectCreator"
  member = google_service_account.part["bridge"].member
}

resource "google_storage_bucket_iam_member" "payloads_functions" {
  for_each = toset(["ingest", "dead-letter"])

  bucket = google_storage_bucket.payloads.name
  role   = google_project_iam_custom_role.payloads.id
  member = google_service_account.part[each.value].member
}

# The last two tell an object that is gone from one that may not be seen and from a bucket that
# does not exist: a message is acknowledged for the first only.
resource "google_project_iam_custom_role" "payloads" {
  role_id     = "sluicePayloads"
  title       = "Sluice payloads"
  description = "Reads and deletes the payloads that messages refer to."
  permissions = [
    "storage.objects.get",
    "storage.objects.delete",
    "storage.objects.list",
    "storage.buckets.get",
  ]

  depends_on = [google_project_service.required]
}

output "payload_bucket" {
  description = "The bucket for batches that are dear as messages."
  value       = google_storage_bucket.payloads.name
}

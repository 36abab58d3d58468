output "repository" {
  description = "Where the images are pushed."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "build_account" {
  description = "The service account that builds run under."
  value       = google_service_account.part["build"].id
}

variable "project" {
  description = "The Google Cloud project's id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project id such as \"acme-clickstream-test\", not its name or number."
  }
}

variable "region" {
  description = "The region of the images and of the build, for example europe-west1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a Cloud Run region such as \"europe-west1\"."
  }
}

variable "environment" {
  description = "Which infra/env/*.tfvars the trigger deploys: test or prod."
  type        = string

  validation {
    condition     = contains(["test", "prod"], var.environment)
    error_message = "environment is \"test\" or \"prod\"."
  }
}

variable "state_bucket" {
  description = "The bucket that holds Terraform's state; the build reads and writes it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.state_bucket))
    error_message = "state_bucket is a bucket's name, such as \"acme-clickstream-sluice-state\", without gs://."
  }
}

variable "kafka_secrets" {
  description = "Ids of the Secret Manager secrets that the bridge reads. The values never pass through Terraform."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.kafka_secrets : can(regex("^[A-Za-z0-9_-]+$", id))])
    error_message = "kafka_secrets are ids of secrets in this project, such as \"kafka-password\"."
  }
}

variable "registry_secrets" {
  description = "Ids of the Secret Manager secrets with which Ingest asks a schema registry. The values never pass through Terraform."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.registry_secrets : can(regex("^[A-Za-z0-9_-]+$", id))])
    error_message = "registry_secrets are ids of secrets in this project, such as \"registry-password\"."
  }
}

variable "google_registry" {
  description = "Ingest asks the schema registry of Google's managed Kafka in this project."
  type        = bool
  default     = false
}

variable "otlp_headers" {
  description = "Id of the Secret Manager secret with the headers for the OTLP receiver; empty: none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]*$", var.otlp_headers))
    error_message = "otlp_headers is the id of a secret in this project, such as \"otlp-headers\"."
  }
}

variable "managed_kafka" {
  description = "Whether infra/ makes or uses a Google Managed Kafka cluster, into which the bridge logs in as its service account."
  type        = bool
  default     = false
}

variable "repository" {
  description = "The GitHub repository whose pushes deploy; null makes no trigger. It must be connected to Cloud Build once, in the console."
  type = object({
    owner  = string
    name   = string
    branch = optional(string, "^main$")
  })
  default = null

  validation {
    condition     = var.repository == null ? true : can(regex("^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", "${var.repository.owner}/${var.repository.name}"))
    error_message = "repository needs an owner and a name as GitHub has them, without https://github.com/."
  }
}

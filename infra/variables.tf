variable "project" {
  description = "The Google Cloud project's id. One project holds one environment."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project id such as \"acme-clickstream-test\", not its name or number."
  }
}

variable "region" {
  description = "The Cloud Run and Pub/Sub region, for example europe-west1. Put it beside Kafka."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a Cloud Run region such as \"europe-west1\"."
  }
}

variable "environment" {
  description = "test: everything can be deleted, every log line is kept. prod: nothing that holds events can be deleted, 99 of 100 good lines are not kept."
  type        = string

  validation {
    condition     = contains(["test", "prod"], var.environment)
    error_message = "environment is \"test\" or \"prod\"."
  }
}

variable "functions_image" {
  description = "The functions' image, by digest or by a tag that is never moved."
  type        = string

  validation {
    condition     = can(regex("^[^ ]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_.-]+)$", var.functions_image)) && !endswith(var.functions_image, ":latest")
    error_message = "functions_image is REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, and not :latest: a rollback must name what ran before."
  }
}

variable "bridge_image" {
  description = "The bridge's image, by digest or by a tag that is never moved."
  type        = string

  validation {
    condition     = can(regex("^[^ ]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_.-]+)$", var.bridge_image)) && !endswith(var.bridge_image, ":latest")
    error_message = "bridge_image is REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, and not :latest: a rollback must name what ran before."
  }
}

variable "kafka" {
  description = <<-EOT
    Where the bridge reads. null makes no bridge at all: events are then published straight to the Pub/Sub topic.
    brokers: host:port, comma-separated; empty with managed_kafka, whose address is used. topics: names, comma-separated, or one ^regular expression.
    properties: any librdkafka property by its own name, for example {"security.protocol" = "SASL_SSL"}; no secrets here.
    secrets: librdkafka property => id of a Secret Manager secret in this project, for example {"sasl.password" = "kafka-password"}.
    network, subnetwork: the VPC from which the brokers can be reached (direct VPC egress); both empty for public brokers, or for the subnetwork of managed_kafka.
  EOT
  type = object({
    brokers    = optional(string, "")
    topics     = string
    group      = optional(string, "clickstream-to-bigquery")
    properties = optional(map(string), {})
    secrets    = optional(map(string), {})
    network    = optional(string, "")
    subnetwork = optional(string, "")
  })
  default = null

  validation {
    condition     = var.kafka == null || try(var.kafka.topics, "") != ""
    error_message = "kafka.topics is empty: name the topics to read, comma-separated, or give one ^regular expression."
  }
  validation {
    condition     = var.kafka == null || try(var.kafka.brokers, "") != "" || var.managed_kafka != null
    error_message = "kafka.brokers is empty and managed_kafka is not set: give the brokers as host:port, comma-separated."
  }
  validation {
    condition     = alltrue([for server in split(",", try(var.kafka.brokers, "")) : can(regex("^([A-Za-z0-9._-]+:[0-9]+)?$", trimspace(server)))])
    error_message = "kafka.brokers: a server is not host:port."
  }
  validation {
    condition     = alltrue([for name in keys(try(var.kafka.properties, {})) : !can(regex("password|secret|key\\.pem", name))])
    error_message = "kafka.properties holds a password, secret or private key: put the value into Secret Manager and its id into kafka.secrets."
  }
}

variable "bridge_instances" {
  description = "How many bridges run; a worker pool has no autoscaling, so 0 is the only way to pay nothing. More than the topics' partitions are idle."
  type        = number
  default     = 1

  validation {
    condition     = var.bridge_instances >= 0 && var.bridge_instances <= 100 && floor(var.bridge_instances) == var.bridge_instances
    error_message = "bridge_instances is a whole number from 0 to 100."
  }
}

variable "schema_registry" {
  description = <<-EOT
    How Ingest reaches the schema registry that contracts name. null: none does, or it is public and asks nobody who he is.
    url: asked instead of the contracts' own address, such as a test's; empty: theirs.
    secrets: what the contracts' auth needs => id of a Secret Manager secret in this project, for example {"user" = "registry-user", "password" = "registry-password"}: user and password, token, certificate and key, ca.
    network, subnetwork: the VPC from which it can be reached (direct VPC egress); both empty for a public one.
    google: it is the managed one of this project, whose schemas Ingest may then read.
  EOT
  type = object({
    url        = optional(string, "")
    secrets    = optional(map(string), {})
    network    = optional(string, "")
    subnetwork = optional(string, "")
    google     = optional(bool, false)
  })
  default = null

  validation {
    condition     = can(regex("^(https?://[^ @]+)?$", try(var.schema_registry.url, "")))
    error_message = "schema_registry.url is no address: give it as https://HOST, without a user or a password."
  }
  validation {
    condition     = alltrue([for name in keys(try(var.schema_registry.secrets, {})) : contains(["user", "password", "token", "certificate", "key", "ca"], name)])
    error_message = "schema_registry.secrets has a name that is not known: use user, password, token, certificate, key and ca."
  }
  validation {
    condition     = alltrue([for id in values(try(var.schema_registry.secrets, {})) : can(regex("^[A-Za-z0-9_-]+$", id))])
    error_message = "schema_registry.secrets are ids of secrets in this project, such as \"registry-password\": put the values into Secret Manager."
  }
}

variable "by_reference" {
  description = "Large batches go to the bucket PROJECT-sluice-payloads, which infra/bootstrap makes, and messages refer to them: cheaper from some thousand events per second on, and of no effect below."
  type        = bool
  default     = true
}

variable "streams" {
  description = <<-EOT
    The tables of contracts of one's own, by table: what scripts/deploy --contracts makes of them (infra/build/contracts). deployed: the functions have
    the contract; the table of a contract that is gone stays. Not a setting.
  EOT
  type = map(object({
    table       = string
    description = string
    schema      = string
    partition   = optional(object({ column = string, type = string, expiration_ms = optional(number) }))
    clustering  = list(string)
    view        = string
    query       = string
    deployed    = bool
  }))
  default = {}
}

variable "stream_topics" {
  description = "The Kafka topics of the deployed contracts, comma-separated; empty: those of kafka.topics. Not a setting."
  type        = string
  default     = ""
}

variable "batch_groups" {
  description = "Those of the topics that may share messages, because one contract takes them; empty: those of kafka.topics, if there are no contracts. Not a setting."
  type        = string
  default     = ""
}

variable "leaves_out" {
  description = "A contract leaves events out, and the table for their records is needed. Not a setting."
  type        = bool
  default     = false
}

variable "health_query" {
  description = "The text of pipeline_health_per_minute over the tables of the contracts; empty: that of the built-in one. Not a setting."
  type        = string
  default     = ""
}

variable "event_types" {
  description = "Values that event_type may have; events with another go to the dead-letter table."
  type        = list(string)
  default     = ["page_view", "add_to_cart", "purchase", "search"]

  validation {
    condition     = length(var.event_types) > 0 && alltrue([for type in var.event_types : can(regex("^[^, ]+$", type))])
    error_message = "event_types is a list of at least one name, each without commas and spaces."
  }
}

variable "function_instances" {
  description = "Cloud Run instances of each function: min is kept warm and paid for, max bounds cost and BigQuery connections."
  type = object({
    min = number
    max = number
  })

  validation {
    condition     = var.function_instances.min >= 0 && var.function_instances.max >= 1 && var.function_instances.max >= var.function_instances.min
    error_message = "function_instances needs 0 <= min <= max and max >= 1."
  }
}

variable "retention" {
  description = "Days that the tables keep their partitions; null keeps them for ever. Events that BigQuery would delete at once, older than events_days less one, are dead-lettered instead."
  type = object({
    events_days       = optional(number)
    dead_letters_days = optional(number)
  })
  default = {}

  validation {
    condition     = alltrue([for days in values(var.retention) : days == null ? true : days >= 2 && floor(days) == days])
    error_message = "retention is in whole days, at least 2, or null for ever."
  }
}

variable "managed_kafka" {
  description = "A Google Managed Kafka cluster to make; null uses a Kafka of your own. It cannot scale to zero: about 3 vCPU at least, day and night."
  type = object({
    subnetwork = string
    topic      = optional(string, "clickstream")
    partitions = optional(number, 6)
    vcpus      = optional(number, 3)
    memory_gib = optional(number, 3)
  })
  default = null

  validation {
    condition     = var.managed_kafka == null ? true : var.managed_kafka.vcpus >= 3 && var.managed_kafka.memory_gib >= var.managed_kafka.vcpus && var.managed_kafka.memory_gib <= 8 * var.managed_kafka.vcpus
    error_message = "managed_kafka needs at least 3 vcpus and 1 to 8 GiB of memory for each."
  }
  validation {
    condition     = var.managed_kafka == null ? true : can(regex("^projects/[^/]+/regions/[^/]+/subnetworks/[^/]+$", var.managed_kafka.subnetwork))
    error_message = "managed_kafka.subnetwork is a full name: projects/PROJECT/regions/REGION/subnetworks/NAME."
  }
}

variable "otlp" {
  description = <<-EOT
    Where bridge and functions send OpenTelemetry's traces and metrics; null: nowhere. Dashboard and alerts do not need them.
    endpoint: a receiver of OTLP over HTTP that Cloud Run reaches without a VPC, for example https://otlp.example.com:4318.
    headers: id of a Secret Manager secret with OTEL_EXPORTER_OTLP_HEADERS, for example authorization=Bearer%20TOKEN; empty: none.
    traces: share of the traces that begin here, 0 to 1; those that a record's header continues keep their producer's choice.
  EOT
  type = object({
    endpoint = string
    headers  = optional(string, "")
    traces   = optional(number, 0.01)
  })
  default = null

  validation {
    condition     = var.otlp == null ? true : can(regex("^https?://[^ ]+$", var.otlp.endpoint)) && var.otlp.traces >= 0 && var.otlp.traces <= 1
    error_message = "otlp needs an endpoint such as \"https://otlp.example.com:4318\", and traces from 0 to 1."
  }
}

variable "notification_channels" {
  description = "Monitoring notification channels that alerts go to, as projects/PROJECT/notificationChannels/ID (gcloud beta monitoring channels list). None: incidents are only shown in the console."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "notification_channels are full names: projects/PROJECT/notificationChannels/ID."
  }
}

variable "runbook_url" {
  description = "Where people read infra/RUNBOOK.md, for example https://github.com/OWNER/NAME/blob/main/infra/RUNBOOK.md. Empty: alerts name the file's section without a link."
  type        = string
  default     = ""

  validation {
    condition     = var.runbook_url == "" || can(regex("^https://[^#]+$", var.runbook_url))
    error_message = "runbook_url is an https:// address without a #section."
  }
}

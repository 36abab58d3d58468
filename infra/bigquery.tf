# The dataset and its tables. Their columns live in one place, the schema files that the
# functions are built from as well, and the contracts that the functions are given.
#
# A column is only ever added. What the table has and the file has not would be dropped
# with all that it holds, deletion_protection or not: a column that was added by hand, or
# one that is newer than the commit which is deployed. The option that stops it is called
# after another use of it, ignore_auto_generated_schema.

resource "google_bigquery_dataset" "clickstream" {
  dataset_id                 = "clickstream"
  description                = "Clickstream events and the events that could not be inserted."
  location                   = var.region
  delete_contents_on_destroy = !local.production
  # Events compress well, and time travel of seven days is part of the price.
  storage_billing_model = "PHYSICAL"
}

resource "google_bigquery_table" "fact_events" {
  dataset_id          = google_bigquery_dataset.clickstream.dataset_id
  table_id            = "fact_events"
  description         = "One row per insert of an event; the view events has each event once."
  schema              = try(var.streams["fact_events"].schema, file("${path.module}/../internal/contract/fact_events.json"))
  clustering          = ["event_type", "user_id"]
  deletion_protection = local.production

  ignore_auto_generated_schema = true

  time_partitioning {
    type          = "DAY"
    field         = "event_timestamp"
    expiration_ms = var.retention.events_days == null ? null : var.retention.events_days * 86400000
  }
}

resource "google_bigquery_table_iam_member" "fact_events_ingest" {
  dataset_id = google_bigquery_table.fact_events.dataset_id
  table_id   = google_bigquery_table.fact_events.table_id
  role       = local.appender_role
  member     = local.accounts["ingest"]
}

# The tables of contracts of one's own. The functions append to those that are deployed; the
# table of a contract that is gone stays with its rows.
resource "google_bigquery_table" "stream" {
  for_each = { for name, stream in var.streams : name => stream if name != "fact_events" }

  dataset_id          = google_bigquery_dataset.clickstream.dataset_id
  table_id            = each.value.table
  description         = each.value.description
  schema              = each.value.schema
  clustering          = length(each.value.clustering) == 0 ? null : each.value.clustering
  deletion_protection = local.production

  ignore_auto_generated_schema = true

  dynamic "time_partitioning" {
    for_each = each.value.partition == null ? [] : [each.value.partition]

    content {
      type          = time_partitioning.value.type
      field         = time_partitioning.value.column
      expiration_ms = time_partitioning.value.expiration_ms
    }
  }
}

resource "google_bigquery_table_iam_member" "stream_ingest" {
  for_each = { for name, table in google_bigquery_table.stream : name => table if var.streams[name].deployed }

  dataset_id = each.value.dataset_id
  table_id   = each.value.table_id
  role       = local.appender_role
  member     = local.accounts["ingest"]
}

resource "google_bigquery_table" "stream_view" {
  for_each = google_bigquery_table.stream

  dataset_id = google_bigquery_dataset.clickstream.dataset_id
  table_id   = var.streams[each.key].view
  # A view holds nothing: it may be replaced.
  deletion_protection = false

  view {
    query          = var.streams[each.key].query
    use_legacy_sql = false
  }
}

resource "google_bigquery_table" "events_left_out" {
  count = var.leaves_out ? 1 : 0

  dataset_id          = google_bigquery_dataset.clickstream.dataset_id
  table_id            = "events_left_out"
  description         = "The records that contracts leave out, so that the audit balances."
  schema              = file("${path.module}/../internal/contract/events_left_out.json")
  clustering          = ["contract", "kafka_topic"]
  deletion_protection = local.production

  ignore_auto_generated_schema = true

  time_partitioning {
    type          = "DAY"
    field         = "left_out_at"
    expiration_ms = var.retention.dead_letters_days == null ? null : var.retention.dead_letters_days * 86400000
  }
}

resource "google_bigquery_table_iam_member" "events_left_out_ingest" {
  for_each = { for table in google_bigquery_table.events_left_out : table.table_id => table }

  dataset_id = each.value.dataset_id
  table_id   = each.value.table_id
  role       = local.appender_role
  member     = local.accounts["ingest"]
}

resource "google_bigquery_table" "events_dlq" {
  dataset_id          = google_bigquery_dataset.clickstream.dataset_id
  table_id            = "events_dlq"
  description         = "Events that could not be inserted, with their bytes, the reason and where they came from."
  schema              = file("${path.module}/../internal/contract/events_dlq.json")
  clustering          = ["error_code"]
  deletion_protection = local.production

  ignore_auto_generated_schema = true

  time_partitioning {
    type          = "DAY"
    field         = "failed_at"
    expiration_ms = var.retention.dead_letters_days == null ? null : var.retention.dead_letters_days * 86400000
  }
}

resource "google_bigquery_table_iam_member" "events_dlq_dead_letter" {
  dataset_id = google_bigquery_table.events_dlq.dataset_id
  table_id   = google_bigquery_table.events_dlq.table_id
  role       = local.appender_role
  member     = local.accounts["dead-letter"]
}

# The views, from the same texts that the local warehouse runs.
resource "google_bigquery_table" "view" {
  for_each = local.views

  dataset_id = google_bigquery_dataset.clickstream.dataset_id
  table_id   = each.key
  # A view holds nothing: it may be replaced.
  deletion_protection = false

  view {
    query = each.key == "pipeline_health_per_minute" && var.health_query != "" ? var.health_query : templatefile(
      "${path.module}/../internal/contract/sql/${each.key}.sql", { dataset = "${var.project}.${google_bigquery_dataset.clickstream.dataset_id}" }
    )
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.fact_events, google_bigquery_table.events_dlq, google_bigquery_table.stream]
}

locals {
  views = toset(["events", "dead_letters_by_code", "pipeline_health_per_minute"])

  # Append and nothing else: it can neither read, change nor delete rows.
  # Made by infra/bootstrap.
  appender_role = "projects/${var.project}/roles/sluiceAppender"
}

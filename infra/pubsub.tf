# The two topics and their push subscriptions. Pub/Sub is the only retry layer
# for data: everything a function cannot finish waits here.

resource "google_pubsub_topic" "clickstream" {
  name            = "clickstream"
  deletion_policy = local.deletion_policy

  # Events are personal data: they are kept where tables and services are, wherever
  # they were published.
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
}

resource "google_pubsub_topic_iam_member" "clickstream_bridge" {
  topic  = google_pubsub_topic.clickstream.name
  role   = "roles/pubsub.publisher"
  member = local.accounts["bridge"]

  # A topic without a subscription takes what is published and keeps nothing: when it
  # is made anew beside a running bridge, nobody may publish before somebody reads.
  depends_on = [google_pubsub_subscription.ingest]
}

resource "google_pubsub_topic" "dead_letter" {
  name            = "clickstream-dead-letter"
  deletion_policy = local.deletion_policy

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
}

# Who dead-letters: the bridge what Pub/Sub can never take, Ingest what BigQuery
# can never take, Pub/Sub what was tried 100 times.
resource "google_pubsub_topic_iam_member" "dead_letter_publishers" {
  for_each = {
    bridge = local.accounts["bridge"]
    ingest = local.accounts["ingest"]
    pubsub = local.pubsub_agent
  }

  topic  = google_pubsub_topic.dead_letter.name
  role   = "roles/pubsub.publisher"
  member = each.value

  # As above: first the subscription, then who publishes to it.
  depends_on = [google_pubsub_subscription.dead_letter]
}

locals {
  # Both subscriptions push the same way.
  push = {
    # 10 s to 600 s between tries: 100 tries take about 15 hours.
    minimum_backoff = "10s"
    maximum_backoff = "600s"
    # The longest that Pub/Sub keeps an unacknowledged message: 31 days.
    retention = "2678400s"
  }
}

resource "google_pubsub_subscription" "ingest" {
  name                       = "clickstream-ingest"
  deletion_policy            = local.deletion_policy
  topic                      = google_pubsub_topic.clickstream.id
  ack_deadline_seconds       = local.ack_deadline_seconds
  message_retention_duration = local.push.retention

  push_config {
    push_endpoint = google_cloud_run_v2_service.function["ingest"].uri

    oidc_token {
      service_account_email = trimprefix(local.accounts["push"], "serviceAccount:")
      audience              = local.functions["ingest"].audience
    }

    # The payload as the body and its metadata as headers: no base64, no JSON.
    no_wrapper {
      write_metadata = true
    }
  }

  retry_policy {
    minimum_backoff = local.push.minimum_backoff
    maximum_backoff = local.push.maximum_backoff
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letter.id
    max_delivery_attempts = 100
  }

  # Never: the default deletes a subscription after 31 idle days.
  expiration_policy {
    ttl = ""
  }

  # A message forwarded to a topic without a subscription is gone, and without
  # the agent's right to publish nothing is forwarded at all.
  depends_on = [
    google_pubsub_subscription.dead_letter,
    google_pubsub_topic_iam_member.dead_letter_publishers,
  ]
}

# Without it Pub/Sub does not even count delivery attempts.
resource "google_pubsub_subscription_iam_member" "ingest_pubsub" {
  subscription = google_pubsub_subscription.ingest.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_pubsub_subscription" "dead_letter" {
  name                       = "clickstream-dead-letter"
  deletion_policy            = local.deletion_policy
  topic                      = google_pubsub_topic.dead_letter.id
  ack_deadline_seconds       = local.ack_deadline_seconds
  message_retention_duration = local.push.retention

  push_config {
    push_endpoint = google_cloud_run_v2_service.function["dead-letter"].uri

    oidc_token {
      service_account_email = trimprefix(local.accounts["push"], "serviceAccount:")
      audience              = local.functions["dead-letter"].audience
    }

    no_wrapper {
      write_metadata = true
    }
  }

  retry_policy {
    minimum_backoff = local.push.minimum_backoff
    maximum_backoff = local.push.maximum_backoff
  }

  # No dead-letter policy: a dead letter that cannot be written waits here.

  expiration_policy {
    ttl = ""
  }
}

"""A consumer of the classic kind: read, json.loads, insert_rows_json, commit.

It is what a first version often looks like, and what Sluice is measured beside.
Arguments: brokers, topic, group, address of BigQuery's REST API.
"""

import json
import signal
import sys

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from kafka import KafkaConsumer

COLUMNS = ("event_id", "event_timestamp", "event_type", "user_id", "page_url", "product_id")
BATCH = 500


def row(record):
    event = json.loads(record.value)
    out = {name: event.pop(name, None) for name in COLUMNS}
    out["properties"] = json.dumps(event)
    out["kafka_topic"] = record.topic
    out["kafka_partition"] = record.partition
    out["kafka_offset"] = record.offset
    return out


def main(brokers, topic, group, address):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    client = bigquery.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint="http://" + address),
    )
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=brokers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=BATCH,
    )
    while True:
        for records in consumer.poll(timeout_ms=1000).values():
            errors = client.insert_rows_json("p.clickstream.fact_events", [row(r) for r in records])
            if errors:
                raise RuntimeError(errors)
            consumer.commit()


main(*sys.argv[1:])

/*
 * The few declarations of librdkafka's public C interface that this package
 * needs beyond what confluent-kafka-go exposes. They are copied in meaning from
 * rdkafka.h (librdkafka 2.x, BSD 2-clause), whose interface is stable: symbols are added,
 * never changed. The library itself comes with confluent-kafka-go, and is linked into the
 * program but not into this package alone: so the symbols are weak, and New checks that
 * they are there.
 */
#ifndef SLUICE_RDKAFKA_H
#define SLUICE_RDKAFKA_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OPTIONAL __attribute__((weak))

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;

typedef struct rd_kafka_message_s {
        int err; /* rd_kafka_resp_err_t; 0 is a record, anything else an event */
        rd_kafka_topic_t *rkt;
        int32_t partition;
        void *payload;
        size_t len;
        void *key;
        size_t key_len;
        int64_t offset;
        void *_private;
} rd_kafka_message_t;

rd_kafka_queue_t *rd_kafka_queue_new(rd_kafka_t *rk) OPTIONAL;
void rd_kafka_queue_destroy(rd_kafka_queue_t *rkqu) OPTIONAL;
rd_kafka_queue_t *rd_kafka_queue_get_partition(rd_kafka_t *rk, const char *topic, int32_t partition) OPTIONAL;
void rd_kafka_queue_forward(rd_kafka_queue_t *src, rd_kafka_queue_t *dst) OPTIONAL;
rd_kafka_message_t *rd_kafka_consume_queue(rd_kafka_queue_t *rkqu, int timeout_ms) OPTIONAL;
ssize_t rd_kafka_consume_batch_queue(rd_kafka_queue_t *rkqu, int timeout_ms, rd_kafka_message_t **rkmessages, size_t rkmessages_size) OPTIONAL;
void rd_kafka_message_destroy(rd_kafka_message_t *rkmessage) OPTIONAL;
int32_t rd_kafka_message_leader_epoch(const rd_kafka_message_t *rkmessage) OPTIONAL;
int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *rkmessage, int *tstype) OPTIONAL;
int rd_kafka_message_headers(const rd_kafka_message_t *rkmessage, rd_kafka_headers_t **hdrsp) OPTIONAL;
size_t rd_kafka_header_cnt(const rd_kafka_headers_t *hdrs) OPTIONAL;
int rd_kafka_header_get_all(const rd_kafka_headers_t *hdrs, size_t idx, const char **namep, const void **valuep, size_t *sizep) OPTIONAL;
const char *rd_kafka_topic_name(const rd_kafka_topic_t *rkt) OPTIONAL;

#endif

package faults

import (
	"fmt"
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"google.golang.org/grpc/codes"

	"sluice/internal/contract"
	"sluice/internal/local"
	"sluice/internal/local/warehouse"
	"sluice/scripts/pipeline"
)

// Protects streams from each other: of three tables one is gone, then one has another schema. Events of the others go
// on landing, those of the one wait, and all land when it is there again; none is a dead letter.
func TestOneTableOfThree(t *testing.T) {
	var contracts []*contract.Contract
	for _, name := range []string{"orders", "clicks", "visits"} {
		c, err := contract.Read(name+".yaml", []byte("contract: 1\ntopics: web."+name+"\nrest: drop\nevent: {id: id}\ncolumns: [{name: id, type: STRING, mode: REQUIRED}, {name: n, type: INT64}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		contracts = append(contracts, c)
	}
	w := start(t, pipeline.Config{Config: local.Config{Contracts: contracts,
		Push: local.PushConfig{BackoffScale: 0.005}}, TuneBridge: smallBatches})
	sent := int64(0)
	send := func(n int64) {
		for i := range n {
			for _, c := range contracts {
				topic := c.Topics[0]
				value := fmt.Appendf(nil, `{"id":"%s-%d","n":%d}`, c.Name, sent+i, i)
				m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny},
					Value: value}
				if err := w.producer.ProduceMessage(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
		sent += n
	}
	rows := func(table string) int64 { return w.one("SELECT COUNT(DISTINCT id) FROM " + table) }
	all := func(what string, tables ...string) {
		t.Helper()
		w.until(what, func() bool {
			for _, table := range tables {
				if rows(table) < sent {
					return false
				}
			}
			return true
		})
	}
	send(500)
	all("rows land in all three", "orders", "clicks", "visits")
	for name, fault := range map[string]warehouse.Fault{
		"gone":           {Table: "clicks", Code: codes.NotFound, Storage: storagepb.StorageError_TABLE_NOT_FOUND, Count: -1},
		"another schema": {Table: "clicks", Code: codes.InvalidArgument, Storage: storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS, Count: -1},
	} {
		before := sent
		h := w.Warehouse.Fail(fault)
		send(1000)
		all("while the table is "+name+", the others' rows land", "orders", "visits")
		w.until("the fault is met", func() bool { return h.Hits() >= 2 })
		if n := rows("clicks"); n != before {
			t.Errorf("%s: the table has %d rows, and had %d", name, n, before)
		}
		h.Remove()
		all("its own rows land when it is there again", "clicks")
	}
	if n := w.one("SELECT COUNT(*) FROM events_dlq"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	for _, table := range []string{"orders", "clicks", "visits"} {
		if all, once := w.one("SELECT COUNT(*) FROM "+table), rows(table); all != once {
			t.Errorf("%s has %d rows of %d events", table, all, once)
		}
	}
}

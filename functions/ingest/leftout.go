package ingest

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/batch"
	"sluice/internal/contract"
)

// leftOut is a record that its contract leaves out.
type leftOut struct {
	record int // its index in the batch
	rule   string
}

// The contract's rules by which it leaves records out.
const (
	ruleDrop   = "drop"
	ruleSample = "sample"
)

// account writes the records that the contract of to leaves out to events_left_out, one row
// each: without them the audit could not tell them from lost ones.
func (f *Function) account(ctx context.Context, to *stream, b *batch.Batch, left []leftOut, now int64) error {
	if len(left) == 0 {
		return nil
	}
	if f.config.LeftOut == nil {
		return fmt.Errorf("ingest: the contract %s leaves events out, and there is no table for them", to.Contract.Name)
	}
	rows := make([][]byte, len(left))
	for i, l := range left {
		rows[i] = f.leftOut.appendRow(nil, to.Contract.Name, l.rule, &b.Records[l.record], now)
	}
	refused, err := f.config.LeftOut.Write(ctx, rows)
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		return fmt.Errorf("BigQuery refused %d rows of events_left_out: %s", len(refused), refused[0].Message)
	}
	return nil
}

// leftOutColumns are the numbers of the columns of events_left_out.
type leftOutColumns struct {
	contract, rule, at, topic, partition, offset, timestamp protowire.Number
}

func newLeftOutColumns() *leftOutColumns {
	t := contract.EventsLeftOut()
	number := func(name string) protowire.Number {
		c, _ := t.Column(name) // the package's tests write all of them
		return c.Number
	}
	return &leftOutColumns{
		number("contract"), number("rule"), number("left_out_at"),
		number(contract.KafkaTopic), number(contract.KafkaPartition), number(contract.KafkaOffset), number(contract.KafkaTimestamp),
	}
}

func (c *leftOutColumns) appendRow(row []byte, name, rule string, r *batch.Record, now int64) []byte {
	text := func(n protowire.Number, s string) {
		row = protowire.AppendString(protowire.AppendTag(row, n, protowire.BytesType), s)
	}
	varint := func(n protowire.Number, v int64) {
		row = protowire.AppendVarint(protowire.AppendTag(row, n, protowire.VarintType), uint64(v))
	}
	text(c.contract, name)
	text(c.rule, rule)
	varint(c.at, now)
	if r.Offset < 0 {
		return row // not from Kafka
	}
	text(c.topic, r.Topic)
	varint(c.partition, int64(r.Partition))
	varint(c.offset, r.Offset)
	if ms := r.Timestamp; ms > 0 && ms <= lastMillisecond {
		varint(c.timestamp, ms*1000)
	}
	return row
}

// lastMillisecond is that of the year 9999, the last that a TIMESTAMP holds.
const lastMillisecond = 253402300799_999

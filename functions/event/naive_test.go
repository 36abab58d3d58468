package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/contract"
)

// naive is how one would write it at first: a map per event, a dynamic message per
// row. It only serves as a yardstick.
type naive struct {
	table  *contract.Table
	reader reader
}

func newNaive(tb testing.TB, table *contract.Table) naive {
	return naive{table, newReader(tb, table)}
}

func (n naive) row(value []byte, m Meta) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	var event map[string]any
	if err := decoder.Decode(&event); err != nil {
		return nil, err
	}
	event["ingested_at"], event["kafka_topic"] = m.IngestedAt, m.Topic
	event["kafka_partition"], event["kafka_offset"], event["kafka_timestamp"] = int64(m.Partition), m.Offset, m.Timestamp*1000
	message := dynamicpb.NewMessage(n.reader.descriptor)
	for _, c := range n.table.Columns {
		v, ok := event[c.Name]
		delete(event, c.Name)
		if !ok || v == nil {
			continue
		}
		if c.Type == contract.Timestamp {
			if text, ok := v.(string); ok {
				at, err := time.Parse(time.RFC3339Nano, text)
				if err != nil {
					return nil, err
				}
				v = at.UnixMicro()
			}
		}
		switch v.(type) {
		case string, int64:
		default:
			return nil, errors.New(c.Name + " has the wrong type")
		}
		message.Set(n.reader.descriptor.Fields().ByName(protoreflect.Name(c.Name)), protoreflect.ValueOf(v))
	}
	if len(event) > 0 {
		text, err := json.Marshal(event)
		if err != nil {
			return nil, err
		}
		message.Set(n.reader.descriptor.Fields().ByName("properties"), protoreflect.ValueOfString(string(text)))
	}
	return proto.Marshal(message)
}

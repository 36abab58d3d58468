package pubsub

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec below
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// publishCodec is gRPC's protobuf codec, but that it sends the data of a message from where it
// lies. A copy of each batch on its way, and one more for each try, would be most of what a bridge holds:
// with Pub/Sub refusing batches of 4 MiB gRPC's pools of such copies grew to a gigabyte.
//
// What is sent must not change until gRPC is done with it, which is certain only when the server has
// answered that it has the message.
type publishCodec struct{ encoding.CodecV2 }

func newPublishCodec() publishCodec { return publishCodec{encoding.GetCodecV2("proto")} }

// Marshal encodes a request.
func (c publishCodec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*pubsubpb.PublishRequest)
	if !ok || len(r.Messages) != 1 || !onlyData(r.Messages[0]) {
		return c.CodecV2.Marshal(v)
	}
	const topic, messages, data = 1, 2, 1 // the fields' numbers
	payload := r.Messages[0].Data
	head := make([]byte, 0, len(r.Topic)+32)
	head = protowire.AppendTag(head, topic, protowire.BytesType)
	head = protowire.AppendString(head, r.Topic)
	head = protowire.AppendTag(head, messages, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(protowire.SizeTag(data)+protowire.SizeBytes(len(payload))))
	head = protowire.AppendTag(head, data, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(payload)))
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(payload)}, nil
}

func onlyData(m *pubsubpb.PubsubMessage) bool {
	return len(m.Data) > 0 && len(m.Attributes) == 0 && m.OrderingKey == "" && m.MessageId == "" &&
		m.PublishTime == nil && len(m.ProtoReflect().GetUnknown()) == 0
}

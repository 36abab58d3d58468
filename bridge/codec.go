package bridge

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec below
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// publishCodec is gRPC's protobuf codec with buffers of the size of batches. gRPC's
// own come in 32 KiB and 1 MiB and are cleared each time they are taken: for
// batches, which lie between the two, that is more work than sending them.
type publishCodec struct {
	encoding.CodecV2
	buffers mem.BufferPool
}

func newPublishCodec() publishCodec {
	const k = 1 << 10
	return publishCodec{
		CodecV2: encoding.GetCodecV2("proto"),
		buffers: mem.NewTieredBufferPool(4*k, 16*k, 32*k, 64*k, 96*k, 128*k, 192*k, 256*k, 512*k, 1024*k),
	}
}

// Marshal encodes a proto.Message.
func (c publishCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("bridge: a request of type %T is no protobuf message", v)
	}
	buf := c.buffers.Get(proto.Size(m))
	if _, err := (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend((*buf)[:0], m); err != nil {
		c.buffers.Put(buf)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, c.buffers)}, nil
}

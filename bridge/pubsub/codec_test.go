package pubsub

import (
	"bytes"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
)

// Protects the requests that are sent without a copy: they are what protobuf makes of them, and those
// that have more than data are too.
func TestPublishCodec(t *testing.T) {
	c := newPublishCodec()
	for name, r := range map[string]*pubsubpb.PublishRequest{
		"small":      {Topic: "projects/p/topics/t", Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}},
		"large":      {Topic: "projects/p/topics/t", Messages: []*pubsubpb.PubsubMessage{{Data: bytes.Repeat([]byte("x"), 5<<20)}}},
		"no data":    {Topic: "projects/p/topics/t", Messages: []*pubsubpb.PubsubMessage{{}}},
		"no topic":   {Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}},
		"two":        {Topic: "t", Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}, {Data: []byte("y")}}},
		"attributes": {Topic: "t", Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x"), Attributes: map[string]string{"a": "b"}}}},
	} {
		wire, err := c.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var got pubsubpb.PublishRequest
		if err := proto.Unmarshal(wire.Materialize(), &got); err != nil || !proto.Equal(&got, r) {
			t.Errorf("%s: %v, %d bytes", name, err, wire.Len())
		}
		if name == "large" && &wire[1].ReadOnlyData()[0] != &r.Messages[0].Data[0] {
			t.Error("the data is copied")
		}
	}
}

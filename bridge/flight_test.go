package bridge

import (
	"slices"
	"testing"

	"sluice/internal/batch"
	"sluice/internal/generate"
	"sluice/internal/zstd"
)

// Protects the bill and the catching up: small where bytes are billed, fast for what becomes an object, and
// while records wait.
func TestLevelOfCompression(t *testing.T) {
	const small, large = 100_000, 2_000_000
	for _, c := range []struct {
		name           string
		bucket, behind bool
		packed, want   int
	}{
		{"a message", false, false, small, zstd.Small},
		{"a large message, where there is no bucket", false, false, large, zstd.Small},
		{"a message beside objects", true, false, small, zstd.Small},
		{"an object", true, false, large, zstd.Fast},
		{"records wait", false, true, small, zstd.Fast},
	} {
		b := &Bridge{cfg: DefaultConfig(), behind: c.behind, publisher: refusing{objects: c.bucket}}
		if got := b.level(c.packed); got != c.want {
			t.Errorf("%s: level %d, want %d", c.name, got, c.want)
		}
	}
}

// Protects the bill: a thousand generated events, of 419 bytes each, are a message of at most 60 bytes an event.
func TestBytesPerEvent(t *testing.T) {
	const events, most = 1000, 60
	enc, g := batch.NewEncoder(batch.Header{}), generate.New(generate.Config{Seed: 1})
	for i := range events {
		e := g.Next()
		enc.Append(&batch.Record{Topic: "clickstream", Partition: int32(i % 6), Offset: int64(i / 6),
			Timestamp: int64(1_764_000_000_000 + i),
			Key:       e.Key, Value: e.Value})
	}
	c := zstd.New()
	payload, err := enc.PayloadWith(nil, func(dst, src []byte) ([]byte, error) {
		return c.Append(dst, src,
			zstd.Small)
	})
	if err != nil {
		t.Fatal(err)
	}
	if each := float64(len(payload)) / events; each > most {
		t.Errorf("%.1f bytes an event, want at most %d", each, most)
	}
}

// Protects against batches that nobody waits for: one whose last partition is lost is dropped, and one that others have
// records in goes on without the lost one's claim.
func TestLeavingAnUnfinishedBatch(t *testing.T) {
	b := &Bridge{cfg: DefaultConfig()}
	k := &packer{enc: batch.NewEncoder(batch.Header{})}
	var parts []*partition
	for id := range int32(2) {
		p := &partition{key: TopicPartition{"t", id}, packer: k, packed: true}
		k.enc.Append(&batch.Record{Topic: "t", Partition: id, Value: []byte("x")})
		parts, k.members = append(parts, p), append(k.members, p)
	}
	b.inflight = int64(k.enc.Size())
	b.leave(parts[0])
	if k.enc == nil || !slices.Equal(k.members, parts[1:]) || parts[0].packed || b.inflight == 0 {
		t.Errorf("of two, one left: %+v, %d bytes in flight", k, b.inflight)
	}
	b.leave(parts[0])
	b.leave(parts[1])
	if k.enc != nil || len(k.members) != 0 || parts[1].packed || b.inflight != 0 {
		t.Errorf("both left: %+v, %d bytes in flight", k, b.inflight)
	}
}

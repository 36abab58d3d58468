package bridge

import (
	"testing"

	"sluice/internal/reference"
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
		b := &Bridge{cfg: DefaultConfig(), behind: c.behind}
		if c.bucket {
			b.objects.bucket = new(reference.Bucket)
		}
		if got := b.level(c.packed); got != c.want {
			t.Errorf("%s: level %d, want %d", c.name, got, c.want)
		}
	}
}

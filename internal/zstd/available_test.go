//go:build linux && !dynamic

package zstd_test

import (
	"testing"

	"sluice/internal/zstd"
)

// As the bridge is deployed, the library is there: without it the bridge would cost
// half as much again and nobody would notice.
func TestAvailable(t *testing.T) {
	if zstd.New() == nil {
		t.Error("librdkafka brings no zstd along")
	}
}

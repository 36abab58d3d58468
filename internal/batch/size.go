package batch

import (
	"strings"

	"github.com/klauspost/compress/zstd"
)

// DeclaredSize is how many bytes the batch in payload has before compression, as
// the payload itself declares: what Decode is going to allocate, for those who
// account for memory before they spend it. It is 0 for a bare event, which is not
// copied, and for a payload that Decode will refuse.
func DeclaredSize(payload []byte, l Limits) int {
	if !strings.HasPrefix(string(payload[:min(len(payload), len(Magic))]), Magic) {
		return 0
	}
	var h zstd.Header
	if err := h.Decode(payload[len(Magic):]); err != nil || !h.HasFCS || h.FrameContentSize > uint64(l.orDefault().Bytes) {
		return 0
	}
	return int(h.FrameContentSize)
}

package batch

import (
	"github.com/klauspost/compress/zstd"
)

// DeclaredSize is how many bytes the records in payload have, for those who account
// for memory before they spend it: what a packed batch declares, which is what Decode
// is going to allocate, and otherwise the payload's own length, of a bare event or of
// one that Decode will refuse.
func DeclaredSize(payload []byte, l Limits) int {
	if len(payload) < len(Magic) || string(payload[:len(magicPrefix)]) != magicPrefix {
		return len(payload)
	}
	var h zstd.Header
	if err := h.Decode(payload[len(Magic):]); err != nil || !h.HasFCS ||
		h.FrameContentSize > uint64(l.orDefault().Bytes) {
		return len(payload)
	}
	return int(h.FrameContentSize)
}

// RecordOverhead is about how many bytes a record costs beside its own, with what is
// made of it, a row or a dead letter: even a batch of empty records needs memory.
const RecordOverhead = 1 << 10

// HeaderOverhead is the same for a record's header.
const HeaderOverhead = 128

package batch

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxBytes is the most that one payload may decompress to, whatever the Limits say.
const maxBytes = 256 << 20

// zstdWindow is the window that any frame may ask for: RFC 8878 recommends that
// every decoder supports 8 MiB.
const zstdWindow = 8 << 20

// zstdBlock is the most that one block can hold.
const zstdBlock = 128 << 10

// zstdSlack is room behind the content with which the library decodes faster.
const zstdSlack = 16

// Encoders and decoders of whole frames are safe for concurrent use and hold
// tables of some hundred kilobytes, so that all batches share them. They have no
// goroutines and are made when the first batch is.
var (
	compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithSingleSegment(true), // the frame declares its content size, however small it is
			zstd.WithZeroFrames(true),
			zstd.WithLowerEncoderMem(true))
	})
	decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(0), // one per CPU: more calls wait
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxBytes),
			zstd.WithDecoderMaxWindow(maxBytes),
			zstd.WithDecodeAllCapLimit(true)) // never grows what it is given
	})
)

// frameSize checks that p is exactly one zstd frame that declares its content size
// and asks for no dictionary, and returns that size. It looks at headers only: the
// blocks' contents are checked when they are decompressed.
func frameSize(p []byte, limit int) (int, error) {
	var h zstd.Header
	if err := h.Decode(p); errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, failf(ErrTruncated, "it ends in the header of the zstd frame")
	} else if err != nil {
		return 0, failf(ErrForged, "no zstd frame follows the magic bytes")
	}
	switch {
	case h.Skippable:
		return 0, failf(ErrForged, "the zstd frame is a skippable one")
	case h.DictionaryID != 0:
		return 0, failf(ErrForged, "the zstd frame asks for a dictionary")
	case !h.HasFCS:
		return 0, failf(ErrForged, "the zstd frame does not declare its content size")
	case h.FrameContentSize > uint64(limit):
		return 0, failf(ErrTooLarge, "it declares %d bytes of content, the limit is %d", h.FrameContentSize, limit)
	case h.WindowSize > max(zstdWindow, uint64(limit)):
		return 0, failf(ErrTooLarge, "its zstd window is %d bytes, the limit is %d", h.WindowSize,
			max(zstdWindow, limit))
	}
	rest := p[h.HeaderSize:]
	content := uint64(0) // at most, by the blocks' headers
	for last := false; !last; {
		if len(rest) < 3 {
			return 0, failf(ErrTruncated, "it ends between two zstd blocks")
		}
		header := uint32(binary.LittleEndian.Uint16(rest)) | uint32(rest[2])<<16
		last = header&1 != 0
		n := int(header >> 3)
		switch header >> 1 & 3 {
		case 0: // stored
			content += uint64(n)
		case 1: // one byte, repeated n times
			content += uint64(n)
			n = 1
		case 2: // compressed
			content += zstdBlock
		case 3:
			return 0, failf(ErrForged, "a zstd block has the reserved type")
		}
		if len(rest)-3 < n {
			return 0, failf(ErrTruncated, "it ends within a zstd block")
		}
		rest = rest[3+n:]
	}
	if h.HasCheckSum {
		if len(rest) < 4 {
			return 0, failf(ErrTruncated, "it ends before the checksum")
		}
		rest = rest[4:]
	}
	if len(rest) > 0 {
		return 0, failf(ErrForged, "%d bytes follow the zstd frame", len(rest))
	}
	if h.FrameContentSize > content {
		return 0, failf(ErrForged, "it declares %d bytes of content, more than its zstd blocks can hold",
			h.FrameContentSize)
	}
	return int(h.FrameContentSize), nil
}

// decompress returns the content of p, in buf if it is large enough. The content
// never becomes larger than p declares, and that is bounded by limit.
func decompress(p, buf []byte, limit int) ([]byte, error) {
	n, err := frameSize(p, limit)
	if err != nil {
		return nil, err
	}
	buf = reusable(buf, n)
	if cap(buf) < n+zstdSlack {
		buf = make([]byte, 0, n+zstdSlack)
	}
	z, err := decompressor()
	if err != nil {
		return nil, err
	}
	out, err := z.DecodeAll(p, buf[:0])
	if err != nil || len(out) != n {
		return nil, failf(ErrForged, "its zstd frame is damaged")
	}
	return out, nil
}

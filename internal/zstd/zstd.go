// Package zstd compresses with the C library that librdkafka brings along, which
// takes two thirds of the time of the Go implementation for the same size.
//
//	c := zstd.New()                     // nil where librdkafka brings none along
//	frame, err := c.Append(nil, src, zstd.Fast) // one frame that declares its content size
//
// The library is not a dependency of its own: the static librdkafka of
// confluent-kafka-go contains it on Linux. Where it does not (other systems, or a
// librdkafka of the system's), the references to it stay empty, New returns nil, and
// callers use the Go implementation. docs/adr-002 has the measurements.
package zstd

/*
#include <stddef.h>

#ifdef __APPLE__
#cgo darwin LDFLAGS: -Wl,-undefined,dynamic_lookup
#define OPTIONAL __attribute__((weak_import))
#else
#define OPTIONAL __attribute__((weak))
#endif

// From zstd.h, whose interface is stable.
typedef struct ZSTD_CCtx_s ZSTD_CCtx;
extern ZSTD_CCtx *ZSTD_createCCtx(void) OPTIONAL;
extern size_t ZSTD_freeCCtx(ZSTD_CCtx *) OPTIONAL;
extern size_t ZSTD_compressBound(size_t) OPTIONAL;
extern size_t ZSTD_compressCCtx(ZSTD_CCtx *, void *, size_t, const void *, size_t, int) OPTIONAL;
extern unsigned ZSTD_isError(size_t) OPTIONAL;
extern const char *ZSTD_getErrorName(size_t) OPTIONAL;

static int available(void) {
	return ZSTD_createCCtx != NULL && ZSTD_freeCCtx != NULL && ZSTD_compressBound != NULL &&
		ZSTD_compressCCtx != NULL && ZSTD_isError != NULL && ZSTD_getErrorName != NULL;
}
static ZSTD_CCtx *create(void) { return ZSTD_createCCtx(); }
static void destroy(ZSTD_CCtx *c) { ZSTD_freeCCtx(c); }
static size_t bound(size_t n) { return ZSTD_compressBound(n); }
static size_t compress(ZSTD_CCtx *c, void *dst, size_t cap, const void *src, size_t n, int level) {
	return ZSTD_compressCCtx(c, dst, cap, src, n, level);
}
static const char *failure(size_t n) { return ZSTD_isError(n) ? ZSTD_getErrorName(n) : NULL; }
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"

	_ "github.com/confluentinc/confluent-kafka-go/v2/kafka" // links librdkafka, and zstd with it
)

// Levels of the library's. Fast is the fastest one that is not a trade of size: the negative ones save a
// tenth of the time and cost a quarter of the size. Small makes a sixth less of clickstream
// events in four times the time: where bytes are billed as Pub/Sub does, that is the cheapest.
const (
	Fast  = 1
	Small = 8
)

// Compressor holds the tables of one compression at a time.
type Compressor struct {
	ctx     *C.ZSTD_CCtx
	scratch []byte // room for what does not compress
}

// retained is the most scratch that is kept: that of the bridge's largest batch.
const retained = 6 << 20

// New returns a Compressor, or nil if there is no library.
func New() *Compressor {
	if C.available() == 0 {
		return nil
	}
	ctx := C.create()
	if ctx == nil {
		return nil
	}
	c := &Compressor{ctx: ctx}
	runtime.AddCleanup(c, func(ctx *C.ZSTD_CCtx) { C.destroy(ctx) }, ctx)
	return c
}

// Append appends src, compressed to one frame at a level of the library's, to dst.
func (c *Compressor) Append(dst, src []byte, level int) ([]byte, error) {
	most := int(C.bound(C.size_t(len(src))))
	if cap(c.scratch) < most {
		c.scratch = make([]byte, most)
	}
	to := c.scratch[:most]
	if most > retained {
		c.scratch = nil
	}
	n := C.compress(c.ctx, unsafe.Pointer(unsafe.SliceData(to)), C.size_t(most),
		unsafe.Pointer(unsafe.SliceData(src)), C.size_t(len(src)), C.int(level))
	runtime.KeepAlive(c)
	if reason := C.failure(n); reason != nil {
		return dst, errors.New("zstd: " + C.GoString(reason))
	}
	// A copy, so that dst grows by what came out and not by what might have.
	return append(dst, to[:int(n)]...), nil
}

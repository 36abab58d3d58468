package push

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Bodies are read into reused buffers: growing a new one per request costs more
// than everything else that is done to a message.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// buffer holds the body of one request and, of a wrapped push, the decoded data.
type buffer struct {
	body []byte
	data []byte
}

// retained is the largest buffer that is kept, bytes: one exceptional message does
// not hold its memory for ever.
const retained = 2 << 20

// reuse gives b back, when nothing refers to its memory any more.
func (b *buffer) reuse() {
	if cap(b.body) > retained {
		b.body = nil
	}
	if cap(b.data) > retained {
		b.data = nil
	}
	buffers.Put(b)
}

var errTooLarge = errors.New("the body is larger than a push's can be")

// read reads all of r, which announces length bytes (-1: unknown) and may have
// at most limit.
func (b *buffer) read(r io.Reader, length, limit int64) error {
	b.body = b.body[:0]
	// One byte more than announced lets the last Read meet the end of the body
	// without growing the buffer.
	if want := int(min(max(length, 512), limit)) + 1; cap(b.body) < want {
		b.body = make([]byte, 0, want)
	}
	for {
		if len(b.body) == cap(b.body) {
			b.body = append(b.body, 0)[:len(b.body)]
		}
		n, err := r.Read(b.body[len(b.body):cap(b.body)])
		b.body = b.body[:len(b.body)+n]
		if int64(len(b.body)) > limit {
			return errTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// messageID is the header that tells an unwrapped push.
const messageID = "X-Goog-Pubsub-Message-Id"

// parse makes the body and the headers of r a message.
func (b *buffer) parse(r *http.Request, m *Message) error {
	h := r.Header
	if m.ID = h.Get(messageID); m.ID == "" {
		return b.parseEnvelope(m)
	}
	m.Subscription = h.Get("X-Goog-Pubsub-Subscription-Name")
	m.OrderingKey = h.Get("X-Goog-Pubsub-Ordering-Key")
	m.PublishTime, _ = time.Parse(time.RFC3339Nano, h.Get("X-Goog-Pubsub-Publish-Time"))
	// Not documented for unwrapped pushes, so absent unless some server adds it.
	m.DeliveryAttempt, _ = strconv.Atoi(h.Get("X-Goog-Pubsub-Delivery-Attempt"))
	m.header = h
	m.Data = b.body
	return nil
}

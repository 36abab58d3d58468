package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/batch"
	"sluice/internal/generate"
	"sluice/internal/local/objects"
	"sluice/internal/local/warehouse"
	"sluice/internal/reference"
)

// Protects instances from their end for want of memory at the bridge's largest batches, in messages and in objects: as
// many at a time as the deployment lets share an instance, while BigQuery is slow. What an instance cannot hold it
// answers 429, and it comes again.
func TestMemoryOfFullBatches(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: it is in ./scripts/test without --quick")
	}
	const together, seconds = 32, 3
	for _, c := range []struct {
		name, target string
		// bytes that requests may hold, as deployed, and of the instance that is deployed, less a tenth
		budget, most int64
		object       bool
		value        func(g *generate.Generator) []byte
	}{
		{"events in messages", "Ingest", 192 << 20, 920 << 20, false, event},
		{"events in objects", "Ingest", 192 << 20, 920 << 20, true, event},
		{"rejected, random bytes", "Ingest", 192 << 20, 920 << 20, true, noise},
		{"given up", "DeadLetter", 96 << 20, 460 << 20, true, event},
		{"given up, random bytes", "DeadLetter", 96 << 20, 460 << 20, true, noise},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := servers(t)
			check(t, p.CreateTopic(t.Context(), "clickstream-dead-letter"))
			s, err := objects.Start("127.0.0.1:0", "payloads")
			check(t, err)
			defer s.Close()
			bucket, err := reference.Open(t.Context(), "payloads", s.Addr())
			check(t, err)
			defer bucket.Close()
			payload := full(t, c.value)
			g := start(t, w, p, "FUNCTION_TARGET="+c.target, "PAYLOAD_BUCKET=payloads",
				"STORAGE_EMULATOR_HOST="+s.Addr(),
				fmt.Sprintf("MAX_INFLIGHT_BYTES=%d", c.budget), "LOG_LEVEL=ERROR")
			w.Fail(warehouse.Fault{Count: -1, Wait: 300 * time.Millisecond})
			var acked, busy, other atomic.Int64
			var wg sync.WaitGroup
			end := time.Now().Add(seconds * time.Second)
			for range together {
				wg.Go(func() {
					for time.Now().Before(end) {
						data := payload
						if c.object {
							r, err := bucket.Put(t.Context(), payload)
							if err != nil {
								t.Error(err)
								return
							}
							data = r.Append(nil)
						}
						switch status := push(t, g.url, data); status {
						case http.StatusNoContent:
							acked.Add(1)
						case http.StatusTooManyRequests:
							busy.Add(1)
							time.Sleep(50 * time.Millisecond)
						default:
							other.Add(1)
						}
					}
				})
			}
			wg.Wait()
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
			check(t, err)
			_, text, _ := strings.Cut(string(status), "VmHWM:")
			kb, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			check(t, err)
			t.Logf("payload %d bytes; %d acked, %d answered 429; peak resident memory %d MiB", len(payload),
				acked.Load(), busy.Load(), kb>>10)
			if acked.Load() == 0 || other.Load() > 0 {
				t.Errorf("%d acked, %d neither acked nor 429: %s", acked.Load(), other.Load(), g.stderr)
			}
			if kb<<10 > c.most {
				t.Errorf("resident memory reached %d MiB, more than %d MiB", kb>>10, c.most>>20)
			}
		})
	}
}

func event(g *generate.Generator) []byte { return bytes.Clone(g.Next().Value) }

func noise(*generate.Generator) []byte {
	b := make([]byte, 200)
	_, _ = rand.Read(b) // never fails
	return []byte(hex.EncodeToString(b))
}

// full is the payload of a batch that the bridge fills.
func full(t *testing.T, value func(*generate.Generator) []byte) []byte {
	t.Helper()
	g := generate.New(generate.Config{Seed: 1})
	e := batch.NewEncoder(batch.Header{})
	for i := int64(0); e.Len() < batch.DefaultPacking.Records && e.Size() < batch.DefaultPacking.Bytes; i++ {
		e.Append(&batch.Record{Topic: "clickstream", Partition: int32(i % 100), Offset: i,
			Timestamp: time.Now().UnixMilli(), Value: value(g)})
	}
	payload, err := e.Payload(nil)
	check(t, err)
	return payload
}

// push makes a request as Pub/Sub does.
func push(t *testing.T, url string, data []byte) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		t.Error(err)
		return 0
	}
	r.Header.Set("X-Goog-Pubsub-Message-Id", "1")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

package warehouse_test

import (
	"fmt"
	"testing"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
)

// BenchmarkAppend appends 500-row requests on one stream, pipelined, into a file.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []string{"memory", "file"} {
		b.Run(mode, func(b *testing.B) {
			c := warehouse.Config{Tables: []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}}
			if mode == "file" {
				c.Dir = b.TempDir()
			}
			w, err := warehouse.Start(c)
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			stream := open(b, dial(b, w))
			table := contract.FactEvents()
			const rows = 500
			batch := make([][]byte, rows)
			bytes := 0
			for i := range batch {
				batch[i] = encode(table, event(fmt.Sprintf("0190c2a4-0000-7000-8000-%012d", i), values{
					"page_url":   "https://shop.example/products/4711?utm_source=newsletter&utm_medium=email",
					"properties": `{"device":{"type":"mobile","viewport":{"w":390,"h":844}},"referrer":"https://search.example/","session_id":"s-000123","geo":{"country":"DE"}}`,
				}))
				bytes += len(batch[i])
			}
			r := request(w, "fact_events", table.Descriptor(), batch...)
			b.SetBytes(int64(bytes))
			go func() {
				for range b.N {
					if stream.Send(r) != nil {
						return
					}
				}
			}()
			for range b.N {
				if a, err := stream.Recv(); err != nil || a.GetError() != nil {
					b.Fatal(err, a)
				}
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

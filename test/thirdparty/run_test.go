//go:build thirdparty

package thirdparty

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/local"
	"sluice/test/thirdparty/bigquery"
	"sluice/test/thirdparty/kafka"
	"sluice/test/thirdparty/pubsub"
)

const ownContract = `contract: 1
name: orders
topics: [shop.orders]
columns:
- {name: id, type: INT64, mode: REQUIRED, from: order.id}
- {name: total, type: NUMERIC, from: order.total, accept: [number, string]}
- {name: city, type: STRING}
- {name: others, type: JSON, rest: true}
`

// Protects the main job, as a user starts it, on servers of others: each alone
// among embedded ones, and all together; a second run finds everything there.
func TestRunOnServersByAddress(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary,
		"sluice/scripts/cmd/local").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	k, err := kafka.Start(ctx, kafka.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	p, err := pubsub.Start(ctx, pubsub.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// The dataset is another one than the stack's, so that run has to create its own.
	b, err := bigquery.Start(ctx, bigquery.Config{Dir: t.TempDir(), Project: local.Project, Dataset: "other"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	onKafka, onPubSub, onBigQuery := "--kafka="+k.Brokers(), "--pubsub="+p.Addr(), "--bigquery="+b.REST()+","+b.Addr()
	own, orders := filepath.Join(t.TempDir(), "orders.yaml"), filepath.Join(t.TempDir(), "orders.ndjson")
	if err := os.WriteFile(own, []byte(ownContract), 0o644); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&lines, `{"order":{"id":%d,"total":"%d.25"},"city":"Bern"}`+"\n", i%2990, i) // and some of a bad total
		if i%100 == 0 {
			fmt.Fprintln(&lines, `{"order":{"id":1,"total":"much"}}`)
		}
	}
	if err := os.WriteFile(orders, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	generated := []string{"--events=3000", "--bad=5"}
	for _, test := range []struct {
		name string
		on   []string
		in   []string
		sent int
	}{
		{"Apache Kafka", []string{onKafka}, generated, 3000},
		{"Pub/Sub emulator", []string{onPubSub}, generated, 3000},
		{"BigQuery emulator", []string{onBigQuery}, generated, 3000},
		{"all", []string{onKafka, onPubSub, onBigQuery}, generated, 3000},
		{"all again", []string{onKafka, onPubSub, onBigQuery}, generated, 3000},
		{"all, with a contract of one's own", []string{onKafka, onPubSub, onBigQuery},
			[]string{"--contract", own, "--input", orders}, 3030},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.CommandContext(ctx, binary, append(append([]string{"run", "--once", "--json"}, test.in...), test.on...)...)
			var out, log bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &log
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, &out, &log)
			}
			var s struct {
				Produced, Landed, Missing int
				Dead                      int `json:"dead_lettered"`
			}
			if err := json.Unmarshal(out.Bytes(), &s); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s", out.Bytes())
			if s.Produced != test.sent || s.Missing != 0 || s.Landed+s.Dead != test.sent || s.Dead == 0 {
				t.Errorf("summary %s", out.Bytes())
			}
		})
	}
}

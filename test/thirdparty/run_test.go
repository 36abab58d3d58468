//go:build thirdparty

package thirdparty

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/local"
	"sluice/test/thirdparty/bigquery"
	"sluice/test/thirdparty/kafka"
	"sluice/test/thirdparty/pubsub"
)

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
	for _, test := range []struct {
		name string
		on   []string
	}{
		{"Apache Kafka", []string{onKafka}},
		{"Pub/Sub emulator", []string{onPubSub}},
		{"BigQuery emulator", []string{onBigQuery}},
		{"all", []string{onKafka, onPubSub, onBigQuery}},
		{"all again", []string{onKafka, onPubSub, onBigQuery}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.CommandContext(ctx, binary, append([]string{"run", "--once", "--json", "--events=3000",
				"--bad=5"}, test.on...)...)
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
			if s.Produced != 3000 || s.Missing != 0 || s.Landed+s.Dead != 3000 || s.Dead == 0 {
				t.Errorf("summary %s", out.Bytes())
			}
		})
	}
}

//go:build mutants

package simulation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// edit replaces a text of a file, which must be there once.
type edit struct{ file, old, new string }

// mutants are mistakes that the histories must find, with the invariants by which they may be found.
var mutants = []struct {
	name       string
	invariants string // a regular expression
	edits      []edit
}{
	{"the tracker stores an offset past a gap", "offsets", []edit{{"bridge/tracker.go",
		"before.after, before.next = after, s.next\n\t\treturn false",
		"before.after, before.next = after, s.next\n\t\tt.next, t.stored = s.next, true\n\t\treturn true"}}},
	{"the position is stored while records wait in a batch", "offsets", []edit{{"bridge/lag.go",
		"if !p.packed && p.inflight == 0 && p.next > p.doubt {", "if p.inflight == 0 && p.next > p.doubt {"}}},
	{"the offset of what was taken is stored", "offsets", []edit{{"bridge/ledger.go",
		"next, _ := p.track.offset()", "next := p.next"}}},
	{"the last record of a batch is not counted as taken", "progress", []edit{{"bridge/packer.go",
		"b.inflight += int64(after - before)\n\tp.next = r.Offset + 1", "b.inflight += int64(after - before)\n\tp.next = r.Offset"}}},
	{"a batch that is not full never leaves", "progress", []edit{{"bridge/packer.go",
		"\t\tif left <= 0 {\n\t\t\tb.flush(k)", "\t\tif left <= 0 {"}}},
	{"a record that is too large is passed over", "places|offsets", []edit{{"bridge/packer.go",
		"\t\tb.deadLetter(p, r, now)\n", "\t\tp.track.pass(p.next)\n\t\tp.dirty = true\n\t\t_ = now\n"}}},
	{"memory is not bounded", "memory", []edit{{"bridge/bridge.go",
		"full := b.inflight >= b.cfg.MaxInflightBytes", "full := false"}}},
	{"draining is not bounded", "end", []edit{{"bridge/rebalance.go",
		"\t\tif left <= 0 {\n\t\t\treturn false\n\t\t}\n\t\tb.inbox.wait(min(left, idle))",
		"\t\tb.inbox.wait(max(time.Millisecond, min(left, idle)))"}}},
	{"a request without an answer counts as done", "acks", []edit{{"functions/warehouse/stream.go",
		"r.done <- &StreamError{cause: cause, sent: r.sent, idle: stale, incident: incident}",
		"_, _ = stale, incident\n\t\tr.done <- nil"}}},
	{"the neighbours of a refused row are forgotten", "acks", []edit{{"functions/warehouse/write.go",
		"\t\tif !bad[i] {\n\t\t\trest = append(rest, index)\n\t\t}",
		"\t\tif !bad[i] && len(bad) == 0 {\n\t\t\trest = append(rest, index)\n\t\t}"}}},
	{"a missing table is the rows' fault", "places", []edit{
		{"functions/warehouse/classify.go", "return retry, true // of the table or its stream, never of a row", "return rows, true"},
		{"functions/warehouse/write.go", "\tif refused < sent {\n\t\tw.a.refusals.Store(0)\n\t\treturn nil\n\t}",
			"\tif refused <= sent {\n\t\treturn nil\n\t}"}}},
	{"the memory of rows that may still be sent is used again", "rows", []edit{{"functions/ingest/ingest.go",
		"\t\t\tw.forgetRows()\n\t\t\tf.workers.Put(w)\n\t\t\treturn err", "\t\t\tf.workers.Put(w)\n\t\t\treturn err"}}},
	{"a dead letter is not waited for", "acks", []edit{{"functions/ingest/publish.go",
		"if err := result(ctx); err != nil {", "if err := result(ctx); err != nil && ctx == nil {"}}},
	{"Ingest forgets that dead letters were not published", "acks", []edit{{"functions/ingest/ingest.go",
		"\terr := f.publish(ctx, m, b, p, w.rejects)\n\tp.publish = time.Since(start)\n\treturn err",
		"\t_ = f.publish(ctx, m, b, p, w.rejects)\n\tp.publish = time.Since(start)\n\treturn nil"}}},
	{"DeadLetter acknowledges what was not written", "acks", []edit{{"functions/deadletter/deadletter.go",
		"\tf.span(m, b, begin, decode, write, err)\n\treturn err", "\tf.span(m, b, begin, decode, write, err)\n\treturn nil"}}},
	{"a failure is answered as a success", "acks", []edit{{"functions/push/handler.go",
		"return answer{status: http.StatusServiceUnavailable, outcome: \"retry\", hint",
		"return answer{status: http.StatusNoContent, outcome: \"retry\", hint"}}},
	{"the replay's id is lost", "replays|places|acks", []edit{{"functions/ingest/ingest.go",
		"meta.ReplayID = r.Offset, r.Timestamp, b.Replay(r)", "meta.ReplayID = r.Offset, r.Timestamp, \"\""}}},
	{"a row has the offset of another record", "rows", []edit{{"functions/ingest/ingest.go",
		"meta.Offset, meta.Timestamp", "meta.Offset, meta.Timestamp"},
		{"functions/ingest/ingest.go", "wire, err := events.AppendRow(w.wire, r.Value, meta)",
			"meta.Offset = b.Records[0].Offset\n\t\twire, err := events.AppendRow(w.wire, r.Value, meta)"}}},
}

// TestMutants protects the histories themselves: they find each of the mistakes.
func TestMutants(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			texts := map[string]string{}
			for _, e := range m.edits {
				path := filepath.Join(root, e.file)
				if texts[path] == "" {
					b, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					texts[path] = string(b)
				}
				if n := strings.Count(texts[path], e.old); n != 1 {
					t.Fatalf("%s has %q %d times", e.file, e.old, n)
				}
				texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
			}
			overlay := struct{ Replace map[string]string }{map[string]string{}}
			for path, text := range texts {
				to := filepath.Join(dir, strings.ReplaceAll(path[len(root)+1:], "/", "_"))
				if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				overlay.Replace[path] = to
			}
			b, err := json.Marshal(overlay)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("go", "test", "-overlay", file, "-count", "1", "./test/simulation", "-run",
				"TestHistories", "-for", "60s", "-shrink=false")
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("a minute of histories does not find it")
			}
			found := strings.TrimSpace(regexp.MustCompile(`(?m)^\s*(offsets|acks|rows|places|replays|memory|progress|end): .*`).FindString(string(out)))
			if !regexp.MustCompile("^(" + m.invariants + "):").MatchString(found) {
				t.Fatalf("found by %q, want %s\n%s", found, m.invariants, out[:min(len(out), 3000)])
			}
			t.Log(regexp.MustCompile(`seed (\d+)`).FindString(string(out)), found)
		})
	}
}

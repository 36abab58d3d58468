package infra_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Protects the queries that people paste in a hurry: each one of the runbook runs on
// a warehouse in which everything has happened once, and answers something.
func TestRunbookQueriesAnswer(t *testing.T) {
	w := start(t, new(buffer))
	w.everything(t)
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(read(t, "RUNBOOK.md"), -1)
	if len(blocks) < 8 {
		t.Fatalf("RUNBOOK.md has %d blocks of SQL: does the pattern still find them?", len(blocks))
	}
	for _, m := range blocks {
		rows, err := w.warehouse.DB().Query(m[1])
		if err != nil {
			t.Errorf("%v\n%s", err, m[1])
			continue
		}
		n := 0
		for rows.Next() {
			n++
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%v\n%s", err, m[1])
		}
		rows.Close()
		// A query that says so is empty when all is well.
		if n == 0 && !strings.Contains(m[1], "-- Empty if") {
			t.Errorf("no rows\n%s", m[1])
		}
		// Without one BigQuery reads, and charges, the whole table.
		for _, table := range []string{"fact_events", "events_dlq"} {
			column := map[string]string{"fact_events": "event_timestamp >=", "events_dlq": "failed_at >="}[table]
			if uses := strings.Count(m[1], "clickstream."+table); strings.Count(m[1], column) < uses {
				t.Errorf("%s is read without a filter on its partitions\n%s", table, m[1])
			}
		}
	}
}

// Protects readers from links into nothing, and from files that have moved.
func TestRunbookLinksLead(t *testing.T) {
	text := read(t, "RUNBOOK.md")
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	for _, m := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		if anchor, internal := strings.CutPrefix(m[1], "#"); internal {
			if !anchors[anchor] {
				t.Errorf("no section #%s", anchor)
			}
		} else if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("link: %v", err)
		}
	}
	for _, m := range regexp.MustCompile(`(?:\./)?((?:scripts|infra|functions|bridge)/[A-Za-z0-9_./-]*[A-Za-z0-9])`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("../" + m[1]); err != nil {
			t.Errorf("RUNBOOK.md: %v", err)
		}
	}
}

// Protects the log queries of the runbook from fields that were renamed.
func TestRunbookFieldsExist(t *testing.T) {
	seen := map[string]bool{}
	for _, line := range written(t) {
		payload, _ := line["jsonPayload"].(map[string]any)
		for name := range payload {
			seen[name] = true
		}
	}
	seen["error"] = true // of failures that these lines do not have
	for _, m := range regexp.MustCompile(`jsonPayload\.(\w+)`).FindAllStringSubmatch(read(t, "RUNBOOK.md"), -1) {
		if !seen[m[1]] {
			t.Errorf("no line has the field %s", m[1])
		}
	}
}

// Protects people who look for a message that no program writes any more.
func TestRunbookMessagesExist(t *testing.T) {
	var sources strings.Builder
	for _, dir := range []string{"../bridge", "../functions", "../internal", "build"} {
		check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || dir != "build" &&
				!strings.HasSuffix(path, ".go") {
				return err
			}
			sources.WriteString(read(t, path))
			return nil
		}))
	}
	google := []string{"Memory limit exceeded", "no available instance", "must be replaced", "is missing in new schema"}
	prose := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`|\n    [^\n]*").ReplaceAllString(read(t, "RUNBOOK.md"), "")
	found := 0
	for _, m := range regexp.MustCompile(`"([^"\s]+\s[^"\s]+\s[^"]+)"`).FindAllStringSubmatch(prose, -1) {
		message := strings.Join(strings.Fields(m[1]), " ")
		if slices.Contains(google, message) {
			continue
		}
		if found++; !strings.Contains(sources.String(), message) {
			t.Errorf("no program says %q", message)
		}
	}
	if found < 4 {
		t.Errorf("found only %d messages: does the pattern still find them?", found)
	}
}

// Protects the commands of runbook and READMEs from flags that were renamed.
func TestDocumentedFlagsExist(t *testing.T) {
	sources := map[string]string{
		"run": "../scripts/cmd/local/run.go", "test": "../scripts/test", "bench": "../scripts/bench",
		"audit": "../scripts/command/audit.go", "replay": "../scripts/command/replay.go", "query": "../scripts/cmd/local/query.go",
		"cost": "../scripts/command/cost/main.go", "doctor": "../scripts/command/doctor.go", "contract": "../scripts/command/contract.go", "deploy": "../scripts/deploy",
	}
	documents := read(t, "RUNBOOK.md") + read(t, "README.md") + read(t, "../README.md") + read(t, "../CONTRIBUTING.md")
	found := 0
	for _, m := range regexp.MustCompile("\\./scripts/([a-z]+)([^`\n]*)").FindAllStringSubmatch(documents, -1) {
		source, ok := sources[m[1]]
		if !ok {
			t.Errorf("this test does not know where ./scripts/%s declares its flags", m[1])
			continue
		}
		text := read(t, source) + read(t, "../scripts/command/target.go") +
			read(t, "../scripts/command/contract_schema.go")
		for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(m[2], -1) {
			found++
			if !strings.Contains(text, `"`+flag[1]+`"`) && !strings.Contains(text, "\n    --"+flag[1]+")") &&
				!strings.Contains(text, "\n  --"+flag[1]+")") {
				t.Errorf("./scripts/%s has no flag --%s", m[1], flag[1])
			}
		}
	}
	if found < 30 {
		t.Errorf("found only %d flags: does the pattern still find them?", found)
	}
}

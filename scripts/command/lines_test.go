package command

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Protects people from a file that is read as what it is not.
func TestLinesSayWhatAFileIs(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, content, want string }{
		{"a.GZ", `{"a":1}`, "cannot be read as gzip: it does not begin so"},
		{"a.zst", `{"a":1}`, "cannot be read as zstd: it does not begin so"},
		{"cut", "\x1f\x8b\x08", "cannot be read as gzip"},
		{"table.csv", "event_id,event_type\n1,search\n", "looks like CSV"},
		{"table.tsv", "event id\tevent type\r\n1\tsearch\r\n", "looks like CSV"},
		{"utf16.ndjson", "\xff\xfe{\x00", "UTF-16"},
		{"utf16be.ndjson", "\xfe\xff\x00{", "UTF-16"},
	} {
		name := filepath.Join(dir, c.name)
		if err := os.WriteFile(name, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLines(t.Context(), name, -1)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	name := filepath.Join(dir, "array.json")
	if err := os.WriteFile(name, []byte(" [\n {\"a\": [1,\n2]},\n\"b\",null]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLines(t.Context(), name, -1)
	if err != nil {
		t.Fatal(err)
	}
	// Who reads the file and not its records gets all of it.
	if whole, err := io.ReadAll(l); err != nil || string(whole) != " [\n {\"a\": [1,\n2]},\n\"b\",null]\n" {
		t.Errorf("the file is read as %q, %v", whole, err)
	}
	l.Close()
	for most, want := range map[int]string{-1: "{\"a\": [1,\n2]}|\"b\"|null", 2: "{\"a\": [1,\n2]}|\"b\"", 0: ""} {
		l, err := OpenLines(t.Context(), name, most)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			element, err := l.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(element))
		}
		l.Close()
		if strings.Join(got, "|") != want {
			t.Errorf("%d elements at most: %q", most, got)
		}
	}
	for name, content := range map[string]string{"empty": "", "short": "1", "mark": "\xef\xbb\xbf"} {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLines(t.Context(), name, -1)
		if err != nil {
			t.Error(err)
			continue
		}
		want := strings.TrimPrefix(content, "\xef\xbb\xbf")
		if line, _ := l.Next(); string(line) != want {
			t.Errorf("%s: %q, want %q", name, line, want)
		}
		l.Close()
	}
}

package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/oauth2/google"
)

// tool is a program and what it is needed for.
type tool struct {
	names   []string // the first that is there is taken
	version []string // arguments by which it tells its version
	purpose string
	must    bool // nothing works without it
	remedy  string
}

var tools = []tool{
	{[]string{"go"}, []string{"version"}, "building", true, "install it from https://go.dev/dl/ and put its bin folder on PATH"},
	{[]string{"cc", "gcc", "clang"}, []string{"--version"}, "building, which links librdkafka and DuckDB", true,
		"Debian: apt-get install gcc g++ libc6-dev; macOS: xcode-select --install"},
	{[]string{"chromium", "chromium-browser", "google-chrome"}, []string{"--version"}, "tests of the live page", false,
		"Debian: apt-get install chromium"},
	{[]string{"java"}, []string{"-version"}, "./scripts/test --third-party", false, "Debian: apt-get install openjdk-17-jre-headless"},
	{[]string{"mvn"}, []string{"--version"}, "./scripts/test --third-party", false, "Debian: apt-get install maven"},
	{[]string{"terraform"}, []string{"version"}, "changes of infra/", false, "https://developer.hashicorp.com/terraform/install"},
	{[]string{"gcloud"}, []string{"--version"}, "./scripts/deploy", false, "https://cloud.google.com/sdk/docs/install"},
}

// versionPattern is the line of a program's answer that has a version in it.
var (
	versionPattern = regexp.MustCompile(`[A-Za-z].*[0-9]+\.[0-9].*`)
	colours        = regexp.MustCompile(`\x1b\[[0-9;]*m`)
)

// Tools looks for the programs that the project's scripts use.
func Tools(ctx context.Context) []Finding {
	var found []Finding
	for _, t := range tools {
		what := "tool " + t.names[0]
		path := ""
		for _, name := range t.names {
			if p, err := exec.LookPath(name); err == nil {
				path = p
				break
			}
		}
		if path == "" {
			f := Finding{State: Warning, What: what, Said: "not found: it is needed for " + t.purpose, Remedy: t.remedy}
			if t.must {
				f.State = Failed
			}
			found = append(found, f)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		out, _ := exec.CommandContext(ctx, path, t.version...).CombinedOutput()
		cancel()
		found = append(found, ok(what, "%s", cmp.Or(versionPattern.FindString(colours.ReplaceAllString(string(out),
			"")), path)))
	}
	return found
}

// Port looks whether a server can listen on address, host:port.
func Port(address, purpose, flag string) Finding {
	what := "port " + address
	l, err := net.Listen("tcp", address)
	if err != nil {
		return failed(what, "taken, or not this machine's: "+err.Error(),
			"end what listens there, or choose another one for "+purpose+" with "+flag)
	}
	l.Close()
	return ok(what, "free, for %s", purpose)
}

// enough is the free space below which a run can come to an end, bytes.
const enough = 1 << 30

// Folder looks at the folder that ./scripts/run --data keeps. One that is not there is made by the first run.
func Folder(dir string) []Finding {
	what := "folder " + dir
	info, err := os.Stat(dir)
	parent := dir
	var found []Finding
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found = append(found, ok(what, "not there yet: ./scripts/run --data %s makes it", dir))
		parent = filepath.Dir(dir)
	case err != nil:
		return []Finding{failed(what, err.Error(), "give this user the right to read it, or choose another --data")}
	case !info.IsDir():
		return []Finding{failed(what, "is a file", "choose another --data")}
	default:
		probe, err := os.CreateTemp(dir, ".doctor-")
		if err != nil {
			return []Finding{failed(what, "cannot be written to: "+err.Error(),
				"give this user the right to, or choose another --data")}
		}
		probe.Close()
		os.Remove(probe.Name())
		found = append(found, ok(what, "there, and can be written to"))
	}
	var space syscall.Statfs_t
	if err := syscall.Statfs(parent, &space); err == nil {
		free := space.Bavail * uint64(space.Bsize)
		f := ok("disk of "+dir, "%.1f GiB free", float64(free)/(1<<30))
		if free < enough {
			f.State, f.Remedy = Warning, "make room: a run ends when its disk is full"
		}
		found = append(found, f)
	}
	return found
}

// Credentials looks for Google's application default credentials.
func Credentials(ctx context.Context) Finding {
	const what = "Google credentials"
	c, err := google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		return failed(what, "none: "+err.Error(), "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=file of a service account")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { // the source knows no context
		_, err := c.TokenSource.Token()
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return failed(what, "there, but they give no token: "+err.Error(),
			"gcloud auth application-default login again")
	}
	return ok(what, "there, and give tokens; their project is %s", orNone(c.ProjectID))
}

func orNone(s string) string {
	if s == "" {
		return "not named"
	}
	return s
}

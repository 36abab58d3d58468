package kafka

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed pom.xml
var pom []byte

// Install returns the folder of Kafka's jars. The first call on a machine fetches
// them from Maven Central (54 MB) into the user's cache folder; it needs mvn.
func Install(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("kafka: %w", err)
	}
	sum := sha256.Sum256(pom)
	home := filepath.Join(cache, "sluice", "kafka-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return "", fmt.Errorf("kafka: Maven is needed to fetch Apache Kafka (Debian: apt-get install maven openjdk-17-jre-headless): %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return "", fmt.Errorf("kafka: %w", err)
	}
	// Complete or not at all: the folder gets its name last.
	part, err := os.MkdirTemp(filepath.Dir(home), "kafka-part-")
	if err != nil {
		return "", fmt.Errorf("kafka: %w", err)
	}
	defer os.RemoveAll(part)
	if err := os.WriteFile(filepath.Join(part, "pom.xml"), pom, 0o644); err != nil {
		return "", fmt.Errorf("kafka: %w", err)
	}
	jars := filepath.Join(part, "jars")
	mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime",
		"-DoutputDirectory="+jars)
	mvn.Dir = part
	if out, err := mvn.CombinedOutput(); err != nil {
		return "", fmt.Errorf("kafka: fetch the jars: %w:\n%s", err, out)
	}
	if err := os.Rename(jars, home); err != nil {
		if _, there := os.Stat(home); there == nil { // somebody else was faster
			return home, nil
		}
		return "", fmt.Errorf("kafka: %w", err)
	}
	return home, nil
}

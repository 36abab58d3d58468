// Package pubsub runs Google's Pub/Sub emulator for tests, as a process of its
// own on loopback. Its data is in memory and ends with it.
//
//	p, err := pubsub.Start(ctx, pubsub.Config{Dir: t.TempDir()})
//	defer p.Close()
//	client, err := pubsubclient.NewClient(ctx, "project", p.ClientOptions()...)
//
// It needs Java and the emulator's jar: gcloud's component pubsub-emulator, the
// Debian package google-cloud-cli-pubsub-emulator, or PUBSUB_EMULATOR_JAR.
//
// Where the emulator (0.8.20) differs from the service, as the tests found:
//
//   - Pushed data is made text on its way: unwrapped pushes of bytes that are not
//     UTF-8 arrive with U+FFFD in their place. Binary payloads must be pushed
//     wrapped here.
//   - 202 does not ack, 203 does.
//   - The ordering key's header is x-goog-ordering-key.
//   - Pushes carry no delivery attempt and no Authorization.
//   - A message with an attribute that cannot be a header (a space in its key, a
//     line break in its value) is never pushed unwrapped.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/test/thirdparty/process"
)

// Config says what to start.
type Config struct {
	Dir string // takes the log; must exist
}

// Emulator is a running emulator.
type Emulator struct {
	address string
	process *process.Process
}

// Start starts the emulator and returns when it listens.
func Start(ctx context.Context, c Config) (*Emulator, error) {
	jar, err := Jar()
	if err != nil {
		return nil, err
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		return nil, fmt.Errorf("pubsub emulator: %w", err)
	}
	p, err := process.Start(process.Config{
		Command: []string{"java", "-Xms64m", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-jar", jar, "--host=127.0.0.1",
			"--port=" + strconv.Itoa(ports[0])},
		Log: filepath.Join(c.Dir, "pubsub-emulator.log"),
	})
	if err != nil {
		return nil, fmt.Errorf("pubsub emulator: %w", err)
	}
	e := &Emulator{address: "127.0.0.1:" + strconv.Itoa(ports[0]), process: p}
	if err := p.WaitListening(ctx, e.address); err != nil {
		return nil, errors.Join(fmt.Errorf("pubsub emulator: %w", err), p.Kill())
	}
	return e, nil
}

// Jar finds the emulator's jar.
func Jar() (string, error) {
	if jar := os.Getenv("PUBSUB_EMULATOR_JAR"); jar != "" {
		return jar, nil
	}
	roots := []string{"/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk"}
	if gcloud, err := exec.LookPath("gcloud"); err == nil {
		if real, err := filepath.EvalSymlinks(gcloud); err == nil {
			roots = append([]string{filepath.Dir(filepath.Dir(real))}, roots...)
		}
	}
	for _, root := range roots {
		jars, err := filepath.Glob(filepath.Join(root, "platform", "pubsub-emulator", "lib",
			"cloud-pubsub-emulator-*.jar"))
		if err == nil && len(jars) > 0 {
			return jars[len(jars)-1], nil
		}
	}
	return "", errors.New("pubsub emulator: no jar found: install gcloud's component pubsub-emulator, or name the jar in PUBSUB_EMULATOR_JAR")
}

// Addr is the gRPC address, host:port, plain text: PUBSUB_EMULATOR_HOST.
func (e *Emulator) Addr() string { return e.address }

// ClientOptions reach the emulator with any of Google's gRPC clients.
func (e *Emulator) ClientOptions() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(e.address),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// Process is the emulator's process, to pause it or to see its end.
func (e *Emulator) Process() *process.Process { return e.process }

// Close ends the emulator.
func (e *Emulator) Close() error { return e.process.Kill() }

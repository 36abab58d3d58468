package bridge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"

	"sluice/bridge"
	"sluice/bridge/connect"
	"sluice/bridge/internal/servers"
)

// lockedBuffer may be written and read by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Each SASL mechanism works over TLS, configured as the README says, with the
// password from a mounted file; a wrong one is told without being shown, and the
// bridge is not ready.
func TestSASLOverTLS(t *testing.T) {
	const password = "hunter2-secret"
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			secrets := t.TempDir()
			certificate := writeSecrets(t, secrets)
			s := servers.NewKafka(t, 1, []kfake.Opt{
				kfake.EnableSASL(), kfake.Superuser(mechanism, "bridge", password),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}),
			})
			s.Client = kafka.ConfigMap{
				"security.protocol": "SASL_SSL", "ssl.ca.location": filepath.Join(secrets, "ca.pem"),
				"sasl.mechanisms": mechanism, "sasl.username": "bridge", "sasl.password": password,
			}
			s.Produce(s.Numbered(0, 10)...)
			env := []string{
				"KAFKA_BROKERS=" + s.Brokers, "GOOGLE_CLOUD_PROJECT=" + servers.Project,
				"KAFKA_CONFIG_SECURITY_PROTOCOL=SASL_SSL", "KAFKA_CONFIG_SASL_MECHANISMS=" + mechanism,
				"KAFKA_CONFIG_SSL_CA_LOCATION=" + filepath.Join(secrets, "ca.pem"),
				"KAFKA_CONFIG_SASL_USERNAME=bridge", "KAFKA_CONFIG_DEBUG=all",
			}
			run := func(more string) (*bridge.Bridge, *lockedBuffer, func()) {
				c, _, err := parse(t, append(env, more))
				if err != nil {
					t.Fatal(err)
				}
				var log lockedBuffer
				b, err := connect.New(c, servers.Client(t, s.PubSub.Addr), nil,
					slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- b.Run(ctx) }()
				return b, &log, func() {
					cancel()
					if err := <-done; err != nil {
						t.Error(err)
					}
					// Not even with all that librdkafka can tell.
					for _, secret := range []string{password, "hunter4", "padding"} {
						if strings.Contains(log.String(), secret) {
							t.Errorf("the log shows a password or a record's value: it contains %s", secret)
						}
					}
					if !strings.Contains(log.String(), "librdkafka: ") {
						t.Error("the log shows nothing of librdkafka")
					}
				}
			}
			b, _, stop := run("KAFKA_CONFIG_SASL_PASSWORD_FILE=" + filepath.Join(secrets, "kafka-password"))
			servers.Wait(t, "all records", func() bool { return b.Stats().RecordsIn == 10 })
			stop()

			t.Setenv("KAFKA_CONFIG_SASL_PASSWORD_FILE", "")
			b, log, stop := run("KAFKA_CONFIG_SASL_PASSWORD=hunter4-secret")
			servers.Wait(t, "the refusal in the log", func() bool {
				return strings.Contains(log.String(),
					"uthentication")
			})
			if status, _ := get(&servers.Running{Bridge: b}, "/readyz"); status != http.StatusServiceUnavailable {
				t.Errorf("without authentication, /readyz answers %d", status)
			}
			stop()
		})
	}
}

package kafka

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// librdkafka's lines keep their severity: what is fatal stands out, and broken
// connections, which it mends, do not look like failures.
func TestLibrdkafkaLogLevels(t *testing.T) {
	var log bytes.Buffer
	c := &Consumer{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	lines := make(chan kafka.LogEvent, 8)
	for level := range 8 {
		lines <- kafka.LogEvent{Level: level, Tag: "TAG", Message: "m"}
	}
	close(lines)
	c.forwardLogs(lines)
	var got []string
	for line := range strings.Lines(log.String()) {
		_, level, _ := strings.Cut(line, "level=")
		level, _, _ = strings.Cut(level, " ")
		got = append(got, level)
		if !strings.Contains(line, `msg="librdkafka: m" facility=TAG`) {
			t.Errorf("a line is %s", line)
		}
	}
	// Of syslog's emergency, alert, critical, error, warning, notice, informational, debug.
	if want := "ERROR ERROR ERROR WARN WARN INFO INFO DEBUG"; strings.Join(got, " ") != want {
		t.Errorf("levels are %s, want %s", got, want)
	}
}

// Package telemetry is what the bridge and the functions share of their
// observability: structured logs in the form that Cloud Logging understands, and
// W3C's trace context. Package export sets up OpenTelemetry's exporters.
//
//	log := telemetry.NewLogger(os.Stderr, slog.LevelInfo)
//	log.LogAttrs(ctx, slog.LevelInfo, "…", …)
//
// Event values never appear in a log line: only codes, field names and
// coordinates do, because clickstreams hold personal data.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes one JSON object per line to w, with
// Cloud Logging's names for the fields that it interprets: severity, message,
// time. See
// https://cloud.google.com/logging/docs/structured-logging.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudLogging}))
}

// cloudLogging renames slog's built-in keys.
func cloudLogging(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.MessageKey:
		a.Key = "message"
	case slog.LevelKey:
		a.Key = "severity"
		// Cloud Logging's word is WARNING, slog's is WARN; the others agree.
		if level, ok := a.Value.Any().(slog.Level); ok && level >= slog.LevelWarn && level < slog.LevelError {
			a.Value = slog.StringValue("WARNING")
		}
	}
	return a
}

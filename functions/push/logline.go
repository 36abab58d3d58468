package push

import (
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/internal/batch"
	"sluice/internal/telemetry"
)

// logLine writes the one line of a request. Log-based metrics are made of these
// lines, because between requests a Cloud Run instance has no CPU to export
// anything: names and units of the fields are an interface.
//
//	function          Ingest or DeadLetter
//	outcome           ack, retry, busy, malformed, denied, draining, crashed
//	status            HTTP status of the answer
//	message_id, subscription, delivery_attempt (absent: unknown)
//	body_bytes        of the payload, compressed
//	total_ms          from the request's headers to the answer
//	topic             of the first record
//	partitions        how many partitions the records are of
//	offsets           of them, each "topic/partition:first-last"; an ack of many has none
//	error             why it is no ack
//
// and what the function noted.
func (h *handler) logLine(r *http.Request, m *Message, a answer, total time.Duration) {
	level := slog.LevelInfo
	switch a.outcome {
	case "retry", "busy":
		level = slog.LevelWarn
	case "malformed", "denied", "crashed":
		level = slog.LevelError
	}
	if !h.log.Enabled(r.Context(), level) {
		return
	}
	fields := make([]slog.Attr, 0, 12+len(m.notes))
	fields = append(fields,
		slog.String("function", h.Function),
		slog.String("outcome", a.outcome),
		slog.Int("status", a.status))
	if m.ID != "" {
		fields = append(fields, slog.String("message_id", m.ID), slog.String("subscription", m.Subscription))
	}
	if m.DeliveryAttempt > 0 {
		fields = append(fields, slog.Int("delivery_attempt", m.DeliveryAttempt))
	}
	if r.ContentLength >= 0 {
		fields = append(fields, slog.Int64("body_bytes", r.ContentLength))
	}
	fields = append(fields, m.rangeFields(a.outcome == "ack")...)
	fields = append(fields, m.notes...)
	fields = append(fields, slog.Float64("total_ms", Milliseconds(total)))
	if a.err != nil {
		fields = append(fields, slog.String("error", a.err.Error()))
	}
	if trace, span := requestTrace(r.Header); trace != "" && h.Project != "" {
		fields = append(fields, slog.String("logging.googleapis.com/trace", "projects/"+h.Project+"/traces/"+trace))
		if span != "" {
			fields = append(fields, slog.String("logging.googleapis.com/spanId", span))
		}
	}
	h.log.LogAttrs(r.Context(), level, "push", fields...)
}

// Milliseconds is d in the unit of the log lines' *_ms fields, to the microsecond.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// requestTrace returns the trace and the span, in hexadecimal digits, that Cloud
// Run gave the request: from W3C's traceparent, or from the older
// X-Cloud-Trace-Context, whose decimal span is left out.
func requestTrace(h http.Header) (trace, span string) {
	if p := strings.Split(h.Get("Traceparent"), "-"); len(p) >= 4 && isHex(p[1], 32) && isHex(p[2], 16) {
		return p[1], p[2]
	}
	if trace, _, _ := strings.Cut(h.Get("X-Cloud-Trace-Context"), "/"); isHex(trace, 32) {
		return trace, ""
	}
	return "", ""
}

// isHex reports whether s is n lowercase hexadecimal digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// NoteRejected notes how many records of the message were rejected, by code.
func NoteRejected(m *Message, byCode map[string]int) {
	if len(byCode) == 0 {
		return
	}
	codes := slices.Sorted(maps.Keys(byCode))
	counts := make([]any, len(codes))
	for i, code := range codes {
		counts[i] = slog.Int(code, byCode[code])
	}
	m.Note(slog.Group("rejected", counts...))
}

// A log line names the offsets of every partition of its message if they are few, or if the
// message comes again, because that is when somebody looks for them: what is logged is paid
// for. In any case no more than fit an entry of Cloud Logging, 256 kB.
const (
	rangesOfAck = 8
	rangesNoted = 1000
)

// NoteRanges notes where the records of the message came from. Events that did not come
// through Kafka have a topic of no name, and are left out.
func (m *Message) NoteRanges(ranges []batch.Range) {
	m.ranges = slices.DeleteFunc(slices.Clone(ranges), func(r batch.Range) bool { return r.Topic == "" })
	for i := range m.ranges {
		// Anybody who may publish can call a topic what he likes.
		if topic := &m.ranges[i].Topic; !topicName.MatchString(*topic) {
			*topic = "(no name that Kafka takes)"
		}
	}
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// NoteTrace notes the trace context of the message's records, if it is one.
func (m *Message) NoteTrace(traceparent string) {
	if telemetry.ParseTraceparent(traceparent).IsValid() {
		m.Note(slog.String("traceparent", traceparent[:55])) // what versions to come have behind it is not checked
	}
}

// rangeFields are the fields of m's log line that say where its records came from.
func (m *Message) rangeFields(acked bool) []slog.Attr {
	if len(m.ranges) == 0 {
		return nil
	}
	fields := []slog.Attr{slog.String("topic", m.ranges[0].Topic), slog.Int("partitions", len(m.ranges))}
	if acked && len(m.ranges) > rangesOfAck {
		return fields
	}
	return append(fields, slog.Any("offsets", m.ranges[:min(len(m.ranges), rangesNoted)]))
}

package infra_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sluice/internal/contract"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// metric is a log-based metric as Terraform makes it.
type metric struct {
	Filter string
	Field  string // below jsonPayload; empty: a counter of lines
	Labels map[string]string
}

// metrics reads monitoring/metrics.yaml as metrics.tf does.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	var file struct {
		Distributions, Counters map[string]struct {
			Filter, Field, Unit, Buckets, Text string
			Labels                             map[string]string
		}
		Rejections struct {
			Filter, Field string
			Codes         []string
		}
		Buckets map[string][]float64
	}
	decode(t, "monitoring/metrics.yaml", &file)
	all := map[string]metric{}
	for name, d := range file.Distributions {
		if d.Field == "" || d.Unit == "" || d.Text == "" || len(file.Buckets[d.Buckets]) == 0 ||
			!slices.IsSorted(file.Buckets[d.Buckets]) {
			t.Errorf("distribution %s needs a field, a unit, a text and sorted buckets", name)
		}
		all[name] = metric{d.Filter, d.Field, d.Labels}
	}
	for name, c := range file.Counters {
		all[name] = metric{c.Filter, "", c.Labels}
	}
	for _, code := range file.Rejections.Codes {
		all["rejected_"+code] = metric{strings.ReplaceAll(file.Rejections.Filter, "CODE", code),
			strings.ReplaceAll(file.Rejections.Field, "CODE", code), nil}
	}
	return all
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// entry is a line of the log as Cloud Logging keeps it: what a program wrote is
// jsonPayload, the rest Cloud Run adds.
func entry(resource string, line map[string]any) map[string]any {
	service := map[any]string{"Ingest": "ingest", "DeadLetter": "dead-letter"}[line["function"]]
	return map[string]any{
		"resource":    map[string]any{"type": resource, "labels": map[string]any{"service_name": service}},
		"labels":      map[string]any{"instanceId": "0a1b"},
		"jsonPayload": line,
	}
}

// field returns what stands at a path such as jsonPayload.rejected.missing_field.
func field(entry map[string]any, path string) (any, bool) {
	var at any = entry
	for name := range strings.SplitSeq(path, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = object[name]; !ok {
			return nil, false
		}
	}
	return at, true
}

// matches evaluates a filter of the Logging query language, as far as the metrics
// use it: comparisons joined by AND, with = on text, : for "contains", =~ for a regular
// expression, :* for "is there", =true, >= and > on numbers, NOT before one of them.
// https://cloud.google.com/logging/docs/view/logging-query-language
func matches(t *testing.T, filter string, entry map[string]any) bool {
	t.Helper()
	for term := range strings.SplitSeq(filter, " AND ") {
		if strings.HasPrefix(term, "sample(") {
			continue // by chance
		}
		if negated, ok := strings.CutPrefix(term, "NOT "); ok {
			if matches(t, negated, entry) {
				return false
			}
			continue
		}
		m := comparison.FindStringSubmatch(term)
		if m == nil {
			t.Fatalf("this test does not understand %q in a filter", term)
		}
		value, ok := field(entry, m[1])
		if !ok {
			return false
		}
		if text, quoted := strings.CutPrefix(m[3], `"`); quoted {
			text = strings.TrimSuffix(text, `"`)
			if m[2] == ":" && !strings.Contains(fmt.Sprint(value), text) || m[2] == "=" && fmt.Sprint(value) != text ||
				m[2] == "=~" && !regexp.MustCompile(text).MatchString(fmt.Sprint(value)) {
				return false
			}
			continue
		}
		if m[3] == "*" {
			continue
		}
		if m[3] == "true" {
			if value != true {
				return false
			}
			continue
		}
		bound, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%q: %v", term, err)
		}
		number, ok := value.(float64)
		if !ok || m[2] == ">=" && number < bound || m[2] == ">" && number <= bound {
			return false
		}
	}
	return true
}

var comparison = regexp.MustCompile(`^([a-zA-Z_.0-9]+)(=~|=|:|>=|>)("[^"]*"|[0-9.]+|true|\*)$`)

// Protects every metric from a field that was renamed: each finds lines among those
// that the programs write when all that it counts happens once, and its value and
// labels are in them.
func TestMetricsFindTheirLines(t *testing.T) {
	lines := written(t)
	for name, m := range metrics(t) {
		found := 0
		for _, line := range lines {
			if !matches(t, m.Filter, line) {
				continue
			}
			found++
			if m.Field != "" {
				if v, ok := field(line, "jsonPayload."+m.Field); !ok {
					t.Errorf("%s: the line has no %s: %v", name, m.Field, line)
				} else if _, ok := v.(float64); !ok {
					t.Errorf("%s: %s is %T, not a number", name, m.Field, v)
				}
			}
			for label, path := range m.Labels {
				if _, ok := field(line, path); !ok {
					t.Errorf("%s: label %s: the line has no %s: %v", name, label, path, line)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s finds none of %d lines: %s", name, len(lines), m.Filter)
		}
	}
}

// Protects the counts: what lands once is counted once, although its message came
// three times.
func TestRetriedBatchesCountOnce(t *testing.T) {
	landed, acked := metrics(t)["landed"], 0
	retries := 0
	for _, line := range written(t) {
		outcome, _ := field(line, "jsonPayload.outcome")
		if outcome == "retry" {
			retries++
			if matches(t, landed.Filter, line) {
				t.Errorf("a line of a request that is tried again is counted: %v", line)
			}
		}
		if matches(t, landed.Filter, line) {
			acked++
		}
	}
	if retries == 0 || acked == 0 {
		t.Errorf("%d lines to be tried again, %d acknowledged: the test needs both", retries, acked)
	}
}

// Protects what people look for in the log: only lines that say that all is well
// are left out.
func TestOnlyGoodNewsIsNotStored(t *testing.T) {
	var file struct {
		Exclusions map[string]struct{ Filter string }
	}
	decode(t, "monitoring/metrics.yaml", &file)
	filter, left := file.Exclusions["acknowledged"].Filter, 0
	for _, line := range written(t) {
		if !matches(t, filter, line) {
			continue
		}
		left++
		if outcome, _ := field(line, "jsonPayload.outcome"); outcome != "ack" {
			t.Errorf("this line is not stored: %v", line)
		}
	}
	if left == 0 {
		t.Errorf("%s finds no line", filter)
	}
	late := entry("cloud_run_revision", map[string]any{"message": "push", "function": "Ingest", "outcome": "ack",
		"age_ms": 7000.0})
	if matches(t, filter, late) {
		t.Error("lines of late batches are not stored: the runbook looks for them")
	}
	for name, e := range file.Exclusions {
		if !strings.Contains(e.Filter, `resource.labels.service_name=~"^(ingest|dead-letter)$"`) {
			t.Errorf("exclusion %s: lines of other services in the project are not stored either", name)
		}
	}
}

// Protects the charts by reason: a code that the functions learn has a metric.
func TestEveryRejectionCodeHasAMetric(t *testing.T) {
	all := metrics(t)
	for _, code := range rejectionCodes(t) {
		// These are given by the dead-letter function, which rejects nothing.
		if code == string(contract.CodeAttemptsExhausted) {
			continue
		}
		if _, ok := all["rejected_"+code]; !ok {
			t.Errorf("monitoring/metrics.yaml lacks the code %s", code)
		}
	}
}

// rejectionCodes are the rejection codes that internal/contract declares.
func rejectionCodes(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, m := range regexp.MustCompile(`Code\w+\s+Code = "(\w+)"`).FindAllStringSubmatch(read(t,
		"../internal/contract/code.go"), -1) {
		names = append(names, m[1])
	}
	if len(names) < 10 {
		t.Fatalf("found only the codes %v: does the pattern still find them?", names)
	}
	return names
}

type alert struct {
	Runbook, Severity, For, Query string
	Bridge                        bool
}

func alerts(t *testing.T) map[string]alert {
	t.Helper()
	var all map[string]alert
	decode(t, "monitoring/alerts.yaml", &all)
	return all
}

type chart struct {
	Title, Unit string
	Series      map[string]string
}

func charts(t *testing.T) []chart {
	t.Helper()
	var all []chart
	decode(t, "monitoring/dashboard.yaml", &all)
	return all
}

// expressions are all queries of alerts and charts, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name, a := range alerts(t) {
		all["alert "+name] = a.Query
	}
	for _, c := range charts(t) {
		for legend, query := range c.Series {
			all["chart "+c.Title+", "+legend] = query
		}
	}
	return all
}

// googleMetrics are the metrics of Google's that the queries use, checked against
// https://cloud.google.com/monitoring/api/metrics_gcp, with the labels that they
// and their resources have.
var googleMetrics = map[string][]string{
	"pubsub_googleapis_com:subscription_oldest_unacked_message_age": {"subscription_id"},
	"pubsub_googleapis_com:subscription_num_undelivered_messages":   {"subscription_id"},
	"pubsub_googleapis_com:subscription_dead_letter_message_count":  {"subscription_id"},
	"pubsub_googleapis_com:subscription_push_request_count":         {"subscription_id", "response_class", "response_code"},
	"pubsub_googleapis_com:subscription_byte_cost":                  {"subscription_id"},
	"pubsub_googleapis_com:topic_byte_cost":                         {"topic_id"},
	"pubsub_googleapis_com:topic_send_message_operation_count":      {"topic_id"},
	"run_googleapis_com:request_count":                              {"service_name", "response_code_class"},
	"run_googleapis_com:container_billable_instance_time":           {"service_name"},
	"run_googleapis_com:container_instance_count":                   {"service_name", "state"},
}

// Protects alerts and charts, which Google accepts whatever they say: each query
// parses, and each metric and label in it exists.
func TestQueriesUseWhatExists(t *testing.T) {
	ours := metrics(t)
	tf := read(t, "pubsub.tf") + read(t, "functions.tf")
	for where, query := range expressions(t) {
		expr, err := parser.ParseExpr(strings.ReplaceAll(query, "CODE", "missing_field"))
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			labels := map[string]string{}
			for _, m := range selector.LabelMatchers {
				labels[m.Name] = m.Value
			}
			delete(labels, "__name__")
			if labels["monitored_resource"] == "" {
				t.Errorf("%s: %s does not name its monitored_resource, which Cloud Monitoring asks for", where,
					selector.Name)
			}
			delete(labels, "monitored_resource")
			for _, label := range []string{"subscription_id", "topic_id"} {
				if name := labels[label]; name != "" && !strings.Contains(name, "*") &&
					!strings.Contains(tf, fmt.Sprintf("%q", name)) {
					t.Errorf("%s: no resource is called %s", where, name)
				}
			}
			known, ok := googleMetrics[selector.Name]
			if name, is := strings.CutPrefix(selector.Name, "logging_googleapis_com:user_sluice_"); is {
				for _, suffix := range []string{"_sum", "_count", "_bucket"} {
					if base, cut := strings.CutSuffix(name, suffix); cut && ours[base].Field != "" {
						name = base
						break
					}
				}
				var m metric
				m, ok = ours[name]
				known = slices.Collect(maps.Keys(m.Labels))
			}
			if !ok {
				t.Errorf("%s: nothing makes the metric %s", where, selector.Name)
			}
			for label := range labels {
				if !slices.Contains(known, label) {
					t.Errorf("%s: %s has no label %s", where, selector.Name, label)
				}
			}
			return nil
		})
	}
}

// Protects people who are called at night: every alert names a section of the
// runbook, and the section says what they need.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	book := sections(t)
	for name, a := range alerts(t) {
		text, ok := book[a.Runbook]
		if !ok {
			t.Errorf("alert %s: RUNBOOK.md has no section %q", name, a.Runbook)
			continue
		}
		for _, part := range []string{"**For users:**", "**Look:**", "**Causes and fixes:**", "**Replay:**"} {
			if !strings.Contains(text, part) {
				t.Errorf("RUNBOOK.md, %q: there is no %s", a.Runbook, part)
			}
		}
		if !slices.Contains([]string{"CRITICAL", "ERROR", "WARNING"}, a.Severity) {
			t.Errorf("alert %s: severity %q", name, a.Severity)
		}
	}
}

// sections are the runbook's sections by heading.
func sections(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	heading := ""
	for line := range strings.Lines(read(t, "RUNBOOK.md")) {
		if h, ok := strings.CutPrefix(line, "### "); ok {
			heading = strings.TrimSpace(h)
			continue
		}
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(h)
			continue
		}
		all[heading] += line
	}
	return all
}

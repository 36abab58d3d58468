// Package collector is an OpenTelemetry collector for tests: it receives OTLP over
// HTTP and remembers the names of what came.
//
//	c := collector.Start()
//	defer c.Close()
//	cmd.Env = append(cmd.Env, c.Environment()...)
//	…
//	c.Spans()    // "sluice-bridge: send clickstream", in the order of their coming
//	c.Metrics()
package collector

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// Collector is a running collector.
type Collector struct {
	server *httptest.Server

	mu      sync.Mutex
	spans   []string
	metrics []string
}

// Start starts a collector on a free port of loopback.
func Start() *Collector {
	c := &Collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var request traces.ExportTraceServiceRequest
		if !read(w, r, &request) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range request.ResourceSpans {
			service := serviceName(of.Resource.GetAttributes())
			for _, scope := range of.ScopeSpans {
				for _, span := range scope.Spans {
					c.spans = append(c.spans, service+": "+span.Name)
				}
			}
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var request metrics.ExportMetricsServiceRequest
		if !read(w, r, &request) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range request.ResourceMetrics {
			service := serviceName(of.Resource.GetAttributes())
			for _, scope := range of.ScopeMetrics {
				for _, m := range scope.Metrics {
					c.metrics = append(c.metrics, service+": "+m.Name)
				}
			}
		}
	})
	c.server = httptest.NewServer(mux)
	return c
}

// read takes a request's message; what is none is answered 400.
func read(w http.ResponseWriter, r *http.Request, into proto.Message) bool {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, into)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

func serviceName(attributes []*common.KeyValue) string {
	for _, a := range attributes {
		if a.Key == "service.name" {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// URL is the endpoint.
func (c *Collector) URL() string { return c.server.URL }

// Environment makes a program send here, and soon.
func (c *Collector) Environment() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_METRIC_EXPORT_INTERVAL=100",
	}
}

// Spans are the spans so far, "service: name".
func (c *Collector) Spans() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Metrics are the metrics so far, "service: name", once for every time they came.
func (c *Collector) Metrics() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.metrics)
}

// Close ends the collector.
func (c *Collector) Close() { c.server.Close() }

// Package infra_test holds what Terraform itself cannot check: that infra/ agrees
// with the programs that it deploys, with the SQL and the log lines that they
// write, and with the runbook. It needs neither Terraform nor a cloud; infra/check
// runs Terraform's own tests.
package infra_test

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/bridge"
	"sluice/functions/service"
	"sluice/internal/contract"
	"sluice/internal/kafkaclient"
	"sluice/internal/telemetry/export"
)

// read returns a file below infra/.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// variables are the environment variables that a flag set declares.
func variables(declare func(*flag.FlagSet)) map[string]bool {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	declare(fs)
	names := map[string]bool{}
	fs.VisitAll(func(f *flag.Flag) {
		names[strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))] = true
	})
	return names
}

// assigned finds the environment variables that a Terraform file sets: its only
// names in capitals.
var assigned = regexp.MustCompile(`(?m)^\s*([A-Z][A-Z0-9_]+)\s+=`)

// goMemory is Go's own, and no program's.
const goMemory = "GOMEMLIMIT"

// Protects deployments from variables that no program reads, which would silently
// leave the default in force.
func TestEnvironmentIsDeclaredByThePrograms(t *testing.T) {
	functions, b := service.DefaultConfig(), bridge.DefaultConfig()
	for file, declared := range map[string]map[string]bool{
		"functions.tf": variables(functions.Flags),
		"bridge.tf":    variables(b.Flags),
	} {
		set := assigned.FindAllStringSubmatch(read(t, file), -1)
		if len(set) < 4 {
			t.Errorf("%s sets %d variables: does the pattern still find them?", file, len(set))
		}
		for _, m := range set {
			if !declared[m[1]] && m[1] != goMemory {
				t.Errorf("%s sets %s, which its program does not read; it reads %v", file, m[1],
					slices.Sorted(maps.Keys(declared)))
			}
		}
	}
}

// Protects deployments from programs that refuse what Terraform gives them: its
// values, as they come out for a project, pass the programs' own validation.
func TestEnvironmentIsAccepted(t *testing.T) {
	values := map[string]string{
		"FUNCTION_TARGET": "Ingest", "GOOGLE_CLOUD_PROJECT": "acme-clickstream", "BIGQUERY_DATASET": "clickstream",
		"FACT_EVENTS_TABLE": "fact_events", "EVENTS_DLQ_TABLE": "events_dlq", "PUBSUB_TOPIC": "clickstream", "PUBSUB_DEAD_LETTER_TOPIC": "clickstream-dead-letter",
		"EVENT_TYPES": "page_view,add_to_cart,purchase,search", "HANDLER_TIMEOUT": "50s", "MAX_INFLIGHT_BYTES": "100663296", "EVENT_MAX_AGE": "312h",
		"PUSH_AUDIENCE": "https://ingest.sluice.internal", "PUSH_SERVICE_ACCOUNT": "sluice-push@acme-clickstream.iam.gserviceaccount.com", "PUSH_TRUST_CLOUD_RUN": "true",
		"KAFKA_BROKERS": "kafka:9092", "KAFKA_TOPICS": "clickstream", "PAYLOAD_BUCKET": "acme-clickstream-sluice-payloads", "BATCH_GROUPS": "clickstream,^(web\\..*)$;orders,refunds", "KAFKA_GROUP": "clickstream-to-bigquery", "KAFKA_OAUTH": "", "CONTRACTS": "",
	}
	functions, b := service.DefaultConfig(), bridge.DefaultConfig()
	for _, program := range []struct {
		file     string
		flags    func(*flag.FlagSet)
		validate func() error
	}{
		{"functions.tf", functions.Flags, functions.Validate},
		{"bridge.tf", b.Flags, b.Validate},
	} {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		program.flags(fs)
		for _, m := range assigned.FindAllStringSubmatch(read(t, program.file), -1) {
			if m[1] == goMemory {
				continue
			}
			value, ok := values[m[1]]
			if !ok {
				t.Errorf("%s sets %s: give this test the value that it has", program.file, m[1])
			}
			if err := fs.Set(strings.ToLower(strings.ReplaceAll(m[1], "_", "-")), value); err != nil {
				t.Errorf("%s: %s: %v", program.file, m[1], err)
			}
		}
		if err := program.validate(); err != nil {
			t.Errorf("%s: %v", program.file, err)
		}
	}
}

// Protects traces and metrics of a deployment: with the variables that telemetry.tf
// sets, the programs make their exporters.
func TestOTLPVariablesSwitchItOn(t *testing.T) {
	values := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x",
		"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0",
		"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
	}
	for _, m := range regexp.MustCompile(`OTEL_[A-Z_]+`).FindAllString(read(t, "telemetry.tf"), -1) {
		if values[m] == "" {
			t.Errorf("telemetry.tf sets %s: give this test the value that it has", m)
		}
		t.Setenv(m, values[m])
	}
	e, err := export.Start(t.Context(), "sluice", "test", slog.New(slog.DiscardHandler))
	check(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() { _ = e.Close(ended) }() // nobody listens
	if e.Tracer("test") == nil || len(e.MeterOptions()) == 0 {
		t.Error("nothing is exported")
	}
}

// Protects the Kafka properties: Terraform makes their variables' names as the
// bridge reads them back.
func TestKafkaPropertiesKeepTheirNames(t *testing.T) {
	if !strings.Contains(read(t, "bridge.tf"), `"KAFKA_CONFIG_${upper(replace(property, ".", "_"))}"`) {
		t.Fatal("bridge.tf names the variables of Kafka properties in another way: change this test with it")
	}
	for _, property := range []string{"sasl.password", "security.protocol", "sasl.mechanisms", "ssl.ca.location"} {
		var p kafkaclient.Properties
		variable := "KAFKA_CONFIG_" + strings.ToUpper(strings.ReplaceAll(property, ".", "_"))
		if err := p.FromEnvironment([]string{variable + "=x"}, os.ReadFile); err != nil {
			t.Errorf("%s: %v", variable, err)
		}
		if p.String() != property { // the names of what is set
			t.Errorf("%s becomes %v, not %s", variable, p.String(), property)
		}
	}
}

// Protects the views: Terraform makes those that the local warehouse has, from the
// same files.
func TestViewsAreTheWarehouses(t *testing.T) {
	m := regexp.MustCompile(`views\s+= toset\(\[(.*)\]\)`).FindStringSubmatch(read(t, "bigquery.tf"))
	if m == nil {
		t.Fatal("bigquery.tf has no list of views")
	}
	var got []string
	for _, name := range strings.Split(m[1], ",") {
		got = append(got, strings.Trim(name, ` "`))
	}
	want := slices.Sorted(slices.Values(contract.Views()))
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("bigquery.tf makes the views %v, the warehouse has %v", got, want)
	}
	// templatefile gives a meaning to more than the one placeholder.
	for _, name := range want {
		text := strings.ReplaceAll(read(t, "../internal/contract/sql/"+name+".sql"), "${dataset}", "")
		if strings.Contains(text, "${") || strings.Contains(text, "%{") {
			t.Errorf("%s.sql has ${ or %%{ besides ${dataset}, which Terraform would read as a template", name)
		}
	}
}

// Protects the functions from the world, whatever resource a change adds.
func TestNothingIsPublic(t *testing.T) {
	files, err := filepath.Glob("*.tf")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("bootstrap/*.tf")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, more...) {
		for _, word := range []string{"allUsers", "allAuthenticatedUsers", "INGRESS_TRAFFIC_ALL", "roles/owner",
			"roles/editor"} {
			if strings.Contains(read(t, file), word) {
				t.Errorf("%s contains %s", file, word)
			}
		}
	}
}

// publisherGrant is a resource of Terraform that lets somebody publish.
var publisherGrant = regexp.MustCompile(`(?ms)^resource "google_pubsub_topic_iam_member" "(\w+)" \{\n.*?^\}`)

// Protects what is published while a topic that was deleted is made anew: a topic without
// a subscription acknowledges it and keeps nothing, so the subscription comes first.
func TestNobodyPublishesBeforeSomebodyReads(t *testing.T) {
	grants := publisherGrant.FindAllStringSubmatch(read(t, "pubsub.tf"), -1)
	want := map[string]string{"clickstream_bridge": "ingest", "dead_letter_publishers": "dead_letter"}
	for _, grant := range grants {
		if !strings.Contains(grant[0], "depends_on = [google_pubsub_subscription."+want[grant[1]]+"]") {
			t.Errorf("%s does not wait for the topic's subscription", grant[1])
		}
		delete(want, grant[1])
	}
	if len(want) != 0 {
		t.Errorf("no grant to publish was found of %v", want)
	}
}

// Protects other machines from a lock file, which would pin one's platform and provider.
func TestNoLockFile(t *testing.T) {
	if !strings.Contains(read(t, "../.gitignore"), "\n.terraform.lock.hcl\n") {
		t.Error("lock files are not ignored")
	}
}

// Protects machines without Terraform: the check says so with a status of its own,
// so that the tests go on and nobody takes it for a success.
func TestCheckSaysWhatIsMissing(t *testing.T) {
	bin := t.TempDir()
	for _, tool := range []string{"bash", "dirname"} {
		path, err := exec.LookPath(tool)
		check(t, err)
		check(t, os.Symlink(path, filepath.Join(bin, tool)))
	}
	c := exec.CommandContext(t.Context(), "./check")
	c.Env = []string{"PATH=" + bin}
	out, err := c.CombinedOutput()
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok || failed.ExitCode() != 3 || !strings.Contains(string(out), "terraform is not installed") {
		t.Errorf("%v\n%s", err, out)
	}
}

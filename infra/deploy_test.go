package infra_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Protects people from half a deployment: what is wrong with the command line is
// said all at once, before anything is called.
func TestDeployExplains(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-h"}, []string{"--project", "--env", "--check"}},
		{[]string{}, []string{"--project needs a project id", "--env is test or prod"}},
		{[]string{"--project", "acme-clickstream", "--env", "staging"}, []string{"--env is test or prod"}},
		{[]string{"--project=acme-clickstream", "--env=test", "--settings=/nowhere"}, []string{"there is no file /nowhere"}},
		{[]string{"--project=acme-clickstream", "--env=test", "--verbose=1"}, []string{"--verbose is not a flag"}},
		{[]string{"--project"}, []string{"--project needs a value"}},
	} {
		t.Run(fmt.Sprint(c.args), func(t *testing.T) {
			out, _ := command(t, nil, append([]string{"../scripts/deploy"}, c.args...)...)
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// stubs is an environment in which gcloud, Terraform and bq are those of
// testdata/bin, which write their calls into a file. jq is the real one.
func stubs(t *testing.T, more ...string) (env []string, calls func() []string) {
	t.Helper()
	bin, err := filepath.Abs("testdata/bin")
	check(t, err)
	file := filepath.Join(t.TempDir(), "calls")
	env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "CALLS=" + file}, more...)
	return env, func() []string {
		b, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			return nil
		}
		check(t, err)
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func settings(t *testing.T, json string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings.json")
	check(t, os.WriteFile(file, []byte(json), 0o600))
	return "--settings=" + file
}

// Protects contracts of one's own: the folder reaches the bucket as one object, before the
// build that reads it; one with a mistake does not.
func TestDeployContracts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) { check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
	write("orders.yaml", "contract: 1\ntopics: orders\nrest: drop\ncolumns: [{name: a, type: STRING}]\n")
	write("README.md", "not a contract")
	env, calls := stubs(t, "BUCKET=europe-west1\ttest", "KEPT={}", "SETTLE_SECONDS=0")
	out, err := command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=test", "--yes", "--contracts",
		dir)
	if err != nil || !strings.Contains(out, "contracts: orders.yaml\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	made := calls()
	upload := slices.IndexFunc(made, regexp.MustCompile("^gcloud storage cp .*/contracts.json gs://acme-clickstream-sluice-state/contracts.json").MatchString)
	submit := slices.IndexFunc(made, regexp.MustCompile("^gcloud beta builds submit ").MatchString)
	if upload < 0 || submit < upload {
		t.Errorf("the contracts are call %d, the build is call %d:\n%s", upload, submit, strings.Join(made, "\n"))
	}

	write("bad.yaml", "contract: 1\ntopics: orders\nrest: drop\ncolumns: [{name: a, type: TEXT}]\n")
	env, calls = stubs(t, "BUCKET=europe-west1\ttest", "KEPT={}")
	out, err = command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=test", "--yes",
		"--contracts="+dir)
	if err == nil || !strings.Contains(out, "bad.yaml:4:") || strings.Contains(strings.Join(calls(), "\n"),
		"storage cp") {
		t.Errorf("a contract with a mistake: %v\n%s", err, out)
	}
	for folder, want := range map[string]string{t.TempDir(): "has no contract",
		filepath.Join(dir, "none"): "there is no folder"} {
		env, _ = stubs(t, "BUCKET=europe-west1\ttest", "KEPT={}")
		if out, err = command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=test", "--yes",
			"--contracts="+folder); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v\n%s\nlacks %s", err, out, want)
		}
	}
	env, calls = stubs(t, "BUCKET=europe-west1\ttest", "KEPT={}", "SETTLE_SECONDS=0")
	if out, err = command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=test", "--yes",
		"--contracts=built-in"); err != nil || !strings.Contains(strings.Join(calls(), "\n"), "/contracts.json gs://") {
		t.Errorf("back to the built-in contract: %v\n%s", err, out)
	}
}

// Protects the functions from losing their contracts: a bucket that cannot be read ends the
// build, one without contracts does not.
func TestFetchContracts(t *testing.T) {
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "infra", "build"), os.DirFS("build")))
	for _, c := range []struct{ env, want string }{
		{"KEPT={\"orders.yaml\": \"x\"}", `{"orders.yaml": "x"}`},
		{"NOTHING=1", "{}"},
		{"REFUSED=storage cat", ""},
	} {
		env, _ := stubs(t, "STATE_BUCKET=acme-state", c.env)
		out, err := command(t, env, filepath.Join(dir, "infra/build/contracts"), "fetch")
		text, _ := os.ReadFile(filepath.Join(dir, "infra/contracts.json"))
		if (err == nil) != (c.want != "") || c.want != "" && strings.TrimSpace(string(text)) != c.want {
			t.Errorf("%s: %v, %s\n%s", c.env, err, text, out)
		}
	}
}

// Protects the one command: what must be there is made before what needs it.
func TestDeployMakesWhatIsMissing(t *testing.T) {
	env, calls := stubs(t, "REFUSED=iam service-accounts describe", "SETTLE_SECONDS=0")
	out, err := command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=test", "--yes",
		"--repository=acme/sluice",
		settings(t, `{"kafka": {"brokers": "k1:9093,k2:9093", "topics": "clicks", "secrets": {"sasl.password": "kafka-password"}}, "otlp": {"endpoint": "https://otlp.example.com", "headers": "otlp-headers"}}`))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made := calls()
	at := -1
	for _, want := range []string{
		"^gcloud secrets versions describe latest --secret=kafka-password ",
		"^gcloud secrets versions describe latest --secret=otlp-headers ",
		"^gcloud storage buckets create gs://acme-clickstream-sluice-state .*--public-access-prevention",
		"^gcloud storage buckets update gs://acme-clickstream-sluice-state --versioning --update-labels=environment=test",
		"^gcloud services enable .*pubsub.googleapis.com",
		"^gcloud beta services identity create --service=pubsub.googleapis.com",
		"^terraform .*infra/bootstrap init .*-backend-config=bucket=acme-clickstream-sluice-state",
		`^terraform .*infra/bootstrap apply .*-var=kafka_secrets=\["kafka-password"\] .*-var=otlp_headers=otlp-headers .*-var=repository={owner="acme",name="sluice"}`,
		"^gcloud storage cp .* gs://acme-clickstream-sluice-state/settings.tfvars.json",
		"^gcloud beta builds submit .*--service-account=projects/acme-clickstream/serviceAccounts/sluice-build@.*_ENVIRONMENT=test",
	} {
		i := slices.IndexFunc(made, regexp.MustCompile(want).MatchString)
		if i <= at {
			t.Errorf("%s is call %d, want it after %d:\n%s", want, i, at, strings.Join(made, "\n"))
		}
		at = max(at, i)
	}
	if m := regexp.MustCompile(`APIs that are not enabled yet: (.*)`).FindStringSubmatch(out); m == nil ||
		!strings.Contains(m[1], "bigquerystorage") || strings.Contains(m[1], "pubsub") {
		t.Errorf("it does not say which APIs are missing:\n%s", out)
	}
	if !strings.Contains(out, "until Google knows the new account's rights") {
		t.Errorf("it builds at once as an account that was made a moment ago:\n%s", out)
	}
	if !strings.Contains(out, "gcloud pubsub topics publish clickstream") {
		t.Errorf("it does not end with where things are:\n%s", out)
	}
}

// Protects projects from being changed when something is wrong, or nothing but a
// check was asked for.
func TestDeployChecksFirst(t *testing.T) {
	kafka := `{"kafka": {"brokers": "k1:9093", "topics": "clicks", "secrets": {"sasl.password": "kafka-password"}}}`
	for _, c := range []struct {
		name, settings, env string
		args                []string
		want                string
	}{
		{"no billing", `{}`, "BILLING=False", nil, "has no billing account: gcloud billing projects link"},
		{"secret without a version", kafka, "SECRET=DISABLED", nil, "secret kafka-password has no enabled version"},
		{"old Terraform", kafka, "TERRAFORM=1.8.5", nil, "Terraform 1.8.5 is too old"},
		{"unknown setting", `{"kafak": {}}`, "", nil, `"kafak" is not a setting; infra/variables.tf has`},
		{"unknown field of a setting", `{"kafka": {"brokers": "k1:9093", "topics": "clicks", "subnet": "default"}}`, "", nil, `"kafka.subnet" is not a setting`},
		{"no such subnetwork", `{"kafka": {"topics": "clicks"}, "managed_kafka": {"subnetwork": "projects/p/regions/r/subnetworks/nowhere"}}`, "REFUSED=compute networks subnets", nil, "the subnetwork projects/p/regions/r/subnetworks/nowhere does not exist"},
		{"no JSON", `{`, "", nil, "is not a JSON object"},
		{"only a check", kafka, "", []string{"--check"}, "Everything that is needed is there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, calls := stubs(t, c.env)
			out, err := command(t, env, append([]string{"../scripts/deploy", "--project=acme-clickstream", "--env=test",
				"--yes", settings(t, c.settings)}, c.args...)...)
			if !strings.Contains(out, c.want) || (err == nil) != (len(c.args) > 0) {
				t.Errorf("%v: no %q in\n%s", err, c.want, out)
			}
			for _, call := range calls() {
				if regexp.MustCompile(` (create|enable|update|apply|submit|cp) `).MatchString(call) {
					t.Errorf("it changed something: %s", call)
				}
			}
		})
	}
}

// Protects the bucket from settings with which every later build fails: Terraform checks
// them before they are stored, all that is wrong is said at once, and no value is shown.
func TestDeployChecksTheSettings(t *testing.T) {
	real, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("there is no Terraform here, and Debian has no package of it: scripts/deploy refuses to run without one")
	}
	for _, c := range []struct {
		name, settings string
		want           []string
	}{
		{"no brokers", `{"kafka": {"topics": "clicks"}}`, []string{"kafka.brokers is empty"}},
		{"broker without port", `{"kafka": {"brokers": "k1", "topics": "clicks"}}`, []string{"kafka.brokers: a server is not host:port"}},
		{"a password in the settings", `{"kafka": {"brokers": "k1:9093", "topics": "clicks", "properties": {"sasl.password": "hunter2"}}}`, []string{"kafka.properties holds a password, secret or private key: put the value into Secret Manager"}},
		{"wrong types", `{"kafka": {"brokers": ["k1:9093"], "topics": "clicks"}}`, []string{"var.kafka", `attribute "brokers": string required`}},
		{"several", `{"kafka": {"brokers": "k1:9093"}, "bridge_instances": "hunter2", "retention": {"events_days": 1}}`, []string{`attribute "topics" is required`, "var.bridge_instances", "retention is in whole days"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, calls := stubs(t, "REAL="+real)
			out, err := command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=test", "--yes",
				settings(t, c.settings))
			if err == nil || strings.Contains(out, "hunter2") {
				t.Errorf("%v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if made := strings.Join(calls(), "\n"); strings.Contains(made, "storage cp") || strings.Contains(made,
				"bootstrap") {
				t.Errorf("it changed something:\n%s", made)
			}
		})
	}
	env, _ := stubs(t, "REAL="+real)
	if out, err := command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=prod", "--check",
		settings(t, `{"kafka": {"brokers": "k1:9093, k2:9093", "topics": "clicks"}, "retention": {"events_days": 30}}`)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Protects what is deployed already from a deployment that knows less of it: settings
// that are not given stay, with the right to read the secrets in them, and neither
// another environment nor another region takes the project over.
func TestDeployKeepsWhatIsThere(t *testing.T) {
	kept := `KEPT={"kafka": {"brokers": "k1:9093", "topics": "clicks", "secrets": {"sasl.password": "kafka-password"}}, "bridge_instances": 3}`
	for _, c := range []struct {
		name  string
		env   []string
		args  []string
		fails string   // or what is said
		calls []string // what is called
		spare string   // what is not
	}{
		{"nothing is given", []string{"BUCKET=EUROPE-WEST4\tprod", kept}, nil, "",
			[]string{`bootstrap apply .*-var=region=europe-west4 .*-var=kafka_secrets=\["kafka-password"\]`,
				"builds submit .*_REGION=europe-west4"}, "storage cp"},
		{"other brokers", []string{"BUCKET=EUROPE-WEST4\tprod", kept}, []string{"--kafka-brokers=k9:9093"}, "",
			[]string{"storage cp .*settings.tfvars.json", `-var=kafka_secrets=\["kafka-password"\]`}, ""},
		{"a trigger", []string{"BUCKET=EUROPE-WEST4\tprod", kept, "TRIGGER=acme\tsluice"}, nil, "",
			[]string{`bootstrap apply .*-var=repository={owner="acme",name="sluice"}`}, ""},
		{"a trigger that cannot be read", []string{"BUCKET=EUROPE-WEST4\tprod", kept, "REFUSED=builds triggers"}, nil, "whether there is a trigger cannot be read", nil, "apply"},
		{"a bucket without settings", []string{"BUCKET=EUROPE-WEST4\tprod"}, nil, "",
			[]string{"storage cp .*settings.tfvars.json", `-var=kafka_secrets=\[\]`}, ""},
		{"settings that cannot be read", []string{"BUCKET=EUROPE-WEST4\tprod", "REFUSED=storage cat"}, nil, "settings.tfvars.json cannot be read by someone@example.com: HTTPError 403", nil, "apply"},
		{"a bucket that cannot be read", []string{"REFUSED=storage buckets describe"}, nil, "sluice-state cannot be read by someone@example.com: HTTPError 403", nil, "apply"},
		{"another environment", []string{"BUCKET=EUROPE-WEST4\ttest", kept}, nil, "holds the environment test", nil, "apply"},
		{"another region", []string{"BUCKET=EUROPE-WEST4\tprod", kept}, []string{"--region=europe-west1"}, "is deployed in europe-west4", nil, "apply"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, calls := stubs(t, c.env...)
			out, err := command(t, env, append([]string{"../scripts/deploy", "--project=acme-clickstream", "--env=prod",
				"--yes"}, c.args...)...)
			if (err == nil) != (c.fails == "") || !strings.Contains(out, c.fails) {
				t.Errorf("%v: want %q in\n%s", err, c.fails, out)
			}
			if strings.Contains(out, "new account's rights") {
				t.Errorf("it waits for an account that is known:\n%s", out)
			}
			called := strings.Join(calls(), "\n")
			for _, want := range c.calls {
				if !regexp.MustCompile(want).MatchString(called) {
					t.Errorf("no %s in\n%s", want, called)
				}
			}
			if c.spare != "" && strings.Contains(called, c.spare) {
				t.Errorf("%s in\n%s", c.spare, called)
			}
		})
	}
}

// Protects the bridge from a build that cannot read the settings: a plan without them
// would take it down.
func TestPlanNeedsTheSettings(t *testing.T) {
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "infra", "build"), os.DirFS("build")))
	check(t, os.CopyFS(filepath.Join(dir, "infra", "env"), os.DirFS("env")))
	env, calls := stubs(t, "PROJECT=acme-clickstream", "REGION=europe-west1", "ENVIRONMENT=test",
		"STATE_BUCKET=acme-state", "TAG=0123abc-8c6d")
	out, err := command(t, env, filepath.Join(dir, "infra/build/plan"))
	if err == nil || !strings.Contains(out, "gs://acme-state/settings.tfvars.json cannot be read") ||
		strings.Contains(strings.Join(calls(), "\n"), "terraform") {
		t.Errorf("%v\n%s\n%s", err, out, calls())
	}
}

// Protects the settings that a check accepts: they are the variables of infra/ and these
// variables' fields, all of them.
func TestSettingsAreVariables(t *testing.T) {
	m := regexp.MustCompile(`(?s)known='(\{.*?\})'`).FindStringSubmatch(read(t, "../scripts/deploy"))
	if m == nil {
		t.Fatal("scripts/deploy has no list of known settings")
	}
	var known map[string][]string
	check(t, json.Unmarshal([]byte(m[1]), &known))
	blocks := regexp.MustCompile(`(?ms)^variable "(\w+)" \{\n(.*?)^\}`).FindAllStringSubmatch(read(t, "variables.tf"),
		-1)
	for _, b := range blocks {
		name, text := b[1], b[2]
		if slices.Contains([]string{"project", "region", "environment", "functions_image", "bridge_image", "streams",
			"stream_topics", "batch_groups", "leaves_out", "health_query"}, name) {
			continue // the build's, not the project's
		}
		want := []string{}
		if object := regexp.MustCompile(`(?s)type = object\(\{(.*?)\n  \}\)`).FindStringSubmatch(text); object != nil {
			for _, field := range regexp.MustCompile(`(?m)^    (\w+)\s+=`).FindAllStringSubmatch(object[1], -1) {
				want = append(want, field[1])
			}
		}
		fields, ok := known[name]
		slices.Sort(fields)
		if slices.Sort(want); !ok || !slices.Equal(fields, want) {
			t.Errorf("scripts/deploy knows the fields %v of %s, infra/variables.tf has %v", fields, name, want)
		}
		delete(known, name)
	}
	if len(blocks) < 10 || len(known) > 0 {
		t.Errorf("infra/variables.tf has %d variables, and not %v", len(blocks), known)
	}
}

// Protects plans from becoming stale: a build waits for those that were started before
// it.
func TestTurn(t *testing.T) {
	env, calls := stubs(t, "PROJECT=acme-clickstream", "REGION=europe-west1", "BUILD_ID=8c6d", "POLL_SECONDS=0",
		"EARLIER=2")
	out, err := command(t, env, "build/turn")
	if err != nil || strings.Count(out, "waiting for earlier builds: another-build") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	asked := 0
	for _, call := range calls() {
		if strings.Contains(call, "builds list") {
			asked++
			if !strings.Contains(call, `tags=sluice AND createTime<"2026-01-01T00:00:00Z"`) || !strings.Contains(call,
				"--ongoing") {
				t.Errorf("it asks %s", call)
			}
		}
	}
	if asked != 3 {
		t.Errorf("it asked %d times, want 3", asked)
	}
}

// Protects first deployments, whose rights are not known everywhere yet, and the
// plan: what is applied is what was planned, with this build's images.
func TestPlanAndApply(t *testing.T) {
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "infra", "build"), os.DirFS("build")))
	check(t, os.CopyFS(filepath.Join(dir, "infra", "env"), os.DirFS("env")))
	for _, c := range []struct {
		name, fails string
		applies     int
		ends        bool
	}{
		{"at once", "0", 1, true},
		{"at the third try", "2", 3, true},
		{"never", "9", 6, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, calls := stubs(t, "PROJECT=acme-clickstream", "REGION=europe-west1", "ENVIRONMENT=test",
				"STATE_BUCKET=acme-state", "TAG=0123abc-8c6d", "RETRY_SECONDS=0", "KEPT={}", "APPLY_FAILS="+c.fails)
			if out, err := command(t, env, filepath.Join(dir, "infra/build/plan")); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			check(t, os.WriteFile(filepath.Join(dir, "infra/sluice.tfplan"), nil, 0o600)) // as Terraform does
			out, err := command(t, env, filepath.Join(dir, "infra/build/apply"))
			if (err == nil) != c.ends {
				t.Errorf("%v\n%s", err, out)
			}
			plans, applies := 0, 0
			for _, call := range calls() {
				if strings.Contains(call, " plan ") {
					plans++
					for _, want := range []string{"-var-file=env/test.tfvars",
						"functions_image=europe-west1-docker.pkg.dev/acme-clickstream/sluice/functions:0123abc-8c6d",
						"bridge_image=europe-west1-docker.pkg.dev/acme-clickstream/sluice/bridge:0123abc-8c6d",
						"-lock-timeout"} {
						if !strings.Contains(call, want) {
							t.Errorf("no %s in %s", want, call)
						}
					}
				}
				if strings.Contains(call, " apply ") {
					applies++
				}
			}
			if applies != c.applies || plans != c.applies {
				t.Errorf("%d plans, %d applies, want %d of each", plans, applies, c.applies)
			}
		})
	}
	env, _ := stubs(t)
	os.Remove(filepath.Join(dir, "infra/sluice.tfplan"))
	if out, err := command(t, env, filepath.Join(dir, "infra/build/apply")); err == nil || !strings.Contains(out,
		"there is no plan") {
		t.Errorf("without a plan: %v\n%s", err, out)
	}
}

// Protects newer commits from older ones that are approved after them, also when the
// newer one is deployed between the plan and the apply, which makes the plan stale.
func TestOlderBuildsDoNotUndoNewerOnes(t *testing.T) {
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "infra", "build"), os.DirFS("build")))
	check(t, os.CopyFS(filepath.Join(dir, "infra", "env"), os.DirFS("env")))
	const (
		image  = "DEPLOYED=europe-west1-docker.pkg.dev/acme-clickstream/sluice/functions:"
		before = "11111111-aaaa-4bbb-8ccc-000000000001"
		mine   = "22222222-aaaa-4bbb-8ccc-000000000002"
		after  = "33333333-aaaa-4bbb-8ccc-000000000003"
		last   = "44444444-aaaa-4bbb-8ccc-000000000004"
	)
	for _, c := range []struct {
		name  string
		tag   string
		env   []string
		fails string
	}{
		{"nothing is deployed", "0123abc-" + mine, []string{"LATER=" + after}, ""},
		{"an older build is deployed, newer ones wait", "0123abc-" + mine, []string{image + "4567def-" + before, "LATER=" + last + "\n" + after}, ""},
		{"a newer build is deployed", "0123abc-" + mine, []string{image + "4567def-changed-" + after, "LATER=" + last + "\n" + after}, "by a build that was started after this one"},
		{"this build is deployed in part", "0123abc-" + mine, []string{image + "0123abc-" + mine, "LATER=" + after}, ""},
		{"an image of no build is deployed", "0123abc-" + mine, []string{image + "by-hand", "LATER=" + after}, ""},
		{"a person plans", "by-hand", []string{image + "4567def-" + after, "LATER=" + after}, ""},
		{"what is deployed cannot be read", "0123abc-" + mine, []string{"REFUSED=run services list"}, "HTTPError 403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := filepath.Join(dir, "infra/sluice.tfplan")
			check(t, os.WriteFile(plan, nil, 0o600)) // as Terraform does
			env, calls := stubs(t, append([]string{"PROJECT=acme-clickstream", "REGION=europe-west1",
				"ENVIRONMENT=test", "STATE_BUCKET=acme-state", "KEPT={}", "TAG=" + c.tag}, c.env...)...)
			out, err := command(t, env, filepath.Join(dir, "infra/build/plan"))
			if (err == nil) != (c.fails == "") || !strings.Contains(out, c.fails) {
				t.Errorf("%v: want %q in\n%s", err, c.fails, out)
			}
			if _, err := os.Stat(plan); strings.Contains(c.fails, "build") && err == nil {
				t.Error("the refused plan can still be applied")
			}
			made := calls()
			planned := slices.IndexFunc(made, func(call string) bool { return strings.Contains(call, " plan ") })
			asked := slices.IndexFunc(made, func(call string) bool {
				return strings.Contains(call,
					"run services list")
			})
			if planned < 0 || asked < planned {
				t.Errorf("it asks what is deployed in call %d and plans in %d: a deployment in between would go unseen",
					asked, planned)
			}
		})
	}

	check(t, os.WriteFile(filepath.Join(dir, "infra/sluice.tfplan"), nil, 0o600))
	env, calls := stubs(t, "PROJECT=acme-clickstream", "REGION=europe-west1", "ENVIRONMENT=test",
		"STATE_BUCKET=acme-state", "KEPT={}", "RETRY_SECONDS=0",
		"TAG=0123abc-"+mine, image+"4567def-"+before, "LATER="+after, "APPLY_FAILS=1", "NEXT="+after)
	out, err := command(t, env, filepath.Join(dir, "infra/build/apply"))
	if err == nil || !strings.Contains(out, "by a build that was started after this one") ||
		strings.Count(strings.Join(calls(), "\n"), " apply ") != 1 {
		t.Errorf("a newer build was deployed after the plan: %v\n%s\n%s", err, out, calls())
	}
}

// Protects the example that people begin with: deploy accepts it.
func TestExampleSettings(t *testing.T) {
	m := regexp.MustCompile(`(?ms)^    \{\n.*?^    \}\n`).FindString(read(t, "README.md"))
	if m == "" {
		t.Fatal("README.md has no example of settings")
	}
	env, _ := stubs(t)
	out, err := command(t, env, "../scripts/deploy", "--project=acme-clickstream", "--env=prod", "--check",
		settings(t, m))
	if err != nil || !strings.Contains(out, "the bridge reads clickstream") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Protects the smoke test from passing when nothing arrives, and its SQL, which is
// written for BigQuery: it runs on the local warehouse and finds the two events, of a
// type that the deployment takes.
func TestSmoke(t *testing.T) {
	env, calls := stubs(t, "PROJECT=local", "REGION=europe-west1", "EVENT_TYPE=search")
	out, err := command(t, env, "build/smoke")
	if err != nil || !strings.Contains(out, "valid event in fact_events, invalid event in events_dlq") {
		t.Fatalf("%v\n%s", err, out)
	}
	w := start(t, new(buffer))
	asked := 0
	for _, call := range calls() {
		if m := regexp.MustCompile(`--message=(.*)$`).FindStringSubmatch(call); m != nil {
			if !strings.Contains(m[1], `"event_type":"search"`) {
				t.Errorf("it publishes a type that may be unknown: %s", m[1])
			}
			pushTo(w.ingest, []byte(m[1]))
			check(t, w.pubsub.WaitIdle(t.Context()))
		}
		query, ok := strings.CutPrefix(call, "bq ")
		if !ok {
			continue
		}
		query = regexp.MustCompile("`local\\.([a-z_.]+)`").ReplaceAllString(query, "$1")
		if strings.HasPrefix(query, "DELETE") {
			if _, err := w.warehouse.DB().Exec(query); err != nil {
				t.Errorf("%v\n%s", err, query)
			}
			continue
		}
		asked++
		// The two that count are published together, then asked for.
		if asked == 1 {
			continue
		}
		var n int
		if err := w.warehouse.DB().QueryRow(query).Scan(&n); err != nil || n != 1 {
			t.Errorf("%d rows, %v\n%s", n, err, query)
		}
	}
	var left int
	check(t, w.warehouse.DB().QueryRow("SELECT (SELECT COUNT(*) FROM fact_events) + (SELECT COUNT(*) FROM events_dlq)").Scan(&left))
	if asked != 3 || left != 0 {
		t.Errorf("%d queries, %d rows are left", asked, left)
	}

	env, _ = stubs(t, "PROJECT=local", "REGION=europe-west1", "FOUND=0", "FIRST_SECONDS=0")
	if out, err := command(t, env, "build/smoke"); err == nil || !strings.Contains(out,
		"did not reach local.clickstream.fact_events") {
		t.Errorf("nothing arrives: %v\n%s", err, out)
	}

	env, _ = stubs(t, "PROJECT=local", "REGION=europe-west1", "REFUSED=run services describe ingest")
	if out, err := command(t, env, "build/smoke"); err == nil || !strings.Contains(out,
		"is it deployed to local, europe-west1?") {
		t.Errorf("no service: %v\n%s", err, out)
	}

	env, _ = stubs(t, "PROJECT=local", "REGION=europe-west1", "BQ_FAILS=1", "FIRST_SECONDS=0")
	if out, err := command(t, env, "build/smoke"); err == nil || !strings.Contains(out, "Access Denied") {
		t.Errorf("the queries fail: %v\n%s", err, out)
	}
}

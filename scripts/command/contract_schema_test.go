package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"sluice/internal/contract"
	"sluice/internal/contract/infer"
)

const orderSchema = `{"type":"record","name":"Order","namespace":"shop","fields":[
	{"name":"order_id","type":"string"},{"name":"type","type":"string"},{"name":"user_id","type":["null","string"]},
	{"name":"created_at","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"n","type":"int"}]}}}]}`

// Protects the first step with a registry: infer writes a contract that is read without a mistake, whose columns are
// the schema's; check says what a version to come will do to it, before it is there.
func TestContractFromRegistry(t *testing.T) {
	r := srfake.New()
	defer r.Close()
	for subject, s := range map[string]sr.Schema{
		"orders-value": {Schema: orderSchema},
		"clicks":       {Schema: "syntax = \"proto3\";\nimport \"google/protobuf/timestamp.proto\";\nmessage Click { string id = 1; google.protobuf.Timestamp at = 2; bool bot = 3; }", Type: sr.TypeProtobuf},
		"json":         {Schema: `{"type":"object"}`, Type: sr.TypeJSON},
		"list":         {Schema: `{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}`},
	} {
		if _, _, err := r.RegisterSchema(subject, s); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		subject string
		o       infer.Options
		want    []string
		fault   string
	}{
		{"orders-value", infer.Options{}, []string{
			"name: orders\n", "topics: orders\n", "format: avro\n", "subject: orders-value\n", "version: 1\n", "partition_by: created_at\n", "cluster_by: [type, user_id]\n",
			"- {name: created_at, type: TIMESTAMP, mode: REQUIRED}\n", "- {name: user_id, type: STRING}\n", "    mode: REPEATED\n", "      - {name: sku, type: STRING}\n",
		}, ""},
		{"clicks", infer.Options{Name: "c", Topic: "web.clicks"}, []string{"name: c\n", "topics: web.clicks\n", "format: protobuf\n", "- {name: at, type: TIMESTAMP}\n", "id: id\n"}, ""},
		{"json", infer.Options{}, nil, "is a JSON Schema"},
		{"list", infer.Options{}, nil, "next holds a type that it is within"},
		{"missing", infer.Options{}, nil, "the schema registry does not know it"},
	} {
		var b strings.Builder
		err := (&schemaFlags{registry: r.URL(), subject: c.subject, auth: "none"}).infer(t.Context(), c.o, &b)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: %v, want %s", c.subject, err, c.fault)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %s\nwant %s", c.subject, b.String(), want)
			}
		}
		if _, err := contract.Read("c.yaml", []byte(b.String())); err != nil {
			t.Error(err)
		}
	}
	var text strings.Builder
	if err := (&schemaFlags{registry: r.URL(), subject: "orders-value", auth: "none"}).infer(t.Context(),
		infer.Options{}, &text); err != nil {
		t.Fatal(err)
	}
	orders, err := contract.Read("orders.yaml", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change [2]string
		want   []string
		failed bool
	}{
		{[2]string{}, []string{"5 of 5 fields go to columns"}, false},
		{[2]string{`{"name":"type"`, `{"name":"coupon","type":"string"},{"name":"type"`}, []string{"coupon      STRING     the rest", "5 of 6 fields go to columns"}, false},
		{[2]string{`{"name":"type","type":"string"},`, ``}, []string{"The column type has no field: it will be null."}, false},
		{[2]string{`{"name":"order_id","type":"string"}`, `{"name":"order_id","type":"long"}`}, []string{"Events would be rejected: wrong_type: order_id is a number, not a string"}, true},
		{[2]string{`{"name":"created_at","type":{"type":"long","logicalType":"timestamp-millis"}}`, `{"name":"at","type":"int"}`}, []string{"Events would be rejected: missing_field: created_at"}, true},
		{[2]string{`{"name":"n","type":"int"}`, `{"name":"n","type":"string"}`}, []string{"Events would be rejected: wrong_type: lines[0].n is a string, not a number"}, true},
	} {
		file := filepath.Join(t.TempDir(), "order.avsc")
		if err := os.WriteFile(file, []byte(strings.Replace(orderSchema, c.change[0], c.change[1], 1)),
			0o600); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		err := (&schemaFlags{file: file}).check(t.Context(), orders, &b)
		if errors.Is(err, ErrFailed) != c.failed || err != nil && !c.failed {
			t.Errorf("%v: %v\n%s", c.change, err, b.String())
		}
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%v: %s\nwant %s", c.change, b.String(), want)
			}
		}
	}
}

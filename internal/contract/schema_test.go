package contract

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func compileSchema(t *testing.T) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	text, err := os.ReadFile("contract.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("contract.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("contract.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s, doc.(map[string]any)
}

// asJSON is a YAML text as editors hold it against the schema.
func asJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Protects editors' completion: the schema has the keys that the reader knows, no others, and
// takes what the reader takes.
func TestSchemaIsTheLanguage(t *testing.T) {
	schema, doc := compileSchema(t)
	properties := func(path ...string) []string {
		at := doc
		for _, key := range path {
			at = at[key].(map[string]any)
		}
		return slices.Sorted(maps.Keys(at["properties"].(map[string]any)))
	}
	partition := doc["properties"].(map[string]any)["table"].(map[string]any)["properties"].(map[string]any)["partition_by"].(map[string]any)["anyOf"].([]any)[1].(map[string]any)
	either := func(key string) []string { // the mapping of a key that can be one text too
		of := doc["properties"].(map[string]any)[key].(map[string]any)["anyOf"].([]any)[1].(map[string]any)
		return slices.Sorted(maps.Keys(of["properties"].(map[string]any)))
	}
	for what, pair := range map[string][2][]string{
		"registry":     {registryKeys, either("registry")},
		"schema":       {schemaKeys, either("schema")},
		"the contract": {contractKeys, properties()},
		"table":        {tableKeys, properties("properties", "table")},
		"partition_by": {partitionKeys, slices.Sorted(maps.Keys(partition["properties"].(map[string]any)))},
		"event":        {eventKeys, properties("properties", "event")},
		"sample":       {sampleKeys, properties("properties", "sample")},
		"limits":       {limitKeys, properties("properties", "limits")},
		"column":       {columnKeys, properties("$defs", "column")},
		"length":       {lengthKeys, properties("$defs", "column", "properties", "length")},
		"range":        {rangeKeys, properties("$defs", "column", "properties", "range")},
	} {
		if diff := cmp.Diff(slices.Sorted(slices.Values(pair[0])), pair[1]); diff != "" {
			t.Errorf("%s (-reader, +schema):\n%s", what, diff)
		}
	}
	forms := map[string]bool{}
	for _, known := range formNames {
		for name := range known {
			forms[name] = true
		}
	}
	for name := range repeatedForms {
		forms[name] = true
	}
	accept := doc["$defs"].(map[string]any)["column"].(map[string]any)["properties"].(map[string]any)["accept"].(map[string]any)["anyOf"].([]any)[0].(map[string]any)["anyOf"].([]any)[0].(map[string]any)["enum"].([]any)
	var listed []string
	for _, name := range accept {
		listed = append(listed, name.(string))
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(forms)), slices.Sorted(slices.Values(listed))); diff != "" {
		t.Errorf("accept (-reader, +schema):\n%s", diff)
	}

	texts := map[string][]byte{}
	texts["shop_events"], _ = testdata.ReadFile("testdata/shop_events.yaml")
	for _, name := range Presets() {
		texts[name] = presetText(name)
	}
	for name, text := range texts {
		if err := schema.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, wrong := range []string{
		"contract: 2\ncolumns: [{name: a, type: STRING}]", "contract: 1", "contract: 1\ncolumns: []", "contract: 1\ncolumns: [{name: a}]",
		"contract: 1\ncolumns: [{name: a, type: STRING, acept: number}]", "contract: 1\ncolumns: [{name: a, type: STRING, accept: text}]",
		"contract: 1\ncolumns: [{name: 1a, type: STRING}]", "contract: 1\nrest: keep\ncolumns: [{name: a, type: STRING}]",
	} {
		if schema.Validate(asJSON(t, []byte(wrong))) == nil {
			t.Errorf("the schema takes\n%s", wrong)
		}
	}
}

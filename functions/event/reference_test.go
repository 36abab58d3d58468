package event

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/contract"
)

// Protects the reference of the language: its examples are what the decoders do.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("../../internal/contract/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var columns string
	examples, keys := 0, map[string]bool{}
	for i, block := range strings.Split(string(text), "```") {
		if i%2 == 0 || strings.HasPrefix(block, "sh\n") {
			continue
		}
		if yaml, ok := strings.CutPrefix(block, "yaml\n"); ok {
			if columns = yaml; strings.Contains(yaml, "contract: 1") {
				if _, err := contract.Read("example.yaml", []byte(yaml)); err != nil {
					t.Errorf("%v", err)
				}
				columns = ""
			}
			for _, word := range strings.FieldsFunc(yaml, func(r rune) bool {
				return r == ' ' || r == '{' || r == ',' ||
					r == '\n'
			}) {
				if key, ok := strings.CutSuffix(word, ":"); ok {
					keys[key] = true
				}
			}
			continue
		}
		head := "contract: 1\ntopics: t\n"
		if !strings.Contains(columns, "rest: true") {
			head += "rest: drop\n"
		}
		c, err := contract.Read("example.yaml", []byte(head+"columns:\n"+columns))
		if err != nil {
			t.Errorf("%s%v", columns, err)
			continue
		}
		for line := range strings.Lines(strings.TrimSpace(block)) {
			event, want, ok := strings.Cut(strings.TrimSpace(line), " → ")
			if !ok {
				t.Errorf("%q has no arrow", line)
				continue
			}
			examples++
			for _, decoder := range []string{Fast, Strict} {
				if got := outcome(t, c, decoder, event); !sameOutcome(got, want) {
					t.Errorf("%s: %s\n gives %s\nwant %s", decoder, event, got, want)
				}
			}
		}
	}
	if examples < 24 {
		t.Errorf("only %d examples were found", examples)
	}
	for _, key := range []string{"from", "header", "kafka", "constant", "default", "accept", "not_empty", "skip_empty",
		"allowed", "length", "range", "required_when", "columns", "rest", "rest_of", "mode"} {
		if !keys[key] {
			t.Errorf("no example has the key %s", key)
		}
	}
}

// outcome is the row as JSON, without the columns that every table has, or the rejection.
func outcome(t *testing.T, c *contract.Contract, decoder, event string) string {
	d, err := New(c, decoder, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	row, err := d.AppendRow(nil, []byte(event), Meta{Offset: -1})
	var why *Rejection
	if errors.As(err, &why) {
		return string(why.Code) + " " + why.Field
	}
	if err != nil {
		return err.Error()
	}
	r := newReader(t, c.Table)
	m := dynamicpb.NewMessage(r.descriptor)
	if err := proto.Unmarshal(row, m); err != nil {
		t.Fatal(err)
	}
	values := plainMessage(m, c.Table.Columns)
	delete(values, contract.IngestedAt)
	text, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// plainMessage is a row in Go's plain types.
func plainMessage(m protoreflect.Message, columns []contract.Column) map[string]any {
	out := map[string]any{}
	for _, c := range columns {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(c.Name))
		if !m.Has(f) {
			continue
		}
		one := func(v protoreflect.Value) any {
			switch {
			case c.Type == contract.Record:
				return plainMessage(v.Message(), c.Columns)
			case c.Type == contract.JSON:
				return json.RawMessage(v.String())
			}
			return v.Interface()
		}
		if !c.Repeated {
			out[c.Name] = one(m.Get(f))
			continue
		}
		list := []any{}
		for i := range m.Get(f).List().Len() {
			list = append(list, one(m.Get(f).List().Get(i)))
		}
		out[c.Name] = list
	}
	return out
}

func sameOutcome(got, want string) bool {
	if !strings.HasPrefix(want, "{") {
		return got == want
	}
	var g, w any
	if json.Unmarshal([]byte(got), &g) != nil || json.Unmarshal([]byte(want), &w) != nil {
		return false
	}
	return reflect.DeepEqual(g, w)
}

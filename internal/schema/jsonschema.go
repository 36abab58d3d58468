package schema

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	keyword "github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// JSON compiles a JSON Schema; references are the schemas that it refers to, by the names it does so with. A schema
// that does not say its draft is of draft 7, as those of Confluent's serializers.
//
// Its Reader validates an event and gives it as it is. Unlike with Avro and Protobuf that makes a tree of the event: it
// costs some ten times as much as the rest of its way.
func JSON(text string, references map[string]string) (*Program, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(nowhere{})
	add := func(name, text string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return fmt.Errorf("read the JSON Schema: %w", err)
		}
		if err := c.AddResource(name, v); err != nil {
			return fmt.Errorf("read the JSON Schema: %w", err)
		}
		return nil
	}
	for name, text := range references {
		if err := add(name, text); err != nil {
			return nil, err
		}
	}
	const main = "schema.json"
	if err := add(main, text); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(main)
	if err != nil {
		return nil, fmt.Errorf("read the JSON Schema: %w", err)
	}
	return &Program{json: compiled}, nil
}

// nowhere loads nothing: what a schema refers to is among its references. A schema must not make a function read files.
type nowhere struct{}

// Load implements jsonschema.URLLoader.
func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s belongs to the schema's references", url)
}

// validate appends the event if it is what the schema says, or no JSON at all: that the decoder says better.
func (r *Reader) validate(s *jsonschema.Schema, event []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(event))
	if err != nil {
		r.out = append(r.out, event...)
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](s.Validate(v))
	if !ok {
		r.out = append(r.out, event...)
		return nil
	}
	for len(invalid.Causes) > 0 { // the first fault, where it is closest to the value
		invalid = invalid.Causes[0]
	}
	e := &Error{Path: instancePath(invalid.InstanceLocation), Limit: Invalid}
	e.What = "is not what the event's schema says: " + whatIsWrong(invalid.ErrorKind)
	return e
}

func instancePath(location []string) string {
	var b strings.Builder
	for _, step := range location {
		if _, err := strconv.Atoi(step); err == nil && b.Len() > 0 {
			b.WriteString("[" + step + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(step)
	}
	return b.String()
}

// whatIsWrong says what the schema wants, and nothing of the value.
func whatIsWrong(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *keyword.Type:
		return "is " + k.Got + ", want " + strings.Join(k.Want, " or ")
	case *keyword.Required:
		return "lacks " + strings.Join(k.Missing, ", ")
	case *keyword.Enum:
		return fmt.Sprintf("want one of %v", k.Want)
	case *keyword.Const:
		return fmt.Sprintf("want %v", k.Want)
	case *keyword.Pattern:
		return "want a text that matches " + k.Want
	case *keyword.Format:
		return "want a " + k.Want
	case *keyword.MinLength:
		return fmt.Sprintf("has %d characters, want at least %d", k.Got, k.Want)
	case *keyword.MaxLength:
		return fmt.Sprintf("has %d characters, want at most %d", k.Got, k.Want)
	case *keyword.MinItems:
		return fmt.Sprintf("has %d elements, want at least %d", k.Got, k.Want)
	case *keyword.MaxItems:
		return fmt.Sprintf("has %d elements, want at most %d", k.Got, k.Want)
	case *keyword.Minimum:
		return "want at least " + k.Want.RatString()
	case *keyword.Maximum:
		return "want at most " + k.Want.RatString()
	case *keyword.ExclusiveMinimum:
		return "want more than " + k.Want.RatString()
	case *keyword.ExclusiveMaximum:
		return "want less than " + k.Want.RatString()
	case *keyword.AdditionalProperties:
		return "has members that the schema does not know"
	case *keyword.FalseSchema:
		return "is not to be there"
	}
	if path := k.KeywordPath(); len(path) > 0 {
		return "the keyword " + path[len(path)-1] + " is not met"
	}
	return "it is not valid"
}

package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/itchyny/gojq"

	"sluice/internal/contract"
)

// transform is a jq expression that repairs events. It sees the event as its input,
// and why it failed as $code and $field; it gives the repaired event, or nothing
// (empty) to leave it where it is.
type transform struct {
	code *gojq.Code // nil: events stay as they are, to the byte
}

func newTransform(expression string) (*transform, error) {
	if expression == "" {
		return &transform{}, nil
	}
	parsed, err := gojq.Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("--transform is no jq expression: %w", err)
	}
	// No environment, no modules, no input beyond the event: an expression repairs
	// events and nothing else.
	code, err := gojq.Compile(parsed, gojq.WithVariables([]string{"$code", "$field"}))
	if err != nil {
		return nil, fmt.Errorf("--transform is no jq expression: %w", err)
	}
	return &transform{code: code}, nil
}

// transformTime is how long an expression may take for one event: some never end.
const transformTime = 10 * time.Second

// apply replaces the letter's value, or says why it cannot. What jq says of a
// failure may quote the event, and is dropped.
func (t *transform) apply(ctx context.Context, l *Letter) (skip string) {
	if t.code == nil {
		return ""
	}
	// What is repaired gets a schema registry's prefix back.
	prefix, value := contract.SplitPrefix(l.Value)
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber() // numbers that the expression does not touch keep their digits
	var event any
	if err := d.Decode(&event); err != nil {
		return SkipNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return SkipNotJSON
	}
	ctx, cancel := context.WithTimeout(ctx, transformTime)
	defer cancel()
	results := t.code.RunWithContext(ctx, event, l.Code, l.Field)
	result, ok := results.Next()
	if !ok {
		return SkipNothing
	}
	if _, failed := result.(error); failed {
		return SkipTransform
	}
	// Two events out of one would share its coordinates.
	if _, more := results.Next(); more {
		return SkipTransform
	}
	text, err := gojq.Marshal(result)
	if err != nil {
		return SkipTransform
	}
	l.Value = append(prefix, text...) // a copy: the prefix has no room for more
	return ""
}

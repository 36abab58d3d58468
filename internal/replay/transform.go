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
	"sluice/internal/registry"
	"sluice/internal/schema"
)

// transform is a jq expression that repairs events. It sees the event as its input,
// and why it failed as $code and $field; it gives the repaired event, or nothing
// (empty) to leave it where it is.
type transform struct {
	code    *gojq.Code // nil: events stay as they are, to the byte
	of      *Replay    // whose contracts say how events are written
	reader  schema.Reader
	trouble error // of a schema registry, which ends the replay
}

func newTransform(r *Replay) (*transform, error) {
	expression := r.Transform
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
	return &transform{code: code, of: r}, nil
}

// transformTime is how long an expression may take for one event: some never end.
const transformTime = 10 * time.Second

// apply replaces the letter's value, or says why it cannot. What jq says of a
// failure may quote the event, and is dropped.
func (t *transform) apply(ctx context.Context, l *Letter) (skip string) {
	if t.code == nil {
		return ""
	}
	if c := l.contractOf(t.of.Contracts); c != nil && c.Format.Binary() { // what is JSON is repaired as it stands
		return t.applyWritten(ctx, c, l)
	}
	// What is repaired gets a schema registry's prefix back.
	prefix, value := contract.SplitPrefix(l.Value)
	text, skip := t.repair(ctx, l, value)
	if skip == "" {
		l.Value = append(prefix, text...) // a copy: the prefix has no room for more
	}
	return skip
}

// contractOf is the contract that the letter's event was held against, or else the one that takes its topic; nil: none.
func (l *Letter) contractOf(all []*contract.Contract) *contract.Contract {
	for _, c := range all {
		if c.Name == l.Contract {
			return c
		}
	}
	return contract.Find(all, l.Topic)
}

// applyWritten repairs an event that was written with a schema: the expression sees it as JSON, and what it makes of it
// is written with the same schema.
func (t *transform) applyWritten(ctx context.Context, c *contract.Contract, l *Letter) (skip string) {
	if c.Registry != nil && t.of.Writers == nil {
		t.trouble = errors.New("--transform needs the schema registry of the contract " + c.Name)
		return SkipSchema
	}
	w, value, err := t.of.Writers.Of(ctx, c, l.Value, l.Headers)
	switch {
	case errors.Is(err, registry.ErrUnknown) || errors.Is(err, registry.ErrWritten):
		return SkipSchema
	case err != nil:
		t.trouble = err
		return SkipSchema
	}
	event, err := t.reader.AppendJSON(nil, w.Program, value, schema.Limits{Bytes: 4 * c.MaxBytes, Depth: c.MaxDepth})
	if err != nil {
		return SkipUnreadable
	}
	text, skip := t.repair(ctx, l, event)
	if skip != "" {
		return skip
	}
	written, err := w.Program.Write(text)
	if err != nil {
		return SkipUnwritable
	}
	prefix := l.Value[: len(l.Value)-len(value) : len(l.Value)-len(value)]
	l.Value = append(prefix, written...)
	return ""
}

// repair gives what the expression makes of an event, or says why it cannot.
func (t *transform) repair(ctx context.Context, l *Letter, value []byte) (text []byte, skip string) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber() // numbers that the expression does not touch keep their digits
	var event any
	var err error
	if err = d.Decode(&event); err != nil {
		return nil, SkipNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, SkipNotJSON
	}
	ctx, cancel := context.WithTimeout(ctx, transformTime)
	defer cancel()
	results := t.code.RunWithContext(ctx, event, l.Code, l.Field)
	result, ok := results.Next()
	if !ok {
		return nil, SkipNothing
	}
	if _, failed := result.(error); failed {
		return nil, SkipTransform
	}
	if second, more := results.Next(); more {
		if _, failed := second.(error); failed {
			return nil, SkipTransform
		}
		return nil, SkipSeveral
	}
	text, err = gojq.Marshal(result)
	if err != nil {
		return nil, SkipTransform
	}
	return text, ""
}

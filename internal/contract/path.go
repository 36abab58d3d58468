package contract

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ParsePath reads a path: names of members with dots between them, each followed by any
// number of [index] or [name=value]. Names with characters of this notation or spaces
// stand in double quotes, with JSON's escapes.
//
//	context.page.url
//	items[0].sku
//	event_params[key=ga_session_id].value.int_value
//	a."b.c".d
func ParsePath(text string) (Path, error) {
	p := pathParser{rest: text}
	var path Path
	for {
		name, err := p.name(".[")
		if err != nil {
			return nil, err
		}
		path = append(path, Step{Kind: Member, Name: name})
		for strings.HasPrefix(p.rest, "[") {
			step, err := p.bracket()
			if err != nil {
				return nil, err
			}
			path = append(path, step)
		}
		if p.rest == "" {
			return path, nil
		}
		if p.rest[0] != '.' {
			return nil, fmt.Errorf("has %q where a dot must stand", p.rest)
		}
		p.rest = p.rest[1:]
	}
}

type pathParser struct{ rest string }

// name takes a name, which ends before one of the characters of end.
func (p *pathParser) name(end string) (string, error) {
	if strings.HasPrefix(p.rest, `"`) {
		quoted, err := strconv.QuotedPrefix(p.rest)
		if err != nil {
			return "", errors.New("has a quote that is not closed")
		}
		p.rest = p.rest[len(quoted):]
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return "", fmt.Errorf("has a quoted name that cannot be read: %w", err)
		}
		return name, nil
	}
	n := strings.IndexAny(p.rest, end)
	if n < 0 {
		n = len(p.rest)
	}
	name := p.rest[:n]
	if name == "" {
		return "", errors.New(`lacks a name: write the names of members with one dot between them, such as context.page.url, and an empty name as ""`)
	}
	if i := strings.IndexAny(name, "\"\\[]= \t\n"); i >= 0 {
		return "", fmt.Errorf("has a %q in a name: write the name in double quotes, such as a.%s", name[i],
			strconv.Quote(name))
	}
	p.rest = p.rest[n:]
	return name, nil
}

// bracket takes [index] or [name=value].
func (p *pathParser) bracket() (Step, error) {
	p.rest = p.rest[1:]
	if digits, after, ok := strings.Cut(p.rest, "]"); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
		index, err := strconv.ParseInt(digits, 10, 32)
		if err != nil {
			return Step{}, fmt.Errorf("has the index %s, which is too large", digits)
		}
		p.rest = after
		return Step{Kind: Index, Index: int(index)}, nil
	}
	const want = "want [0], the index of an element, or [key=name], the first element whose member key is that string"
	key, err := p.name("=]")
	if err != nil || !strings.HasPrefix(p.rest, "=") {
		return Step{}, errors.New("has a bracket that cannot be read: " + want)
	}
	p.rest = p.rest[1:]
	value, err := p.name("]")
	if err != nil || !strings.HasPrefix(p.rest, "]") {
		return Step{}, errors.New("has a bracket that cannot be read: " + want)
	}
	p.rest = p.rest[1:]
	return Step{Kind: Select, Name: key, Value: value}, nil
}

// String writes the path so that ParsePath reads it.
func (p Path) String() string {
	var b strings.Builder
	for i, step := range p {
		switch step.Kind {
		case Index:
			b.WriteString("[" + strconv.Itoa(step.Index) + "]")
			continue
		case Select:
			b.WriteString("[" + QuoteName(step.Name) + "=" + QuoteName(step.Value) + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(QuoteName(step.Name))
	}
	return b.String()
}

// QuoteName quotes a name that has characters of the notation of paths.
func QuoteName(name string) string {
	if name != "" && !strings.ContainsAny(name, ".[]=\"\\ \t\n") {
		return name
	}
	return strconv.Quote(name)
}

// members returns the steps before the first that is none of a member.
func (p Path) members() Path {
	for i, step := range p {
		if step.Kind != Member {
			return p[:i]
		}
	}
	return p
}

// within reports whether p leads through the place of outer, or to it.
func (p Path) within(outer Path) bool {
	if len(p) < len(outer) {
		return false
	}
	for i := range outer {
		if p[i] != outer[i] {
			return false
		}
	}
	return true
}

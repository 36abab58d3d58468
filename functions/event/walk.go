package event

import "sluice/internal/contract"

// walker goes through the members of an object, or the elements of an array, whose text
// was found to be valid.
type walker struct {
	b           []byte
	p           int  // where the next one begins
	name, value span // of the member; with its quotes
}

// walk returns the walker of the object or array at p.
func walk(b []byte, p int) walker { return walker{b: b, p: scanSpace(b, p+1)} }

// member goes on to the next member of an object, if there is one.
func (w *walker) member() bool {
	if w.b[w.p] == '}' {
		return false
	}
	w.name.from = w.p
	end, _ := scanString(w.b, w.p+1)
	w.name.to = end + 1
	w.p = scanSpace(w.b, scanSpace(w.b, end+1)+1)
	w.pass()
	return true
}

// element goes on to the next element of an array, if there is one.
func (w *walker) element() bool {
	if w.b[w.p] == ']' {
		return false
	}
	w.pass()
	return true
}

// pass goes past the value at w.p and what is behind it.
func (w *walker) pass() {
	w.value = span{w.p, skipValue(w.b, w.p)}
	if w.p = scanSpace(w.b, w.value.to); w.b[w.p] == ',' {
		w.p = scanSpace(w.b, w.p+1)
	}
}

// skipValue returns the end of the valid value at p.
func skipValue(b []byte, p int) int {
	switch b[p] {
	case '"':
		end, _ := scanString(b, p+1)
		return end + 1
	case 't', 'n':
		return p + len("true")
	case 'f':
		return p + len("false")
	case '{', '[':
		for depth := 0; ; p++ {
			switch b[p] {
			case '"':
				p, _ = scanString(b, p+1)
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return p + 1
				}
			}
		}
	}
	end, _ := scanNumber(b, p)
	return end
}

// emptyArray reports whether raw is an array without elements.
func emptyArray(raw []byte) bool { return raw[0] == '[' && raw[scanSpace(raw, 1)] == ']' }

// isString reports whether the text of a valid string, without its quotes, means s.
func (d *fastDecoder) isString(text []byte, s string) bool {
	if len(text) == len(s) {
		return string(text) == s
	}
	for _, c := range text {
		if c == '\\' {
			d.member = appendUnescaped(d.member[:0], text)
			return string(d.member) == s
		}
	}
	return false
}

// follow goes from the value at p along steps, and returns where it arrives and how many
// steps it took. If there is nothing, from is -1; if it took less than all, the value there
// is not of the kind that the next step needs.
func (d *fastDecoder) follow(b []byte, p int, steps contract.Path) (at span, taken int) {
	nothing := span{-1, -1}
	for i, step := range steps {
		if b[p] == 'n' || emptyArray(b[p:]) {
			return nothing, i
		}
		if b[p] != stepInto(step) {
			return span{p, p + 1}, i
		}
		w := walk(b, p)
		p = -1
		switch step.Kind {
		case contract.Member:
			for p < 0 && w.member() {
				if d.isString(b[w.name.from+1:w.name.to-1], step.Name) {
					p = w.value.from
				}
			}
		case contract.Index:
			for k := 0; p < 0 && w.element(); k++ {
				if k == step.Index {
					p = w.value.from
				}
			}
		default:
			for p < 0 && w.element() {
				if b[w.value.from] == '{' && d.selects(b, w.value.from, step) {
					p = w.value.from
				}
			}
		}
		if p < 0 {
			return nothing, i
		}
	}
	return span{p, skipValue(b, p)}, len(steps)
}

// selects reports whether the object at p has the member that the step looks for.
func (d *fastDecoder) selects(b []byte, p int, step contract.Step) bool {
	for w := walk(b, p); w.member(); {
		if d.isString(b[w.name.from+1:w.name.to-1], step.Name) {
			return b[w.value.from] == '"' && d.isString(b[w.value.from+1:w.value.to-1], step.Value)
		}
	}
	return false
}

// stepInto is what the value begins with that a step leads into.
func stepInto(step contract.Step) byte {
	if step.Kind == contract.Member {
		return '{'
	}
	return '['
}

package contract

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// topicName is what Kafka takes as the name of a topic.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

const topicCharacters = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz" // ascending

// checkPattern says what is wrong with a regular expression of topics.
func checkPattern(text string) error {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if asserts(tree) {
		return errors.New("has ^, $, \\b or their like: leave them out, a pattern is compared with the whole name")
	}
	if folds(tree) {
		return errors.New("has (?i): Kafka's client does not know it; write both letters, such as [Aa]")
	}
	if _, some := witness(text, text); !some {
		return errors.New("matches no name that a topic can have")
	}
	if spells(tree, func(r rune) bool { return !strings.ContainsRune(topicCharacters, r) }) {
		return errors.New("spells a character that no topic's name has: letters, digits, dots, underscores and hyphens " +
			"are those that one can have")
	}
	return nil
}

// spells reports whether the pattern has one of the characters, other than in a class.
func spells(tree *syntax.Regexp, one func(rune) bool) bool {
	return tree.Op == syntax.OpLiteral && slices.ContainsFunc(tree.Rune, one) ||
		slices.ContainsFunc(tree.Sub, func(sub *syntax.Regexp) bool { return spells(sub, one) })
}

// narrow takes what no topic's name has out of the classes of a pattern. A hyphen becomes
// an alternative of its own: within brackets POSIX knows no \-.
func narrow(tree *syntax.Regexp) {
	for _, sub := range tree.Sub {
		narrow(sub)
	}
	if tree.Op != syntax.OpCharClass {
		return
	}
	var class []rune // pairs, as in Rune
	hyphen := false
	for _, r := range topicCharacters {
		switch n := len(class); {
		case !inClass(tree.Rune, r):
		case r == '-':
			hyphen = true
		case n > 0 && class[n-1] == r-1:
			class[n-1] = r
		default:
			class = append(class, r, r)
		}
	}
	tree.Rune = class
	if !hyphen {
		return
	}
	dash := &syntax.Regexp{Op: syntax.OpLiteral, Rune: []rune{'-'}}
	if len(class) == 0 {
		*tree = *dash
		return
	}
	rest := *tree
	*tree = syntax.Regexp{Op: syntax.OpAlternate, Sub: []*syntax.Regexp{&rest, dash}}
}

func inClass(class []rune, r rune) bool {
	for i := 0; i < len(class); i += 2 {
		if class[i] <= r && r <= class[i+1] {
			return true
		}
	}
	return false
}

// kafkaPattern writes a pattern as librdkafka reads one: in the extended regular expressions of
// POSIX, which know no \d and no (?:, and without commas and semicolons, which separate topics and
// groups of them. The tree of a pattern has none of these after narrow and Simplify, and
// checkPattern has refused what POSIX cannot say.
func kafkaPattern(p *regexp.Regexp) string {
	tree, err := syntax.Parse(unanchored(p), syntax.Perl)
	if err != nil {
		return p.String() // it was compiled before
	}
	narrow(tree)
	text := tree.Simplify().String()
	for _, any := range []string{"(?s:.)", "(?-s:.)", "(?s-i:.)"} {
		text = strings.ReplaceAll(text, any, ".")
	}
	text = strings.NewReplacer("(?:", "(", "(?-s:", "(", "(?s:", "(", "*?", "*", "+?", "+", "??", "?").Replace(text)
	return "^(" + text + ")$"
}

func asserts(tree *syntax.Regexp) bool {
	switch tree.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary,
		syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(tree.Sub, asserts)
}

func folds(tree *syntax.Regexp) bool {
	return tree.Flags&syntax.FoldCase != 0 && (tree.Op == syntax.OpLiteral || tree.Op == syntax.OpCharClass) ||
		slices.ContainsFunc(tree.Sub, folds)
}

// common returns a topic that both contracts take.
func common(a, b *Contract) (string, bool) {
	for _, topic := range a.Topics {
		if b.Takes(topic) {
			return topic, true
		}
	}
	for _, topic := range b.Topics {
		if a.Takes(topic) {
			return topic, true
		}
	}
	if a.Pattern == nil || b.Pattern == nil {
		return "", false
	}
	return witness(unanchored(a.Pattern), unanchored(b.Pattern))
}

// unanchored is the pattern without the ^ and $ that the reader puts around it.
func unanchored(p *regexp.Regexp) string {
	return strings.TrimSuffix(strings.TrimPrefix(p.String(), "^"), "$")
}

// witness returns a shortest name of a topic that both regular expressions match as a whole.
// It walks through both automata at once, one character of a name at a time.
func witness(a, b string) (string, bool) {
	one, two := automaton(a), automaton(b)
	type pair struct{ one, two uint32 }
	name := make(map[pair]string)
	var queue []pair
	visit := func(from string, ones, twos []uint32) {
		for _, x := range ones {
			for _, y := range twos {
				if from == "" && one.Inst[x].Op == syntax.InstMatch {
					continue // no topic has an empty name
				}
				if _, ok := name[pair{x, y}]; !ok && len(from) <= 249 {
					name[pair{x, y}] = from
					queue = append(queue, pair{x, y})
				}
			}
		}
	}
	visit("", one.closure(uint32(one.Start)), two.closure(uint32(two.Start)))
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		x, y := &one.Inst[at.one], &two.Inst[at.two]
		if x.Op == syntax.InstMatch && y.Op == syntax.InstMatch {
			return name[at], true
		}
		if !consumes(x) || !consumes(y) {
			continue
		}
		for _, c := range topicCharacters {
			if x.MatchRune(c) && y.MatchRune(c) {
				visit(name[at]+string(c), one.closure(x.Out), two.closure(y.Out))
			}
		}
	}
	return "", false
}

func consumes(i *syntax.Inst) bool {
	switch i.Op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	}
	return false
}

type program struct{ *syntax.Prog }

// automaton compiles an expression that checkPattern has found right.
func automaton(text string) program {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return program{&syntax.Prog{Inst: []syntax.Inst{{Op: syntax.InstFail}}}}
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return program{&syntax.Prog{Inst: []syntax.Inst{{Op: syntax.InstFail}}}}
	}
	return program{prog}
}

// closure returns the instructions that are reached from pc without a character.
func (p program) closure(pc uint32) []uint32 {
	var out []uint32
	seen := make(map[uint32]bool)
	var walk func(uint32)
	walk = func(pc uint32) {
		if seen[pc] {
			return
		}
		seen[pc] = true
		switch i := &p.Inst[pc]; i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			walk(i.Out)
			walk(i.Arg)
		case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
			walk(i.Out)
		case syntax.InstFail:
		default:
			out = append(out, pc)
		}
	}
	walk(pc)
	return out
}

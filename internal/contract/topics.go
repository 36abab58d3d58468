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

const topicCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

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
	return nil
}

// kafkaPattern writes a pattern as librdkafka reads one: in the extended regular expressions of
// POSIX, which know no \d and no (?:, and without commas, which separate topics. The tree
// of a pattern has neither after Simplify, and checkPattern has refused what POSIX cannot say.
func kafkaPattern(p *regexp.Regexp) string {
	tree, err := syntax.Parse(unanchored(p), syntax.Perl)
	if err != nil {
		return p.String() // it was compiled before
	}
	text := tree.Simplify().String()
	for _, any := range []string{"(?s:.)", "(?-s:.)", "(?s-i:.)"} {
		text = strings.ReplaceAll(text, any, ".")
	}
	text = strings.NewReplacer("(?:", "(", "(?-s:", "(", "(?s:", "(", "*?", "*", "+?", "+", "??", "?").Replace(text)
	return "^(" + text + ")$"
}

func asserts(tree *syntax.Regexp) bool {
	switch tree.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(tree.Sub, asserts)
}

func folds(tree *syntax.Regexp) bool {
	return tree.Flags&syntax.FoldCase != 0 && (tree.Op == syntax.OpLiteral || tree.Op == syntax.OpCharClass) || slices.ContainsFunc(tree.Sub, folds)
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

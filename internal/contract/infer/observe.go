// Package infer writes a contract from sample events: which members there are, of which
// kinds, how often, and which of them identify an event, its time and its user.
//
//	var s infer.Sample
//	err := s.Add(line) // for each event
//	text := s.Contract(infer.Options{Name: "shop_events"})
//
// What it writes is a proposal, with the counts that led to it as comments. It never writes
// values of events, except the names of events: those of the column that it takes for the
// event's type.
package infer

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/internal/contract"
)

// Sample is what has been seen of events.
type Sample struct {
	Events int
	root   node
}

// node is what has been seen at one place.
type node struct {
	name     string
	members  []*node          // of objects, in the order of their first appearance
	index    map[string]*node // the same by name
	elements *node            // of arrays
	keyed    map[string]*node // values of elements {"key": …, "value": …}, by key
	keys     []string         // of keyed, in the order of their first appearance

	present int // not null
	kinds   map[kind]int
	first   map[kind]int // the event, from 1, in which each kind was seen first

	distinct  map[string]bool // of strings, up to maxDistinct
	longest   int             // characters of a string
	scale     int             // digits behind the point, at most
	wide      bool            // a number does not fit into 64 bits
	epoch     map[contract.Form]int
	empty     int // empty strings
	exponents bool
}

// kind is what a value can be taken for; of several, the narrowest.
type kind uint8

const (
	aString kind = iota
	aTimestamp
	anISOTimestamp // with an offset +0100 or +01
	aDate
	digitString  // an integer
	numberString // any other number
	booleanString
	anInteger
	aNumber
	aBoolean
	anObject
	anArray
)

var kindNames = map[kind]string{
	aString: "text", aTimestamp: "timestamps", anISOTimestamp: "timestamps", aDate: "dates", digitString: "integers as text",
	numberString: "numbers as text", booleanString: "booleans as text", anInteger: "integers", aNumber: "numbers", aBoolean: "booleans",
	anObject: "objects", anArray: "arrays",
}

const (
	maxDistinct = 2000
	maxMembers  = 2000 // of one object, before its names count as data
	maxDepth    = 100
)

// Add looks at one event: a JSON object.
func (s *Sample) Add(event []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(event))
	if d.PeekKind() != '{' {
		if _, err := d.ReadValue(); err != nil {
			return fmt.Errorf("is no JSON: %w", err)
		}
		return fmt.Errorf("is no JSON object")
	}
	if !jsontext.Value(event).IsValid() {
		_, err := d.ReadValue()
		if err == nil {
			err = fmt.Errorf("something follows the object")
		}
		return fmt.Errorf("is no JSON: %w", err)
	}
	s.Events++
	return s.root.value(d, s.Events, maxDepth)
}

func (n *node) saw(k kind, event int) {
	if n.kinds == nil {
		n.kinds, n.first = make(map[kind]int), make(map[kind]int)
	}
	n.present++
	n.kinds[k]++
	if n.first[k] == 0 {
		n.first[k] = event
	}
}

func (n *node) member(name string) *node {
	if m := n.index[name]; m != nil {
		return m
	}
	if n.index == nil {
		n.index = make(map[string]*node)
	}
	m := &node{name: name}
	n.index[name] = m
	n.members = append(n.members, m)
	return m
}

// value looks at the next value.
func (n *node) value(d *jsontext.Decoder, event, depth int) error {
	if depth == 0 {
		return d.SkipValue()
	}
	switch d.PeekKind() {
	case '{':
		n.saw(anObject, event)
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return err
			}
			text := name.String()
			if len(n.members) >= maxMembers && n.index[text] == nil {
				if err := d.SkipValue(); err != nil {
					return err
				}
				continue
			}
			if err := n.member(text).value(d, event, depth-1); err != nil {
				return err
			}
		}
		_, err := d.ReadToken()
		return err
	case '[':
		n.saw(anArray, event)
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		if n.elements == nil {
			n.elements = &node{}
		}
		for d.PeekKind() != ']' {
			raw, err := d.ReadValue()
			if err != nil {
				return err
			}
			raw = bytes.Clone(raw)
			if err := n.elements.value(jsontext.NewDecoder(bytes.NewReader(raw)), event, depth-1); err != nil {
				return err
			}
			n.keyedElement(raw, event, depth-1)
		}
		_, err := d.ReadToken()
		return err
	}
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case 't', 'f':
		n.saw(aBoolean, event)
	case '"':
		n.text(token.String(), event)
	case '0':
		n.number(token.String(), event)
	}
	return nil
}

// keyedElement looks at an element {"key": "name", "value": …}, as exports of GA4 have them.
func (n *node) keyedElement(raw []byte, event, depth int) {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	if d.PeekKind() != '{' {
		return
	}
	_, _ = d.ReadToken() // raw is valid
	key, value := "", []byte(nil)
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return
		}
		text := name.String()
		v, err := d.ReadValue()
		if err != nil {
			return
		}
		switch text {
		case "key":
			if v.Kind() != '"' {
				return
			}
			unquoted, err := jsontext.AppendUnquote(nil, v)
			if err != nil {
				return
			}
			key = string(unquoted)
		case "value":
			value = bytes.Clone(v)
		}
	}
	if key == "" || value == nil || len(n.keys) >= maxMembers && n.keyed[key] == nil {
		return
	}
	if n.keyed == nil {
		n.keyed = make(map[string]*node)
	}
	at := n.keyed[key]
	if at == nil {
		at = &node{name: key}
		n.keyed[key] = at
		n.keys = append(n.keys, key)
	}
	_ = at.value(jsontext.NewDecoder(bytes.NewReader(value)), event, depth)
}

var (
	timestampText = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?$`)
	offsetText    = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(\d\d)?$`)
	dateText      = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
	integerText   = regexp.MustCompile(`^-?(0|[1-9]\d{0,17})$`)
	numberText    = regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$`)
)

func (n *node) text(s string, event int) {
	n.longest = max(n.longest, len([]rune(s)))
	if n.distinct == nil {
		n.distinct = make(map[string]bool)
	}
	if len(n.distinct) < maxDistinct {
		n.distinct[s] = true
	}
	if s == "" {
		n.empty++
	}
	switch {
	case timestampText.MatchString(s) && exists(s[:10]):
		n.saw(aTimestamp, event)
	case offsetText.MatchString(s) && exists(s[:10]):
		n.saw(anISOTimestamp, event)
	case dateText.MatchString(s) && exists(s):
		n.saw(aDate, event)
	case integerText.MatchString(s):
		n.saw(digitString, event)
		n.epochs(s)
	case numberText.MatchString(s):
		n.saw(numberString, event)
		n.digits(s)
	case s == "true" || s == "false":
		n.saw(booleanString, event)
	default:
		n.saw(aString, event)
	}
}

// exists reports whether there is such a date.
func exists(date string) bool {
	_, err := time.Parse(time.DateOnly, date)
	return err == nil
}

func (n *node) number(s string, event int) {
	if n.distinct == nil {
		n.distinct = make(map[string]bool)
	}
	if len(n.distinct) < maxDistinct {
		n.distinct[s] = true
	}
	if strings.ContainsAny(s, ".eE") {
		n.saw(aNumber, event)
		n.digits(s)
		if v, err := strconv.ParseFloat(s, 64); err == nil {
			n.epochs(strconv.FormatFloat(v, 'f', 0, 64))
		}
		return
	}
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		n.wide = true
	}
	n.saw(anInteger, event)
	n.epochs(s)
}

func (n *node) digits(s string) {
	n.exponents = n.exponents || strings.ContainsAny(s, "eE")
	if _, fraction, ok := strings.Cut(s, "."); ok {
		n.scale = max(n.scale, len(fraction))
	}
}

// epochs counts the units in which an integer would be a time of our days: the years 2000 to
// 2100.
func (n *node) epochs(s string) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return
	}
	if n.epoch == nil {
		n.epoch = make(map[contract.Form]int)
	}
	const first, last = 946_684_800, 4_102_444_800
	for form, scale := range map[contract.Form]int64{contract.FormEpochSeconds: 1, contract.FormEpochMillis: 1_000,
		contract.FormEpochMicros: 1_000_000} {
		if v >= first*scale && v <= last*scale {
			n.epoch[form]++
		}
	}
}

package event

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// names is what a decoder has learned of the names in events. It serves two ends:
// to tell duplicate names without comparing each with each, and to predict which
// name comes next.
//
// A name is known by its text and the object that it stands in, which in turn is
// known by the name that it is the value of (through arrays, if need be). Two
// objects that are open at the same time are therefore never known by the same
// name, and a name needs to remember only which object it was last seen in.
//
// It forgets everything but the contract's names when it holds more than maxNames at the
// beginning of an event, so that events with random names cannot fill it for ever;
// one event may hold any number.
type names struct {
	plan     *plan
	scopes   []int32   // by scope: the name that its members are known under
	jsonText int32     // the name of values that stand in strings
	own      int       // names of the contract
	starts   []guesses // by scope: at the beginning of its object
	seed     maphash.Seed
	list     []name                    // by id; 0 is the event itself
	seen     []uint64                  // by id: the number of the object that the name was last seen in
	slots    []int32                   // hash table of ids, 0 is empty; its length is a power of two
	text     []byte                    // of all names, unescaped
	gaps     *[maxGaps]gap             // by id
	known    int32                     // how many of them are in use
	none     guesses                   // for ever
	gapSlots [1 << gapSlotBits]uint16  // hash table of gaps
	after    *[maxGaps * lanes]guesses // by gap and lane
	inside   *[maxGaps]guesses         // by gap
	luck     uint                      // counts; not every guess that was right moves up
}

type name struct {
	hash       uint64
	start, end uint32 // in names.text
	object     int32  // the name that the object is the value of
	act        int32  // what is done with the value
	path       string // of the contract's names, for messages
}

// What is done with a member's value: a field's index, if it does no more than to fill that
// field; from actPlace downwards, places.
const (
	actRest  = -1
	actPlace = -2
)

// gap is the text between two values of an object, as one producer writes it: a
// comma (except for an object's first name), the name in quotes, a colon, and white
// space. Gap 0 is none: the beginning of the event, or one that is not worth knowing.
//
// What is needed of a gap that was guessed rightly fills one line of the cache.
type gap struct {
	text, mask    words
	name          uint16
	act           int16 // of the name
	length        uint8
	quote, quoted uint8  // where the name's quotes begin and end
	compact       bool   // no white space at all
	lane          uint8  // of events that begin with it
	first         bool   // it has no comma
	object        uint16 // of the name
	chain         uint16 // another gap of the same slot
}

// words are bytes of an event, eight each.
type words struct{ a, b, c uint64 }

// guesses are the gaps that come next, the likelier ones first.
type guesses [6]uint16

// lanes tell events apart that have the same gaps in another order: by the first
// gap, which is the producer's style, and by the event type.
const (
	styles    = 4
	typeLanes = 4
	lanes     = styles * typeLanes
)

const (
	maxNames    = 1 << 9
	gapSlotBits = 8
	maxGaps     = 1 << 9
	keptSlots   = 1 << 16 // of the hash table of names, from event to event
	maxTries    = 8       // gaps of one slot that are compared
	minGap      = 4       // bytes: "a":
	maxGap      = 24      // bytes
)

func (n *names) init(p *plan) {
	*n = names{
		plan: p, scopes: make([]int32, len(p.scopes)), starts: make([]guesses, len(p.scopes)), seed: maphash.MakeSeed(),
		gaps: new([maxGaps]gap), after: new([maxGaps * lanes]guesses), inside: new([maxGaps]guesses),
	}
	n.own = len(p.scopes) + len(p.places)
	n.forget()
}

// forget goes back to knowing the contract's names only.
func (n *names) forget() {
	if slots := 1 << bits.Len(uint(4*(maxNames+n.own))); n.slots == nil || len(n.slots) > max(slots, keptSlots) {
		n.slots = make([]int32, slots)
		n.list, n.seen, n.text = nil, nil, nil
	} else {
		clear(n.slots)
		if cap(n.text) > keptScratch {
			n.text = nil
		}
	}
	n.list = append(n.list[:0], name{act: actRest})
	n.seen = append(n.seen[:0], 0)
	n.text = n.text[:0]
	*n.gaps, *n.after, *n.inside = [maxGaps]gap{}, [maxGaps * lanes]guesses{}, [maxGaps]guesses{}
	n.gaps[0].text.a = 1 // nothing, masked with 0, is 1
	n.known, n.gapSlots = 1, [1 << gapSlotBits]uint16{}
	clear(n.starts)
	n.jsonText = n.lookup(-1, nil)
	for i := range n.plan.scopes {
		if i > 0 {
			n.scopes[i] = n.lookup(int32(-1-i), nil)
		}
		n.know(n.scopes[i], n.plan.scopes[i].roots)
	}
}

// know learns the names of places in an object.
func (n *names) know(object int32, places []int32) {
	for _, i := range places {
		at := &n.plan.places[i]
		id := n.lookup(object, []byte(at.name))
		known := &n.list[id]
		known.act, known.path = actPlace-i, at.path
		if len(at.fields) == 1 && at.fields[0].rank == 0 && n.plan.fields[at.fields[0].field].single {
			known.act = at.fields[0].field
		}
		n.know(id, at.inner)
	}
}

// begin is called before each event.
func (n *names) begin() {
	if len(n.list) > maxNames+n.own || n.known == maxGaps {
		n.forget()
	}
}

// lookup returns the id of the name with that text in objects of the name object,
// which it learns if it is new.
func (n *names) lookup(object int32, text []byte) int32 {
	hash := maphash.Bytes(n.seed, text) ^ uint64(object)*0x9e3779b97f4a7c15
	mask := uint64(len(n.slots) - 1)
	i := hash & mask
	for ; n.slots[i] != 0; i = (i + 1) & mask {
		known := &n.list[n.slots[i]]
		if known.hash == hash && known.object == object && bytes.Equal(n.text[known.start:known.end], text) {
			return n.slots[i]
		}
	}
	id := int32(len(n.list))
	n.slots[i] = id
	start := len(n.text)
	n.text = append(n.text, text...)
	n.list = append(n.list, name{hash: hash, start: uint32(start), end: uint32(len(n.text)), object: object,
		act: actRest})
	n.seen = append(n.seen, 0)
	if len(n.list)*2 > len(n.slots) {
		n.slots = make([]int32, 2*len(n.slots))
		mask := uint64(len(n.slots) - 1)
		for id := 1; id < len(n.list); id++ {
			i := n.list[id].hash & mask
			for n.slots[i] != 0 {
				i = (i + 1) & mask
			}
			n.slots[i] = int32(id)
		}
	}
	return id
}

// learn remembers the gap text before the name id, and that it may come where the
// guesses are. quote and quoted tell where the name is in text, first whether it is
// the first of its object. It returns the gap's id, 0 if it is not worth knowing.
func (n *names) learn(where *guesses, text []byte, quote, quoted int, first bool, id int32) int32 {
	if len(text) < minGap || len(text) > maxGap || n.known == maxGaps || id >= 1<<16 {
		return 0
	}
	g := gap{
		length: uint8(len(text)), quote: uint8(quote), quoted: uint8(quoted), first: first,
		name: uint16(id), object: uint16(n.list[id].object), act: int16(n.list[id].act),
	}
	g.compact = quote <= 1 && quoted == len(text)-1
	var mask [maxGap]byte
	for i := range text {
		mask[i] = 0xff
	}
	g.text, g.mask = loadEnd(text, 0), load(mask[:])
	i := n.known
	n.known++
	slot := &n.gapSlots[g.text.slot()]
	g.chain, *slot = *slot, uint16(i)
	g.lane = uint8(i) % styles * typeLanes
	n.gaps[i] = g
	n.guess(where, i)
	return i
}

// guess makes the gap i the last of the guesses.
func (n *names) guess(where *guesses, i int32) {
	if where == &n.none {
		return
	}
	for k := range where {
		if where[k] == 0 || k == len(where)-1 {
			where[k] = uint16(i)
			return
		}
	}
}

// load returns the words that b begins with, which has maxGap bytes or more.
func load(b []byte) words {
	return words{
		binary.LittleEndian.Uint64(b),
		binary.LittleEndian.Uint64(b[8:]),
		binary.LittleEndian.Uint64(b[16:]),
	}
}

// loadEnd is load for the bytes of b from p on, however few: zeros follow its end.
func loadEnd(b []byte, p int) words {
	if len(b) < 8 {
		b, p = append(make([]byte, 8, 16), b...), p+8
	}
	return words{loadEnd8(b, p), loadEnd8(b, p+8), loadEnd8(b, p+16)}
}

func loadEnd8(b []byte, p int) uint64 {
	last := len(b) - 8
	if p <= last {
		return binary.LittleEndian.Uint64(b[p:])
	}
	return binary.LittleEndian.Uint64(b[last:]) >> (8 * uint(p-last))
}

// begins reports whether w begins with the gap.
func (g *gap) begins(w words) bool {
	return ((w.a&g.mask.a)^g.text.a)|((w.b&g.mask.b)^g.text.b)|((w.c&g.mask.c)^g.text.c) == 0
}

// gap returns the gap i. The remainder spares a check of the bounds.
func (n *names) gap(i int32) *gap { return &n.gaps[uint32(i)%maxGaps] }

// next returns the guesses at what comes after the value behind the gap, and within
// returns those at what comes first in it, if it is an object. Behind a gap that is
// not known nothing can be guessed: the names of different objects would mix.
func (n *names) next(gap int32, lane uint8) *guesses {
	if gap == 0 {
		return &n.none
	}
	return &n.after[(uint32(gap)*lanes+uint32(lane))%(maxGaps*lanes)]
}

func (n *names) within(gap int32) *guesses {
	if gap == 0 {
		return &n.none
	}
	return &n.inside[uint32(gap)%maxGaps]
}

// slot is a hash of the least that a gap has.
func (w words) slot() uint64 {
	return w.a << (64 - 8*minGap) * 0x9e3779b97f4a7c15 >> (64 - gapSlotBits)
}

// match returns the gap that b has at p, where it has the words w, in front of
// a name of the object; 0 if it is not known. The first of the guesses was tried.
func (n *names) match(where *guesses, w words, b []byte, p int, first bool, object int32) int32 {
	for k := 1; k < len(where) && where[k] != 0; k++ {
		i := int32(where[k])
		if n.gap(i).at(w, b, p) {
			if n.luck&15 == 0 {
				where[k-1], where[k] = where[k], where[k-1]
			}
			n.luck++
			return i
		}
	}
	i := int32(n.gapSlots[w.slot()])
	for tries := 0; i != 0 && tries < maxTries; tries++ {
		g := n.gap(i)
		if g.first == first && int32(g.object) == object && g.at(w, b, p) {
			n.guess(where, i)
			return i
		}
		i = int32(g.chain)
	}
	return 0
}

// at reports whether the gap is at p, where b has the words w, and ends there: what
// follows is no white space.
func (g *gap) at(w words, b []byte, p int) bool {
	end := p + int(g.length)
	return g.begins(w) && end < len(b) && b[end] > ' '
}

package event

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
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
// It forgets everything but the columns when it holds more than maxNames at the
// beginning of an event, so that events with random names cannot fill it for ever;
// one event may hold any number.
type names struct {
	columns *columns
	seed    maphash.Seed
	list    []name   // by id; 0 is the event itself
	seen    []uint64 // by id: the number of the object that the name was last seen in
	slots   []int32  // hash table of ids, 0 is empty; its length is a power of two
	text    []byte   // of all names, unescaped
	gaps    []gap    // by id
	luck    uint     // counts; not every guess that was right moves up
}

type name struct {
	hash       uint64
	start, end int   // in names.text
	object     int32 // the name that the object is the value of
	column     int32 // index in columns.fields; -1: none
	gaps       int32 // the first gap before it
}

// gap is the text between two values of an object, as one producer writes it: a
// comma (except for an object's first name), the name in quotes, a colon, and white
// space. Gap 0 is none: the beginning of the event, or one that is not worth knowing.
type gap struct {
	text, mask    words
	length        int32
	name          int32
	column        int32 // of the name
	quote, quoted int32 // where the name's quotes begin and end
	compact       bool  // no white space at all
	other         int32 // gap before the same name
	after, inside guesses
}

// words are bytes of an event, eight each.
type words struct{ a, b, c, d uint64 }

// guesses are the gaps that come next, the likelier ones first.
type guesses [6]int32

const (
	maxNames = 1 << 9
	maxGaps  = 1 << 9
	maxGap   = 32 // bytes
)

func newNames(cs *columns) *names {
	n := &names{columns: cs, seed: maphash.MakeSeed()}
	n.forget()
	return n
}

// forget goes back to knowing the columns only.
func (n *names) forget() {
	*n = names{columns: n.columns, seed: n.seed, slots: make([]int32, 4*maxNames), list: make([]name, 1, maxNames), seen: make([]uint64, 1, maxNames)}
	n.gaps = make([]gap, 1, maxGaps)
	n.gaps[0].text.a = 1 // nothing, masked with 0, is 1
	for i := range n.columns.fields {
		n.list[n.lookup(0, []byte(n.columns.fields[i].Name))].column = int32(i)
	}
}

// begin is called before each event.
func (n *names) begin() {
	if len(n.list) > maxNames || len(n.gaps) >= maxGaps {
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
	n.list = append(n.list, name{hash: hash, start: start, end: len(n.text), object: object, column: -1})
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
// guesses are. quote and quoted tell where the name is in text. It returns the gap's id.
func (n *names) learn(where *guesses, text []byte, quote, quoted int, id int32) int32 {
	if len(text) > maxGap || len(n.gaps) == maxGaps {
		return 0
	}
	g := gap{length: int32(len(text)), name: id, column: n.list[id].column, quote: int32(quote), quoted: int32(quoted)}
	g.compact = quote <= 1 && quoted == len(text)-1
	var mask [maxGap]byte
	for i := range text {
		mask[i] = 0xff
	}
	g.text, g.mask = loadEnd(text), load(mask[:])
	i := n.list[id].gaps
	for i != 0 && (n.gaps[i].text != g.text || n.gaps[i].mask != g.mask) {
		i = n.gaps[i].other
	}
	if i == 0 {
		i = int32(len(n.gaps))
		g.other, n.list[id].gaps = n.list[id].gaps, i
		n.gaps = append(n.gaps, g)
	}
	for k := range where {
		if where[k] == 0 || k == len(where)-1 {
			where[k] = i
			break
		}
	}
	return i
}

// load returns the words that b begins with, which has maxGap bytes or more.
func load(b []byte) words {
	return words{
		binary.LittleEndian.Uint64(b[0:8]),
		binary.LittleEndian.Uint64(b[8:16]),
		binary.LittleEndian.Uint64(b[16:24]),
		binary.LittleEndian.Uint64(b[24:32]),
	}
}

// loadEnd is load for any b: zeros follow its end.
func loadEnd(b []byte) words {
	var padded [maxGap]byte
	copy(padded[:], b)
	return load(padded[:])
}

// begins reports whether w begins with the gap.
func (g *gap) begins(w words) bool {
	return ((w.a&g.mask.a)^g.text.a)|((w.b&g.mask.b)^g.text.b)|((w.c&g.mask.c)^g.text.c)|((w.d&g.mask.d)^g.text.d) == 0
}

// match returns the one of the guesses that b has at p, where it has the words w; 0 if none.
func (n *names) match(where *guesses, w words, b []byte, p int) int32 {
	for k, i := range where {
		if i == 0 {
			return 0
		}
		g := &n.gaps[i]
		if !g.begins(w) {
			continue
		}
		if end := p + int(g.length); end >= len(b) || b[end] <= ' ' {
			continue
		}
		if k > 0 && n.luck&15 == 0 {
			where[k-1], where[k] = where[k], where[k-1]
		}
		n.luck++
		return i
	}
	return 0
}

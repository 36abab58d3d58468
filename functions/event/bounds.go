package event

import (
	"hash/maphash"
	"strconv"

	"sluice/internal/contract"
)

// maxEventNames is how many different names of members an event may have; a name in another
// object is another name. Both decoders must remember them, to find duplicates, at about a
// hundred times what the shortest take in the text: without a bound an event of 2.2 MB cost
// an instance 80 MB.
const maxEventNames = 1 << 15

// fewNames is the length of an event that cannot have more names than that: "":1, is the
// shortest member.
const fewNames = maxEventNames * 5

var nameSeed = maphash.MakeSeed()

// tooManyNames reports whether the event has more names than maxEventNames. It looks at
// structure only: what is no JSON the decoders find out.
func tooManyNames(b []byte) bool {
	type object struct{ id, name uint64 } // of the object around, and its member that is read
	var around []object
	at := object{}
	seen := make(map[uint64]struct{}, 1024)
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{':
			around = append(around, at)
			at = object{id: at.name}
		case '}':
			if n := len(around); n > 0 {
				at, around = around[n-1], around[:n-1]
			}
		case '"':
			start := i + 1
			for i = start; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return false
			}
			if next := scanSpace(b, i+1); next < len(b) && b[next] == ':' {
				at.name = maphash.Bytes(nameSeed, b[start:i]) ^ at.id*0x9e3779b97f4a7c15
				if seen[at.name] = struct{}{}; len(seen) > maxEventNames {
					return true
				}
			}
		}
	}
	return false
}

func rejectTooManyNames() *Rejection {
	return &Rejection{Code: contract.CodeTooLarge,
		Message: "the event has more than " + strconv.Itoa(maxEventNames) +
			" different names of members: send fewer, or an array of objects with alike names"}
}

// strictTurn lets one decoder at a time build the tree of a large event: it takes seventy
// times the bytes of the text.
var strictTurn = make(chan struct{}, 1)

const largeForStrict = 64 << 10

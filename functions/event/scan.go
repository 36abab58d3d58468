package event

import (
	"encoding/binary"
	"math/bits"

	"unicode/utf8"
)

// Eight bytes at a time, as one number: each constant is a byte repeated.
const (
	lows  = 0x0101010101010101
	highs = 0x80 * lows
)

// specials sets the high bit of the first byte of w that cannot stand for itself in
// a string, or is not ASCII: quotes, backslashes, control characters, from 0x80 on.
// No byte before it has its high bit set; those behind may.
//
// A subtraction borrows a byte's high bit if the byte is too small: control
// characters and, with its second bit flipped, the quote are below 0x21; the
// backslash becomes 0. Bytes from 0x80 on keep theirs through one or the other.
func specials(w uint64) uint64 {
	return (((w ^ 0x02*lows) - 0x21*lows) | ((w ^ '\\'*lows) - lows)) & highs
}

// scanPlain returns the position of the first character from p on that is special, or
// one near the end of b before which none is. It is short enough to be inlined, and
// without checks of bounds where b has no capacity beyond its length.
func scanPlain(b []byte, p int) int {
	p = max(p, 0) // tells the compiler
	for end := len(b) - 7; p < end; p += 8 {
		if special := specials(binary.LittleEndian.Uint64(b[p : p+8])); special != 0 {
			return p + bits.TrailingZeros64(special)>>3
		}
	}
	return p
}

// scanString returns the position of the quote that ends the string whose text
// begins at p, and whether it has escapes; -1 if there is none before a syntax
// error. Escapes, UTF-8 and control characters are checked.
func scanString(b []byte, p int) (end int, escaped bool) {
	if p = scanPlain(b, p); p < len(b) && b[p] == '"' {
		return p, false
	}
	return scanSpecial(b, p)
}

// scanSpecial is scanString from the first character on that is special, or near
// the end of b.
func scanSpecial(b []byte, p int) (end int, escaped bool) {
	for p < len(b) {
		switch c := b[p]; {
		case c == '"':
			return p, escaped
		case c == '\\':
			n := scanEscape(b[p:])
			if n == 0 {
				return -1, true
			}
			escaped = true
			p += n
		case c < ' ':
			return -1, escaped
		case c < utf8.RuneSelf:
			p = scanPlain(b, p+1)
		default:
			r, n := utf8.DecodeRune(b[p:])
			if r == utf8.RuneError && n == 1 {
				return -1, escaped
			}
			p += n
		}
	}
	return -1, escaped
}

// scanEscape returns the length of the escape sequence that b begins with, a
// surrogate pair being one; 0 if it is none.
func scanEscape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		r := hex4(b[2:])
		switch {
		case r < 0 || 0xdc00 <= r && r < 0xe000: // no hexadecimal digits, or the second half of a pair
			return 0
		case r < 0xd800 || r >= 0xe000:
			return 6
		}
		if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
			return 0
		}
		if low := hex4(b[8:]); low < 0xdc00 || low >= 0xe000 {
			return 0
		}
		return 12
	}
	return 0
}

// hex4 is the number that b begins with, in four hexadecimal digits; -1 if they are none.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	r := rune(0)
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendUnescaped appends what the text of a string means that scanString accepts.
func appendUnescaped(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			start := i
			for i < len(text) && text[i] != '\\' {
				i++
			}
			dst = append(dst, text[start:i]...)
			continue
		}
		switch c := text[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(text[i+2:])
			i += 4
			if 0xd800 <= r && r < 0xe000 {
				r = (r-0xd800)<<10 + hex4(text[i+4:]) - 0xdc00 + 0x10000
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default: // '"', '\\', '/'
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

// scanNumber returns the end of the number that begins at p, -1 if there is none; and
// whether it is so long, or has such an exponent, that FLOAT64 may not hold it.
func scanNumber(b []byte, p int) (end int, long bool) {
	begin := p
	if p < len(b) && b[p] == '-' {
		p++
	}
	switch {
	case p >= len(b):
		return -1, false
	case b[p] == '0':
		p++
	case b[p]-'1' < 9:
		p = scanDigits(b, p)
	default:
		return -1, false
	}
	if p < len(b) && b[p] == '.' {
		start := p + 1
		if p = scanDigits(b, start); p == start {
			return -1, false
		}
	}
	if p < len(b) && b[p]|0x20 == 'e' {
		if p++; p < len(b) && (b[p] == '+' || b[p] == '-') {
			p++
		}
		start := p
		if p = scanDigits(b, start); p == start {
			return -1, false
		}
		return p, p-start > 2 || p-begin > maxPlainNumber
	}
	return p, p-begin > maxPlainNumber
}

// maxPlainNumber is how long a number may be that FLOAT64 holds surely, if its exponent has no
// more than two digits.
const maxPlainNumber = 200

// scanDigits returns the position of the first byte from p on that is no digit.
func scanDigits(b []byte, p int) int {
	for p+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[p:p+8]) ^ '0'*lows
		if others := (x | (x + 0x06*lows)) & (0xf0 * lows); others != 0 {
			return p + bits.TrailingZeros64(others)>>3
		}
		p += 8
	}
	for p < len(b) && b[p]-'0' <= 9 {
		p++
	}
	return p
}

// scanLiteral returns the end of the literal that begins at p; -1 if there is none.
func scanLiteral(b []byte, p int) int {
	literal := "null"
	switch b[p] {
	case 't':
		literal = "true"
	case 'f':
		literal = "false"
	}
	if end := p + len(literal); end <= len(b) && string(b[p:end]) == literal {
		return end
	}
	return -1
}

// scanSpace returns the position of the first byte from p on that is no white space.
func scanSpace(b []byte, p int) int {
	for p < len(b) && (b[p] == ' ' || b[p] == '\n' || b[p] == '\r' || b[p] == '\t') {
		p++
	}
	return p
}
